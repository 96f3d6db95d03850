"""From a source's text to results: open, keep up, feed, count.

One loop serves the command line, the demo and whoever embeds shiftedge: it decides what a frame
that comes too late means. A live source never queues frames up: the newest is taken and the others
are counted as dropped, since a gesture seen a second late is of no use. A recording is read frame
by frame, by its own clock, unless it is to be played in real time like a camera.

Several cameras share the loop and the model's weights (:func:`watch`): the one that has waited the
longest is next, so that none starves. Where the model is too slow for all of them, steps are left
out: repeating a frame for those that were dropped would make it slower still.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from shiftedge.runtime.capture import (
    FrameSource,
    LatestFrame,
    Paced,
    Retry,
    TimedFrame,
    open_source,
)
from shiftedge.runtime.capture.reader import ReadAhead, Reader, merged
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.live.stream import Decoder, LiveStream, Result
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.signals import Closing

STALL_S = 60.0
"""Longest wait for a frame of a live source that does not say that it is away: a last resort
against a driver that hangs."""


OWN_SHARE = 1 / 16
"""By which a camera's own delay is believed to be longer, for each frame that is too old."""


class StepTimes:
    """Times of steps in bins of 1% from 1 us to 11 minutes, as the standalone runner counts them: a
    stream of months takes no more memory than one of seconds. A percentile is the middle of a bin,
    so within 0.5% of a time that was measured."""

    RATIO = 1.01
    LEAST_S = 1e-6
    BINS = 2048

    def __init__(self) -> None:
        self._bins = np.zeros(self.BINS, np.int64)

    def add(self, seconds: float) -> None:
        """Count a step."""
        number = 0
        if seconds > self.LEAST_S:
            number = int(math.log(seconds / self.LEAST_S) / math.log(self.RATIO))
        self._bins[min(number, self.BINS - 1)] += 1

    def share_ms(self, share: float) -> float | None:
        """Milliseconds that this share of the steps, 0..1, did not pass; None before the first."""
        reached = np.cumsum(self._bins)
        if not reached[-1]:
            return None
        rank = int(share * (int(reached[-1]) - 1))
        number = int(np.searchsorted(reached, rank, side="right"))
        return 1e3 * self.LEAST_S * math.pow(self.RATIO, number + 0.5)


@dataclass
class Summary:
    """A session in numbers. Times in milliseconds, to within 0.5%, None where there was none."""

    frames: int = 0
    """Camera frames taken."""
    steps: int = 0
    """Model steps; fewer than frames when the camera is faster than the model's clock."""
    events: int = 0
    dropped: int = 0
    """Camera frames that passed while the model was busy with another."""
    stale: int = 0
    """Of a camera, frames that were older than an interval, and not stepped."""
    skipped: int = 0
    """Steps that were due for dropped frames, and were left out since the model is too slow."""
    reopened: int = 0
    """How often the source was lost and found again."""
    resets: dict[str, int] = field(default_factory=dict)
    """Reason -> how often the states were emptied for it: "gap", "clock", "cut"."""
    step_p50_ms: float | None = None
    step_p99_ms: float | None = None
    event_p50_ms: float | None = None
    """From the camera's frame to the event that it settled."""
    event_p99_ms: float | None = None

    def sentence(self) -> str:
        """One line for people."""
        parts = [f"{self.frames} frames, {self.steps} steps, {self.events} events"]
        times = (
            ("step", self.step_p50_ms, self.step_p99_ms),
            ("camera to event", self.event_p50_ms, self.event_p99_ms),
        )
        parts += [
            f"{what} p50 {p50:.2f} ms, p99 {p99:.2f} ms"
            for what, p50, p99 in times
            if p50 is not None and p99 is not None
        ]
        parts += [] if self.steps else ["no step taken"]
        parts.append(f"{self.dropped} frames dropped")
        rare = (
            (self.stale, "frames too old"),
            (self.skipped, "steps left out since the model is too slow"),
            (self.reopened, "times lost and found again"),
        )
        parts += [f"{count} {what}" for count, what in rare if count]
        if self.resets:
            resets = ", ".join(f"{count} by {reason}" for reason, count in self.resets.items())
            parts.append(f"states emptied: {resets}")
        return ", ".join(parts)


