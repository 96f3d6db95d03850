"""Events of many films at many settings of the decoder at once, matched with what is true.

:class:`~shiftedge.runtime.live.decode.GestureDecoder` says what an event is, and
:func:`shiftedge.runtime.live.score.score` which one answers what. Here both go through time with
arrays in which every setting and every film is a lane, some hundred times as fast; a test holds
them against each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.score.stream import Streamed
from shiftedge.runtime.live.decode import CLOCK_SLACK_S
from shiftedge.runtime.live.score import LATE_S
from shiftedge.runtime.spec import DecoderSettings, ModelSpec

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

_NONE = -1


class Truth:
    """What happens in some films, as arrays: films are rows, their events columns.

    Args:
        films: of any lengths.
        spec: whose labels count: an event whose label the model lacks, or is silent about, is
            something else that people do.
    """

    def __init__(self, films: Sequence[Streamed], spec: ModelSpec) -> None:
        kept = [
            [
                (event, film.conditions[at] if film.conditions else {})
                for at, event in enumerate(film.events)
                if event.label in spec.labels and event.label not in spec.silent_labels
            ]
            for film in films
        ]
        shape = len(films), max(map(len, kept), default=0)
        self.labels = np.full(shape, _NONE, np.int64)
        """Index among the spec's, -1 where there is no event."""
        self.start_s, self.end_s = np.full(shape, np.inf), np.full(shape, -np.inf)
        self.conditions: list[list[Mapping[str, str]]] = [[]] * len(films)
        self.seconds: Floats = np.array([film.seconds for film in films], np.float64)
        self.kinds = [film.kind for film in films]
        for row, events in enumerate(kept):
            self.conditions[row] = [known for _, known in events]
            for column, (event, _) in enumerate(events):
                self.labels[row, column] = spec.labels.index(event.label)
                self.start_s[row, column] = event.start_s
                self.end_s[row, column] = event.end_s

    def where(self, condition: str, band: str) -> Mask:
        """(films, events): which events were in a band of a condition."""
        found = np.zeros(self.labels.shape, bool)
        for row, known in enumerate(self.conditions):
            for column, each in enumerate(known):
                found[row, column] = each.get(condition) == band
        return found

    @property
    def bands(self) -> dict[str, list[str]]:
        """The bands of each condition that come up, in order of their names."""
        pairs = {pair for row in self.conditions for known in row for pair in known.items()}
        names = sorted({name for name, _ in pairs})
        return {name: sorted(band for key, band in pairs if key == name) for name in names}


@dataclass(frozen=True)
class Outcome:
    """What becomes of each event, and what else is reported, at some settings."""

    reported_s: Floats
    """(settings, films, events): when it was reported; NaN where it was missed."""
    counted: Mask
    """The same shape: whether it counts, found or missed; not counted is what the film ends in."""
    false: Counts
    """(settings, films, labels): reports that answer nothing."""

    @property
    def found(self) -> Mask:
        """(settings, films, events)."""
        return ~np.isnan(self.reported_s)


