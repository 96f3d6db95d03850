"""Clips that people record on the page, into the folder of `shiftedge record`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.recording import Recorder, Take
from shiftedge.runtime.errors import DataError

LENGTH_S = 1.0, 5.0
"""Of a clip: 5 s of 640x480 take 140 MB until they are written."""
MOST_BYTES = 256 << 20
PATIENCE_S = 10.0
"""For the camera, beyond the clip's own length."""


class RecordedClips:
    """Takes one clip at a time out of what the sink is given.

    Args:
        folder: of all labels; None: nothing may be recorded.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._images: list[NDArray[np.uint8]] = []
        self._times: list[float] = []
        self._wanted_s: float | None = None
        self._held: tuple[Recorder, Take] | None = None

    @property
    def wanted(self) -> bool:
        """Whether frames are collected."""
        return self._wanted_s is not None

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """A frame, in the sink's thread."""
        if self._wanted_s is None:
            return
        self._images.append(image)
        self._times.append(time_s)
        full = image.nbytes * len(self._images) >= MOST_BYTES
        if full or time_s - self._times[0] >= self._wanted_s:
            self._wanted_s = None
            self._done.set()

    def record(self, label: str, seconds: float, *, still: bool) -> dict[str, Any]:
        """Wait for a clip; it is kept if there is nothing to complain of.

        Raises:
            DataError: nothing may be recorded, somebody records already, or the label is none.
            OutputError: the clip cannot be written, as on a full disk.
        """
        if self.folder is None:
            raise DataError("This page records nothing; start it with --data FOLDER.")
        if not LENGTH_S[0] <= seconds <= LENGTH_S[1]:
            raise DataError(f"A clip has {LENGTH_S[0]:g} to {LENGTH_S[1]:g} seconds.")
        recorder = Recorder(self.folder, label, still=still)
        if not self._lock.acquire(blocking=False):
            raise DataError("A clip is being recorded already.")
        try:
            self._held = None
            self._images, self._times = [], []
            self._done.clear()
            self._wanted_s = seconds
            ended = not self._done.wait(seconds + PATIENCE_S)
            self._wanted_s = None
            clip = Take(tuple(self._images), tuple(self._times), seconds, ended)
            self._images, self._times = [], []
        finally:
            self._lock.release()
        complaints = recorder.complaints(clip)
        if complaints:
            self._held = (recorder, clip) if len(clip.images) > 1 else None
            return {"kept": None, "complaints": complaints, "can_keep": self._held is not None}
        return {"kept": _shown(recorder.keep(clip)), "complaints": []}

    def keep(self) -> dict[str, Any]:
        """Keep the last clip all the same.

        Raises:
            DataError: there is none.
            OutputError: see :meth:`record`.
        """
        held, self._held = self._held, None
        if held is None:
            raise DataError("There is no clip to keep.")
        recorder, clip = held
        return {"kept": _shown(recorder.keep(clip)), "complaints": []}


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
