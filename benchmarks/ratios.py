"""Numbers from step times: percentiles, and ratios that a drifting machine cannot fake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.process.extras import require

RESAMPLES = 1000
CONFIDENCE = 0.95
ROUNDS_LEAST = 5
"""Fewer of one process start do not tell how its rounds stray."""
LEAST_EXCESS = 0.4
"""Of the variance of a start's median: what starts are taken to differ by at least. Five of them
cannot show that they do not differ at all; found by trial on drawn times of calm and of disturbed
machines, so that 19 of 20 repeated runs fall into the interval."""
ONE_START = 0.01
"""Standard deviation, in parts of the ratio, that a single process start is taken to stray by,
since it cannot show it: what starts of the peers were seen to differ by."""
SHARE = 0.25
"""How far the part of the rounds that is disturbed strays from run to run, as a standard deviation:
that of a part of which nothing is known but that it lies between 0 and 1 is 0.29. Chosen among five
values; docs/benchmarks.md says by what."""
THIRDS_LEAST = 4
"""Rounds, fewer of which do not tell how a ratio depends on disturbance."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """One engine's time over another's; below 1 it is quicker."""

    value: float
    low: float
    high: float
    """Ends of the interval in which 95 of 100 runs like this one would put the ratio; 0 and
    infinity where there is too little to tell."""

    @property
    def spans_one(self) -> bool:
        """True where neither can be called the quicker one."""
        return self.low <= 1.0 <= self.high

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types: an end that is unknown is None."""
        return {
            "ratio": self.value,
            "low": self.low if self.low > 0 else None,
            "high": self.high if math.isfinite(self.high) else None,
            "confidence": CONFIDENCE,
        }


def percentiles_ms(step_ns: Sequence[int]) -> dict[str, float]:
    """``p50``, ``p90``, ``p99`` and ``max`` in milliseconds of step times in nanoseconds.

    Percentiles lie between two neighbours in proportion, as numpy's do.

    Raises:
        ValueError: there are no times.
    """
    if not step_ns:
        raise ValueError("no step times")
    found = np.percentile(np.asarray(step_ns, np.float64) / 1e6, (50, 90, 99, 100))
    return dict(zip(("p50", "p90", "p99", "max"), found.tolist(), strict=True))


def paired_ratio(
    ours: Sequence[Sequence[int]],
    theirs: Sequence[Sequence[int]],
    *,
    starts: Sequence[int] | None = None,
) -> Ratio:
    """How much longer our steps take than theirs, paired by round.

    The value is the median over rounds of the ratio of the round's medians; what the interval is
    made of, and why, is in docs/benchmarks.md ("Ratios, not times"): see :func:`_interval` and
    :func:`_dependence`. The square root of 2 is for a second run, which strays as the first does.

    Args:
        ours: step times of each round, any unit, above zero; a round without times is left out.
        theirs: the same rounds of the other; rounds that only one has are left out.
        starts: for each round, the number of the process start that it belongs to; None where
            there was one.

    Raises:
        ValueError: no round has times of both.
    """
    groups: dict[int, list[float]] = {}
    levels = []
    for index, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a and b:
            start = starts[index] if starts is not None else 0
            one, other = median(a), median(b)
            groups.setdefault(start, []).append(math.log(one / other))
            levels.append((math.log(one / other), math.log(one) + math.log(other)))
    if not groups:
        raise ValueError("no round in which both were timed")
    steady = (SHARE * _dependence(*np.array(levels).T)) ** 2
    if starts is not None and len(groups) == 1:
        steady += ONE_START**2
    logs = [np.array(group) for group in groups.values()]
    side = _side(logs, np.random.default_rng(0))
    return _interval(side.value, side.medians, [side], steady, repeats=math.sqrt(2.0))


def unpaired_ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Ratio:
    """How much longer steps of one run take than those of another run, at another time.

    Args:
        ours: the median of each round, any unit, above zero, grouped by process start.
        theirs: the same of the other run.

    Raises:
        ValueError: one of them has no round.
    """
    generator = np.random.default_rng(0)
    sides = []
    for side in (ours, theirs):
        logs = [np.log(np.asarray(group, np.float64)) for group in side if group]
        if not logs:
            raise ValueError("no round was timed")
        sides.append(_side(logs, generator))
    a, b = sides
    # Both runs stray, and both are in the difference: nothing more is to be added for a repeat.
    return _interval(a.value - b.value, a.medians - b.medians, sides, 0.0, repeats=1.0)


