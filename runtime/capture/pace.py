"""A recording at the speed at which it was made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from shiftedge.runtime.capture.base import FrameSource, TimedFrame

__all__ = ["Paced"]


class Paced(FrameSource):
    """Gives each frame of ``source`` when its time has come, so that a recording is like a camera.

    Frames are never dropped here: one that is late is given at once. ``LatestFrame(Paced(file))``
    drops them as a camera would. Closing this closes ``source``.

    Args:
        source: its times must be its own (a recording), not those of arrival.
        clock: monotonic seconds.
        sleep: waits for that many seconds; None waits so that :meth:`close` cuts it short.
    """

    live = True

    def __init__(
        self,
        source: FrameSource,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.name = source.name
        self.rate_hz = source.rate_hz
        self._source = source
        self._clock = clock
        self._closing = threading.Event()
        self._sleep = sleep or self._closing.wait

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames of the source, unchanged; the first one at once."""
        start_s: float | None = None
        for frame in self._source:
            if start_s is None:
                start_s = self._clock() - frame.time_s
            # Due times hang on the first frame, not on the last one, so that delays do not add up.
            wait_s = start_s + frame.time_s - self._clock()
            if wait_s > 0.0:
                self._sleep(wait_s)
            if self._closing.is_set():
                return
            yield frame

    def close(self) -> None:
        self._closing.set()
        self._source.close()
