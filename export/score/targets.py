"""What a model of the renderer's gestures is held against, as one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftedge.export.score.curve import OperatingPoint
from shiftedge.export.score.intervals import Estimate
from shiftedge.runtime.capture.synthetic import SWIPES

SIGNS = ("Stop Sign", "Thumb Up", "Thumb Down")
IDLE = ("others", "empty")
"""Kinds of films in which people do other things, or nobody is there."""
NEAR, FAR = {"distance": "near"}, {"distance": "far"}


@dataclass(frozen=True)
class ScoreTarget:
    """One figure and its bound."""

    name: str
    figure: Callable[[OperatingPoint], Estimate]
    bound: float
    at_least: bool

    def met(self, found: Estimate) -> bool | None:
        """Whether a figure is within the bound; None where nothing was counted."""
        if np.isnan(found.value):
            return None
        return found.value >= self.bound if self.at_least else found.value <= self.bound


def targets(at: float) -> tuple[ScoreTarget, ...]:
    """All of them; ``at`` is the false events an hour that a model may have."""
    least, most = True, False
    return (
        ScoreTarget(
            "false events an hour, gestures and other things",
            lambda point: point.false_per_hour(),
            at,
            most,
        ),
        ScoreTarget(
            "recall of swipes, near", lambda point: point.recall(SWIPES, NEAR), 0.93, least
        ),
        ScoreTarget("recall of swipes, far", lambda point: point.recall(SWIPES, FAR), 0.8, least),
        ScoreTarget(
            "recall of stop and thumbs, near", lambda point: point.recall(SIGNS, NEAR), 0.9, least
        ),
        ScoreTarget("median seconds to detection", lambda point: point.delay_s(0.5), 0.5, most),
        ScoreTarget(
            "false events an hour, other things and empty rooms",
            lambda point: point.false_per_hour(IDLE),
            6.0,
            most,
        ),
        ScoreTarget(
            "false events an hour, a still person",
            lambda point: point.false_per_hour(("still",)),
            0.0,
            most,
        ),
    )


def held_against(point: OperatingPoint, at: float) -> list[dict[str, Any]]:
    """Each target at a point: ``name``, ``bound``, ``at_least``, ``figure`` and ``met``, which is
    None where nothing was counted."""
    rows = []
    for target in targets(at):
        found = target.figure(point)
        rows.append(
            {
                "name": target.name,
                "bound": target.bound,
                "at_least": target.at_least,
                "figure": found.to_dict(),
                "met": target.met(found),
            }
        )
    return rows