class LiveSession(Closing):
    """A model watching a source. Iterate once for the results; close, or use as a context.

    Args:
        model: what recognises.
        source: as typed on a command line, a camera's number, a path, or an opened source, which
            is closed with the session.
        realtime: play a recording at its own pace like a camera, dropping frames when late.
        on_note: told in a sentence of what a user should know: a camera lost and found again,
            states emptied, or times that cannot be seconds (of those, None warns).
        decoder: see :class:`LiveStream`.
        retry: how long ``source``, as typed, is tried again once it is lost; see
            :meth:`Retry.for_service`.
        name: of the camera, where there are several; None is the source's.
    """

    def __init__(
        self,
        model: Model,
        source: str | int | Path | FrameSource,
        *,
        realtime: bool = False,
        on_note: Callable[[str], None] | None = None,
        decoder: Decoder | None = None,
        retry: Retry | None = None,
        name: str | None = None,
    ) -> None:
        self.model = model
        self.live = LiveStream(model, decoder, on_note=on_note)
        self._note = on_note or (lambda text: None)
        if isinstance(source, FrameSource):
            opened = source
        else:
            opened = open_source(source, on_event=self._note, retry=retry)
        self.source = opened
        self.name = name or opened.name
        if realtime and not opened.live:
            opened = Paced(ReadAhead(opened))
        self.reader: Reader
        self.reader = LatestFrame(opened, stall_s=STALL_S) if opened.live else ReadAhead(opened)
        self._step_times, self._event_times = StepTimes(), StepTimes()
        self._counts = Summary()
        self._index = -1
        self._late = False
        self._own_s = math.inf

    def __iter__(self) -> Iterator[tuple[TimedFrame, Result]]:
        """Feed each frame and yield it with what it led to, until the source ends.

        Raises:
            SourceError, SourceLostError: see :meth:`FrameSource.__iter__`.
            FrameError, ModelError, NumericsError: see :meth:`LiveStream.feed`.
        """
        return ((frame, result) for _, frame, result in watch([self]))

    def feed(self, frame: TimedFrame) -> Result | None:
        """Take the source's next frame; None where it is too old to be stepped.

        Raises:
            FrameError, ModelError, NumericsError: see :meth:`LiveStream.feed`.
        """
        counts = self._counts
        dropped, self._index = frame.index - self._index > 1, frame.index
        # A single frame that was missed is made up for by a repeated one; see the module.
        late, self._late = dropped and self._late, dropped
        if frame.taken_s is not None:
            age_s = time.monotonic() - frame.taken_s
            # What this camera and its driver always take is no delay of ours. Where they take
            # longer from now on, frames are old for a second, until that is known.
            self._own_s = min(self._own_s, age_s)
            if age_s - self._own_s > self.live.interval_s:
                self._own_s += OWN_SHARE * (age_s - self._own_s)
                counts.stale += 1
                return None
        result = self.live.feed(frame.image, frame.time_s, repeat=not late)
        counts.frames += 1
        counts.steps += result.steps
        counts.skipped += result.skipped
        if result.steps:
            self._step_times.add(result.step_s / result.steps)
        if result.event is not None:
            counts.events += 1
            if frame.taken_s is not None:
                self._event_times.add(time.monotonic() - frame.taken_s)
        if result.reset is not None:
            counts.resets[result.reset] = counts.resets.get(result.reset, 0) + 1
            self._note(f"states emptied at {frame.time_s:.2f} s: {RESET_WORDS[result.reset]}")
        return result

    def summary(self) -> Summary:
        """What happened so far. May be called from another thread."""
        return replace(
            self._counts,
            dropped=self.reader.dropped,
            reopened=self.reader.reopened,
            resets=dict(self._counts.resets),
            step_p50_ms=self._step_times.share_ms(0.5),
            step_p99_ms=self._step_times.share_ms(0.99),
            event_p50_ms=self._event_times.share_ms(0.5),
            event_p99_ms=self._event_times.share_ms(0.99),
        )

    def close(self) -> None:
        """Close the source. May be called twice."""
        self.reader.close()


LostHandler = Callable[[LiveSession, ShiftedgeError], None]


def watch(
    sessions: Sequence[LiveSession],
    on_lost: LostHandler | None = None,
    on_turn: Callable[[], None] = lambda: None,
) -> Iterator[tuple[LiveSession, TimedFrame, Result]]:
    """Feed the frames of several cameras, in the order in which they have waited, and yield each
    with what it led to, until all sources have ended.

    Args:
        on_lost: told of a session that failed, which the others do not end for; None raises.
        on_turn: called before each frame, and once a second while there is none. What it raises
            ends the loop.

    Raises:
        ShiftedgeError: see :meth:`LiveSession.__iter__`, without ``on_lost``.
    """
    of = {session.reader: session for session in sessions}

    def lost(reader: Reader, error: Exception) -> None:
        if on_lost is None or not isinstance(error, ShiftedgeError):
            raise error
        on_lost(of[reader], error)

    for reader, frame in merged(list(of), lost, on_turn):
        try:
            result = of[reader].feed(frame)
        except ShiftedgeError as error:
            reader.end()
            lost(reader, error)
            continue
        if result is not None:
            yield of[reader], frame, result


RESET_WORDS = {
    "gap": "no frame for longer than the model's limit",
    "clock": "the frames' time went back",
    "cut": "the scene was cut",
}
"""Each of LiveStream's reasons in words."""
