"""Training: synthetic clips or a user's folder of clips in, a checkpoint and its scores out."""
