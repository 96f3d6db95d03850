"""Times that cannot be seconds are said once, and true ones never."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shiftedge.runtime.capture import FrameSource, TimedFrame, open_source
from shiftedge.runtime.errors import FrameError
from shiftedge.runtime.live.clock import WINDOW_FRAMES, StampWatch
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.live.stream import LiveStream
from shiftedge.runtime.model import Model

Frames = list[NDArray[np.uint8]]
T0 = 1_700_000_000.0
WRONG: dict[str, tuple[Callable[[int], float], str]] = {
    "milliseconds": (lambda i: 1e3 * i / 30, r"1 s behind the last \(about 33.* these millisec"),
    "microseconds": (lambda i: 1e6 * (T0 + i / 12), "are these microseconds"),
    "nanoseconds": (lambda i: 1e9 * i / 60, "are these nanoseconds"),
    "always 0": (lambda i: 0.0, "The time stands still: 30 frames came within 0 s"),
    "always now": (lambda i: T0, "The time stands still"),
    "float32": (lambda i: float(np.float32(T0 + i / 30)), "The time stands still"),
    "a loop's": (lambda i: T0 + 2e-5 * i, "The time stands still"),
    "frame numbers": (float, "exactly 1 s apart: are their times frame numbers"),
    "two cameras": (lambda i: i / 30 - 9 * (i % 2), "many frames lies before that of the frame"),
    "back": (lambda i: -i / 30, "many frames lies before that of the frame before"),
    "a slow camera": (lambda i: 2.5 * i, "are these seconds, or is the camera that slow"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_times_are_said_once(fake_model: Model, camera_frames: Frames, name: str) -> None:
    times, sentence = WRONG[name]
    live = LiveStream(fake_model)

    def feed_all() -> None:
        for i in range(100):
            live.feed(camera_frames[i % 12], times(i))

    with pytest.warns(UserWarning, match=sentence) as told:
        feed_all()
    assert len(told) == 1
    assert told[0].filename == __file__  # whoever fed it
    notes: list[str] = []
    live = LiveStream(fake_model, on_note=notes.append)
    feed_all()
    assert len(notes) == 1


class Milliseconds(FrameSource):
    """A user's own source with a usual mistake."""

    name, live, rate_hz = "mine", False, 30.0

    def __iter__(self) -> Iterator[TimedFrame]:
        for frame in open_source("synthetic:moving?size=64x48&seconds=4"):
            yield dataclasses.replace(frame, time_s=1000 * frame.time_s)

    def close(self) -> None:
        pass


def test_a_session_tells_it_as_a_note(fake_model: Model) -> None:
    notes: list[str] = []
    with LiveSession(fake_model, Milliseconds(), on_note=notes.append) as session:
        assert sum(1 for _ in session) == 120
    assert sum("milliseconds" in note for note in notes) == 1
    with (
        LiveSession(fake_model, Milliseconds()) as session,
        pytest.warns(UserWarning, match="millis"),
    ):
        list(session)


@pytest.mark.parametrize("rate_hz", [1.5, 5, 12, 29.97, 240, 960])
def test_true_times_are_not(fake_model: Model, camera_frames: Frames, rate_hz: float) -> None:
    live = LiveStream(fake_model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(100):
            live.feed(camera_frames[i % 12], T0 + i / rate_hz)


def test_a_camera_that_is_lost_now_and_then_is_none_either() -> None:
    watch, time_s = StampWatch(1.0), 0.0
    for i in range(3000):
        time_s += 40.0 if i % 5 == 0 else 0.0 if i % 5 == 1 else 0.033
        assert watch.look(time_s) is None
    for i in range(3000):  # clips one behind the other, each from 0
        assert watch.look((i % 20) / 12) is None


def test_slow_by_the_clock_of_a_computer_is_not_frame_numbers() -> None:
    watch = StampWatch(1.5)
    for i in range(300):
        assert watch.look(i + 0.001 * (i % 3)) is None


@given(st.lists(st.floats(0.002, 0.9), min_size=100), st.floats(-1e9, 1e9))
def test_frames_of_any_pace_within_the_limit_are_fine(steps: list[float], start_s: float) -> None:
    watch = StampWatch(1.0)
    assert not any(watch.look(start_s + time_s) for time_s in np.cumsum(steps))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2 * WINDOW_FRAMES))
def test_any_times_are_judged(times: list[float]) -> None:
    watch = StampWatch(1.0)
    told = [text for text in map(watch.look, times) if text]
    assert len(told) <= 1
    assert all(len(text) < 400 for text in told)


@pytest.mark.parametrize(
    "bad",
    [
        datetime.datetime(2026, 1, 1),
        datetime.timedelta(seconds=3),
        np.datetime64("2026-01-01"),
        np.timedelta64(5, "ms"),
        np.timedelta64(5, "ns"),
        decimal.Decimal("1.5"),
        10**400,
        "00:00:01.5",
        b"1",
        np.array([1.0]),
    ],
)
def test_what_is_no_number_is_a_sentence(
    fake_model: Model, camera_frames: Frames, bad: float
) -> None:
    live = LiveStream(fake_model)
    live.feed(camera_frames[0], 0.0)
    with pytest.raises(FrameError, match=r"The frame's time is .*; expected a finite number of se"):
        live.feed(camera_frames[1], bad)
    assert live.feed(camera_frames[1], 1 / 12).steps == 1
