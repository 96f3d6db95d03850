"""Does the error grow over a long stream? Logits and every state, float against int8.

Both models get the same frames as one stream that is never reset. The error of a tensor in a frame
is its root mean square. A line through the error over time has a slope; frames after each other
have much in common, so the line goes through the means of :data:`BLOCKS` parts of the stream, whose
scatter about it says how far chance alone could tilt it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.reader import Images
from shiftedge.export.stepper import Stepper
from shiftedge.runtime.errors import NumericsError
from shiftedge.runtime.process.progress import progress

LENGTHS = (300, 3000)
"""Frames over which the error is reported: the first so many of one stream."""

BLOCKS = 20
LEVEL = 0.95
"""Of the interval that holds all slopes together: with eleven tensors each has 1 - 0.05 / 11."""


@dataclass(frozen=True)
class Trend:
    """The error of one tensor over a stream."""

    tensor: str
    scale: float
    """Root mean square of the tensor in the float model."""
    error: float
    """Mean over the frames of the error's root mean square."""
    worst: float
    """Largest absolute error of any element in any frame."""
    slope: float
    """Change of the error in 1,000 frames."""
    low: float
    high: float
    """Where the slope lies, all tensors together at the level :data:`LEVEL`."""

    @property
    def flat(self) -> bool:
        """True unless the error certainly grows."""
        return self.low <= 0.0


@dataclass(frozen=True)
class Drift:
    """What was found over one length of stream."""

    frames: int
    agreement: float
    """Share of frames in which both models have the same best label."""
    trends: tuple[Trend, ...]
    """Logits first, then the states."""

    @property
    def flat(self) -> bool:
        """True unless some tensor's error certainly grows."""
        return all(trend.flat for trend in self.trends)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        rows = [{**asdict(trend), "flat": trend.flat} for trend in self.trends]
        return {**asdict(self), "trends": rows, "flat": self.flat}


def stream_both(
    reference: Stepper,
    other: Stepper,
    images: Iterable[Images],
    frames: int,
    *,
    lengths: tuple[int, ...] = LENGTHS,
) -> list[Drift]:
    """Step both, of states of the same shapes, through ``frames`` images, uint8 (H, W, 3), BGR, and
    report on the first so many of them, for each length.

    Raises:
        NumericsError: a value is not finite.
    """
    reference.reset()
    other.reset()
    names = ["logits", *(f"state_{i}" for i in range(len(reference.spec.states)))]
    errors = np.zeros((frames, len(names)))
    scales, worst = np.zeros_like(errors), np.zeros_like(errors)
    same = np.zeros(frames, bool)
    with progress("streaming both", frames, "frames") as advance:
        for index, image in enumerate(islice(images, frames)):
            ours, theirs = reference.step(image), other.step(image)
            same[index] = ours.argmax() == theirs.argmax()
            pairs = zip((ours, *reference.states()), (theirs, *other.states()), strict=True)
            for column, (one, two) in enumerate(pairs):
                wrong = (two - one).reshape(-1)
                errors[index, column] = np.sqrt(np.mean(wrong * wrong, dtype=np.float64))
                scales[index, column] = np.mean(np.square(one, dtype=np.float64))
                worst[index, column] = np.abs(wrong).max()
            if not np.isfinite(errors[index]).all():
                raise NumericsError(
                    f"{names[int(np.argmin(np.isfinite(errors[index])))]} is not finite at frame "
                    f"{index} of the proof; check the float model with `shiftedge export`."
                )
            advance(1)
    drifts = []
    for length in lengths:
        trends = [
            trend(
                name,
                errors[:length, column],
                scale=float(np.sqrt(scales[:length, column].mean())),
                worst=float(worst[:length, column].max()),
                tensors=len(names),
            )
            for column, name in enumerate(names)
        ]
        drifts.append(Drift(length, float(same[:length].mean()), tuple(trends)))
    return drifts


def trend(
    tensor: str, errors: NDArray[np.float64], *, scale: float, worst: float, tensors: int = 1
) -> Trend:
    """A line through the errors of one tensor in at least ``2 * BLOCKS`` frames, of so many tensors
    that are judged together."""
    blocks = np.array([block.mean() for block in np.array_split(errors, BLOCKS)])
    time = (np.arange(BLOCKS) + 0.5) * len(errors) / BLOCKS / 1000.0
    time -= time.mean()
    spread = float((time * time).sum())
    slope = float((time * blocks).sum() / spread)
    rest = blocks - blocks.mean() - slope * time
    freedom = BLOCKS - 2
    margin = student(1.0 - (1.0 - LEVEL) / 2.0 / tensors, freedom) * math.sqrt(
        float((rest * rest).sum()) / freedom / spread
    )
    return Trend(tensor, scale, float(errors.mean()), worst, slope, slope - margin, slope + margin)


def student(share: float, freedom: int) -> float:
    """The quantile of Student's t, by Fisher's expansion about the normal one (Abramowitz and
    Stegun 26.7.5): right to 1% from 10 degrees of freedom on."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4.0
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    third = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + first / freedom + second / freedom**2 + third / freedom**3
