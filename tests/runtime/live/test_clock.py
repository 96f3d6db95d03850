"""The clock: right number of steps, nearest frames, no drift, for any camera."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftedge.runtime.errors import FrameError
from shiftedge.runtime.live.clock import FrameClock, Tick

RATE_HZ = 12.0
GAP_S = 1.0


def steps_of(times_s: Iterable[float], rate_hz: float = RATE_HZ) -> list[int]:
    clock = FrameClock(rate_hz, GAP_S)
    ticks = [clock.tick(time_s) for time_s in times_s]
    assert all(tick.reset is None for tick in ticks)
    return [tick.steps for tick in ticks]


def test_a_camera_at_the_models_rate_is_one_to_one() -> None:
    assert steps_of(i / 12 for i in range(1000)) == [1] * 1000


def test_twice_the_rate_takes_every_second_frame() -> None:
    assert steps_of(i / 24 for i in range(100))[:8] == [1, 0, 1, 0, 1, 0, 1, 0]


def test_thirty_frames_per_second() -> None:
    steps = steps_of(i / 30 for i in range(3000))
    assert set(steps) == {0, 1}
    assert sum(steps) == 1200


def test_a_slow_camera_repeats() -> None:
    steps = steps_of(i / 6 for i in range(100))
    assert set(steps[2:]) == {2}


@settings(max_examples=150)
@given(
    rate_hz=st.floats(5, 120),
    jitter=st.floats(0, 0.45),
    dropped=st.floats(0, 0.2),
    start_s=st.sampled_from([0.0, -5.0, 3.3e5, 1.76e9]),
    seed=st.integers(0, 1 << 30),
)
def test_the_average_is_the_models_rate(
    rate_hz: float, jitter: float, dropped: float, start_s: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    duration_s = 30.0
    times_s = np.arange(0.0, duration_s, 1.0 / rate_hz)
    times_s += generator.uniform(-jitter, jitter, len(times_s)) / rate_hz
    times_s = start_s + times_s[generator.random(len(times_s)) >= dropped]
    # A longer pause empties the states; one that comes within a period of it, while the estimate
    # of the period jumps too, meets the limit on repeats, which gives ticks up on purpose.
    if np.diff(times_s).max() > GAP_S - 1.0 / rate_hz - 1e-6:
        return
    steps = sum(steps_of(times_s.tolist()))
    expected = (times_s[-1] - times_s[0]) * RATE_HZ
    # One for the first tick, and the last frame answers for half a period to come.
    assert -1 <= steps - expected - 0.5 * RATE_HZ / rate_hz <= 3


@settings(max_examples=150)
@given(rate_hz=st.floats(5, 120), model_hz=st.floats(4, 30), start_s=st.floats(-1e4, 1e4))
def test_each_tick_goes_to_the_nearest_frame(
    rate_hz: float, model_hz: float, start_s: float
) -> None:
    times_s = start_s + np.arange(int(6 * rate_hz)) / rate_hz
    steps = steps_of(times_s.tolist(), model_hz)
    # The period is unknown at the first frame, so what it leaves goes to the second one.
    first = sum(steps[:2])
    chosen = np.repeat(np.arange(len(steps)), steps)
    ticks_s = start_s + np.arange(len(chosen)) / model_hz
    for tick_s, index in list(zip(ticks_s, chosen, strict=True))[first:]:
        distance_s = np.abs(times_s - tick_s)
        if tick_s <= times_s[-1]:
            assert distance_s[index] <= distance_s.min() + 1e-5


@settings(max_examples=200)
@given(
    intervals_s=st.lists(st.floats(-0.5, 1.5), max_size=60),
    rate_hz=st.floats(1, 60),
    gap_s=st.floats(1, 3),
)
def test_any_times_give_bounded_steps(
    intervals_s: list[float], rate_hz: float, gap_s: float
) -> None:
    clock = FrameClock(rate_hz, gap_s)
    time_s = 100.0
    clock.tick(time_s)
    for interval_s in intervals_s:
        before_s, time_s = time_s, time_s + interval_s
        tick = clock.tick(time_s)
        assert 0 <= tick.steps <= math.ceil(gap_s * rate_hz)
        if time_s < before_s:
            assert tick == Tick(1, "clock")
        elif time_s - before_s > gap_s + 1e-5:
            assert tick == Tick(1, "gap")
        elif time_s - before_s < gap_s - 1e-5:
            assert tick.reset is None


def test_no_drift_over_an_hour() -> None:
    rate_hz = 30000 / 1001
    times_s = 1.76e9 + np.arange(int(3600 * rate_hz)) / rate_hz
    steps = steps_of(times_s.tolist())
    assert abs(sum(steps) - 3600 * 12) <= 1
    last_minute = sum(steps[-int(60 * rate_hz) :])
    assert abs(last_minute - 720) <= 1


def test_jitter_does_not_disturb_equal_rates() -> None:
    generator = np.random.default_rng(0)
    times_s = np.arange(600) / 12 + generator.uniform(-0.01, 0.01, 600)
    times_s[0] = 0.0
    assert steps_of(times_s.tolist()) == [1] * 600


def test_a_dropped_frame_is_made_up_for() -> None:
    times_s = [i / 12 for i in range(40) if i != 30]
    steps = steps_of(times_s)
    assert steps[30] == 2
    assert sum(steps) == 40


def test_a_camera_that_changes_its_rate() -> None:
    """Dim light: 30 frames per second become 10."""
    fast = [i / 30 for i in range(90)]
    slow = [fast[-1] + (i + 1) / 10 for i in range(60)]
    steps = steps_of(fast + slow)
    assert abs(sum(steps) - 12 * slow[-1]) <= 2
    assert max(steps) <= 2


def test_a_gap_resets_and_begins_a_new_grid() -> None:
    clock = FrameClock(12.0, 0.5)
    assert [clock.tick(i / 12) for i in range(3)] == [Tick(1)] * 3
    assert clock.tick(2 / 12 + 0.501) == Tick(1, "gap")
    assert clock.tick(2 / 12 + 0.501 + 1 / 12) == Tick(1)
    assert clock.tick(2 / 12 + 0.501 + 1 / 12 + 0.5).reset is None  # exactly the limit


def test_time_that_goes_back_resets() -> None:
    clock = FrameClock(12.0, 1.0)
    clock.tick(100.0)
    clock.tick(100.0 + 1 / 12)
    assert clock.tick(3.0) == Tick(1, "clock")
    assert clock.tick(3.0 + 1 / 12) == Tick(1)


def test_two_frames_with_one_time() -> None:
    clock = FrameClock(12.0, 1.0)
    assert [clock.tick(5.0).steps for _ in range(4)] == [1, 0, 0, 0]
    assert clock.tick(5.0 + 1 / 12).steps == 1
    assert clock.period_s == pytest.approx(1 / 12)


def test_reset_keeps_the_period() -> None:
    clock = FrameClock(12.0, 1.0)
    assert clock.period_s == 0.0
    for i in range(20):
        clock.tick(i / 30)
    clock.reset()
    assert clock.period_s == pytest.approx(1 / 30)
    assert clock.tick(-50.0) == Tick(1)


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, None, "1.0", [1.0], 1j, np.float32("nan")]
)
def test_bad_times_are_refused_and_change_nothing(bad: float) -> None:
    clock = FrameClock(12.0, 1.0)
    clock.tick(0.0)
    with pytest.raises(FrameError, match="expected a finite number of seconds"):
        clock.tick(bad)
    assert clock.tick(1 / 12) == Tick(1)


def test_numpy_and_whole_numbers_are_times() -> None:
    clock = FrameClock(12.0, 1.0)
    assert clock.tick(0).steps == 1
    assert clock.tick(np.float32(0.25)).steps == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rate_hz", "gap_s"), [(0, 1), (-1, 1), (math.nan, 1), (12, 0), (12, 0.01), (12, math.inf)]
)
def test_bad_settings_are_refused(rate_hz: float, gap_s: float) -> None:
    with pytest.raises(ValueError, match="expected a"):
        FrameClock(rate_hz, gap_s)
