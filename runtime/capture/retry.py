"""What gives frames by itself, may stop at any time, and is then tried again."""

from __future__ import annotations

import abc
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import (
    EventHandler,
    FrameSource,
    Handle,
    Sparing,
    TimedFrame,
    as_bgr,
    log_event,
)
from shiftedge.runtime.errors import SourceError, SourceLostError

SHORTEST_PAUSE_S = 1e-3
"""Less time than this left, and the attempts are over."""

MOST_DAMAGED = 30
"""Frames in a row that arrive but cannot be decoded (USB cameras send broken JPEGs when the bus is
busy) before the device counts as lost: one second at 30 frames/s."""


class CaptureDevice(Protocol):
    """What is needed of ``cv2.VideoCapture``. Every call comes back within the stall time."""

    def grab(self) -> bool:
        """Wait for the next frame; False when none came or the device is gone."""

    def retrieve(self) -> tuple[bool, Any]:
        """Decode the frame that was grabbed: (True, image) or (False, anything)."""

    def release(self) -> None:
        """Give the device back."""


class FinalSourceError(SourceError):
    """Trying again will not help, for example where a permission is missing."""


@dataclass(frozen=True)
class Retry:
    """Exponential back-off: pauses of 0.5, 1, 2, 4, 5, 5, ... seconds until a limit."""

    limit_s: float = 30.0
    """From the loss to giving up. A USB camera that resets is back after 2 to 5 s."""
    first_limit_s: float = 3.0
    """The same at the first opening, when somebody waits in front of the screen."""
    first_s: float = 0.5
    longest_s: float = 5.0
    service: bool = False
    """The source is to stay: a pipe's command that ends or stalls is run again too, and a URL is
    never taken for a recording, whatever length it announces."""

    @classmethod
    def for_service(cls, limit_s: float = math.inf) -> Retry:
        """For a program that runs for months: a source that is lost is tried again, also when it
        is absent at the beginning, for ``limit_s`` seconds, or for ever.

        Raises:
            ValueError: ``limit_s`` is below 0 or not a number.
        """
        if not limit_s >= 0.0:
            raise ValueError(f"limit_s is {limit_s}; expected seconds from 0, or infinity.")
        return cls(limit_s=limit_s, first_limit_s=limit_s, service=True)


class Restarted(FrameSource):
    """Frames of what is opened again when it is lost; the time goes on while it is away.

    Args:
        subject: the same at the beginning of a sentence.
        on_event: told in a sentence when it is lost, at growing intervals that it is still tried
            again, and when it is back.
        wait: waits for that many seconds, True if the source was closed meanwhile.
        closing: set once the source is closed, also while this waits for its first frame.

    Raises:
        SourceError: it could not be opened, or gave no first frame, within
            ``retry.first_limit_s``.
    """

    live = True

    def __init__(
        self,
        name: str,
        subject: str,
        retry: Retry | None,
        on_event: EventHandler,
        clock: Callable[[], float],
        wait: Callable[[float], object] | None,
        closing: threading.Event | None = None,
    ) -> None:
        self.name = name
        self._subject = subject
        self._retry = retry or Retry()
        self._report = on_event
        self._news = Sparing(on_event, clock)
        self._clock = clock
        self._closing = closing or threading.Event()
        self._wait = wait or self._closing.wait
        self._given = 0
        try:
            self._connect()
        except FinalSourceError:
            raise
        except SourceError as error:
            self._reconnect(error, self._retry.first_limit_s)

    @abc.abstractmethod
    def _connect(self) -> None:
        """Open it and see that it gives a frame.

        Raises:
            SourceError: it does not; :class:`FinalSourceError` where another attempt is useless.
        """

    @abc.abstractmethod
    def _take(self) -> tuple[NDArray[np.uint8], float]:
        """The next image and when it was taken by the clock; SourceError once there is none."""

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames until the source is closed.

        Raises:
            SourceLostError: it stopped and did not come back within ``retry.limit_s``.
        """
        start_s, last_s, size = 0.0, 0.0, None
        while not self._closing.is_set():
            try:
                image, time_s = self._take()
            except SourceError as lost:
                try:
                    self._reconnect(lost, self._retry.limit_s)
                except SourceError as error:
                    raise SourceLostError(
                        f"{self._subject} stopped after {self._given} frames and did not come "
                        f"back. {error}"
                    ) from error
                self.reopened += not self._closing.is_set()
                continue
            if size is None:
                start_s = time_s
            elif size != image.shape[:2]:
                height, width = image.shape[:2]
                self._report(f"{self._subject} gives frames of {width}x{height} now.")
            size = image.shape[:2]
            last_s = max(last_s, time_s - start_s)
            self._given += 1
            yield TimedFrame(image, last_s, self._given - 1, time_s)

    def _reconnect(self, error: SourceError, limit_s: float) -> None:
        """Try again with growing pauses; returns when it worked or when the source was closed."""
        start_s, pause_s = self._clock(), self._retry.first_s
        self.away = True
        for attempt in itertools.count(1):
            if self._closing.is_set():
                break
            left_s = limit_s - (self._clock() - start_s)
            if left_s < SHORTEST_PAUSE_S:
                raise error
            pause_s = min(pause_s, left_s)
            self._news.trouble(f"{error} Trying again in {pause_s:.1f} s (attempt {attempt}).")
            if self._wait(pause_s) or self._closing.is_set():
                break
            try:
                self._connect()
                self._news.over(f"{self._subject} gives frames again.")
                break
            except FinalSourceError:
                raise
            except SourceError as failure:
                error = failure
            pause_s = min(2.0 * pause_s, self._retry.longest_s)
        self.away = False


class LiveSource(Restarted):
    """Frames of a live device, with the monotonic time at which each was taken.

    Args:
        name: for messages, such as ``camera /dev/video0``.
        connect: opens the device, or raises SourceError (:class:`FinalSourceError` where another
            attempt is useless).
        taken_s: when the frame that was just grabbed was taken, given the time now.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], CaptureDevice],
        *,
        rate_hz: float | None = None,
        retry: Retry | None = None,
        on_event: EventHandler = log_event,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
        closing: threading.Event | None = None,
        taken_s: Callable[[CaptureDevice, float], float] = lambda device, now_s: now_s,
    ) -> None:
        self.rate_hz = rate_hz
        self._open_device = connect
        self._handle: Handle[CaptureDevice] | None = None
        self._taken_s = taken_s
        super().__init__(name, f"The {name}", retry, on_event, clock, wait, closing)

    def close(self) -> None:
        self._closing.set()
        if self._handle is not None:
            self._handle.close()

    def _connect(self) -> None:
        """Some drivers say only at the first frame that they are busy."""
        device = self._open_device()
        self._handle = Handle(device, lambda opened: opened.release())
        if self._closing.is_set():
            self._handle.close()
        elif self._grab(self._handle) is None:
            raise SourceError(f"{self._subject} was opened but gives no frame.")

    def _take(self) -> tuple[NDArray[np.uint8], float]:
        taken = None if self._handle is None else self._grab(self._handle)
        if taken is None:
            raise SourceError(f"{self._subject} gives no more frames.")
        return taken

    def _grab(self, handle: Handle[CaptureDevice]) -> tuple[NDArray[np.uint8], float] | None:
        """The next frame that can be decoded and its time; None once the device fails."""
        with handle.use() as device:
            for _ in range(MOST_DAMAGED):
                if device is None or not device.grab():
                    break
                time_s = self._taken_s(device, self._clock())
                good, image = device.retrieve()
                if good and image is not None:
                    return as_bgr(image, self._subject), time_s
        handle.close()
        return None
