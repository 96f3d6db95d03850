"""Between the loop and a sink: a bounded queue, a thread, and what becomes of a failure."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Account, Missed, Moment, Note, Sink
from shiftedge.runtime.capture.base import Sparing
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.process.signals import Closing, close_at_exit

QUEUE_BYTES = 32 << 20
"""Camera frames that may wait for a sink: a second of 640x480."""
FEWEST_IMAGES = 2
NOTHING: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)


class Outlet(Closing):
    """Feeds one sink. Nothing that the sink does delays or fails :meth:`put`.

    Args:
        patient: wait for room instead of dropping: for a recording that is not played in real
            time, which nobody waits for.
        on_note: told in a sentence when the sink fails, at growing intervals that it misses
            moments, and when it is well again.
    """

    def __init__(
        self, sink: Sink, *, patient: bool = False, on_note: Note = lambda sentence: None
    ) -> None:
        self.sink = sink
        self.error: Exception | None = None
        """What the sink failed with."""
        self.ended = False
        """Whether it takes no more: it failed, or its user wants to end."""
        self._patient = patient
        sink.note = on_note
        self._trouble = Sparing(on_note)
        self._changed = threading.Condition()
        self._waiting: deque[tuple[NDArray[np.uint8], Moment]] = deque()
        self._closing = False
        self._end_s = math.inf
        self._taken = self._dropped = self._missed = 0
        self._thread = threading.Thread(target=self._work, name=f"sink {sink.name}", daemon=True)

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        """See :meth:`Sink.begin`."""
        self.sink.begin(sessions)
        close_at_exit(self)
        self._thread.start()

    def put(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """Give a moment to the sink, if it wants it."""
        wants = self.sink.wants
        if (wants == "events" and moment.event is None) or (wants == "steps" and not moment.steps):
            return
        if not self.sink.fits(moment):
            return
        most = self.sink.most
        if wants == "images":
            most = min(most, max(QUEUE_BYTES // max(image.nbytes, 1), FEWEST_IMAGES))
        else:
            image = NOTHING
        with self._changed:
            if self._patient:
                self._changed.wait_for(lambda: self.ended or len(self._waiting) < most)
            if self.ended:
                return
            if len(self._waiting) >= most:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append((image, moment))
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more is to come: what waits is taken, and the sink ended, in its thread."""
        with self._changed:
            self._closing = True
            self._end_s = min(self._end_s, time.monotonic() + self.sink.grace_s)
            self._changed.notify_all()
        self.sink.hurry()

    def close(self) -> None:
        """The same, and wait for it, until ``sink.grace_s`` after the first call of either."""
        self.end()
        if self._thread.ident is None:
            self.sink.close()
            return
        self._thread.join(max(self._end_s - time.monotonic(), 0.0))
        with self._changed:
            if self._thread.is_alive():
                self._dropped += len(self._waiting)
                self._waiting.clear()

    def account(self) -> Account:
        """What became of what was put. May be called at any time."""
        error = None if self.error is None else str(self.error)
        missed = self._missed + self.sink.undelivered
        return Account(self.sink.name, self._taken, self._dropped, missed, error)

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                self._take(*task)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            self._fail(error)
        try:
            self.sink.close()
        except Exception as error:  # noqa: BLE001 - the same
            self._fail(error)

    def _take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        try:
            going = self.sink.take(image, moment)
        except Missed as error:
            self._missed += 1
            self._trouble.trouble(str(error))
            return
        self._taken += 1
        self._trouble.over(f"{self.sink.name} delivers again.")
        if going is False:
            self._end()

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._end()

    def _end(self) -> None:
        with self._changed:
            self.ended = True
            self._waiting.clear()
            self._changed.notify_all()

    def _next(self) -> tuple[NDArray[np.uint8], Moment] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing or self.ended)
            if not self._waiting:
                return None
            self._changed.notify_all()
            return self._waiting.popleft()
