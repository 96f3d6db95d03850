"""What runs on the board: load a model, step a stream, decode gestures. Needs numpy alone."""
