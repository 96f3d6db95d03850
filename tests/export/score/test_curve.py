"""The curve: never falls, counts each event once, and its intervals hold the films' own value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.streamed import SPEC, clear_film, random_film

from shiftedge.export.score.curve import BUDGETS, THRESHOLDS, curve_of
from shiftedge.export.score.intervals import RESAMPLES, Estimate, resamples


@given(seeds=st.lists(st.integers(0, 5_000), min_size=1, max_size=6, unique=True))
@settings(max_examples=10)
def test_the_curve_never_falls_and_stays_within_its_budget(seeds: list[int]) -> None:
    curve = curve_of([random_film(seed) for seed in seeds], SPEC)
    samples = np.stack([found.samples for found in curve.drawn()])
    known = ~np.isnan(samples).any(axis=0)
    assert (np.diff(samples[:, known], axis=0) >= 0.0).all()
    for budget in BUDGETS:
        rates = curve.at(budget).false_per_hour().samples
        assert (rates[~np.isnan(rates)] <= budget).all()


@given(seeds=st.lists(st.integers(0, 5_000), min_size=1, max_size=5, unique=True))
@settings(max_examples=10)
def test_labels_and_bands_share_the_events_out(seeds: list[int]) -> None:
    curve = curve_of([random_film(seed) for seed in seeds], SPEC)
    for point in (curve.own, curve.at(60.0)):
        whole = point.recall()
        for parts in (
            [point.recall([label]) for label in curve.labels],
            [point.recall(bands={"distance": band}) for band in ("near", "far")],
        ):
            assert sum(part.hits for part in parts) == whole.hits
            assert sum(part.of for part in parts) == whole.of
        false = point.false_per_hour()
        assert sum(point.false_per_hour(label=name).hits for name in curve.labels) == false.hits


def test_figures_of_films_whose_events_are_known() -> None:
    films = [clear_film(seed, found=3, missed=1, false=1) for seed in range(6)]
    idle = [clear_film(seed, found=0, missed=0, false=seed % 2, kind="others") for seed in range(4)]
    curve = curve_of([*films, *idle], SPEC)
    hours = sum(film.seconds for film in films) / 3600.0
    own = curve.own
    assert own.threshold == SPEC.decoder.enter
    assert (own.recall().hits, own.recall().of) == (18, 24)
    assert own.recall().value == pytest.approx(0.75)
    assert own.recall(["Swiping Right"]).of == 0
    assert np.isnan(own.recall(["Swiping Right"]).value)
    assert own.recall(bands={"distance": "near"}).of == 12
    assert own.false_per_hour().value == pytest.approx(6 / hours)
    assert own.false_per_hour(("others",)).hits == 2
    assert np.isnan(own.false_per_hour(("still",)).value)
    assert -0.3 < own.delay_s(0.5).value <= own.delay_s(0.9).value < 0.3
    # Nothing may be reported where a false event is as sure as a true one.
    assert curve.at(0.5 / hours).recall().hits == 0
    assert curve.at(7 / hours).recall().hits == 18


def test_the_sweep_goes_from_nothing_to_more() -> None:
    curve = curve_of([random_film(seed) for seed in range(8)], SPEC)
    rows = curve.swept()
    assert [row[0] for row in rows] == list(THRESHOLDS)
    assert rows[0][1:] == (0.0, 0.0)
    assert rows[-1][1] > rows[1][1]


# --- intervals


def test_each_kind_of_film_is_drawn_by_itself() -> None:
    weights = resamples(["a", "b", "a", "a"], seed=3)
    assert weights.shape == (1 + RESAMPLES, 4)
    assert (weights[0] == 1).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (weights[:, 1] == 1).all()
    assert weights[:, 0].std() > 0.5
    np.testing.assert_array_equal(weights, resamples(["a", "b", "a", "a"], seed=3))


def test_an_interval_is_as_wide_as_that_of_a_share() -> None:
    """Of 200 films with one event each, half of them found: 0.5 with a deviation of 0.035."""
    right = np.arange(200) % 2
    samples = resamples(["a"] * 200) @ right / 200
    low, high = Estimate(samples, hits=100, of=200).interval
    assert low == pytest.approx(0.5 - 1.96 * 0.0354, abs=0.01)
    assert high == pytest.approx(0.5 + 1.96 * 0.0354, abs=0.01)


def test_where_every_sample_says_the_same_a_count_of_zero_leaves_something_open() -> None:
    ones, zeros = np.ones(1 + RESAMPLES), np.zeros(1 + RESAMPLES)
    low, high = Estimate(ones, hits=20, of=20).interval
    assert (round(low, 3), high) == (0.832, 1.0)  # Clopper and Pearson's
    assert Estimate(zeros, hits=0, of=20).interval[1] == pytest.approx(0.168, abs=1e-3)
    assert Estimate(zeros, hits=0, hours=1.0).interval == (0.0, pytest.approx(3.689, abs=1e-3))
    nothing = Estimate(np.full(1 + RESAMPLES, np.nan), hits=0, of=0)
    assert nothing.to_dict()["value"] is None


def test_a_difference_is_one_of_pairs() -> None:
    weights = resamples(["a"] * 50)
    rng = np.random.default_rng(0)
    hard = rng.random(50) < 0.5
    one, other = ~hard, ~hard | (rng.random(50) < 0.2)
    first, second = (Estimate(weights @ each / 50) for each in (one, other))
    apart = second - first
    assert apart.value == pytest.approx(second.value - first.value)
    low, high = apart.interval
    assert 0.0 < low < apart.value < high
    wide = first.interval[1] - first.interval[0]
    assert high - low < wide