@dataclass(frozen=True)
class _Side:
    """The numbers of one run, and how their median strays."""

    value: float
    """The median of all."""
    medians: Array
    """The same of :data:`RESAMPLES` samples, drawn from each start by itself."""
    freedom: int
    """Degrees of freedom of that; 0 where it cannot be told."""
    excess: float = 0.0
    """Variance of ``value`` because starts differ by more than their numbers stray, or may do so
    unseen: :data:`LEAST_EXCESS`."""
    excess_freedom: int = 1


def _side(groups: Sequence[Array], generator: np.random.Generator) -> _Side:
    """From the numbers of each process start."""
    value = float(np.median(np.concatenate(groups)))
    starts = len(groups)
    if starts > 1 and min(map(len, groups)) < ROUNDS_LEAST:
        # Too few to tell a start's own straying, so its median is all that it says; and a bootstrap
        # of so few medians leaps, where Student's t knows better.
        medians = [np.median(group) for group in groups]
        strays = math.sqrt(math.pi / 2 / starts) * float(np.std(medians, ddof=1))
        return _Side(value, generator.normal(value, strays, RESAMPLES), starts - 1)
    drawn = [_resampled(group, generator) for group in groups]
    medians_of_all: Array = np.median(np.concatenate(drawn, axis=1), axis=1)
    freedom = sum(map(len, groups)) - starts
    if starts == 1:
        return _Side(value, medians_of_all, freedom)
    own = float(np.mean([np.var(np.median(each, axis=1)) for each in drawn]))
    between = float(np.var([np.median(group) for group in groups], ddof=1))
    excess = max(LEAST_EXCESS * own, between - own) / starts
    return _Side(value, medians_of_all, freedom, excess, starts - 1)


def _dependence(ratios: Array, levels: Array) -> float:
    """How far the ratio of disturbed rounds is from that of calm ones, on a scale of logarithms.

    Disturbed are the third of the rounds that took both engines longest, calm is the third that
    took them least. What the medians of two thirds differ by for chance alone is taken off.
    """
    count = len(ratios) // 3
    if count < THIRDS_LEAST:
        return 0.0
    order = np.argsort(levels, kind="stable")
    calm, disturbed = ratios[order[:count]], ratios[order[-count:]]
    apart = float(np.median(disturbed) - np.median(calm))
    chance = math.pi / 2 * (np.var(calm, ddof=1) + np.var(disturbed, ddof=1)) / count
    return math.sqrt(max(0.0, apart**2 - float(chance)))


def _resampled(numbers: Array, generator: np.random.Generator) -> Array:
    """:data:`RESAMPLES` samples (rows) of as many numbers, in runs of neighbours: the circular
    block bootstrap (Politis and Romano, 1992), blocks as long as the cube root of the count.
    ``scipy.stats.bootstrap`` draws single numbers alone."""
    count = len(numbers)
    length = math.ceil(count ** (1 / 3)) if count >= ROUNDS_LEAST else 1
    begins = generator.integers(0, count, (RESAMPLES, -(-count // length), 1))
    places = (begins + np.arange(length)).reshape(RESAMPLES, -1)[:, :count]
    return np.take(numbers, places, mode="wrap")


def _interval(
    value: float, medians: Array, sides: Sequence[_Side], steady: float, *, repeats: float
) -> Ratio:
    """The ratio of which ``value`` and ``medians`` are logarithms.

    The bootstrap's percentiles, widened by the variance between starts and by Student's t for the
    degrees of freedom of both together (Satterthwaite, 1946).

    Args:
        value: of the run.
        medians: of its samples.
        sides: what they came from.
        steady: variance of ``value`` from run to run, of which no sample of one run can tell.
        repeats: what all of it is widened by for the straying of a second run.
    """
    if any(side.freedom == 0 for side in sides):
        return Ratio(math.exp(value), 0.0, math.inf)
    stats = require("scipy.stats")
    within = float(np.var(medians))
    excess = sum(side.excess for side in sides)
    freedom = float(min(side.freedom for side in sides))
    if excess:
        parts = [within**2 / freedom]
        parts += [side.excess**2 / side.excess_freedom for side in sides]
        freedom = max(1.0, (within + excess) ** 2 / math.fsum(parts))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(medians, (tail, 1.0 - tail))
    normal = float(stats.norm.isf(tail))
    # A bootstrap of n numbers strays by n - 1 parts of n too little (Hesterberg 2015).
    few = math.sqrt((freedom + 1) / freedom)
    wider = repeats * few * float(stats.t.isf(tail, freedom)) / normal
    more = normal * math.hypot(wider * math.sqrt(excess), repeats * math.sqrt(steady))
    # A sample of a few medians leaps: neither end may lie on the wrong side.
    below = math.hypot(wider * max(0.0, value - float(low)), more)
    above = math.hypot(wider * max(0.0, float(high) - value), more)
    return Ratio(math.exp(value), math.exp(value - below), math.exp(value + above))
