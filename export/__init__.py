"""What runs on the workstation: models, checkpoints, ONNX export, verification, training."""
