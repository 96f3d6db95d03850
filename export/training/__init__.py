"""Training: rendered clips or a user's folder of clips in, a checkpoint and its scores out."""

from shiftedge.export.training.data import Job
from shiftedge.export.training.fine_tune import fine_tune
from shiftedge.export.training.keep import CHECKPOINT, SCORES
from shiftedge.export.training.loop import Settings
from shiftedge.export.training.runner import Shape, train

__all__ = ["CHECKPOINT", "SCORES", "Job", "Settings", "Shape", "fine_tune", "train"]
