"""Time, not frame counts: which camera frames a model takes that was trained at another rate.

The model's ticks stand on a fixed grid, ``1 / frame_rate_hz`` apart, that begins with the first
frame. Each tick belongs to the camera frame nearest to it. A frame cannot know when the next one
will come, so it claims every open tick up to half a camera period ahead, the period being the
median of the last intervals: right for a steady camera, and at most half a period off while the
camera changes its rate. The grid never moves with the frames, so nothing drifts.

::

    camera   |     |     |     |     |     |     |
    ticks    T          T          T          T
    steps    1     0    1... each tick goes to its nearest frame; a slow camera's frame gets several
"""

from __future__ import annotations

import math
import numbers
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shiftedge.runtime.errors import FrameError
from shiftedge.runtime.words import shown

MEMORY_FRAMES = 15
"""Intervals behind the estimate of the camera's period: over half of them must be new before a
change of rate counts, about a quarter of a second at 30 fps. One dropped frame changes nothing."""

TOLERANCE_S = 1e-6
"""Times since 1970 in float64 are good to 0.24 us. A tick that is this close to the border between
two frames goes to the earlier one, always, instead of by the noise."""


@dataclass(frozen=True)
class Tick:
    """What one camera frame means to the model."""

    steps: int
    """Steps to take with this frame: 0 skips it, more than 1 repeats it for a slow camera."""
    reset: str | None = None
    """None, or why the states must be emptied before the steps: "gap", the pause before this frame
    was longer than ``max_gap_s``; "clock", its time lies before the last one's."""


class FrameClock:
    """Turns the times of camera frames into model steps. Holds no real clock: times are passed in.

    Args:
        frame_rate_hz: steps per second that the model was trained at, above 0.
        max_gap_s: a longer pause between two frames empties the states; at least one step long.

    Raises:
        ValueError: a rate or pause out of range.
    """

    def __init__(self, frame_rate_hz: float, max_gap_s: float) -> None:
        if not (math.isfinite(frame_rate_hz) and frame_rate_hz > 0):
            raise ValueError(f"frame_rate_hz is {frame_rate_hz}; expected a rate above 0.")
        if not (math.isfinite(max_gap_s) and max_gap_s * frame_rate_hz >= 1.0 - 1e-9):
            raise ValueError(f"max_gap_s is {max_gap_s}; expected a time of at least one step.")
        self._rate_hz = frame_rate_hz
        self._max_gap_s = max_gap_s
        self._max_steps = math.ceil(max_gap_s * frame_rate_hz - 1e-9)
        self._intervals: deque[float] = deque(maxlen=MEMORY_FRAMES)
        self._start_s = 0.0
        self._last_s: float | None = None
        self._claimed = 0

    @property
    def period_s(self) -> float:
        """The camera's period as estimated so far, in seconds; 0 before the second frame."""
        return _median(self._intervals) if self._intervals else 0.0

    def reset(self) -> None:
        """Begin a new grid with the next frame; the estimate of the camera's period is kept."""
        self._last_s = None

    def tick(self, time_s: float) -> Tick:
        """Take the next frame's time and say what to do with the frame.

        Raises:
            FrameError: ``time_s`` is not a finite number; the clock is as it was before.
        """
        time_s = checked_seconds(time_s)
        if self._last_s is None:
            return self._begin(time_s, None)
        interval_s = time_s - self._last_s
        if interval_s < 0.0:
            return self._begin(time_s, "clock")
        if interval_s > self._max_gap_s + TOLERANCE_S:
            return self._begin(time_s, "gap")
        self._last_s = time_s
        if interval_s > 0.0:  # two frames with one time are a burst, and say nothing of the rate
            self._intervals.append(interval_s)
        reach_s = time_s + 0.5 * self.period_s + TOLERANCE_S - self._start_s
        due = math.floor(reach_s * self._rate_hz) + 1  # ticks 0, 1, ... up to the reach
        steps = max(due - self._claimed, 0)
        self._claimed += steps
        # More than a gap's worth can only come due while the estimate jumps; one image repeated
        # that often says nothing more.
        return Tick(min(steps, self._max_steps))

    def _begin(self, time_s: float, reset: str | None) -> Tick:
        self._start_s = self._last_s = time_s
        self._claimed = 1
        return Tick(1, reset)


