"""Numbers from step times: percentiles, and ratios that a drifting machine cannot fake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "Ratio", "paired_ratio", "percentiles_ms", "unpaired_ratio"]

RESAMPLES = 2000
CONFIDENCE = 0.95

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

    In each round both ran within a second or so of each other; the round's ratio is that of its
    two medians, and the value is the median over rounds. The interval is a bootstrap over process
    starts, and over the rounds of each: steps of one round are not independent of each other, nor
    are rounds of one process, whose memory lies where it lies. It is widened for the small number
    of starts (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015: the expanded
    percentile interval), and by the square root of 2, since a second run strays as the first does.

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
    for index, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a and b:
            start = starts[index] if starts is not None else 0
            groups.setdefault(start, []).append(math.log(np.median(a) / np.median(b)))
    if not groups:
        raise ValueError("no round in which both were timed")
    logs = [np.array(group) for group in groups.values()]
    value = float(np.median(np.concatenate(logs)))
    medians = _resampled(logs, np.random.default_rng(seed))
    low, high = _expanded(value, medians, _units(logs))
    return Ratio(math.exp(value), math.exp(low), math.exp(high))


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
        value = float(np.median(np.concatenate(logs)))
        sides.append((value, _resampled(logs, generator), _units(logs)))
    (a, a_medians, a_units), (b, b_medians, b_units) = sides
    # Both runs stray, and both are in the difference: nothing more is to be added for a repeat.
    low, high = _expanded(a - b, a_medians - b_medians, min(a_units, b_units), repeats=1.0)
    return Ratio(math.exp(a - b), math.exp(low), math.exp(high))


def _units(groups: Sequence[Array]) -> int:
    """How many independent things were drawn: starts, or where there was one, its rounds."""
    return len(groups) if len(groups) > 1 else len(groups[0])


def _resampled(groups: Sequence[Array], generator: np.random.Generator) -> Array:
    """Medians of :data:`RESAMPLES` samples: groups with replacement, and numbers of each."""
    lengths = np.array([len(group) for group in groups])
    longest = int(lengths.max())
    padded = np.full((len(groups), longest), np.nan)
    for row, group in zip(padded, groups, strict=True):
        row[: len(group)] = group
    picks = generator.integers(0, len(groups), (RESAMPLES, len(groups), 1))
    sizes = lengths[picks]
    which = (generator.random((RESAMPLES, len(groups), longest)) * sizes).astype(np.intp)
    drawn = np.where(np.arange(longest) < sizes, padded[picks, which], np.nan)
    medians: Array = np.nanmedian(drawn.reshape(RESAMPLES, -1), axis=1)
    return medians


def _expanded(
    value: float, medians: Array, units: int, repeats: float = math.sqrt(2.0)
) -> tuple[float, float]:
    """Ends of the interval about ``value``, on the scale of the medians (logarithms)."""
    if units < 2:
        return -math.inf, math.inf
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(medians, (tail, 1.0 - tail))
    normal = NormalDist().inv_cdf(1.0 - tail)
    wider = repeats * math.sqrt(units / (units - 1)) * _student(normal, units - 1) / normal
    # A sample of a few medians leaps: neither end may lie on the wrong side.
    return value - wider * max(0.0, value - float(low)), value + wider * max(
        0.0, float(high) - value
    )


def _student(z: float, freedom: int) -> float:
    """The quantile of Student's t for the normal's ``z`` (Abramowitz and Stegun 26.7.5)."""
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96.0,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0,
    )
    return z + math.fsum(term / freedom ** (power + 1) for power, term in enumerate(terms))
