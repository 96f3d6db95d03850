"""What was learnt, kept safe: room for it before the work, and another place where it fails."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shiftedge.export.data.clip_set import reserve
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.process.files import atomic_path, cache_folder

CHECKPOINT = "checkpoint.pt"
SCORES = "scores.json"
PAGE = "scores.html"
"""Names of the files in the output folder."""

Say = Callable[[str], None]
"""Told in a sentence what the user should know."""


def log(text: str) -> None:
    """A :data:`Say` for programs: a warning of the logger ``shiftedge``."""
    logging.getLogger("shiftedge").warning(text)


_SLACK_BYTES = 1 << 16
"""For the scores, and for what a file system needs beside the files."""


class Keeper:
    """Writes checkpoints into a folder, each in the place of the last and whole.

    Args:
        output: the folder, which exists.
        serialise: gives the checkpoint as it is now.
        say: told where a checkpoint went that ``output`` had no room for.

    Raises:
        OutputError: there is no room for a checkpoint.
    """

    def __init__(self, output: Path, serialise: Callable[[], bytes], say: Say) -> None:
        self._output = output
        self._serialise = serialise
        self._say = say
        self._problem: OutputError | None = None
        self._elsewhere: Path | None = None
        self.epochs = 0
        """Whose result is kept."""
        self._require_room(len(serialise()))

    @property
    def path(self) -> Path:
        """Where the last checkpoint is."""
        return self._elsewhere or self._output / CHECKPOINT

    def keep(self, epoch: int) -> None:
        """Write the checkpoint, here or elsewhere; what cannot be written is said, and the work
        goes on."""
        content = self._serialise()
        try:
            _write(self._output / CHECKPOINT, content)
        except OutputError as error:
            self._problem = error
            self._elsewhere = _write_elsewhere(content) or self._elsewhere
            if self._elsewhere is not None:
                self._say(f"{error} The checkpoint is in {self._elsewhere} instead.")
                self.epochs = epoch
            else:
                self._say(f"{error} It is tried again after the next epoch.")
            return
        self.epochs = epoch
        self._problem = None
        if self._elsewhere is not None:
            with contextlib.suppress(OSError):
                self._elsewhere.unlink()
                self._elsewhere.parent.rmdir()
            self._elsewhere = None

    def finish(self, scores: dict[str, Any]) -> None:
        """Write the scores.

        Raises:
            OutputError: they, or the last checkpoint, could not be written; the sentence says where
                the checkpoint is instead.
        """
        text = json.dumps(scores, indent=2) + "\n"
        try:
            if self._problem is not None:
                raise self._problem
            _write(self._output / SCORES, text.encode())
        except OutputError as error:
            if self._elsewhere is None and self._problem is not None:
                raise OutputError(
                    f"{error} The checkpoint could not be written anywhere else either: what was "
                    f"learnt after epoch {self.epochs} is lost."
                ) from error
            raise OutputError(
                f"{error} What was learnt is not lost: it is in {self.path}."
            ) from error

    def interrupted(self) -> str:
        """A sentence about what is left of a training that is ended early."""
        if not self.epochs:
            return "no checkpoint was kept, since not one epoch was whole"
        plural = "" if self.epochs == 1 else f"s 1 to {self.epochs}"
        which = f"epoch{plural or ' 1'}"
        return f"what was learnt in {which} is in {self.path}; what came after is lost"

    def _require_room(self, size: int) -> None:
        """For a checkpoint beside the one that it replaces."""
        there = self._output / CHECKPOINT
        old = there.stat().st_size if there.is_file() else 0
        need = 2 * size - min(old, size) + _SLACK_BYTES
        try:
            with tempfile.TemporaryFile(dir=self._output) as file:
                reserve(file.fileno(), need)
        except OSError as error:
            raise OutputError(
                f"Cannot write into {self._output}: {error.strerror or error}; the checkpoint "
                f"needs {need / 1e6:.1f} MB there (one is {size / 1e6:.1f} MB and is replaced as a "
                "whole): make room, or choose another folder."
            ) from error


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _write_elsewhere(content: bytes) -> Path | None:
    """Into a new folder among the temporary files, in the cache or here; None: nowhere."""
    for base in (Path(tempfile.gettempdir()), cache_folder(), Path.cwd()):
        try:
            base.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="shiftedge-train-", dir=base))
        except OSError:
            continue
        try:
            _write(folder / CHECKPOINT, content)
        except OutputError:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
            continue
        return folder / CHECKPOINT
    return None
