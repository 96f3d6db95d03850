"""Frames by another clock than their source's: the newest, some ahead, each when it is due."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.errors import SourceLostError
from shiftedge.runtime.process.signals import close_at_exit

AHEAD_BYTES = 16 << 20
"""Frames that may lie ready: half a second of 640x480."""
AHEAD_JOIN_S = 10.0
"""Longest wait for the thread: a file of a network that is gone may never be read to its end."""


class _Threaded(FrameSource):
    """Reads ``source`` in a thread of its own. Closing this closes ``source``.

    Args:
        join_s: how long :meth:`close` waits for the thread. A thread that is blocked in a device
            longer than that ends by itself later and keeps no program alive.
    """

    def __init__(self, source: FrameSource, join_s: float) -> None:
        self.name = source.name
        self.rate_hz = source.rate_hz
        self.dropped = 0
        self._source = source
        self._stall_s: float | None = None
        self._join_s = join_s
        self._changed = threading.Condition()
        self._ready: deque[TimedFrame] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._read, name=f"read {self.name}", daemon=True)

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames that the thread has read, until the source ends. Starts the thread.

        Raises:
            SourceLostError: no frame for ``stall_s``.
            Exception: what the source raised, as it was, after the last frame.
        """
        with self._changed:
            if not self._closed:
                close_at_exit(self)
                self._thread.start()
        while (frame := self._take()) is not None:
            yield frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._source.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(self._join_s)

    def _make_room(self, frame: TimedFrame) -> None:
        """See to it that ``frame`` can be put beside what lies ready, in the reading thread."""

    def _take(self) -> TimedFrame | None:
        with self._changed:
            while not self._changed.wait_for(self._has_news, self._stall_s):
                if not self._source.away:
                    raise SourceLostError(
                        f"The source {self.name} gave no frame for {self._stall_s:g} s."
                    )
            if self._closed:
                return None
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
            if self._error is not None:
                raise self._error
            return None

    def _has_news(self) -> bool:
        return bool(self._ready) or self._ended or self._closed

    def _read(self) -> None:
        error: Exception | None = None
        try:
            for frame in self._source:
                with self._changed:
                    self._make_room(frame)
                    if self._closed:
                        break
                    self._ready.append(frame)
                    self._changed.notify_all()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it belongs to the consumer
            error = failure
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()


class LatestFrame(_Threaded):
    """The newest frame of a live source, so that a slow model never looks at old ones.

    Frames that came while the consumer was busy are dropped and counted, so that the lag is never
    more than one frame. A frame keeps its index in ``source``. The last frame is given even when
    the source has ended meanwhile.

    Args:
        source: a live source; a recording would lose frames (see :class:`Paced`).
        stall_s: longest wait for a frame in seconds, while the source does not say that it is
            away and tried again; None trusts the source.
    """

    live = True

    def __init__(
        self, source: FrameSource, *, stall_s: float | None = None, join_s: float = 1.0
    ) -> None:
        super().__init__(source, join_s)
        self._stall_s = stall_s

    def _make_room(self, frame: TimedFrame) -> None:
        self.dropped += len(self._ready)
        self._ready.clear()


class ReadAhead(_Threaded):
    """All frames of a recording, decoded or rendered some frames ahead of whoever takes them.

    The renderer works in batches and video files have slow frames now and then. Played without a
    store of frames they would come in bursts, and a show in real time would drop most of a burst,
    as if the model were too slow. Closing waits for the thread, which ends with the frame or batch
    that it is at: Python ends a program badly while a thread of it is inside numpy or OpenCV.
    """

    live = False

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source, AHEAD_JOIN_S)

    def _make_room(self, frame: TimedFrame) -> None:
        room = min(max(AHEAD_BYTES // max(frame.image.nbytes, 1), 2), 64)
        self._changed.wait_for(lambda: len(self._ready) < room or self._closed)


class Paced(FrameSource):
    """Gives each frame of ``source`` when its time has come, so that a recording is like a camera.

    Frames are never dropped here: one that is late is given at once. ``LatestFrame(Paced(file))``
    drops them as a camera would. Closing this closes ``source``.

    Args:
        source: its times must be its own (a recording), not those of arrival.
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
