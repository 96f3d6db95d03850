"""The curve of events right against false events an hour, and figures at points of it.

The logits of the films are decoded at a sweep of thresholds (the decoder's ``enter``), all else as
the model has it. A point of the curve is the best that a threshold reaches with so many false
events an hour or fewer; the model's own settings are one point beside it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.score.decoding import FilmBatch, Mask, Outcome, at_thresholds
from shiftedge.export.score.films import OWN
from shiftedge.export.score.intervals import Estimate, Floats, resamples
from shiftedge.export.score.stream import Streamed
from shiftedge.runtime.spec import ModelSpec

THRESHOLDS = (math.inf, *(1.0 / (1.0 + np.exp(-np.linspace(7.0, -2.0, 55)))))
"""From one that nothing reaches down to 0.12, even in the logit: near 1 they matter most."""
BUDGETS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 240)
"""False events an hour at which the curve is drawn."""
WITH_GESTURES = ("gestures", OWN)
"""Kinds of films that the curve is of."""


@dataclass(frozen=True)
class Curve:
    """What a model makes of some films at each threshold.

    Build it with :func:`curve_of`.
    """

    spec: ModelSpec
    streams: FilmBatch
    outcome: Outcome
    """At each of :data:`THRESHOLDS`, then at the model's own settings."""
    weights: Floats
    """See :func:`shiftedge.export.score.intervals.resamples`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels that are events."""
        return tuple(name for name in self.spec.labels if name not in self.spec.silent_labels)

    @property
    def own(self) -> OperatingPoint:
        """The model's own settings."""
        return OperatingPoint(self, np.full(len(self.weights), len(THRESHOLDS)))

    def at(self, budget: float) -> OperatingPoint:
        """The threshold that finds most at ``budget`` false events an hour or fewer, the highest of
        several; chosen anew in each sample of the films."""
        rates, recall = self._rated
        return OperatingPoint(self, np.where(rates <= budget, recall, -1.0).argmax(axis=1))

    @functools.cached_property
    def _rated(self) -> tuple[Floats, Floats]:
        """(samples, thresholds): false events an hour, and recall, 0 where there is none."""
        right, of = self._summed(self.outcome.found), self._summed(self.outcome.counted)
        recall = np.nan_to_num(_ratio(right, of))
        return self.rates(WITH_GESTURES)[:, :-1], recall[:, :-1]

    def swept(self) -> list[tuple[float, float, float]]:
        """Threshold, false events an hour and recall at each, from the highest down."""
        right = self._summed(self.outcome.found)[0]
        of = self._summed(self.outcome.counted)[0]
        recall = _ratio(right, of)
        rates = self.rates(WITH_GESTURES)[0]
        rows = zip(THRESHOLDS, rates[:-1], recall[:-1], strict=True)
        return [(float(enter), float(rate), float(share)) for enter, rate, share in rows]

    def drawn(self, budgets: Sequence[float] = BUDGETS) -> list[Estimate]:
        """Recall at each of ``budgets``; never falls from one to the next."""
        return [self.at(budget).recall() for budget in budgets]

    def mask(
        self, labels: Iterable[str] | None = None, bands: Mapping[str, str] | None = None
    ) -> Mask:
        """(films, events): events of these labels, in these bands of conditions."""
        truth = self.streams.truth
        found = truth.labels >= 0
        if labels is not None:
            known = [self.spec.labels.index(name) for name in labels if name in self.spec.labels]
            found &= np.isin(truth.labels, known)
        for condition, band in (bands or {}).items():
            found &= truth.where(condition, band)
        return found

    def hours(self, kinds: Sequence[str]) -> Floats:
        """(samples,): length of the films of these kinds."""
        chosen = np.isin(self.streams.truth.kinds, kinds)
        hours: Floats = self.weights @ (self.streams.truth.seconds * chosen) / 3600.0
        return hours

    def rates(self, kinds: Sequence[str], label: str | None = None) -> Floats:
        """(samples, settings): false events an hour in films of these kinds."""
        chosen = np.isin(self.streams.truth.kinds, kinds)
        false = self.outcome.false
        if label is not None:
            false = false[:, :, self.spec.labels.index(label), None]
        counts = self.weights @ (false.sum(axis=2) * chosen).T
        hours = self.hours(kinds)[:, None]
        return _ratio(counts, hours)

    def _summed(self, of_events: Mask) -> Floats:
        """(samples, settings): how many of (settings, films, events)."""
        counts: Floats = self.weights @ of_events.sum(axis=2).T
        return counts


