"""Numbers from step times: percentiles, and ratios that a drifting machine cannot fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ratio", "paired_ratio", "percentiles_ms"]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """One engine's time over another's; below 1 it is quicker."""

    value: float
    low: float
    high: float
    """Ends of the 95% interval."""


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
    ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]], *, seed: int = 0
) -> Ratio:
    """How much longer our steps take than theirs, paired by round.

    In each round both ran within a second or so of each other; the round's ratio is that of its
    two medians, and the value is the median over rounds. The interval is a percentile bootstrap
    over rounds, since steps of one round are not independent of each other.

    Args:
        ours: step times of each round, any unit, above zero; a round without times is left out.
        theirs: the same rounds of the other; rounds that only one has are left out.
        seed: of the resampling.

    Raises:
        ValueError: no round has times of both.
    """
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a and b]
    if not pairs:
        raise ValueError("no round in which both were timed")
    ratios: NDArray[np.float64] = np.array([np.median(a) / np.median(b) for a, b in pairs])
    picks = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[picks], axis=1)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(medians, (tail, 1.0 - tail))
    return Ratio(float(np.median(ratios)), float(low), float(high))
