"""What is written beside the weights: the spec that training fixes, and the scores."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

from torch import nn

from shiftedge.export.training.keep import Say
from shiftedge.export.training.loop import Epoch, Settings
from shiftedge.export.training.score import ClipScore, score_films
from shiftedge.runtime.process.progress import ProgressFactory
from shiftedge.runtime.spec import ModelSpec

__all__ = [
    "begun",
    "clip_summary",
    "epoch_lines",
    "film_scores",
    "so_far",
    "stored",
]

_LINE_EVERY_S = 10.0
_UNSEEN_SEED = 1_000_003
"""Films for the scores start at this seed plus a thousand times the training's own."""


def stored(spec: ModelSpec) -> dict[str, Any]:
    """The part of the spec that training fixes, as plain values."""
    keys = ("height", "width", "resize_short_side", "frame_rate_hz", "mean", "std")
    everything = dataclasses.asdict(spec)
    stored = {key: everything[key] for key in (*keys, "max_gap_s", "silent_labels", "decoder")}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in stored.items()}


def begun(data: str, clips: int, seed: int, command: str, settings: Settings) -> dict[str, Any]:
    """What a checkpoint says of how it was trained, before the first epoch.

    Args:
        data: ``synthetic:``, or ``folder`` of the user's own.
        clips: learnt from.
        seed: of clips and of their order.
        command: that began it.
        settings: of the loop.
    """
    return {
        "data": data,
        "clips": clips,
        "seed": seed,
        "epochs": 0,
        "command": command,
        "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
    }


def so_far(epoch: Epoch, seconds: float) -> dict[str, Any]:
    """What is known after an epoch, ``seconds`` after the start."""
    return {
        "epochs": epoch.number,
        "loss": round(epoch.loss, 4),
        "frame_accuracy": round(epoch.frame_accuracy, 4),
        "seconds": round(seconds, 1),
    }


def epoch_lines(say: Say, epochs: int, clips: int) -> Callable[[Epoch], None]:
    """A function that says in a line what an epoch gave; of quick ones not each."""
    next_s = 0.0

    def line(epoch: Epoch) -> None:
        nonlocal next_s
        if time.monotonic() < next_s and epoch.number < epochs:
            return
        next_s = time.monotonic() + _LINE_EVERY_S
        say(
            f"epoch {epoch.number} of {epochs}: loss {epoch.loss:.3f}, {epoch.seconds:.0f} s, "
            f"{clips / max(epoch.seconds, 1e-9):.1f} clips/s"
        )

    return line


def clip_summary(score: ClipScore, names: tuple[str, ...]) -> dict[str, Any]:
    """Figures of clips of the labels ``names`` for a report."""
    return {
        "clips": score.clips,
        "accuracy": round(score.accuracy, 4),
        "accuracy_by_mean": round(score.accuracy_by_mean, 4),
        "recall": {name: round(value, 4) for name, value in score.recall.items()},
        "labels": list(names),
        "confusion": score.confusion,
    }


def film_scores(
    net: nn.Module, spec: ModelSpec, seed: int, films: int, seconds: float, bar: ProgressFactory
) -> dict[str, Any]:
    """Scores by kind of film: good light, the worst of training, and a person who sits still."""
    kinds = {
        "films": (True, True, 0),
        "harsh_films": (True, False, 300),
        "still": (False, False, 500),
    }
    summaries = {}
    for name, (gestures, clean, offset) in kinds.items():
        with bar(f"checking on {name.replace('_', ' ')}", films, "films") as advance:
            score = score_films(
                net,
                spec,
                seed=_UNSEEN_SEED + 1000 * seed + offset,
                films=films,
                seconds=seconds,
                gestures=gestures,
                clean=clean,
                advance=advance,
            )
        summaries[name] = score.summary()
    return summaries
