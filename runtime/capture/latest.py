"""The newest frame of a live source, so that a slow model never looks at old ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.closing import close_at_exit
from shiftedge.runtime.errors import SourceLostError

__all__ = ["LatestFrame"]


class LatestFrame(FrameSource):
    """Reads ``source`` in a thread of its own and gives the newest frame, each at most once.

    Frames that came while the consumer was busy are dropped and counted, so that the lag is never
    more than one frame. A frame keeps its index in ``source``. Closing this closes ``source``.

    Args:
        source: a live source; a recording would lose frames (see :class:`Paced`).
        stall_s: longest wait for a frame in seconds, while the source does not say that it is
            away and tried again; None trusts the source.
        join_s: how long :meth:`close` waits for the thread. A thread that is blocked in a device
            longer than that ends by itself later and keeps no program alive.
    """

    live = True

    def __init__(
        self, source: FrameSource, *, stall_s: float | None = None, join_s: float = 1.0
    ) -> None:
        self.name = source.name
        self.rate_hz = source.rate_hz
        self.dropped = 0
        self._source = source
        self._stall_s = stall_s
        self._join_s = join_s
        self._changed = threading.Condition()
        self._newest: TimedFrame | None = None
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._read, name=f"read {self.name}", daemon=True)

    def __iter__(self) -> Iterator[TimedFrame]:
        """The newest frame, again and again, until the source ends. Starts the thread.

        The last frame is given even when the source has ended meanwhile.

        Raises:
            SourceLostError: no frame for ``stall_s``.
            Exception: what the source raised, as it was, after the last frame.
        """
        with self._changed:
            if not self._closed:
                close_at_exit(self)
                self._thread.start()
        while True:
            with self._changed:
                while not (news := self._changed.wait_for(self._has_news, self._stall_s)):
                    if not self._source.away:
                        break
                if not news:
                    raise SourceLostError(
                        f"The source {self.name} gave no frame for {self._stall_s:g} s."
                    )
                frame, self._newest = self._newest, None
                if self._closed:
                    return
                if frame is None:
                    if self._error is not None:
                        raise self._error
                    return
            yield frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._newest = None
            self._changed.notify_all()
        self._source.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(self._join_s)

    def _has_news(self) -> bool:
        return self._newest is not None or self._ended or self._closed

    def _read(self) -> None:
        error: Exception | None = None
        try:
            for frame in self._source:
                with self._changed:
                    if self._closed:
                        break
                    if self._newest is not None:
                        self.dropped += 1
                    self._newest = frame
                    self._changed.notify()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it belongs to the consumer
            error = failure
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify()
