"""What every frame source gives (images with times), tells and needs: a log, a device, OpenCV."""

from __future__ import annotations

import abc
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.signals import Closing


@dataclass(frozen=True)
class TimedFrame:
    """One image and when it was taken."""

    image: NDArray[np.uint8]
    """uint8, shape (height, width, 3), BGR."""
    time_s: float
    """Seconds since the source's first frame, for a recording by its own clock; never goes back."""
    index: int
    """Number of frames the source gave before this one, dropped ones included."""
    taken_s: float | None = None
    """When the camera took it, as near as can be known, on the clock of ``time.monotonic``; None
    for a recording."""


class FrameSource(Closing):
    """An opened camera, file, pipe, folder or generator. Iterate once; close when done."""

    name: str
    """For messages: what the user asked for."""
    live: bool
    """True when frames arrive by themselves and are lost if nobody takes them."""
    rate_hz: float | None
    """Frames per second, nominal or measured; None where that is unknown."""
    away = False
    """True while a live source is lost and tried again: no frame is to be expected."""
    reopened = 0
    """How often a live source was lost and found again."""

    @abc.abstractmethod
    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames in order of time, until the source ends.

        Raises:
            SourceError: what came is not what was expected.
            SourceLostError: a live source stopped and did not come back.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give the device, file or process back. May be called twice, and from another thread."""


class PictureSequence(FrameSource):
    """A recording whose pictures are made when they are taken, ``rate_hz`` a second."""

    live = False
    rate_hz: float

    def __init__(self, name: str, rate_hz: float) -> None:
        self.name, self.rate_hz = name, rate_hz
        self._closed = threading.Event()

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of pictures."""

    @abc.abstractmethod
    def picture(self, index: int) -> NDArray[np.uint8]:
        """One of them; SourceError where it cannot be had."""

    def __iter__(self) -> Iterator[TimedFrame]:
        for index in range(len(self)):
            if self._closed.is_set():
                return
            yield TimedFrame(self.picture(index), index / self.rate_hz, index)

    def close(self) -> None:
        self._closed.set()


T = TypeVar("T")


class Handle(Generic[T]):
    """Owns ``resource`` and releases it exactly once, never under a thread that is using it.

    OpenCV crashes when a capture is released during a read. So :meth:`close` does not wait for a
    reader that is blocked in the device: it marks the handle, and the reader releases the resource
    when it comes back.
    """

    def __init__(self, resource: T, release: Callable[[T], None]) -> None:
        self._resource: T | None = resource
        self._release = release
        self._lock = threading.Lock()
        self._closing = False

    @contextlib.contextmanager
    def use(self) -> Iterator[T | None]:
        """Give the resource to the calling thread for the body; None once it was closed."""
        try:
            with self._lock:
                yield None if self._closing else self._resource
        finally:
            # After the lock is free: had close() come while we held it, nobody else would release.
            if self._closing:
                self._free()

    def close(self) -> None:
        """Release the resource now, or when its user is done with it. Returns at once."""
        self._closing = True
        self._free()

    def _free(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                resource, self._resource = self._resource, None
                if resource is not None:
                    self._release(resource)
            finally:
                self._lock.release()


EventHandler = Callable[[str], None]
"""Takes one sentence, at once, in whichever thread reads the source."""


def log_event(sentence: str) -> None:
    """Log ``sentence`` as a warning of the logger ``shiftedge.capture`` (stderr by default)."""
    logging.getLogger("shiftedge.capture").warning(sentence)


CALM_S = 60.0
"""Without trouble for so long, the next trouble is a new one."""
LONGEST_SILENCE_S = 3600.0
"""In trouble that goes on."""


class Sparing:
    """Tells of trouble at ever longer intervals, so that a camera away for a month fills no log."""

    def __init__(self, report: EventHandler, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._begin_s = self._last_s = self._next_s = float("-inf")
        self._told = False

    def trouble(self, sentence: str) -> None:
        """Something is still wrong. Said when the trouble has lasted twice as long as last time."""
        now_s = self._clock()
        if now_s - self._last_s > CALM_S:
            self._begin_s = self._next_s = now_s
        self._last_s = now_s
        if now_s >= self._next_s:
            self._next_s = now_s + min(now_s - self._begin_s, LONGEST_SILENCE_S)
            self._told = True
            self._report(sentence)

    def over(self, sentence: str) -> None:
        """All is well again; said where the trouble was."""
        if self._told:
            self._told = False
            self._report(sentence)


QUIET = "-8"
"""AV_LOG_QUIET of libavutil/log.h."""
V4L_SELECT_TIMEOUT_S = "5"
"""A camera that hangs is found after this time, not after OpenCV's 10 s. Read as cv2 is loaded."""


def opencv() -> Any:
    """Return the module ``cv2`` with its own and FFmpeg's log messages turned off.

    OpenCV reports a missing camera or a damaged file as several lines on stderr, beside our error.
    Whoever wants those lines sets OPENCV_LOG_LEVEL (and OPENCV_FFMPEG_LOGLEVEL): a level that is
    set in the environment is left as it is.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", QUIET)
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", V4L_SELECT_TIMEOUT_S)
    cv2 = require("cv2")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        logging = cv2.utils.logging
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    return cv2


def as_bgr(image: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return ``image`` as uint8 (height, width, 3) BGR; grey becomes three channels, alpha goes.

    Raises:
        SourceError: it is not an 8-bit image of 1, 3 or 4 channels; ``name`` says whose it is.
    """
    if image.dtype == np.uint8 and image.size:
        if image.ndim == 2:
            image = image[:, :, np.newaxis]
        if image.ndim == 3 and image.shape[2] == 3:
            return image
        if image.ndim == 3 and image.shape[2] in (1, 4):
            return np.ascontiguousarray(np.broadcast_to(image[:, :, :3], (*image.shape[:2], 3)))
    raise SourceError(
        f"{name} gave an image of shape {image.shape} and type {image.dtype}; "
        "expected uint8 (height, width, 3)."
    )
