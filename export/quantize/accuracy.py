"""What quantising costs, in points of accuracy, which layers hurt, and which must stay in float.

A model of the renderer's labels is scored on rendered clips and films that nothing was trained,
chosen or calibrated on. Of any other model the true labels are unknown here; what counts then is in
how many frames of a stream it still gives the float model's label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.reader import Images
from shiftedge.export.data.rendered import film_for, synthetic_clips
from shiftedge.export.score.clips import call_clip
from shiftedge.export.score.events import EventScore, event_score
from shiftedge.export.score.stream import Streamed
from shiftedge.export.stepper import Stepper
from shiftedge.runtime.capture.synthetic import LABELS
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.process.progress import progress
from shiftedge.runtime.spec import ModelSpec

CLIPS = 600
"""Rendered clips of 24 frames to score on, as many as the model card's."""
FILMS = 10
"""Of a minute in good light, and as many in the worst light and cameras of training."""
CLIP_FRAMES = 24
FILM_S = 60.0
CLIP_SEED = 41
FILM_SEED = 500_000

RANK_FRAMES = 48
"""Of a stream, for each layer: four receptive fields of the bundled model."""

Build = Callable[[Sequence[str]], Stepper]
"""The quantised model with these layers kept in float, as a fresh stream."""


def rendered(spec: ModelSpec) -> bool:
    """True where the renderer can act out every label, so that the truth is known."""
    return set(spec.labels) <= set(LABELS) and len(spec.labels) > 1


class LabelAgreement:
    """Share of the frames of one stream in which a model has the float model's best label."""

    what = "top-1 agreement"

    def __init__(self, reference: Stepper, images: Sequence[Images]) -> None:
        self._images = images
        self._labels = reference.logits(images).argmax(axis=1)
        self.over = f"{len(images)} frames"

    def __call__(self, stepper: Stepper) -> NDArray[np.bool_]:
        """Whether ``stepper`` has it, for each frame; the float model always."""
        return np.asarray(stepper.logits(self._images).argmax(axis=1) == self._labels)


class ClipAccuracy:
    """Share of rendered clips that are called by their name, each from a fresh stream."""

    what = "clip accuracy"

    def __init__(self, spec: ModelSpec, *, clips: int = CLIPS) -> None:
        with progress("rendering clips to score on", clips, "clips") as advance:
            found = synthetic_clips(
                clips, spec, seed=CLIP_SEED, split="quantise", frames=CLIP_FRAMES, advance=advance
            )
        names = [found.names[label] for label in found.labels]
        known = [index for index, name in enumerate(names) if name in spec.labels]
        self._frames = found.frames
        self._truth = {index: spec.labels.index(names[index]) for index in known}
        # Clips of labels that the model lacks are left out.
        self.over = f"{len(self._truth)} rendered clips"

    def __call__(self, stepper: Stepper) -> NDArray[np.bool_]:
        """Whether ``stepper`` is right, for each clip."""
        right = np.zeros(len(self._truth), bool)
        with progress("scoring clips", len(right), "clips") as advance:
            for row, (index, label) in enumerate(self._truth.items()):
                right[row] = call_clip(stepper.logits(self._frames[index]), stepper.spec) == label
                advance(1)
        return right


def event_scores(steppers: Sequence[Stepper], *, films: int = FILMS) -> list[EventScore]:
    """Events of each model, all of the same frames and labels, in the same rendered films of
    :data:`FILM_S`: as many in good light as in bad."""
    watched: list[list[Streamed]] = [[] for _ in steppers]
    spec = steppers[0].spec
    with progress("scoring films", 2 * films, "films") as advance:
        for number in range(2 * films):
            film = film_for(spec, FILM_SEED + number, FILM_S, clean=number < films)
            frames = list(film)
            for stepper, seen in zip(steppers, watched, strict=True):
                seen.append(Streamed(stepper.logits(frames), film.events, FILM_S))
            advance(1)
    pairs = zip(watched, steppers, strict=True)
    return [event_score(seen, stepper.spec) for seen, stepper in pairs]


@dataclass(frozen=True)
class LayerError:
    """What one layer does to the logits when it alone is quantised."""

    layer: str
    error: float
    """Root mean square of the logits' error over :data:`RANK_FRAMES` frames."""


@dataclass(frozen=True)
class Kept:
    """A layer that went back to float."""

    layer: str
    why: str
    """A sentence."""


def rank_layers(
    layers: Sequence[str], build: Build, reference: Stepper, images: Sequence[Images]
) -> tuple[LayerError, ...]:
    """Every layer's own error, the largest first.

    Layers are ranked by quantising one at a time, all others in float: what comes out is that
    layer's own share (its input, weights and output), undisturbed by the rounding of the rest.
    Measured the other way round, all but one, most layers' shares drown in it.
    """
    expected = reference.logits(images)
    rows = []
    with progress("ranking layers", len(layers), "layers") as advance:
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
            f"number {len(kept) + 1} of {len(ranking)} layers by that; {what} was {after:.2%} "
            f"with it in int8 and is {found:.2%} without"
        )
        kept.append(Kept(worst.layer, why))
        after = found
    return tuple(kept)
