"""What there is to say when a demo has ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.live.score import Score
from shiftedge.runtime.live.session import Summary
from shiftedge.runtime.words import plain


@dataclass(frozen=True)
class ShowReport:
    """One show. Times in seconds, by the clock of the source."""

    source: str
    model: str
    engine: str
    seconds: float
    """From the first frame to the last."""
    numbers: Summary
    """Frames, steps, drops and resets."""
    events: tuple[GestureEvent, ...]
    """The last ones of a very long show; ``numbers.events`` counts all."""
    ended: str
    """Why: "end" of the source, "limit", "interrupted", "closed" (the window), or "lost" (the
    source, or the window's display)."""
    score: Score | None = None
    """Against the truth, where the source knows it."""
    film: Path | None = None
    error: ShiftedgeError | None = None
    """What was lost, when frames had come before."""
    status: int = 0
    """The exit status that goes with a signal."""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        numbers = self.numbers
        return {
            "schema": 1,
            "source": self.source,
            "model": self.model,
            "engine": self.engine,
            "ended": self.ended,
            "seconds": round(self.seconds, 3),
            "frames": numbers.frames,
            "steps": numbers.steps,
            "step_ms": {
                "p50": _rounded(numbers.step_p50_ms),
                "p99": _rounded(numbers.step_p99_ms),
            },
            "dropped": numbers.dropped,
            "resets": numbers.resets,
            "event_count": numbers.events,
            "events": [
                {
                    "time_s": round(event.time_s, 3),
                    "label": event.label,
                    "confidence": round(event.confidence, 4),
                }
                for event in self.events
            ],
            "truth": None if self.score is None else self.score.to_dict(),
            "film": None if self.film is None else str(self.film),
        }

    def text(self) -> str:
        """Some lines for people."""
        numbers = self.numbers
        lines = [
            f"{_count(numbers.frames, 'frame')} in {self.seconds:.1f} s, "
            f"{_count(numbers.events, 'gesture')} reported, "
            f"{_count(numbers.dropped, 'frame')} dropped"
        ]
        if numbers.step_p50_ms is not None and numbers.step_p99_ms is not None:
            lines.append(
                f"step p50 {numbers.step_p50_ms:.2f} ms, p99 {numbers.step_p99_ms:.2f} ms "
                f"({plain(self.model)}, {self.engine}, {_count(numbers.steps, 'step')})"
            )
        if numbers.resets:
            reasons = ", ".join(f"{reason} {count}" for reason, count in numbers.resets.items())
            lines.append(f"states emptied: {reasons}")
        if self.score is not None:
            lines += _truth_lines(self.score)
        if self.film is not None:
            lines.append(f"film: {plain(self.film)}")
        return "\n".join(lines)


def _truth_lines(score: Score) -> list[str]:
    total = len(score.recognised) + len(score.missed)
    delay = ""
    if score.delay_s is not None:
        when = "after" if score.delay_s >= 0 else "before"
        delay = f", in the median {abs(score.delay_s):.2f} s {when} the end of the movement"
    lines = [f"recognised {len(score.recognised)} of {_count(total, 'true gesture')}{delay}"]
    missed = [(true.label, true.start_s) for true in score.missed]
    false = [(event.label, event.time_s) for event in score.false]
    for what, places in (("missed", missed), ("false", false)):
        if places:
            found = ", ".join(f"{plain(label)} at {time_s:.1f} s" for label, time_s in places)
            lines.append(f"{what}: {found}")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