def _median(values: Iterable[float]) -> float:
    """As ``statistics.median``, whose import takes as long as all of ours."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return 0.5 * (ordered[middle] + ordered[~middle])


def checked_seconds(value: object) -> float:
    """The time of a frame as a finite float.

    Raises:
        FrameError: it is none.
    """
    # numpy counts its spans of time as whole numbers, of whatever unit
    if isinstance(value, numbers.Real) and not issubclass(type(value), np.timedelta64):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if math.isfinite(seconds):
            return seconds
    raise FrameError(
        f"The frame's time is {shown(value)}; expected a finite number of seconds: "
        "use time.monotonic() if the camera gives none, and timestamp() of a datetime."
    )


WINDOW_FRAMES = 30
"""Frames that are judged together: a second of a camera."""
NEARLY_ALL = 0.8
"""Share of them that must be wrong; a camera that is lost now and then stays far below."""
FASTEST_RATE_HZ = 1000.0
"""More frames a second than any camera has: the stamps are those of a loop, or of another unit."""
CAMERA_PERIODS_S = (1 / 250, 1 / 4)
"""Between two frames of a camera; tells which unit was meant."""
UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
"""Of them in a second."""


class StampWatch:
    """Looks at the times of a stream's frames. One per stream."""

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._last_s: float | None = None
        self._steps_s: list[float] = []
        self._done = False

    def look(self, time_s: float) -> str | None:
        """Take the next frame's time; a sentence for the user, at most once."""
        if self._done:
            return None
        if self._last_s is not None:
            self._steps_s.append(time_s - self._last_s)
        self._last_s = time_s
        if len(self._steps_s) < WINDOW_FRAMES:
            return None
        steps_s, self._steps_s = self._steps_s, []
        sentence = self._judge(steps_s)
        self._done = sentence is not None
        return sentence

    def _judge(self, steps_s: list[float]) -> str | None:
        middle_s = _median(steps_s)
        if _nearly_all(step_s > self._max_gap_s for step_s in steps_s):
            return (
                f"Nearly every frame lies more than {self._max_gap_s:g} s behind the last (about "
                f"{middle_s:g}), so the states are emptied each time and no gesture can be seen: "
                f"{_meant(middle_s)}? The time of a frame is expected in seconds."
            )
        if sum(step_s < 0.0 for step_s in steps_s) > len(steps_s) // 3:
            return (
                "The time of many frames lies before that of the frame before, so the states are "
                "emptied each time: are frames of several cameras fed to one stream, or frames in "
                "the wrong order?"
            )
        if _nearly_all(0.0 <= step_s < 1.0 / FASTEST_RATE_HZ for step_s in steps_s):
            return (
                f"The time stands still: {len(steps_s)} frames came within "
                f"{sum(steps_s):.3g} s, so hardly any is taken. The time of a frame is expected in "
                "seconds, as it was taken: of a recording, frame number / frames per second."
            )
        if all(step_s == 1.0 for step_s in steps_s):
            return (
                "The frames are exactly 1 s apart: are their times frame numbers? Seconds are "
                "expected: frame number / frames per second."
            )
        return None


def _nearly_all(wrong: Iterable[bool]) -> bool:
    return sum(wrong) >= NEARLY_ALL * WINDOW_FRAMES


def _meant(step: float) -> str:
    for unit, in_second in UNITS.items():
        if CAMERA_PERIODS_S[0] <= step / in_second <= CAMERA_PERIODS_S[1]:
            return f"are these {unit}"
    return "are these seconds, or is the camera that slow"
