"""How good the logits of a model are: of clips, and of films with events in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic import TrueEvent
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.live.score import score
from shiftedge.runtime.spec import ModelSpec


@dataclass
class EventScore:
    """Events against the truth, summed over films."""

    minutes: float = 0.0
    gestures: int = 0
    reported: int = 0
    right: int = 0
    latency_s: list[float] = field(default_factory=list)
    """From the end of each gesture that was found to its report; negative before the end."""
    false_labels: list[str] = field(default_factory=list)
    missed_labels: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """Share of the reports that are right; 1 where nothing was reported."""
        return self.right / self.reported if self.reported else 1.0

    @property
    def recall(self) -> float:
        """Share of the gestures that were reported."""
        return self.right / self.gestures if self.gestures else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        both = self.precision + self.recall
        return 2.0 * self.precision * self.recall / both if both else 0.0

    @property
    def false(self) -> int:
        """Reports that match no gesture."""
        return self.reported - self.right

    @property
    def false_per_minute(self) -> float:
        """Reports that match no gesture, per minute of film."""
        return self.false / self.minutes if self.minutes else 0.0

    def add(
        self, events: Sequence[GestureEvent], truth: Sequence[TrueEvent], seconds: float
    ) -> None:
        """Count one film."""
        found = score(events, truth, seconds)
        self.minutes += seconds / 60.0
        self.gestures += len(found.recognised) + len(found.missed)
        self.reported += len(events)
        self.right += len(found.recognised)
        self.latency_s += [event.time_s - true.end_s for true, event in found.recognised]
        self.false_labels += [event.label for event in found.false]
        self.missed_labels += [true.label for true in found.missed]

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
            "false": _counts(self.false_labels),
            "missed": _counts(self.missed_labels),
        }


def _counts(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in sorted(set(names))}


def call_clip(logits: NDArray[np.float32], spec: ModelSpec) -> int:
    """What a clip shows, judged as a live decoder would: index of a label.

    The gesture whose smoothed probability rises highest, if it reaches the decoder's ``enter``;
    else the silent label that is most probable on average. Without silent labels, the mean decides.

    Args:
        logits: (T, classes), at the spec's frame rate.
    """
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    chances = powers / powers.sum(axis=1, keepdims=True)
    silent = np.array([label in spec.silent_labels for label in spec.labels])
    if not silent.any() or silent.all():
        return int(logits.mean(axis=0).argmax())
    smoothing = spec.decoder.smoothing_s * spec.frame_rate_hz
    weight = 1.0 if smoothing == 0.0 else -np.expm1(-1.0 / smoothing)
    smooth, peak = np.zeros(len(silent)), np.zeros(len(silent))
    for row in chances:
        smooth += weight * (row - smooth)
        peak = np.maximum(peak, smooth)
    best = int(np.where(silent, -1.0, peak).argmax())
    if peak[best] >= spec.decoder.enter:
        return best
    return int(np.where(silent, chances.mean(axis=0), -1.0).argmax())


def decode(logits: NDArray[np.float32], spec: ModelSpec) -> list[GestureEvent]:
    """Events of a stream of logits at the spec's frame rate."""
    decoder = GestureDecoder(spec)
    events = []
    for index, row in enumerate(logits):
        event = decoder.update(row, index / spec.frame_rate_hz)
        if event is not None:
            events.append(event)
    return events


def change(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, Any]:
    """How what one model calls right differs from another's over the same clips: how many it lost
    and won, and the standard error of the change."""
    return {
        "lost": int((before & ~after).sum()),
        "won": int((after & ~before).sum()),
        "standard_error": float(np.std(after.astype(float) - before) / len(before) ** 0.5),
    }
