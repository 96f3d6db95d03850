"""A recording decoded or rendered ahead of time, so that its frames are ready when they are due."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator

from shiftedge.runtime.capture.base import FrameSource, TimedFrame

__all__ = ["ReadAhead"]

AHEAD_BYTES = 16 << 20
"""Frames that may lie ready: half a second of 640x480."""


class ReadAhead(FrameSource):
    """Reads ``source`` in a thread of its own, some frames ahead of whoever takes them.

    The renderer works in batches and video files have slow frames now and then. Played without a
    store of frames they would come in bursts, and a show in real time would drop most of a burst,
    as if the model were too slow. Closing this closes ``source``.
    """

    live = False

    def __init__(self, source: FrameSource) -> None:
        self.name = source.name
        self.rate_hz = source.rate_hz
        self._source = source
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames of the source, unchanged, and what it raised after them."""
        frames = iter(self._source)
        first = next(frames, None)
        if first is None:
            return
        yield first
        room = min(max(AHEAD_BYTES // max(first.image.nbytes, 1), 2), 64)
        ready: queue.Queue[TimedFrame | Exception | None] = queue.Queue(room)
        reader = threading.Thread(
            target=self._read, args=(frames, ready), name=f"read ahead {self.name}", daemon=True
        )
        reader.start()
        while not self._closed.is_set() and (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def close(self) -> None:
        self._closed.set()
        self._source.close()

    def _read(
        self, frames: Iterator[TimedFrame], ready: queue.Queue[TimedFrame | Exception | None]
    ) -> None:
        last: Exception | None = None
        try:
            for frame in frames:
                if not self._put(ready, frame):
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the consumer
            last = error
        self._put(ready, last)

    def _put(
        self,
        ready: queue.Queue[TimedFrame | Exception | None],
        item: TimedFrame | Exception | None,
    ) -> bool:
        """Wait for room; False once nobody takes frames any more."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.2)
                return True
        # Whoever waits for a frame must wake up; if the queue is full, nobody waits.
        with contextlib.suppress(queue.Full):
            ready.put_nowait(None)
        return False