@dataclass(frozen=True)
class OperatingPoint:
    """One setting of the decoder in each sample of the films: figures there."""

    curve: Curve
    index: NDArray[np.int64]
    """(samples,): place among the settings of the curve's outcome."""

    @property
    def threshold(self) -> float:
        """In the films as they are."""
        return float((*THRESHOLDS, self.curve.spec.decoder.enter)[int(self.index[0])])

    def recall(
        self, labels: Iterable[str] | None = None, bands: Mapping[str, str] | None = None
    ) -> Estimate:
        """Share of the events that were reported, of these labels in these bands."""
        mask, outcome = self.curve.mask(labels, bands), self.curve.outcome
        right = self._taken(self.curve._summed(outcome.found & mask))
        of = self._taken(self.curve._summed(outcome.counted & mask))
        return Estimate(_ratio(right, of), hits=float(right[0]), of=float(of[0]))

    def false_per_hour(
        self, kinds: Sequence[str] = WITH_GESTURES, label: str | None = None
    ) -> Estimate:
        """False events, of one label or of all, an hour of films of these kinds."""
        rates = self._taken(self.curve.rates(kinds, label))
        hours = float(self.curve.hours(kinds)[0])
        return Estimate(rates, hits=round(float(rates[0]) * hours) if hours else 0.0, hours=hours)

    def delay_s(self, share: float, labels: Iterable[str] | None = None) -> Estimate:
        """Seconds from the end of a movement to its event that this share of the events found did
        not pass; negative before the end."""
        curve = self.curve
        mask = curve.mask(labels)
        delays = curve.outcome.reported_s - curve.streams.truth.end_s
        found = np.full(len(self.index), np.nan)
        for setting in np.unique(self.index):
            samples = np.flatnonzero(self.index == setting)
            film, event = np.nonzero(curve.outcome.found[setting] & mask)
            if not len(film):
                continue
            late = delays[setting, film, event]
            order = np.argsort(late, kind="stable")
            reached = curve.weights[np.ix_(samples, film[order])].cumsum(axis=1)
            some = reached[:, -1] > 0
            place = (reached >= share * reached[:, -1:]).argmax(axis=1)
            found[samples[some]] = late[order][place[some]]
        return Estimate(found)

    def _taken(self, values: Floats) -> Floats:
        return values[np.arange(len(self.index)), self.index]


def _ratio(counts: Floats, of: Floats) -> Floats:
    """NaN where there is nothing to divide by."""
    empty = np.full(np.broadcast_shapes(counts.shape, of.shape), np.nan)
    ratio: Floats = np.divide(counts, of, out=empty, where=of > 0)
    return ratio


def curve_of(films: Sequence[Streamed], spec: ModelSpec, *, seed: int = 0) -> Curve:
    """The curve of one model.

    Args:
        films: that have been through the model; false events are counted by the hour in those of
            :data:`WITH_GESTURES`.
        spec: the model's: its labels, rate and settings.
        seed: of the bootstrap's samples; the same films and seed give the same samples, so that
            two models' figures can be subtracted.
    """
    streams = FilmBatch(films, spec)
    settings = [*at_thresholds(spec.decoder, THRESHOLDS), spec.decoder]
    weights = resamples(streams.truth.kinds, seed)
    return Curve(spec, streams, streams.outcomes(settings), weights)
