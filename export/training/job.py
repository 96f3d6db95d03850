"""What is asked of a training, and of a fine-tune for int8: the same but for the start's shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftedge.export.checkpoint import Checkpoint, load_checkpoint
from shiftedge.export.training.keep import Say, log
from shiftedge.export.training.loop import Settings
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.progress import ProgressFactory, progress

__all__ = ["CLIP_FRAMES", "SYNTHETIC", "Job"]

SYNTHETIC = "synthetic:"
"""DATA that stands for rendered clips."""
CLIP_FRAMES = 36
"""Frames kept of a user's clip: 3 s at 12 Hz, which is what Jester's clips last."""


@dataclass(frozen=True)
class Job:
    """The arguments of ``shiftedge train``, as far as a fine-tune has them too."""

    data: str
    """:data:`SYNTHETIC`, or a folder or list of labelled clips, see
    :func:`shiftedge.export.data.find_data`."""
    output: Path
    """Folder for ``checkpoint.pt`` and ``scores.json``, made if need be."""
    epochs: int | None = None
    """Passes over the clips; None: 9, or 2 of a fine-tune."""
    clips: int | None = None
    """Rendered, to learn from; None: 10,000, or 1,200 of a fine-tune."""
    check_clips: int = 600
    films: int = 8
    """Rendered for the scores, as many with gestures as without; 0: none."""
    film_seconds: float = 60.0
    seed: int = 0
    """Fixes data, initial weights and order."""
    threads: int = 2
    """Of torch."""
    start: Path | None = None
    """A checkpoint to go on from. A training gives it a new last layer if its labels are others; of
    a fine-tune, None is the bundled model's."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How to read ``start``: keywords of :func:`shiftedge.export.checkpoint.load_checkpoint`."""
    pictures: Path | None = None
    """Folder of real hands and rooms for rendered clips, see
    :mod:`shiftedge.runtime.capture.synthetic.pictures`."""
    workers: int = 1
    """Processes that render."""
    cache: Path | None = None
    """Folder that keeps the rendered clips for the next run."""
    classes: Path | None = None
    """Names of the classes that a list gives by number; see ``find_data``."""
    clip_rate_hz: float | None = None
    """Of clips that do not say theirs: folders of pictures, raw streams."""
    mirror: bool = True
    """False where clips must not be mirrored, since a label means another thing then."""
    command: str = ""
    """How this was called, for the record."""
    bar: ProgressFactory = progress
    say: Say = log
    """Told what the user should know of the data, and after each epoch."""

    def settings(self, usual: Settings) -> Settings:
        """``usual`` with what is asked for, and with the frames that clips of the data have.

        Raises:
            DataError: there is no epoch.
        """
        epochs = usual.epochs if self.epochs is None else self.epochs
        if epochs < 1:
            raise DataError(f"{epochs} epochs were asked for; expected at least 1.")
        return dataclasses.replace(
            usual,
            epochs=epochs,
            seed=self.seed,
            threads=chosen_threads(self.threads),
            frames=usual.frames if self.data == SYNTHETIC else CLIP_FRAMES,
            mirror=self.mirror,
        )

    def checkpoint(self, path: Path) -> Checkpoint:
        """A start as it is read, and what a user should know of that."""
        found = load_checkpoint(path, **self.reading)
        for note in found.notes:
            self.say(note)
        return found