class FilmBatch:
    """Logits of some films, ready to be decoded.

    Args:
        films: of one model.
        spec: of that model.
    """

    def __init__(self, films: Sequence[Streamed], spec: ModelSpec) -> None:
        self.spec, self.truth = spec, Truth(films, spec)
        # Long films first: those that are over are left out by taking fewer rows.
        self._order = np.argsort([-len(film.logits) for film in films], kind="stable")
        lengths = [len(films[at].logits) for at in self._order]
        shape = max(lengths, default=0), len(films), spec.classes
        self._logits = np.zeros(shape, np.float64)
        self._cut = np.zeros(shape[:2], bool)
        for row, at in enumerate(self._order):
            self._logits[: lengths[row], row] = films[at].logits
            self._cut[list(films[at].cuts), row] = True
        self._alive = [sum(length > time for length in lengths) for time in range(shape[0])]
        self._eligible = np.array([label not in spec.silent_labels for label in spec.labels])
        self._chances: Floats | None = None

    def outcomes(
        self, settings: Sequence[DecoderSettings], bias: NDArray[np.float32] | None = None
    ) -> Outcome:
        """Decode at each of ``settings``.

        Args:
            bias: (classes,), added to the logits.
        """
        films, events = self.truth.labels.shape
        reported = np.full((len(settings), films, events), np.nan)
        false = np.zeros((len(settings), films, self.spec.classes), np.int64)
        chances = self._softmax(bias)
        by_smoothing: dict[float, list[int]] = {}
        for at, each in enumerate(settings):
            by_smoothing.setdefault(each.smoothing_s, []).append(at)
        for smoothing_s, places in by_smoothing.items():
            smooth = self._smoothed(chances, smoothing_s)
            part = self._decode(smooth, [settings[at] for at in places])
            reported[places], false[places] = part
        over = self.truth.end_s <= self.truth.seconds[:, None]
        real = self.truth.labels != _NONE
        return Outcome(reported, real & (over | ~np.isnan(reported)), false)

    def _softmax(self, bias: NDArray[np.float32] | None) -> Floats:
        if bias is None and self._chances is not None:
            return self._chances
        wide = self._logits if bias is None else self._logits + bias
        powers: Floats = np.exp(wide - wide.max(axis=2, keepdims=True))
        powers /= powers.sum(axis=2, keepdims=True)
        if bias is None:
            self._chances = powers
        return powers

    def _smoothed(self, chances: Floats, smoothing_s: float) -> Floats:
        if smoothing_s == 0.0:
            return chances
        rate_hz = self.spec.frame_rate_hz
        first = -math.expm1(-(1.0 / rate_hz) / smoothing_s)
        smooth = np.empty_like(chances)
        last = np.zeros(chances.shape[1:])
        for time, row in enumerate(chances):
            passed_s = time / rate_hz - (time - 1) / rate_hz
            weight = -math.expm1(-passed_s / smoothing_s) if time else first
            cut = self._cut[time]
            if cut.any():
                last = np.where(cut[:, None], 0.0, last)
            last = last + weight * (row - last)
            smooth[time] = last
        return smooth

    def _decode(self, smooth: Floats, settings: Sequence[DecoderSettings]) -> tuple[Floats, Counts]:
        """``reported_s`` and ``false`` of an :class:`Outcome`, films in their own order."""
        truth = self.truth
        times, films = smooth.shape[:2]
        enter, leave, hold_s, rearm_s = (
            np.array([[getattr(each, name)] for each in settings])
            for name in ("enter", "exit", "min_duration_s", "rearm_s")
        )
        hold_s = hold_s - CLOCK_SLACK_S
        eligible = np.where(self._eligible, smooth, -1.0)
        strongest, highest = eligible.argmax(axis=2), eligible.max(axis=2)
        shape = len(settings), films
        candidate, current = np.full(shape, _NONE), np.full(shape, _NONE)
        start_s, armed_s = np.zeros(shape), np.full(shape, -np.inf)
        labels, begins = truth.labels[self._order], truth.start_s[self._order]
        ends = truth.end_s[self._order] + LATE_S
        reported = np.full((*shape, labels.shape[1]), np.nan)
        false = np.zeros((*shape, self.spec.classes), np.int64)
        for time in range(times):
            alive = slice(0, self._alive[time])
            now_s = time / self.spec.frame_rate_hz
            row, lane = smooth[time, alive], np.arange(self._alive[time])
            waits, holds = candidate[:, alive], current[:, alive]  # views: changed in place
            since, armed = start_s[:, alive], armed_s[:, alive]
            cut = self._cut[time, alive]
            if cut.any():
                waits[:, cut] = holds[:, cut] = _NONE
                armed[:, cut] = -np.inf
            over = (holds != _NONE) & (row[lane, holds] < leave)
            holds[over] = _NONE
            armed[over] = (now_s + np.broadcast_to(rearm_s, over.shape))[over]
            waits[(waits != _NONE) & (row[lane, waits] < leave)] = _NONE
            free, top = holds == _NONE, strongest[time, alive]
            enters = free & (now_s >= armed) & (waits != top) & (highest[time, alive] >= enter)
            np.copyto(waits, top, where=enters)
            since[enters] = now_s
            settled = free & (waits != _NONE) & (now_s - since >= hold_s)
            if settled.any():
                setting, film = np.nonzero(settled)
                label = waits[settled]
                holds[settled], waits[settled] = label, _NONE
                answers = (labels[film] == label[:, None]) & (begins[film] <= now_s)
                answers &= (now_s <= ends[film]) & np.isnan(reported[setting, film])
                hit = answers.any(axis=1)
                which = answers.argmax(axis=1) if answers.shape[1] else np.zeros_like(film)
                reported[setting[hit], film[hit], which[hit]] = now_s
                false[setting[~hit], film[~hit], label[~hit]] += 1
        back = np.argsort(self._order)
        return reported[:, back], false[:, back]


def at_thresholds(settings: DecoderSettings, thresholds: Sequence[float]) -> list[DecoderSettings]:
    """``settings`` with other values of ``enter``, and ``exit`` no higher than that."""
    return [
        DecoderSettings(
            settings.smoothing_s,
            enter,
            min(settings.exit, enter),
            settings.min_duration_s,
            settings.rearm_s,
        )
        for enter in thresholds
    ]


def grid(
    smoothing_s: Sequence[float], leave: Sequence[float], hold_s: Sequence[float], rearm_s: float
) -> list[DecoderSettings]:
    """All combinations, to be given thresholds."""
    return [
        DecoderSettings(smoothing, 1.0, below, hold, rearm_s)
        for smoothing, below, hold in itertools.product(smoothing_s, leave, hold_s)
    ]
