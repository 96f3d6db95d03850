"""What there is to say when a demo has ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shiftedge.demos.sinks import Account
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.live.score import Score
from shiftedge.runtime.live.session import Summary
from shiftedge.runtime.words import plain


@dataclass(frozen=True)
class CameraReport:
    """One source of a show."""

    name: str
    numbers: Summary
    """Frames, steps, drops and resets."""
    lost: str | None = None
    """Why it was given up."""


@dataclass(frozen=True)
class ShowReport:
    """One show. Times in seconds, by the clock of the source."""

    model: str
    engine: str
    seconds: float
    """From the first frame to the last."""
    cameras: tuple[CameraReport, ...]
    events: tuple[GestureEvent, ...]
    """The last ones of a very long show; a camera's numbers count all."""
    ended: str
    """Why: "end" of the sources, "limit", "interrupted", "closed" (the window), or "lost" (the
    source, or the last sink that was needed)."""
    score: Score | None = None
    """Against the truth, where the source knows it."""
    sinks: tuple[Account, ...] = ()
    film: Path | None = None
    error: ShiftedgeError | None = None
    """What was lost, when frames had come before, or could not be written."""
    status: int = 0
    """The exit status that goes with a signal."""

    @property
    def numbers(self) -> Summary:
        """Of the first camera."""
        return self.cameras[0].numbers

    def lines(self) -> list[str]:
        """A line for each camera and one for the sinks, for people."""
        several = len(self.cameras) > 1
        lines = [
            (f"{plain(each.name)}: " if several else "")
            + each.numbers.sentence()
            + (", lost" if several and each.lost else "")
            for each in self.cameras
        ]
        return lines + self._sink_lines()

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        numbers = self.numbers
        return {
            "schema": 2,
            "source": self.cameras[0].name,
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
            "cameras": [
                {"name": each.name, "lost": each.lost, **asdict(each.numbers)}
                for each in self.cameras
            ],
            "sinks": [asdict(sink) for sink in self.sinks],
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
        return "\n".join(lines + self._sink_lines())

    def _sink_lines(self) -> list[str]:
        """One line, where a sink missed anything or there is more than the ordinary one."""
        ordinary = ("lines", "text", "film", "window", "web")
        told = [sink for sink in self.sinks if sink.name not in ordinary]
        told += [sink for sink in self.sinks if sink.dropped or sink.missed or sink.error]
        names = dict.fromkeys(sink.text() for sink in told)
        return [f"sinks: {'; '.join(map(plain, names))}"] if names else []


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
