"""Events of one model at its own settings, summed over films: what reports of other work say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftedge.export.score.decoding import FilmBatch
from shiftedge.export.score.stream import Streamed
from shiftedge.runtime.spec import ModelSpec


@dataclass(frozen=True)
class EventScore:
    """Events against the truth, summed over films."""

    minutes: float
    gestures: int
    right: int
    false_labels: tuple[str, ...]
    missed_labels: tuple[str, ...]
    latency_s: tuple[float, ...]
    """From the end of each gesture that was found to its report; negative before the end."""

    @property
    def false(self) -> int:
        """Reports that match no gesture."""
        return len(self.false_labels)

    @property
    def reported(self) -> int:
        """All events."""
        return self.right + self.false

    @property
    def precision(self) -> float:
        """Share of the reports that are right; 1 where nothing was reported."""
        return self.right / self.reported if self.reported else 1.0

    @property
    def recall(self) -> float:
        """Share of the gestures that were reported; 1 where there were none."""
        return self.right / self.gestures if self.gestures else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        both = self.precision + self.recall
        return 2.0 * self.precision * self.recall / both if both else 0.0

    @property
    def false_per_minute(self) -> float:
        """Reports that match no gesture, per minute of film."""
        return self.false / self.minutes if self.minutes else 0.0

    def summary(self) -> dict[str, object]:
        """Figures for a report."""
        late = np.array(self.latency_s) if self.latency_s else np.zeros(1)
        return {
            "minutes": round(self.minutes, 2),
            "gestures": self.gestures,
            "reported": self.reported,
            "right": self.right,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "false_per_minute": round(self.false_per_minute, 3),
            "latency_s": {
                "p50": round(float(np.percentile(late, 50)), 3),
                "p90": round(float(np.percentile(late, 90)), 3),
            },
            "false": dict(sorted(Counter(self.false_labels).items())),
            "missed": dict(sorted(Counter(self.missed_labels).items())),
        }


def event_score(films: Sequence[Streamed], spec: ModelSpec) -> EventScore:
    """What a model finds in films at its own settings."""
    batch = FilmBatch(films, spec)
    truth, outcome = batch.truth, batch.outcomes([spec.decoder])
    found, counted = outcome.found[0], outcome.counted[0]
    names = np.array(spec.labels)
    false = np.repeat(names, outcome.false[0].sum(axis=0))
    late = (outcome.reported_s[0] - truth.end_s)[found]
    return EventScore(
        minutes=float(truth.seconds.sum()) / 60.0,
        gestures=int(counted.sum()),
        right=int(found.sum()),
        false_labels=tuple(false.tolist()),
        missed_labels=tuple(names[truth.labels[counted & ~found]].tolist()),
        latency_s=tuple(late.tolist()),
    )
