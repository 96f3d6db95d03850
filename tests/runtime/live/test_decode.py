"""The decoder's promises, first by example, then for any stream that hypothesis can think of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shiftedge.runtime.errors import FrameError, NumericsError, SpecError
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.spec import DecoderSettings, ModelSpec, StateSpec

LABELS = ("No gesture", "Doing other things", "Swiping Left", "Swiping Right", "Stop Sign")
LEFT, RIGHT, STOP = 2, 3, 4
SPEC = ModelSpec(
    name="test",
    labels=LABELS,
    height=8,
    width=8,
    resize_short_side=8,
    states=(StateSpec("state_0", (1, 1, 2, 2)),),
    receptive_field=4,
    frame_rate_hz=12.0,
    silent_labels=LABELS[:2],
)
Frames = Sequence[tuple[float, NDArray[np.float32]]]


def logits_for(index: int, probability: float = 0.98) -> NDArray[np.float32]:
    """Logits whose softmax is ``probability`` at ``index`` and even elsewhere."""
    rest = (1.0 - probability) / (len(LABELS) - 1)
    chances = np.full(len(LABELS), rest)
    chances[index] = probability
    return np.log(chances).astype(np.float32)


def film(parts: Sequence[tuple[int, float]], rate_hz: float) -> list[tuple[float, NDArray]]:
    """Frames of one label after another; parts are (index, seconds)."""
    frames: list[tuple[float, NDArray]] = []
    ends = np.cumsum([seconds for _, seconds in parts])
    for number in range(int(ends[-1] * rate_hz)):
        time_s = number / rate_hz
        part = int(np.searchsorted(ends, time_s, side="right"))
        frames.append((time_s, logits_for(parts[min(part, len(parts) - 1)][0])))
    return frames


def decode(frames: Frames, decoder: GestureDecoder | None = None) -> list[GestureEvent]:
    decoder = decoder or GestureDecoder(SPEC)
    found = (decoder.update(logits, time_s) for time_s, logits in frames)
    return [event for event in found if event is not None]


def test_each_gesture_is_reported_once_when_it_happens() -> None:
    events = decode(film([(0, 1.0), (LEFT, 0.6), (0, 1.4), (STOP, 3.0), (0, 1.0)], 12.0))
    assert [event.label for event in events] == ["Swiping Left", "Stop Sign"]
    left, stop = events
    assert left.index == LEFT
    assert 1.0 < left.start_s < left.time_s < 1.45
    assert 3.0 < stop.start_s < stop.time_s < 3.45
    assert 0.6 <= left.confidence <= 1.0


def test_nothing_happens_while_no_gesture_is_shown() -> None:
    assert decode(film([(0, 20.0)], 30.0)) == []
    assert decode(film([(1, 20.0)], 30.0)) == []


def test_one_wild_frame_is_not_a_gesture() -> None:
    for start in (0, 7):  # the very first frame, when nothing is known yet, and a later one
        frames = film([(0, 2.0)], 12.0)
        frames[start] = (frames[start][0], logits_for(STOP, 0.9999))
        assert decode(frames) == []


def test_a_gesture_too_short_is_dropped_and_costs_no_pause() -> None:
    setup = DecoderSettings(smoothing_s=0.0, min_duration_s=0.3, rearm_s=0.5)
    parts = [(0, 1.0), (LEFT, 0.2), (0, 0.1), (RIGHT, 1.0)]
    events = decode(film(parts, 20.0), GestureDecoder(SPEC, setup))
    assert [(event.label, event.start_s, event.time_s) for event in events] == [
        ("Swiping Right", pytest.approx(1.3), pytest.approx(1.6))
    ]


def test_the_hand_going_back_within_the_pause_is_not_an_event() -> None:
    events = decode(film([(0, 1.0), (LEFT, 0.5), (RIGHT, 0.4), (0, 1.0)], 24.0))
    assert [event.label for event in events] == ["Swiping Left"]


def test_a_gesture_that_outlasts_the_pause_is_reported_late_not_lost() -> None:
    setup = DecoderSettings(smoothing_s=0.0, min_duration_s=0.0, rearm_s=0.5)
    events = decode(film([(LEFT, 1.0), (RIGHT, 1.0)], 20.0), GestureDecoder(SPEC, setup))
    assert [(event.label, event.time_s) for event in events] == [
        ("Swiping Left", 0.0),
        ("Swiping Right", pytest.approx(1.5)),
    ]


def test_the_stronger_of_two_waiting_gestures_wins() -> None:
    setup = DecoderSettings(smoothing_s=0.0, enter=0.4, exit=0.3, min_duration_s=0.15)
    even = np.log(np.array([0.02, 0.02, 0.41, 0.53, 0.02])).astype(np.float32)
    frames = [(0.0, logits_for(LEFT))] + [(0.1 * step, even) for step in range(1, 5)]
    events = decode(frames, GestureDecoder(SPEC, setup))
    assert [(event.label, event.start_s) for event in events] == [("Swiping Right", 0.1)]


def test_between_exit_and_enter_a_gesture_goes_on_and_keeps_its_peak() -> None:
    setup = DecoderSettings(smoothing_s=0.0, enter=0.6, exit=0.3, min_duration_s=0.3)
    heights = [0.7, 0.9, 0.4, 0.5]
    frames = [(0.1 * step, logits_for(LEFT, height)) for step, height in enumerate(heights)]
    (event,) = decode(frames, GestureDecoder(SPEC, setup))
    assert event.confidence == pytest.approx(0.9)
    assert (event.start_s, event.time_s) == (0.0, frames[-1][0])


def test_short_clock_rounding_does_not_cost_a_frame() -> None:
    setup = DecoderSettings(smoothing_s=0.0, min_duration_s=0.08)
    frames = [(100.02 + 0.04 * step, logits_for(LEFT)) for step in range(4)]
    (event,) = decode(frames, GestureDecoder(SPEC, setup))
    assert event.time_s == frames[2][0]


def test_the_display_sees_candidate_then_current_then_neither() -> None:
    decoder = GestureDecoder(SPEC, DecoderSettings(min_duration_s=0.2))
    seen = set()
    for time_s, logits in film([(0, 0.5), (LEFT, 1.0), (0, 1.0)], 24.0):
        decoder.update(logits, time_s)
        seen.add((decoder.candidate, decoder.current))
        assert 0.0 <= decoder.probabilities.sum() <= 1.0 + 1e-12
    assert seen == {(None, None), (LEFT, None), (None, LEFT)}
    decoder.probabilities[:] = 7.0  # the caller's own copy
    assert decoder.probabilities.max() <= 1.0


def test_after_a_gap_old_evidence_has_faded() -> None:
    decoder = GestureDecoder(SPEC)
    for time_s, logits in film([(LEFT, 2.0)], 12.0):
        decoder.update(logits, time_s)
    before = decoder.probabilities
    decoder.update(logits_for(0), 2.0 + 0.15 - 1 / 12)
    kept = math.exp(-1.0)  # one time constant later
    expected = before * kept + (1 - kept) * np.exp(logits_for(0).astype(np.float64))
    np.testing.assert_allclose(decoder.probabilities, expected, rtol=1e-5)
    decoder.update(logits_for(RIGHT), 60.0)
    assert decoder.probabilities[LEFT] < 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_logit_is_an_error_that_names_its_label(bad: float) -> None:
    logits = logits_for(0)
    logits[STOP] = bad
    with pytest.raises(NumericsError, match="Stop Sign"):
        GestureDecoder(SPEC).update(logits, 0.0)


@pytest.mark.parametrize(
    "logits",
    [
        np.zeros(4, np.float32),
        np.zeros((1, 5), np.float32),
        np.zeros(5, np.float64),
        [0.0] * 5,
    ],
)
def test_logits_of_another_form_are_refused(logits: NDArray[np.float32]) -> None:
    with pytest.raises(FrameError, match=r"expected .*\(5,\)"):
        GestureDecoder(SPEC).update(logits, 0.0)


@pytest.mark.parametrize("time_s", [math.nan, math.inf, None, "1.0", 0.9, 10**400])
def test_an_unusable_time_changes_nothing(time_s: float) -> None:
    decoder = GestureDecoder(SPEC)
    decoder.update(logits_for(LEFT), 1.0)
    before = decoder.probabilities
    with pytest.raises(FrameError, match=r"time"):
        decoder.update(logits_for(RIGHT), time_s)
    np.testing.assert_array_equal(decoder.probabilities, before)
    decoder.update(logits_for(RIGHT), np.float32(1.25))  # numpy's numbers are numbers


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SpecError, match=r"decoder\.exit"):
        GestureDecoder(SPEC, DecoderSettings(enter=0.4, exit=0.5))


# --- for any stream --------------------------------------------------------------------------

promise = settings(max_examples=60)

frames_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 1 / 30, 1 / 12, 0.2, 0.7, 3.0]),
        # quarters are exact in float32, also after a constant has been added
        st.lists(st.integers(-40, 40), min_size=5, max_size=5).map(
            lambda row: np.array(row, np.float32) / 4
        ),
        st.integers(1, 6),
    ),
    min_size=1,
    max_size=30,
).map(lambda rows: [(passed, logits) for passed, logits, repeats in rows for _ in range(repeats)])
any_settings = st.builds(
    lambda smoothing, enter, part, duration, rearm: DecoderSettings(
        smoothing, enter, enter * part, duration, rearm
    ),
    st.sampled_from([0.0, 0.05, 0.15, 0.6]),
    st.floats(0.05, 0.95),
    st.floats(0.1, 1.0),
    st.sampled_from([0.0, 0.08, 0.3]),
    st.sampled_from([0.0, 0.1, 0.5, 2.0]),
)


def timed(rows: list[tuple[float, NDArray[np.float32]]]) -> list[tuple[float, NDArray]]:
    times = np.cumsum([passed for passed, _ in rows])
    return [(float(time_s), logits) for time_s, (_, logits) in zip(times, rows, strict=True)]


@promise
@given(frames_of_any_kind, any_settings)
def test_promises_of_events(rows: list, setup: DecoderSettings) -> None:
    decoder = GestureDecoder(SPEC, setup)
    lowest: dict[int, float] = {}
    last: GestureEvent | None = None
    for time_s, logits in timed(rows):
        event = decoder.update(logits, time_s)
        smoothed = decoder.probabilities
        assert np.all((smoothed >= 0.0) & (smoothed <= 1.0 + 1e-12))
        for index in lowest:
            lowest[index] = min(lowest[index], float(smoothed[index]))
        if event is None:
            continue
        assert event.time_s == time_s
        assert event.label == LABELS[event.index]
        assert event.label not in SPEC.silent_labels
        assert setup.enter <= event.confidence <= 1.0
        assert event.time_s - event.start_s >= setup.min_duration_s - 1e-6
        assert smoothed[event.index] >= setup.exit
        if last is not None:
            assert lowest[last.index] < setup.exit, "the gesture before has ended"
            assert event.start_s >= last.time_s + setup.rearm_s
            assert event.start_s >= last.start_s
        last = event
        lowest = {event.index: math.inf}


@promise
@given(frames_of_any_kind, any_settings, st.integers(-1000, 1000))
def test_same_events_again_after_reset_and_under_a_constant(
    rows: list, setup: DecoderSettings, constant: int
) -> None:
    frames = timed(rows)
    decoder = GestureDecoder(SPEC, setup)
    first = decode(frames, decoder)
    decoder.reset()
    assert decode(frames, decoder) == first
    raised = [(time_s, logits + np.float32(constant)) for time_s, logits in frames]
    assert decode(raised, GestureDecoder(SPEC, setup)) == first


@promise
@given(frames_of_any_kind, any_settings, st.floats(0.0, 1e6))
def test_the_clock_may_start_anywhere(rows: list, setup: DecoderSettings, start_s: float) -> None:
    here = GestureDecoder(SPEC, setup)
    there = GestureDecoder(SPEC, setup)
    for time_s, logits in timed(rows):
        here.update(logits, time_s)
        there.update(logits, time_s + start_s)
        np.testing.assert_allclose(here.probabilities, there.probabilities, atol=1e-6)


@promise
@given(
    st.sampled_from([LEFT, RIGHT, STOP]),
    st.floats(0.75, 0.999),
    st.sampled_from([6.0, 12.0, 25.0, 30.0, 60.0]),
    st.sampled_from([0.0, 0.05, 0.15, 0.3]),
    st.sampled_from([0.0, 0.08, 0.2]),
    st.floats(0.3, 0.7),
)
def test_a_step_is_reported_in_time(
    index: int, height: float, rate_hz: float, smoothing: float, duration: float, enter: float
) -> None:
    setup = DecoderSettings(smoothing, enter, enter / 2, duration)
    decoder = GestureDecoder(SPEC, setup)
    for number in range(int(rate_hz)):
        assert decoder.update(logits_for(0, 0.999), number / rate_hz) is None
    number = int(rate_hz)
    changed_s = number / rate_hz
    rise_s = smoothing * math.log(height / (height - enter))  # of 1 - exp(-t / smoothing)
    latest_s = changed_s + rise_s + duration + 2 / rate_hz  # one frame to see each end
    while (event := decoder.update(logits_for(index, height), number / rate_hz)) is None:
        number += 1
        assert number / rate_hz <= latest_s + 1e-6
    assert event.index == index
    assert event.time_s <= latest_s + 1e-6


@promise
@given(
    st.lists(
        st.tuples(st.sampled_from([LEFT, RIGHT, STOP]), st.floats(0.6, 1.5), st.floats(1.5, 3.0)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([12.0, 24.0, 30.0, 60.0]),
)
def test_another_frame_rate_gives_the_same_events(rows: list, rate_hz: float) -> None:
    parts = [(0, 1.0)]
    for index, shown_s, pause_s in rows:
        parts += [(index, shown_s), (0, pause_s)]
    fine = decode(film(parts, 120.0))
    coarse = decode(film(parts, rate_hz))
    assert [event.label for event in fine] == [LABELS[index] for index, _, _ in rows]
    assert [event.label for event in coarse] == [event.label for event in fine]
    for one, other in zip(fine, coarse, strict=True):
        assert other.time_s == pytest.approx(one.time_s, abs=2 / rate_hz)
        assert other.start_s == pytest.approx(one.start_s, abs=1 / rate_hz + 1 / 120)


@promise
@given(st.lists(st.floats(-80, 80, width=32), min_size=5, max_size=5), st.sampled_from([0, 1]))
def test_a_constant_no_gesture_never_fires(row: list[float], silent: int) -> None:
    logits = np.array(row, np.float32)
    logits[silent] = logits.max() + 1.0  # at most half of the rest is left to any other label
    events = decode([(number / 12, logits) for number in range(60)])
    assert events == []
