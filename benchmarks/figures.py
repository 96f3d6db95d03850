"""Numbers from step times: percentiles, and ratios that a drifting machine cannot fake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "Ratio", "paired_ratio", "percentiles_ms", "unpaired_ratio"]

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
that of a part of which nothing is known but that it lies between 0 and 1 is 0.29. The best of five
values from 0 to 0.25 that were tried on three runs of eight engines on a machine with a neighbour,
and then judged by four others; see docs/benchmarks.md."""
_THIRDS_LEAST = 4
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


def percentiles_ms(step_ns: Sequence[int]) -> dict[str, float]:
    """``p50``, ``p90``, ``p99`` and ``max`` in milliseconds of step times in nanoseconds.

    Percentiles lie between two neighbours in proportion, as numpy's do.

    Raises:
        ValueError: there are no times.
    """
    if not step_ns:
        raise ValueError("no step times")
    p50, p90, p99, most = np.percentile(np.asarray(step_ns, np.float64) / 1e6, (50, 90, 99, 100))
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99), "max": float(most)}


def paired_ratio(
    ours: Sequence[Sequence[int]],
    theirs: Sequence[Sequence[int]],
    *,
    starts: Sequence[int] | None = None,
    seed: int = 0,
) -> Ratio:
    """How much longer our steps take than theirs, paired by round.

    In each round both ran within a fraction of a second of each other; the round's ratio is that
    of its two medians, and the value is the median over rounds. The interval comes from a bootstrap
    of runs of neighbouring rounds (what disturbs a machine outlasts a round), to which is added
    what the process starts differ by beyond that, since one process's memory may lie better than
    another's, and how the ratio depends on how disturbed the machine is, since a neighbour takes
    more from one engine than from another, and not in every run as often; see :func:`_interval` and
    :func:`_dependence`. It is widened by the square root of 2, because a second run strays as the
    first does.

    Args:
        ours: step times of each round, any unit, above zero; a round without times is left out.
        theirs: the same rounds of the other; rounds that only one has are left out.
        starts: for each round, the number of the process start that it belongs to; None where
            there was one.
        seed: of the resampling.

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
    side = _Side(logs, np.random.default_rng(seed), steady)
    low, high = _interval(side.value, side.medians, side, repeats=math.sqrt(2.0))
    return Ratio(math.exp(side.value), math.exp(low), math.exp(high))


def unpaired_ratio(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], *, seed: int = 0
) -> Ratio:
    """How much longer steps of one run take than those of another run, at another time.

    Args:
        ours: the median of each round, any unit, above zero, grouped by process start.
        theirs: the same of the other run.
        seed: of the resampling.

    Raises:
        ValueError: one of them has no round.
    """
    generator = np.random.default_rng(seed)
    sides = []
    for side in (ours, theirs):
        logs = [np.log(np.asarray(group, np.float64)) for group in side if group]
        if not logs:
            raise ValueError("no round was timed")
        sides.append(_Side(logs, generator))
    a, b = sides
    value = a.value - b.value
    # Both runs stray, and both are in the difference: nothing more is to be added for a repeat.
    low, high = _interval(value, a.medians - b.medians, a, b)
    return Ratio(math.exp(value), math.exp(low), math.exp(high))


class _Side:
    """The numbers of one run, by process start, and how their median strays.

    Attributes:
        value: the median of all.
        medians: the same of :data:`RESAMPLES` samples, drawn from each start by itself.
        freedom: degrees of freedom of that; 0 where it cannot be told.
        excess: variance of ``value`` because starts differ by more than their numbers stray, or
            may do so unseen: :data:`LEAST_EXCESS`.
        excess_freedom: degrees of freedom of ``excess``.
        steady: variance of ``value`` from run to run, of which no sample of one run can tell.
    """

    def __init__(
        self, groups: Sequence[Array], generator: np.random.Generator, steady: float = 0.0
    ) -> None:
        self.steady = steady
        self.value = float(np.median(np.concatenate(groups)))
        if len(groups) > 1 and min(map(len, groups)) < ROUNDS_LEAST:
            # Too few to tell a start's own straying, so its median is all that it says; and a
            # bootstrap of so few medians leaps, where Student's t knows better.
            groups = [np.array([np.median(group) for group in groups])]
            strays = math.sqrt(math.pi / 2 / len(groups[0])) * float(np.std(groups[0], ddof=1))
            self.medians: Array = generator.normal(self.value, strays, RESAMPLES)
            self.freedom, self.excess, self.excess_freedom = len(groups[0]) - 1, 0.0, 1
            return
        drawn = [_resampled(group, generator) for group in groups]
        self.medians = _medians(np.concatenate(drawn, axis=1))
        self.freedom = sum(map(len, groups)) - len(groups)
        self.excess, self.excess_freedom = 0.0, max(1, len(groups) - 1)
        if len(groups) > 1:
            own = [np.var(_medians(each)) for each in drawn]
            between = np.var([np.median(group) for group in groups], ddof=1)
            least = LEAST_EXCESS * np.mean(own)
            self.excess = float(max(least, between - np.mean(own))) / len(groups)


def _dependence(ratios: Array, levels: Array) -> float:
    """How far the ratio of disturbed rounds is from that of calm ones, on a scale of logarithms.

    Disturbed are the third of the rounds that took both engines longest, calm is the third that
    took them least. What the medians of two thirds differ by for chance alone is taken off.

    Args:
        ratios: of each round, logarithms.
        levels: of each round, the sum of both engines' logarithms.
    """
    count = len(ratios) // 3
    if count < _THIRDS_LEAST:
        return 0.0
    order = np.argsort(levels, kind="stable")
    calm, disturbed = ratios[order[:count]], ratios[order[-count:]]
    apart = float(np.median(disturbed) - np.median(calm))
    chance = math.pi / 2 * (np.var(calm, ddof=1) + np.var(disturbed, ddof=1)) / count
    return math.sqrt(max(0.0, apart**2 - float(chance)))


def _resampled(numbers: Array, generator: np.random.Generator) -> Array:
    """:data:`RESAMPLES` samples (rows) of as many numbers, in runs of neighbours: the circular
    block bootstrap (Politis and Romano, 1992), blocks as long as the cube root of the count."""
    count = len(numbers)
    length = math.ceil(count ** (1 / 3)) if count >= ROUNDS_LEAST else 1
    begins = generator.integers(0, count, (RESAMPLES, -(-count // length)))
    circle = np.concatenate([numbers, numbers[: length - 1]])
    blocks: Array = np.lib.stride_tricks.sliding_window_view(circle, length)[begins]
    return blocks.reshape(RESAMPLES, -1)[:, :count]


def _medians(rows: Array) -> Array:
    """Of each row; numpy's own median takes two to four times as long."""
    ordered, half = np.sort(rows, axis=1), rows.shape[1] // 2
    middle: Array = ordered[:, half]
    return middle if rows.shape[1] % 2 else (ordered[:, half - 1] + middle) / 2


