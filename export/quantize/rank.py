"""Which layers hurt, and which of them must stay in float.

Layers are ranked by quantising one at a time, all others in float: what comes out is that layer's
own share (its input, weights and output), undisturbed by the rounding of the rest. Measured the
other way round, all but one, most layers' shares drown in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.stepper import Stepper
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.process.progress import ProgressFactory, progress

FRAMES = 48
"""Of a stream, for each layer: four receptive fields of the bundled model."""

Images = NDArray[np.uint8]
Build = Callable[[Sequence[str]], Stepper]
"""The quantised model with these layers kept in float, as a fresh stream."""


@dataclass(frozen=True)
class LayerError:
    """What one layer does to the logits when it alone is quantised."""

    layer: str
    error: float
    """Root mean square of the logits' error over :data:`FRAMES` frames."""


@dataclass(frozen=True)
class Kept:
    """A layer that went back to float."""

    layer: str
    why: str
    """A sentence."""


def rank_layers(
    layers: Sequence[str],
    build: Build,
    reference: Stepper,
    images: Sequence[Images],
    *,
    bar: ProgressFactory = progress,
) -> tuple[LayerError, ...]:
    """Every layer's own error, the largest first."""
    expected = reference.logits(images)
    rows = []
    with bar("ranking layers", len(layers), "layers") as advance:
        for layer in layers:
            wrong = build([other for other in layers if other != layer]).logits(images) - expected
            rows.append(LayerError(layer, float(np.sqrt(np.mean(wrong * wrong)))))
            advance(1)
    return tuple(sorted(rows, key=lambda row: (-row.error, row.layer)))


def keep_until(
    ranking: Sequence[LayerError],
    accuracy: Callable[[Sequence[str]], float],
    *,
    before: float,
    after: float,
    most_drop: float,
    what: str,
) -> tuple[Kept, ...]:
    """Take layers back to float, the worst first, until the loss is within the bound.

    Args:
        accuracy: of the model with these layers in float, 0..1.
        most_drop: accepted loss, in points (1 point = 0.01).

    Returns:
        Layers kept, in order; ``accuracy`` was last asked with all of them.

    Raises:
        VerificationError: not within the bound though a single layer is left.
    """
    kept: list[Kept] = []
    while 100.0 * (before - after) > most_drop + 1e-9:  # exactly the bound is within it
        if len(kept) == len(ranking) - 1:
            raise VerificationError(
                f"Even with all layers but one in float, {what} falls from {before:.2%} to "
                f"{after:.2%}, more than {most_drop:g} points; calibrate on other clips, or allow "
                "more with --max-accuracy-drop. Nothing was written."
            )
        worst = ranking[len(kept)]
        found = accuracy([*(entry.layer for entry in kept), worst.layer])
        why = (
            f"by itself it puts {worst.error:.3g} of error on the logits, "
            f"{_place(len(kept) + 1)} of {len(ranking)} layers; {what} was {after:.2%} with "
            f"it in int8 and is {found:.2%} without"
        )
        kept.append(Kept(worst.layer, why))
        after = found
    return tuple(kept)


def _place(number: int) -> str:
    if number == 1:
        return "the most"
    ending = (
        "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"the {number}{ending} most"
