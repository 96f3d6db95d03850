"""Reported gestures against those that truly happened, where a rendered source knows them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shiftedge.runtime.live.decode import GestureEvent

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import TrueEvent

LATE_S = 0.8
"""An event later than this after its gesture's end answers nothing that a person still means."""


@dataclass(frozen=True)
class Score:
    """How the events of one run compare with the truth."""

    recognised: tuple[tuple[TrueEvent, GestureEvent], ...]
    missed: tuple[TrueEvent, ...]
    false: tuple[GestureEvent, ...]

    @property
    def delay_s(self) -> float | None:
        """Median time from a gesture's end to its event; negative when it came before the end."""
        delays = [event.time_s - true.end_s for true, event in self.recognised]
        return statistics.median(delays) if delays else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: seconds with three decimals."""
        return {
            "gestures": len(self.recognised) + len(self.missed),
            "recognised": [
                {"label": true.label, "end_s": _ms(true.end_s), "reported_s": _ms(event.time_s)}
                for true, event in self.recognised
            ],
            "missed": [{"label": true.label, "end_s": _ms(true.end_s)} for true in self.missed],
            "false": [{"label": event.label, "time_s": _ms(event.time_s)} for event in self.false],
            "delay_s": None if self.delay_s is None else _ms(self.delay_s),
        }


def score(events: Sequence[GestureEvent], truth: Sequence[TrueEvent], until_s: float) -> Score:
    """Match events with true gestures, each at most once, in order of time.

    An event answers a gesture of its own label that has begun and is not over for more than
    :data:`LATE_S`. Gestures that were not over at ``until_s``, when the run ended, and were not
    recognised are left out.
    """
    answered: dict[int, GestureEvent] = {}
    false: list[GestureEvent] = []
    for event in sorted(events, key=lambda event: event.time_s):
        for number, true in enumerate(truth):
            in_time = true.start_s <= event.time_s <= true.end_s + LATE_S
            if in_time and true.label == event.label and number not in answered:
                answered[number] = event
                break
        else:
            false.append(event)
    return Score(
        recognised=tuple((truth[number], event) for number, event in answered.items()),
        missed=tuple(
            true
            for number, true in enumerate(truth)
            if number not in answered and true.end_s <= until_s
        ),
        false=tuple(false),
    )


def _ms(value_s: float) -> float:
    return round(value_s, 3)
