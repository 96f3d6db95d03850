"""From the values that a tensor took to the scale and zero point that stand for them best.

A histogram is gathered online: its bins double in width when a value falls outside, so memory does
not grow with the stream. Each candidate range is judged by one measure, the mean squared error that
quantising the gathered values with it makes, clipped values included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 255
"""Steps between the least and the largest uint8."""

BINS = 8192
"""Half of them on each side of 0: at least eight to a step of the final scale, even where all
values are of one sign and the last doubling was just made."""

SAMPLES = 1 << 16
"""Of a tensor in one frame, at most: a larger one is read at every k-th element, from another start
each time. The extremes are taken of all elements."""

PERCENTILES = (99.9, 99.99, 99.999)
"""Share of the values, in percent, that a percentile range keeps; the rest is split evenly between
both ends."""

SHRINK = tuple(np.linspace(0.2, 1.0, 41).tolist())
"""Of the extremes, tried for the range of least error: both ends together, then each by itself."""

SCALE_LEAST = 1e-20
"""Keeps a tensor of next to nothing from a scale whose products leave float32."""


@dataclass(frozen=True)
class Affine:
    """A uint8 q stands for ``scale * (q - zero_point)``."""

    scale: float
    """Exactly a float32, above 0."""
    zero_point: int
    """0..255."""

    @classmethod
    def over(cls, low: float, high: float) -> Affine:
        """That covers ``low`` .. ``high``, which is widened to hold 0; 0 itself is kept exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        if high == low:  # nothing but zeros: any scale will do
            return cls(1.0, 0)
        scale = np.float32(max((high - low) / LEVELS, SCALE_LEAST))
        zero_point = int(np.clip(np.rint(-low / float(scale)), 0, LEVELS))
        return cls(float(scale), zero_point)

    def rounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What ONNX's QuantizeLinear, and DequantizeLinear after it, make of them: rounded half to
        even, saturated."""
        steps = np.clip(np.rint(values / self.scale) + self.zero_point, 0, LEVELS)
        return np.asarray((steps - self.zero_point) * self.scale, np.float64)


@dataclass(frozen=True)
class Choice:
    """The range that was taken for a tensor."""

    affine: Affine
    method: str
    """``min-max``, ``percentile P`` or ``least error``; ``every pixel`` for the frame;
    ``trained`` where a fine-tune held it."""
    error: float
    """Mean squared error over the gathered values."""
    low: float
    high: float
    """Extremes that were seen."""


class Histogram:
    """Values of one tensor, over as many frames as come."""

    def __init__(self) -> None:
        self.low = 0.0
        self.high = 0.0
        """Extremes of all values seen, 0 included."""
        self.zeros = 0
        """Values of exactly 0, which cost no error."""
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.reach = 0.0
        """The bins cover -reach .. reach; 0 before the first value that is not 0."""
        self._start = 0

    def add(self, values: NDArray[np.float32]) -> bool:
        """Count some values; False, and nothing counted, where one is not finite."""
        flat = values.reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        step = -(-flat.size // SAMPLES)
        if step > 1:
            step += 1 - step % 2  # odd, so that no pattern of rows or channels is met again
            self._start = (self._start + 1) % step
            flat = flat[self._start :: step]
        some = flat[flat != 0.0]
        self.zeros += flat.size - some.size
        self._widen(max(-self.low, self.high))
        if some.size:
            places = (some.astype(np.float64) + self.reach) * (BINS / (2.0 * self.reach))
            index = np.minimum(places.astype(np.int64), BINS - 1)
            self.counts += np.bincount(index, minlength=BINS)
        return True

    def _widen(self, reach: float) -> None:
        if self.reach == 0.0:
            self.reach = reach
        while self.reach < reach:
            # Pairs of bins become one, about the middle, which stays at 0.
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = pairs
            self.reach *= 2.0

    @property
    def total(self) -> int:
        return int(self.counts.sum()) + self.zeros

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Middles of the bins that hold something, and how many values they hold."""
        held = np.flatnonzero(self.counts)
        width = 2.0 * self.reach / BINS
        return np.asarray((held + 0.5) * width - self.reach, np.float64), self.counts[held]


def mean_squared(histogram: Histogram, affine: Affine) -> float:
    """Mean squared error of quantising what ``histogram`` holds."""
    values, counts = histogram.points()
    if not len(values):
        return 0.0
    wrong = affine.rounded(values) - values
    return float((wrong * wrong * counts).sum() / histogram.total)


def candidates(histogram: Histogram) -> Iterator[tuple[str, Affine]]:
    """Ranges worth judging, by name; the first is the whole range."""
    low, high = histogram.low, histogram.high
    yield "min-max", Affine.over(low, high)
    values, counts = histogram.points()
    if not len(values):
        return
    for percentile in PERCENTILES:
        cut = (1.0 - percentile / 100.0) / 2.0 * histogram.total
        below, above = np.cumsum(counts), np.cumsum(counts[::-1])
        first = values[np.searchsorted(below, cut)] if below[-1] > cut else 0.0
        last = values[::-1][np.searchsorted(above, cut)] if above[-1] > cut else 0.0
        yield f"percentile {percentile:g}", Affine.over(max(low, first), min(high, last))
    for share in SHRINK:
        yield "least error", Affine.over(low * share, high * share)
    if low < 0.0 < high:
        for share in SHRINK:
            yield "least error", Affine.over(low * share, high)
            yield "least error", Affine.over(low, high * share)


def choose_range(histogram: Histogram) -> Choice:
    """The candidate of least error; the earlier one of two alike."""
    judged = (
        (mean_squared(histogram, affine), method, affine)
        for method, affine in candidates(histogram)
    )
    error, method, affine = min(judged, key=lambda each: each[0])
    return Choice(affine, method, error, histogram.low, histogram.high)
