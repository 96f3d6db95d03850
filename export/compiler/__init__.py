"""The streaming compiler: an ONNX step with explicit states -> kernels for a target."""
