"""Times that cannot be seconds: said once, instead of a stream that never recognises anything.

Milliseconds, frame numbers and stamps that stand still are the usual mistakes of whoever feeds
frames: with the first every frame is a gap that empties the states, with the last no frame is ever
due. Both look like a model that sees nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

__all__ = ["StampWatch"]

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
    """Looks at the times of a stream's frames. One per stream.

    Args:
        max_gap_s: the pause after which the states are emptied, in seconds.
    """

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
        middle_s = statistics.median(steps_s)
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
