"""From the time stamps of containers, sound or not, to times that never go back."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.runtime.capture.video import LONGEST_PAUSE_S, RecordingTimes


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1), st.floats(1, 240))
def test_times_always_grow_from_zero(positions_ms: list[float], rate_hz: float) -> None:
    times = RecordingTimes(rate_hz)
    stamps = [times.stamp(position) for position in positions_ms]
    assert stamps[0] == 0.0
    assert all(math.isfinite(stamp) for stamp in stamps)
    for before, after in itertools.pairwise(stamps):
        assert before <= after <= before + LONGEST_PAUSE_S + 1.0


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=60), st.floats(1, 240))
def test_frames_out_of_order_by_a_little_move_nothing(late_ms: list[int], rate_hz: float) -> None:
    """Whatever happens to single stamps, true ones come at their true times."""
    times = RecordingTimes(rate_hz)
    assert times.stamp(0.0) == 0.0
    for i, late in enumerate(late_ms, 1):
        true_ms = 5000.0 * i
        first = times.stamp(true_ms)
        assert first == pytest.approx(5.0 * i)
        assert times.stamp(true_ms + late) == pytest.approx(first + late / 1000)
        back = min(late, 900)
        assert times.stamp(true_ms + late - back) == pytest.approx(first + late / 1000)


@given(st.lists(st.floats(1, 5e4), min_size=1, max_size=50), st.floats(-1e6, 1e6))
def test_sane_stamps_are_kept(steps_ms: list[float], origin_ms: float) -> None:
    times = RecordingTimes(25.0)
    positions = origin_ms + np.concatenate([[0.0], np.cumsum(steps_ms)])
    stamps = [times.stamp(float(position)) for position in positions]
    assert stamps == pytest.approx(list((positions - positions[0]) / 1000.0), abs=1e-6)


def test_two_frames_at_the_beginning_with_one_stamp() -> None:
    times = RecordingTimes(10.0)
    stamps = [times.stamp(ms) for ms in (40.0, 40.0, 73.0, 173.0, 273.0)]
    assert stamps == pytest.approx([0.0, 0.1, 0.1, 0.133, 0.233])


def test_a_container_without_stamps_is_timed_by_its_rate() -> None:
    times = RecordingTimes(10.0)
    assert [times.stamp(0.0) for _ in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_pause_within_the_length_is_one() -> None:
    stamps_ms = [5000.0, 5100.0, 105_100.0, 105_200.0, 905_200.0]
    times = RecordingTimes(10.0, 101.0)
    assert [times.stamp(ms) for ms in stamps_ms] == pytest.approx([0.0, 0.1, 100.1, 100.2, 100.3])
    times = RecordingTimes(10.0, 1e9)  # nobody holds a frame for days
    assert [times.stamp(ms) for ms in (0.0, 5e8)] == pytest.approx([0.0, 0.1])


def test_stamps_that_start_again_go_on() -> None:
    times = RecordingTimes(10.0)
    stamps = [times.stamp(ms) for ms in (5000.0, 5100.0, 0.0, 100.0, 1e12, 1e12 + 100)]
    assert stamps == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
