"""Many settings at once give what the decoder and the matching of one stream give."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.streamed import SPEC, random_film

from shiftedge.export.score.decoding import FilmBatch, at_thresholds
from shiftedge.export.score.stream import Streamed
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.live.score import Score, score
from shiftedge.runtime.spec import DecoderSettings


def decoded(film: Streamed, decoder: DecoderSettings) -> list[GestureEvent]:
    """By the runtime's own decoder, emptied where the states were."""
    one = GestureDecoder(SPEC, decoder)
    events = []
    for at, row in enumerate(film.logits):
        if at in film.cuts:
            one.reset()
        event = one.update(row, at / SPEC.frame_rate_hz)
        if event is not None:
            events.append(event)
    return events


def matched(film: Streamed, decoder: DecoderSettings) -> Score:
    known = [event for event in film.events if event.label in SPEC.labels[2:]]
    return score(decoded(film, decoder), known, film.seconds)


DECODERS = st.builds(
    lambda smoothing, enter, leave, hold, rearm: DecoderSettings(
        smoothing, enter, min(enter, leave), hold, rearm
    ),
    st.sampled_from([0.0, 0.05, 0.15]),
    st.sampled_from([0.2, 0.35, 0.5, 0.7]),
    st.sampled_from([0.1, 0.3, 0.5]),
    st.sampled_from([0.0, 0.08, 0.25, 1 / 3]),
    st.sampled_from([0.0, 0.2, 0.5]),
)


@given(
    seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=4),
    decoders=st.lists(DECODERS, min_size=1, max_size=5),
)
@settings(max_examples=60)
def test_the_same_events_as_one_at_a_time(
    seeds: list[int], decoders: list[DecoderSettings]
) -> None:
    films = [random_film(seed) for seed in seeds]
    batch = FilmBatch(films, SPEC)
    outcome = batch.outcomes(decoders)
    for setting, decoder in enumerate(decoders):
        for row, film in enumerate(films):
            wanted = matched(film, decoder)
            found = outcome.found[setting, row]
            assert found.sum() == len(wanted.recognised)
            assert outcome.counted[setting, row].sum() == found.sum() + len(wanted.missed)
            assert outcome.false[setting, row].sum() == len(wanted.false)
            times = sorted(event.time_s for _, event in wanted.recognised)
            assert sorted(outcome.reported_s[setting, row][found]) == times
            labels = sorted(event.label for event in wanted.false)
            counts = dict(zip(SPEC.labels, outcome.false[setting, row], strict=True))
            assert sorted(name for name, n in counts.items() for _ in range(n)) == labels


def test_a_bias_is_added_to_the_logits() -> None:
    film, bias = random_film(3), np.array([0, 0, 1.5, -1.5], np.float32)
    shifted = dataclasses.replace(film, logits=film.logits + bias)
    one, other = (
        FilmBatch([film], SPEC).outcomes([SPEC.decoder], bias),
        FilmBatch([shifted], SPEC).outcomes([SPEC.decoder]),
    )
    np.testing.assert_array_equal(one.false, other.false)
    np.testing.assert_array_equal(one.reported_s, other.reported_s)


def test_thresholds_change_nothing_else() -> None:
    low, high = at_thresholds(DecoderSettings(0.1, 0.7, 0.4, 0.2, 0.3), [0.3, 0.9])
    assert low == DecoderSettings(0.1, 0.3, 0.3, 0.2, 0.3)
    assert high == DecoderSettings(0.1, 0.9, 0.4, 0.2, 0.3)
