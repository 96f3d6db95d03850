"""Clips that show one label each: which are called by their name, and what the others are called.

A clip is judged as a live decoder would judge it, since a model for streams says nothing before a
gesture and after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.score.intervals import Estimate, resamples
from shiftedge.runtime.capture.synthetic import OTHER
from shiftedge.runtime.spec import ModelSpec


@dataclass(frozen=True)
class Confusion:
    """What clips were called."""

    truth: tuple[str, ...]
    """Labels of the clips, those that the model lacks included."""
    labels: tuple[str, ...]
    """The model's."""
    table: NDArray[np.int64]
    """(truth, labels)."""
    accuracy: Estimate
    """Share of the clips called by their name; one whose label the model lacks should be called
    "Doing other things"."""


def confusion_of(
    called: Sequence[int], truth: Sequence[str], labels: Sequence[str], *, seed: int = 0
) -> Confusion:
    """How a model's names for some clips compare with the true ones.

    Args:
        called: of each clip, what :func:`call_clip` gives: an index into ``labels``.
        truth: the label of each.
        labels: the model's.
        seed: of the bootstrap's samples, see :func:`shiftedge.export.score.curve.curve_of`.
    """
    names = tuple(dict.fromkeys(truth))
    table = np.zeros((len(names), len(labels)), np.int64)
    np.add.at(table, ([names.index(name) for name in truth], list(called)), 1)
    wanted = [name if name in labels else OTHER for name in truth]
    right = np.array([labels[at] == name for at, name in zip(called, wanted, strict=True)])
    return Confusion(names, tuple(labels), table, share_of(right, seed=seed))


def share_of(right: NDArray[np.bool_], *, seed: int = 0) -> Estimate:
    """The share of clips that are right, clips drawn again."""
    share = (resamples(["clip"] * len(right), seed) @ right) / max(1, len(right))
    return Estimate(share, hits=float(right.sum()), of=float(len(right)))


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


def change(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, Any]:
    """How what one model calls right differs from another's over the same clips: how many it lost
    and won, and the standard error of the change."""
    return {
        "lost": int((before & ~after).sum()),
        "won": int((after & ~before).sum()),
        "standard_error": float(np.std(after.astype(float) - before) / len(before) ** 0.5),
    }
