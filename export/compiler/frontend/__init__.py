"""ONNX -> :class:`Graph`: readers of operators, rewrites."""
