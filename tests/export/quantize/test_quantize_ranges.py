"""The range chooser: properties that hold for any values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shiftedge.export.quantize.ranges import (
    BINS,
    SAMPLES,
    Affine,
    Histogram,
    candidates,
    choose_range,
    mean_squared,
)

values = arrays(
    np.float32,
    st.integers(1, 200),
    elements=st.floats(-1e4, 1e4, width=32).map(lambda v: 0.0 if abs(v) < 1e-3 else v),
)


def gathered(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        assert histogram.add(part)
    return histogram


def ends(affine: Affine) -> np.ndarray:
    """The least and the largest number that a range holds."""
    return affine.rounded(np.array([-np.inf, np.inf]))


@settings(max_examples=60)
@given(values, values)
def test_the_choice_is_never_worse_than_the_whole_range(one: np.ndarray, two: np.ndarray) -> None:
    histogram = gathered(one, two)
    choice = choose_range(histogram)
    whole = Affine.over(histogram.low, histogram.high)
    assert choice.error <= mean_squared(histogram, whole)
    assert all(choice.error <= mean_squared(histogram, each) for _, each in candidates(histogram))
    assert np.ptp(ends(choice.affine)) <= 1.01 * np.ptp(ends(whole))


@settings(max_examples=60)
@given(values, values, values)
def test_nothing_is_lost_when_bins_widen(
    one: np.ndarray, two: np.ndarray, three: np.ndarray
) -> None:
    parts = (one, two, three)
    histogram = gathered(*parts)
    everything = np.concatenate(parts)
    assert histogram.total == everything.size
    assert histogram.low == min(0.0, everything.min())
    assert histogram.high == max(0.0, everything.max())
    middles, counts = histogram.points()
    width = 2 * histogram.reach / BINS
    exact = np.sort(everything[everything != 0.0])
    spread = np.sort(np.repeat(middles, counts))
    if exact.size:
        assert np.abs(exact - spread).max() <= 0.51 * width  # each stayed in its bin


@settings(max_examples=100)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_zero_is_kept_and_the_range_is_covered(one: float, two: float) -> None:
    low, high = min(one, two), max(one, two)
    affine = Affine.over(low, high)
    assert 0 <= affine.zero_point <= 255
    assert np.float32(affine.scale) == affine.scale > 0
    assert (affine.rounded(np.zeros(3)) == 0.0).all()
    slack = 0.51 * affine.scale
    assert ends(affine)[0] <= min(low, 0.0) + slack
    assert ends(affine)[1] >= max(high, 0.0) - slack


@settings(max_examples=40)
@given(values)
def test_the_judged_error_is_the_error(some: np.ndarray) -> None:
    histogram = gathered(some)
    affine = Affine.over(0.7 * histogram.low, 0.7 * histogram.high)
    wrong = affine.rounded(some.astype(np.float64)) - some
    bin_width = 2 * histogram.reach / BINS
    assert np.sqrt(mean_squared(histogram, affine)) == pytest.approx(
        np.sqrt(np.mean(wrong**2)), abs=bin_width + 1e-6 * histogram.reach
    )


def test_rare_outliers_are_clipped_and_dense_ends_are_not() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, 1, SAMPLES).astype(np.float32) for _ in range(16)]
    parts[5][0] = 40.0  # one in a million: its own error is less than a coarse step for all others
    choice = choose_range(gathered(*parts))
    assert ends(choice.affine)[1] < 20.0
    assert choice.high == 40.0
    flat = rng.uniform(0, 6, 50_000).astype(np.float32)
    choice = choose_range(gathered(flat))
    assert choice.affine.zero_point == 0
    assert ends(choice.affine)[1] == pytest.approx(6.0, rel=0.02)


def test_values_of_one_sign_keep_zero() -> None:
    choice = choose_range(gathered(np.full(10, 3.0, np.float32)))
    assert choice.affine.zero_point == 0
    assert ends(choice.affine)[1] == pytest.approx(3.0, rel=1e-2)
    choice = choose_range(gathered(np.linspace(-5, -4, 10, dtype=np.float32)))
    assert choice.affine.zero_point == 255


def test_a_range_of_nothing_is_handled() -> None:
    choice = choose_range(gathered(np.zeros(100, np.float32)))
    assert choice.affine == Affine(1.0, 0)
    assert choice.error == 0.0
    tiny = choose_range(gathered(np.full(4, 1e-38, np.float32))).affine
    assert tiny.scale > 0
    assert np.isfinite(1.0 / np.float32(tiny.scale))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_whole(bad: float) -> None:
    histogram = gathered(np.ones(3, np.float32))
    assert not histogram.add(np.array([1.0, bad], np.float32))
    assert histogram.total == 3


def test_large_tensors_are_sampled_and_their_extremes_are_not() -> None:
    some = np.ones(10 * SAMPLES, np.float32)
    some[12345] = 7.0
    histogram = gathered(some)
    assert histogram.high == 7.0
    assert histogram.total <= SAMPLES
    starts = set()
    for _ in range(11):
        histogram.add(some)
        starts.add(histogram._start)
    assert len(starts) == 11  # in turn, so that no element is always left out
