"""Everything that was found, as one JSON document; tables and pages are made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shiftedge.export.score.clips import Confusion
from shiftedge.export.score.curve import BUDGETS, Curve, OperatingPoint
from shiftedge.export.score.intervals import RESAMPLES, Estimate
from shiftedge.export.score.stream import Streamed, minutes
from shiftedge.export.score.targets import FAR, IDLE, NEAR, held_against

SCHEMA = 1
"""Version of the document: raised when a key goes or means another thing."""
AT = 12.0
"""False events an hour at which models are compared unless another number is asked for."""
QUANTILES = (0.5, 0.9)


@dataclass(frozen=True)
class Scored:
    """One model's figures."""

    name: str
    """For people, another for each model."""
    curve: Curve
    clips: Confusion | None = None
    about: Mapping[str, Any] | None = None
    """Further facts, such as file and engine."""


def document(
    models: Sequence[Scored],
    films: Sequence[Streamed],
    *,
    at: float = AT,
    rendered: bool = True,
    made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole.

    Args:
        models: one, or two that are to be compared, over the same films.
        films: of the first model.
        at: false events an hour.
        rendered: whether the films are rendered, so that the targets apply.
        made: how this was made: command, seeds, version.

    Returns:
        ``schema``, ``at``, ``resamples``, ``made``, ``films`` by kind, ``models``, and
        ``difference`` of the second less the first, None where there is one.
    """
    return {
        "schema": SCHEMA,
        "at": at,
        "resamples": RESAMPLES,
        "made": dict(made or {}),
        "films": _films(films),
        "models": [_model(model, at, rendered) for model in models],
        "difference": _difference(models[0], models[1], at) if len(models) == 2 else None,
    }


def _films(films: Sequence[Streamed]) -> list[dict[str, Any]]:
    rows = []
    for kind in dict.fromkeys(film.kind for film in films):
        those = [film for film in films if film.kind == kind]
        rows.append(
            {
                "kind": kind,
                "films": len(those),
                "minutes": round(minutes(those), 2),
                "events": sum(len(film.events) for film in those),
                "cuts": sum(len(film.cuts) for film in those),
            }
        )
    return rows


def _model(model: Scored, at: float, rendered: bool) -> dict[str, Any]:
    curve = model.curve
    spec = curve.spec
    row: dict[str, Any] = {
        "name": model.name,
        **(model.about or {}),
        "labels": list(spec.labels),
        "silent_labels": list(spec.silent_labels),
        "decoder": asdict(spec.decoder),
        "curve": [
            {"false_per_hour": budget, **found.to_dict()}
            for budget, found in zip(BUDGETS, curve.drawn(), strict=True)
        ],
        "thresholds": [
            {
                "enter": round(enter, 5),
                "false_per_hour": round(rate, 3),
                "recall": None if math.isnan(recall) else round(recall, 4),
            }
            for enter, rate, recall in curve.swept()
            if math.isfinite(enter) and not math.isnan(rate)
        ],
        "own": _point(curve.own),
        "at": _point(curve.at(at)),
        "clips": None,
        "targets": None,
    }
    if rendered:
        row["targets"] = {
            "own": held_against(curve.own, at),
            "at": held_against(curve.at(at), at),
        }
    if model.clips is not None:
        clips = model.clips
        row["clips"] = {
            "accuracy": clips.accuracy.to_dict(),
            "truth": list(clips.truth),
            "labels": list(clips.labels),
            "confusion": clips.table.tolist(),
        }
    return row


def _point(point: OperatingPoint) -> dict[str, Any]:
    curve = point.curve
    threshold = point.threshold
    return {
        "enter": round(threshold, 5) if math.isfinite(threshold) else None,
        "recall": point.recall().to_dict(),
        "false_per_hour": point.false_per_hour().to_dict(),
        "idle_false_per_hour": point.false_per_hour(IDLE).to_dict(),
        "still_false_per_hour": point.false_per_hour(("still",)).to_dict(),
        "delay_s": {f"p{100 * share:.0f}": point.delay_s(share).to_dict() for share in QUANTILES},
        "labels": {
            name: {
                "recall": point.recall([name]).to_dict(),
                "near": point.recall([name], NEAR).to_dict(),
                "far": point.recall([name], FAR).to_dict(),
                "false_per_hour": point.false_per_hour(label=name).to_dict(),
            }
            for name in curve.labels
        },
        "conditions": {
            name: {band: point.recall(bands={name: band}).to_dict() for band in found}
            for name, found in curve.streams.truth.bands.items()
        },
    }


def _difference(first: Scored, second: Scored, at: float) -> dict[str, Any]:
    """Of the second less the first, in the labels that both have; the films are the same."""
    shared = [name for name in first.curve.labels if name in second.curve.labels]
    points = [(model.curve.own, model.curve.at(at)) for model in (first, second)]

    def less(figure: Any, place: int) -> dict[str, Any]:
        return _signed(figure(points[1][place]) - figure(points[0][place]))

    found = {
        "labels": shared,
        "at": {
            "recall": less(lambda point: point.recall(shared), 1),
            "recall_near": less(lambda point: point.recall(shared, NEAR), 1),
            "recall_far": less(lambda point: point.recall(shared, FAR), 1),
            "delay_p50_s": less(lambda point: point.delay_s(0.5, shared), 1),
            "idle_false_per_hour": less(lambda point: point.false_per_hour(IDLE), 1),
        },
        "own": {
            "recall": less(lambda point: point.recall(shared), 0),
            "false_per_hour": less(lambda point: point.false_per_hour(), 0),
            "idle_false_per_hour": less(lambda point: point.false_per_hour(IDLE), 0),
        },
        "clips": None,
    }
    if first.clips is not None and second.clips is not None:
        found["clips"] = _signed(second.clips.accuracy - first.clips.accuracy)
    return found


def _signed(figure: Estimate) -> dict[str, Any]:
    known = figure.to_dict()
    low, high = figure.interval
    verdict = (
        "unknown" if np.isnan(low) else "higher" if low > 0 else "lower" if high < 0 else "same"
    )
    return {**known, "verdict": verdict}
