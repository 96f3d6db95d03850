"""A recording decoded or rendered ahead of time, so that its frames are ready when they are due."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.closing import close_at_exit

__all__ = ["ReadAhead"]

AHEAD_BYTES = 16 << 20
"""Frames that may lie ready: half a second of 640x480."""
JOIN_S = 10.0
"""Longest wait for the thread: a file of a network that is gone may never be read to its end."""


class ReadAhead(FrameSource):
    """Reads ``source`` in a thread of its own, some frames ahead of whoever takes them.

    The renderer works in batches and video files have slow frames now and then. Played without a
    store of frames they would come in bursts, and a show in real time would drop most of a burst,
    as if the model were too slow. Closing this closes ``source`` and waits for the thread, which
    ends with the frame or batch that it is at: Python ends a program badly while a thread of it is
    inside numpy or OpenCV.
    """

    live = False

    def __init__(self, source: FrameSource) -> None:
        self.name = source.name
        self.rate_hz = source.rate_hz
        self._source = source
        self._changed = threading.Condition()
        self._ready: deque[TimedFrame] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames of the source, unchanged, and what it raised after them."""
        frames = iter(self._source)
        first = next(frames, None)
        if first is None:
            return
        yield first
        room = min(max(AHEAD_BYTES // max(first.image.nbytes, 1), 2), 64)
        with self._changed:
            if self._closed:
                return
            self._thread = threading.Thread(
                target=self._read, args=(frames, room), name=f"read ahead {self.name}", daemon=True
            )
            close_at_exit(self)
            self._thread.start()
        while (frame := self._take()) is not None:
            yield frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._source.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)

    def _take(self) -> TimedFrame | None:
        """The next frame; None at the end or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._closed)
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
            if self._error is not None and not self._closed:
                raise self._error
            return None

    def _read(self, frames: Iterator[TimedFrame], room: int) -> None:
        error: Exception | None = None
        try:
            for frame in frames:
                with self._changed:
                    self._changed.wait_for(lambda: len(self._ready) < room or self._closed)
                    if self._closed:
                        break
                    self._ready.append(frame)
                    self._changed.notify_all()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it belongs to the consumer
            error = failure
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()
