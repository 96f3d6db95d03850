"""95% intervals by the bootstrap: films are drawn again, not frames or events.

Events of one film share a person, a room and a camera, so they are not independent of each other;
films are. Each kind of film is drawn from by itself, the same draws for every model and figure, so
that a difference between two models is one of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
TAIL = 0.025

Floats = NDArray[np.float64]


def resamples(kinds: Sequence[str], seed: int = 0) -> Floats:
    """How often each film is in each sample, float64 (1 + RESAMPLES, films): once in the first."""
    rng = np.random.default_rng(seed)
    weights = np.ones((1 + RESAMPLES, len(kinds)))
    for kind in dict.fromkeys(kinds):
        places = [at for at, each in enumerate(kinds) if each == kind]
        shares = np.full(len(places), 1.0 / len(places))
        weights[1:, places] = rng.multinomial(len(places), shares, size=RESAMPLES)
    return weights


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, and what it was in each sample."""

    samples: Floats
    """(1 + RESAMPLES,): the first is of the films as they are; NaN where there was nothing."""
    hits: float = np.nan
    """What was counted in the films as they are: events found, or false ones."""
    of: float = np.nan
    """Of how many events; NaN for what is counted by the hour."""
    hours: float = np.nan

    @property
    def value(self) -> float:
        """Of the films as they are; NaN where there was nothing to count."""
        return float(self.samples[0])

    @property
    def interval(self) -> tuple[float, float]:
        """Where 95 of 100 such sets of films would put it.

        Where nothing was missed, or nothing found, each sample says the same, and what a binomial
        or Poisson count of zero leaves open takes their place.
        """
        known = self.samples[1:][~np.isnan(self.samples[1:])]
        if not len(known) or np.isnan(self.value):
            return float("nan"), float("nan")
        low, high = (float(end) for end in np.quantile(known, (TAIL, 1.0 - TAIL)))
        if self.of > 0 and self.hits == self.of:
            low = min(low, TAIL ** (1.0 / self.of))
        if self.of > 0 and self.hits == 0:
            high = max(high, 1.0 - TAIL ** (1.0 / self.of))
        if self.hours > 0 and self.hits == 0:
            high = max(high, -float(np.log(TAIL)) / self.hours)
        return low, high

    def __sub__(self, other: Estimate) -> Estimate:
        """By how much it is larger, over the same films."""
        return Estimate(self.samples - other.samples)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; None where there was nothing to count."""
        low, high = self.interval
        known = {"value": _rounded(self.value), "low": _rounded(low), "high": _rounded(high)}
        if not np.isnan(self.of):
            known |= {"right": int(self.hits), "events": int(self.of)}
        elif not np.isnan(self.hours):
            known |= {"events": int(self.hits), "hours": round(self.hours, 4)}
        return known


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
