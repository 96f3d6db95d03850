"""Training: rendered clips or a user's folder of clips in, a checkpoint and its scores out."""

from shiftedge.export.training.loop import Settings
from shiftedge.export.training.runner import CHECKPOINT, SCORES, SYNTHETIC, Shape, train

__all__ = ["CHECKPOINT", "SCORES", "SYNTHETIC", "Settings", "Shape", "train"]
