"""What quantising costs, in points of accuracy.

A model of the renderer's labels is scored on rendered clips and films that nothing was trained,
chosen or calibrated on. Of any other model the true labels are unknown here; what counts then is in
how many frames of a stream it still gives the float model's label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.rendered import film_for, synthetic_clips
from shiftedge.export.data.score import EventScore, call_clip, decode
from shiftedge.export.stepper import Stepper
from shiftedge.runtime.capture.synthetic import LABELS
from shiftedge.runtime.process.progress import ProgressFactory, progress
from shiftedge.runtime.spec import ModelSpec

CLIPS = 600
"""Rendered clips of 24 frames to score on, as many as the model card's."""
FILMS = 10
"""Of a minute in good light, and as many in the worst light and cameras of training."""
CLIP_FRAMES = 24
FILM_S = 60.0
CLIP_SEED = 41
FILM_SEED = 500_000

Images = NDArray[np.uint8]


def rendered(spec: ModelSpec) -> bool:
    """True where the renderer can act out every label, so that the truth is known."""
    return set(spec.labels) <= set(LABELS) and len(spec.labels) > 1


class Agreement:
    """Share of the frames of one stream in which a model has the float model's best label."""

    what = "top-1 agreement"

    def __init__(self, reference: Stepper, images: Sequence[Images]) -> None:
        self._images = images
        self._labels = reference.logits(images).argmax(axis=1)
        self.over = f"{len(images)} frames"

    def __call__(self, stepper: Stepper) -> NDArray[np.bool_]:
        """Whether ``stepper`` has it, for each frame; the float model always."""
        right: NDArray[np.bool_] = stepper.logits(self._images).argmax(axis=1) == self._labels
        return right


class ClipAccuracy:
    """Share of rendered clips that are called by their name, each from a fresh stream."""

    what = "clip accuracy"

    def __init__(
        self, spec: ModelSpec, *, clips: int = CLIPS, bar: ProgressFactory = progress
    ) -> None:
        with bar("rendering clips to score on", clips, "clips") as advance:
            found = synthetic_clips(
                clips,
                spec,
                seed=CLIP_SEED,
                split="quantise",
                frames=CLIP_FRAMES,
                advance=advance,
            )
        names = [found.names[label] for label in found.labels]
        known = [index for index, name in enumerate(names) if name in spec.labels]
        self._frames = found.frames
        self._truth = {index: spec.labels.index(names[index]) for index in known}
        # Clips of labels that the model lacks are left out.
        self.over = f"{len(self._truth)} rendered clips"
        self._bar = bar

    def __call__(self, stepper: Stepper) -> NDArray[np.bool_]:
        """Whether ``stepper`` is right, for each clip."""
        right = []
        with self._bar("scoring clips", len(self._truth), "clips") as advance:
            for index, label in self._truth.items():
                right.append(call_clip(stepper.logits(self._frames[index]), stepper.spec) == label)
                advance(1)
        return np.array(right)


def event_scores(
    steppers: Sequence[Stepper], *, films: int = FILMS, bar: ProgressFactory = progress
) -> list[EventScore]:
    """Events of each model in the same rendered films, one kind in good light and one in bad.

    Args:
        steppers: models of the same frames and labels.
        films: of each kind, :data:`FILM_S` long.
    """
    totals = [EventScore() for _ in steppers]
    spec = steppers[0].spec
    with bar("scoring films", 2 * films, "films") as advance:
        for number in range(2 * films):
            film = film_for(spec, FILM_SEED + number, FILM_S, clean=number < films)
            frames = list(film)
            for stepper, total in zip(steppers, totals, strict=True):
                total.add(decode(stepper.logits(frames), stepper.spec), film.events, FILM_S)
            advance(1)
    return totals