def _interval(
    value: float, medians: Array, *sides: _Side, repeats: float = 1.0
) -> tuple[float, float]:
    """Ends of the interval about ``value``, on the scale of the medians (logarithms).

    The bootstrap's percentiles, widened by the variance between starts and by Student's t for the
    degrees of freedom of both together (Satterthwaite, 1946).
    """
    if any(side.freedom == 0 for side in sides):
        return -math.inf, math.inf
    within = float(np.var(medians))
    excess = sum(side.excess for side in sides)
    total = within + excess
    freedom = float(min(side.freedom for side in sides))
    if excess:
        parts = [within**2 / freedom]
        parts += [side.excess**2 / side.excess_freedom for side in sides]
        freedom = max(1.0, total**2 / math.fsum(parts))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(medians, (tail, 1.0 - tail))
    normal = NormalDist().inv_cdf(1.0 - tail)
    # A bootstrap of n numbers strays by n - 1 parts of n too little (Hesterberg 2015).
    few = math.sqrt((freedom + 1) / freedom)
    wider = repeats * few * _student(normal, freedom) / normal
    steady = repeats**2 * sum(side.steady for side in sides)
    more = normal * math.hypot(wider * math.sqrt(excess), math.sqrt(steady))
    # A sample of a few medians leaps: neither end may lie on the wrong side.
    below = math.hypot(wider * max(0.0, value - float(low)), more)
    above = math.hypot(wider * max(0.0, float(high) - value), more)
    return value - below, value + above


def _student(z: float, freedom: float) -> float:
    """The quantile of Student's t for the normal's ``z`` (Abramowitz and Stegun 26.7.5)."""
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96.0,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0,
    )
    return z + math.fsum(term / freedom ** (power + 1) for power, term in enumerate(terms))
