"""From a source's text to results: open, keep up, feed, count.

One loop serves the command line, the demo and whoever embeds shiftedge: it decides what a frame
that comes too late means. A live source never queues frames up: the newest is taken and the others
are counted as dropped, since a gesture seen a second late is of no use. A recording is read frame
by frame, by its own clock, unless it is to be played in real time like a camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
from shiftedge.runtime.live.stream import Decoder, LiveStream, Result
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.signals import Closing

STALL_S = 60.0
"""Longest wait for a frame of a live source that does not say that it is away: a last resort
against a driver that hangs."""


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
    """A session in numbers. Step times in milliseconds, to within 0.5%, None before the first
    step."""

    frames: int = 0
    """Camera frames taken."""
    steps: int = 0
    """Model steps; fewer than frames when the camera is faster than the model's clock."""
    events: int = 0
    dropped: int = 0
    """Camera frames that passed while the model was busy with another."""
    resets: dict[str, int] = field(default_factory=dict)
    """Reason -> how often the states were emptied for it: "gap", "clock", "cut"."""
    step_p50_ms: float | None = None
    step_p99_ms: float | None = None

    def sentence(self) -> str:
        """One line for people."""
        times = "no step taken"
        if self.step_p50_ms is not None and self.step_p99_ms is not None:
            times = f"step p50 {self.step_p50_ms:.2f} ms, p99 {self.step_p99_ms:.2f} ms"
        resets = ", ".join(f"{count} by {reason}" for reason, count in self.resets.items())
        return (
            f"{self.frames} frames, {self.steps} steps, {self.events} events, {times}, "
            f"{self.dropped} frames dropped" + (f", states emptied: {resets}" if resets else "")
        )


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
    ) -> None:
        self.model = model
        self.live = LiveStream(model, decoder, on_note=on_note)
        self._note = on_note or (lambda text: None)
        if isinstance(source, FrameSource):
            opened = source
        else:
            opened = open_source(source, on_event=self._note, retry=retry)
        self.source = opened
        self._latest: LatestFrame | None = None
        self._frames: FrameSource = opened
        if realtime and not opened.live:
            self._frames = opened = Paced(opened)
        if opened.live:
            self._frames = self._latest = LatestFrame(opened, stall_s=STALL_S)
        self._times = StepTimes()
        self._counts = Summary()

    def __iter__(self) -> Iterator[tuple[TimedFrame, Result]]:
        """Feed each frame and yield it with what it led to, until the source ends.

        Raises:
            SourceError, SourceLostError: see :meth:`FrameSource.__iter__`.
            FrameError, ModelError, NumericsError: see :meth:`LiveStream.feed`.
        """
        for frame in self._frames:
            result = self.live.feed(frame.image, frame.time_s)
            self._count(frame, result)
            yield frame, result

    def _count(self, frame: TimedFrame, result: Result) -> None:
        counts = self._counts
        counts.frames += 1
        counts.steps += result.steps
        if result.steps:
            self._times.add(result.step_s / result.steps)
        counts.events += result.event is not None
        if result.reset is not None:
            counts.resets[result.reset] = counts.resets.get(result.reset, 0) + 1
            self._note(f"states emptied at {frame.time_s:.2f} s: {RESET_WORDS[result.reset]}")

    def summary(self) -> Summary:
        """What happened so far."""
        p50, p99 = (self._times.share_ms(share) for share in (0.5, 0.99))
        return replace(
            self._counts,
            dropped=0 if self._latest is None else self._latest.dropped,
            resets=dict(self._counts.resets),
            step_p50_ms=p50,
            step_p99_ms=p99,
        )

    def close(self) -> None:
        """Close the source. May be called twice."""
        self._frames.close()
        self.source.close()


RESET_WORDS = {
    "gap": "no frame for longer than the model's limit",
    "clock": "the frames' time went back",
    "cut": "the scene was cut",
}
"""Each of LiveStream's reasons in words."""
