"""Frames by another clock than their source's: the newest, some ahead, each when it is due."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.errors import SourceLostError
from shiftedge.runtime.process.signals import close_at_exit

TURN_S = 1.0
"""Longest wait until who loops over readers is asked again, see :func:`merged`."""
AHEAD_BYTES = 16 << 20
"""Frames that may lie ready: half a second of 640x480."""
AHEAD_JOIN_S = 10.0
"""Longest wait for the thread: a file of a network that is gone may never be read to its end."""
LATEST_JOIN_S = 5.0
"""The same for what is live: on a machine that is busy a frame may take a second, and a thread that
is inside OpenCV when Python ends would abort the process."""


class Reader(FrameSource):
    """Reads ``source`` in a thread of its own. Closing this closes ``source``.

    Args:
        stall_s: longest wait for a frame in seconds, while the source does not say that it is
            away and tried again; None trusts the source.
        join_s: how long :meth:`close` waits for the thread, from :meth:`end` on. A thread that is
            blocked in a device longer than that ends by itself later and keeps no program alive.
    """

    def __init__(self, source: FrameSource, stall_s: float | None, join_s: float) -> None:
        self.name = source.name
        self.dropped = 0
        self._source = source
        self._stall_s = stall_s
        self._join_s = join_s
        self._changed = threading.Condition()
        self._ready: deque[TimedFrame] = deque()
        self._since_s = self._heard_s = 0.0
        self._error: Exception | None = None
        self._given = False
        self._ended = False
        self._closed = False
        self._end_s = math.inf
        self._thread = threading.Thread(target=self._read, name=f"read {self.name}", daemon=True)

    @property
    def rate_hz(self) -> float | None:  # type: ignore[override]
        """The source's, which may know it only once it is open."""
        return self._source.rate_hz

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames that the thread has read, until the source ends. Starts the thread.

        Raises:
            SourceLostError: no frame for ``stall_s``.
            Exception: what the source raised, as it was, after the last frame.
        """
        return (frame for _, frame in merged([self]))

    @property
    def reopened(self) -> int:  # type: ignore[override]
        """The source's."""
        return self._source.reopened

    def start(self, changed: threading.Condition) -> None:
        """Begin to read; ``changed`` is told of every frame, and of the end."""
        self._changed = changed
        self._heard_s = time.monotonic()
        if not self._closed:
            close_at_exit(self)
            self._thread.start()

    def end(self) -> None:
        """Close without waiting for the thread."""
        self._closed = True
        self._end_s = min(self._end_s, time.monotonic() + self._join_s)
        with (changed := self._changed):
            changed.notify_all()
        self._source.close()

    def close(self) -> None:
        self.end()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(max(self._end_s - time.monotonic(), 0.0))

    @property
    def giving(self) -> bool:
        """Whether frames have come and more are to be expected: it is neither lost nor at its end.
        May be asked from any thread."""
        return self._given and not (self._ended or self._closed or self._source.away)

    def _make_room(self, frame: TimedFrame) -> None:
        """See to it that ``frame`` can be put beside what lies ready, in the reading thread."""

    def waiting_since(self) -> float | None:
        """Since when something is to be taken, on the clock of ``time.monotonic``; None: nothing
        is. Of a frame that was replaced by a newer one, since the first of them came.

        To be called, as :meth:`take`, by who holds the lock of :meth:`start`.
        """
        if self._ready:
            return self._since_s
        return 0.0 if self._ended or self._closed else None

    def patience_s(self, now_s: float) -> float | None:
        """How much longer a frame may be waited for; 0: it has stalled."""
        if self._stall_s is None:
            return None
        if self._source.away:
            self._heard_s = now_s
        return max(self._heard_s + self._stall_s - now_s, 0.0)

    def take(self) -> TimedFrame | None:
        """What is to be taken; None at the end.

        Raises:
            SourceLostError, Exception: see :meth:`__iter__`.
        """
        if self._ready and not self._closed:
            self._since_s = self._heard_s
            self._changed.notify_all()
            return self._ready.popleft()
        if self._error is not None and not self._closed:
            raise self._error
        if self._ended or self._closed:
            return None
        raise SourceLostError(f"The source {self.name} gave no frame for {self._stall_s:g} s.")

    def _read(self) -> None:
        error: Exception | None = None
        try:
            for frame in self._source:
                with self._changed:
                    waited = bool(self._ready)
                    self._make_room(frame)
                    if self._closed:
                        break
                    self._heard_s = time.monotonic()
                    self._given = True
                    if not waited:
                        self._since_s = self._heard_s
                    self._ready.append(frame)
                    self._changed.notify_all()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it belongs to the consumer
            error = failure
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()


