"""TensorBoard's logs of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shiftedge.export.training.loop import Epoch, TrainingStep
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.signals import Closing


class Logs(Closing):
    """Writes what each step and epoch gave, or nothing.

    Args:
        folder: for ``tensorboard --logdir``; None: nothing is written.
        done: steps of a training that goes on; what an earlier run logged after them is hidden.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path | None, done: int = 0) -> None:
        self._writer: Any = None
        self._step = done
        if folder is not None:
            require("tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(folder, purge_step=done or None)

    def step(self, step: TrainingStep) -> None:
        """Log a step's loss and learning rate."""
        self._step = step.number
        if self._writer is not None:
            self._writer.add_scalar("step/loss", step.loss, step.number)
            self._writer.add_scalar("step/learning rate", step.rate, step.number)

    def epoch(self, epoch: Epoch) -> None:
        """Log what an epoch gave."""
        if self._writer is not None:
            self._writer.add_scalar("epoch/loss", epoch.loss, self._step)
            self._writer.add_scalar("epoch/frame accuracy", epoch.frame_accuracy, self._step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
