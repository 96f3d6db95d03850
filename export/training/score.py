"""How good a model is: on clips, on films streamed frame by frame, before people who sit still."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shiftedge.export.models import StreamingModel
from shiftedge.export.training.augment import make_batch
from shiftedge.export.training.clips import ClipSet
from shiftedge.runtime.capture.synthetic.acts import TrueEvent
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.live.score import score
from shiftedge.runtime.spec import ModelSpec

__all__ = [
    "ClipScore",
    "EventScore",
    "call_clip",
    "decode",
    "score_clips",
    "score_films",
    "stream_film",
]

Advance = Callable[[int], None]


@dataclass(frozen=True)
class ClipScore:
    """Accuracy over clips, each clip called what :func:`call_clip` says."""

    clips: int
    accuracy: float
    accuracy_by_mean: float
    """The same if a clip is called by the mean of its logits, as offline benchmarks do. A model
    that is silent before and after a gesture, as an online model must be, scores less by it."""
    recall: dict[str, float]
    """Of each label."""
    confusion: list[list[int]]
    """Rows are true labels, columns predicted ones, in the order of the model's labels."""
    right: NDArray[np.bool_]
    """(clips,): which were called by their name."""


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
    def false_per_minute(self) -> float:
        """Reports that match no gesture, per minute of film."""
        return (self.reported - self.right) / self.minutes if self.minutes else 0.0

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


@torch.inference_mode()
def logits_of_clips(
    net: nn.Module, clips: ClipSet, spec: ModelSpec
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Numbers of some clips and their logits (clips, frames, classes), until all have come."""
    net.eval()
    model = StreamingModel(net)
    length = clips.frames.shape[1]
    for first in range(0, len(clips), 16):
        chosen = np.arange(first, min(first + 16, len(clips)))
        batch = make_batch(
            clips,
            chosen,
            None,
            frames=length,
            height=spec.height,
            width=spec.width,
            mean=spec.mean,
            std=spec.std,
        )
        frames = torch.from_numpy(batch.frames).permute(0, 3, 1, 2)
        logits = model.clip(frames.reshape(len(chosen), length, *frames.shape[1:]))
        yield chosen, logits.reshape(len(chosen), length, -1).numpy()


def score_clips(
    net: nn.Module, clips: ClipSet, spec: ModelSpec, advance: Advance | None = None
) -> ClipScore:
    """Accuracy of ``net`` on clips it has not been trained on."""
    names = clips.names
    confusion = np.zeros((len(names), len(names)), np.int64)
    by_mean = 0
    right = np.zeros(len(clips), bool)
    for chosen, rows in logits_of_clips(net, clips, spec):
        by_mean += int((rows.mean(1).argmax(1) == clips.labels[chosen]).sum())
        guesses = np.array([call_clip(row, spec) for row in rows])
        right[chosen] = guesses == clips.labels[chosen]
        np.add.at(confusion, (clips.labels[chosen], guesses), 1)
        if advance is not None:
            advance(len(chosen))
    totals = confusion.sum(1)
    recall = {name: float(confusion[i, i] / totals[i]) for i, name in enumerate(names) if totals[i]}
    accuracy = float(np.trace(confusion) / max(1, confusion.sum()))
    by_mean_share = by_mean / max(1, len(clips))
    return ClipScore(len(clips), accuracy, by_mean_share, recall, confusion.tolist(), right)


def call_clip(logits: NDArray[np.float32], spec: ModelSpec) -> int:
    """What a clip shows, judged as a live decoder would: index of a label.

    The gesture whose smoothed probability rises highest, if it reaches the decoder's ``enter``;
    else the silent label that is most probable on average. Without silent labels, the mean decides.

    Args:
        logits: (T, classes), at the spec's frame rate.
        spec: gives the labels and the decoder's settings.
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


@torch.inference_mode()
def stream_film(
    net: nn.Module, frames: Sequence[NDArray[np.uint8]], spec: ModelSpec
) -> NDArray[np.float32]:
    """Logits (frames, classes) of the online form, one frame at a time from empty states."""
    net.eval()
    model = StreamingModel(net)
    states = model.initial_states(spec.height, spec.width)
    mean = np.array(spec.mean, np.float32)
    std = np.array(spec.std, np.float32)
    rows = []
    for image in frames:
        rgb = (image[..., ::-1].astype(np.float32) / 255.0 - mean) / std
        frame = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]
        logits, states = model.step(frame, states)
        rows.append(logits[0].numpy())
    return np.stack(rows).astype(np.float32)


def decode(logits: NDArray[np.float32], spec: ModelSpec) -> list[GestureEvent]:
    """Events of a stream of logits at the spec's frame rate."""
    decoder = GestureDecoder(spec)
    events = []
    for index, row in enumerate(logits):
        event = decoder.update(row, index / spec.frame_rate_hz)
        if event is not None:
            events.append(event)
    return events


def score_films(
    net: nn.Module,
    spec: ModelSpec,
    *,
    seed: int,
    films: int,
    seconds: float,
    gestures: bool = True,
    clean: bool = True,
    advance: Advance | None = None,
) -> EventScore:
    """Stream rendered films of unseen people through the online form and decode them.

    Args:
        net: the network.
        spec: its size, rate, labels and decoder settings.
        seed: of the first film; the others follow.
        films: number of films.
        seconds: of each.
        gestures: False for people who only sit there.
        clean: good light and a good camera; otherwise the worst that training clips show.
        advance: told about each film.
    """
    from shiftedge.runtime.capture.synthetic import Film

    total = EventScore()
    for number in range(films):
        film = Film(
            seed + number,
            seconds=seconds,
            rate_hz=spec.frame_rate_hz,
            height=spec.height,
            width=spec.width,
            gestures=gestures,
            clean=clean,
        )
        logits = stream_film(net, list(film), spec)
        total.add(decode(logits, spec), film.events, seconds)
        if advance is not None:
            advance(1)
    return total