LostHandler = Callable[[Reader, Exception], None]


def merged(
    readers: Sequence[Reader],
    on_lost: LostHandler | None = None,
    on_turn: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Reader, TimedFrame]]:
    """The frames of several readers, each time of the one that has waited the longest.

    Args:
        on_lost: told of a reader that failed, which the others do not end for; None raises.
        on_turn: called before each frame, and once a second while there is none. What it raises
            ends the loop.

    Raises:
        Exception: see :meth:`Reader.__iter__`, without ``on_lost``.
    """
    changed = threading.Condition()
    for reader in readers:
        reader.start(changed)
    going = list(readers)
    while going:
        on_turn()
        try:
            with changed:
                longest = _longest(going, changed)
                if longest is None:
                    continue
                chosen = longest
                frame = chosen.take()
        except Exception as error:
            if on_lost is None:
                raise
            going.remove(chosen)
            on_lost(chosen, error)
            continue
        if frame is None:
            going.remove(chosen)
        else:
            yield chosen, frame


def _longest(going: Sequence[Reader], changed: threading.Condition) -> Reader | None:
    """The reader that has waited the longest, or one that has stalled; waits for one, at most for
    :data:`TURN_S`."""
    until_s = time.monotonic() + TURN_S
    while True:
        waiting = {reader: reader.waiting_since() for reader in going}
        if found := _least(waiting):
            return found[0]
        now_s = time.monotonic()
        soonest = _least({reader: reader.patience_s(now_s) for reader in going})
        if soonest is not None and soonest[1] == 0.0:
            return soonest[0]
        if now_s >= until_s:
            return None
        wait_s = until_s - now_s
        changed.wait(wait_s if soonest is None else min(wait_s, soonest[1]))


def _least(times_s: Mapping[Reader, float | None]) -> tuple[Reader, float] | None:
    known = [(reader, time_s) for reader, time_s in times_s.items() if time_s is not None]
    return min(known, key=lambda pair: pair[1], default=None)


class LatestFrame(Reader):
    """The newest frame of a live source, so that a slow model never looks at old ones.

    Frames that came while the consumer was busy are dropped and counted, so that the lag is never
    more than one frame. A frame keeps its index in ``source``. The last frame is given even when
    the source has ended meanwhile.

    Args:
        source: a live source; a recording would lose frames (see :class:`Paced`).
    """

    live = True

    def __init__(
        self, source: FrameSource, *, stall_s: float | None = None, join_s: float = LATEST_JOIN_S
    ) -> None:
        super().__init__(source, stall_s, join_s)

    def _make_room(self, frame: TimedFrame) -> None:
        self.dropped += len(self._ready)
        self._ready.clear()


class ReadAhead(Reader):
    """All frames of a recording, decoded or rendered some frames ahead of whoever takes them.

    The renderer works in batches and video files have slow frames now and then. Played without a
    store of frames they would come in bursts, and a show in real time would drop most of a burst,
    as if the model were too slow. Closing waits for the thread, which ends with the frame or batch
    that it is at: Python ends a program badly while a thread of it is inside numpy or OpenCV.
    """

    live = False

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source, None, AHEAD_JOIN_S)

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
            yield replace(frame, taken_s=self._clock())

    def close(self) -> None:
        self._closing.set()
        self._source.close()


class Late(FrameSource):
    """A source that is opened when it is read, in the thread that reads it: while one of several
    cameras is waited for, the others are watched.

    Args:
        opener: opens it, given what is set once this is closed. A recording is played at its own
            speed.
    """

    live = True

    def __init__(self, name: str, opener: Callable[[threading.Event], FrameSource]) -> None:
        self.name = name
        self._opener = opener
        self._closing = threading.Event()
        self._opened: FrameSource | None = None

    @property
    def rate_hz(self) -> float | None:  # type: ignore[override]
        """None before it is open."""
        return None if self._opened is None else self._opened.rate_hz

    @property
    def away(self) -> bool:  # type: ignore[override]
        """True until it is open: who opens it has limits of its own."""
        return self._opened is None or self._opened.away

    @property
    def reopened(self) -> int:  # type: ignore[override]
        """See :class:`FrameSource`."""
        return 0 if self._opened is None else self._opened.reopened

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames of what is opened now.

        Raises:
            SourceError: it cannot be opened.
        """
        opened = self._opener(self._closing)
        self._opened = opened if opened.live else Paced(ReadAhead(opened))
        if self._closing.is_set():
            self._opened.close()
        yield from self._opened

    def close(self) -> None:
        self._closing.set()
        if self._opened is not None:
            self._opened.close()
