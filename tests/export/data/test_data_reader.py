"""Frames of a recording on a model's ticks: by time, in order, and never more images than two."""

from __future__ import annotations

import os
import tracemalloc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.clips import frame_spec

from shiftedge.export.data.reader import fitted, middle_frames, on_ticks
from shiftedge.runtime.capture import FrameSource, TimedFrame
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.live.clock import FrameClock
from shiftedge.runtime.preprocess import Preprocessor


class Recording(FrameSource):
    """Frames whose only pixel value is their number, at given times; counts those alive."""

    live = False
    rate_hz = 1000.0  # what browsers' WebM says of itself

    def __init__(self, times: Sequence[float], size: tuple[int, int] = (4, 4)) -> None:
        self.name = "recording"
        self.times = times
        self.size = size
        self.alive = self.most = self.opened = 0

    def __call__(self) -> Recording:
        self.opened += 1
        return self

    def __iter__(self) -> Iterator[TimedFrame]:
        for index, time_s in enumerate(self.times):
            image = np.full((*self.size, 3), index % 251, np.uint8)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(image, self._gone)
            frame = TimedFrame(image, time_s, index)
            del image
            yield frame
            del frame

    def _gone(self) -> None:
        self.alive -= 1

    def close(self) -> None:
        pass


def shown(times: Sequence[float], rate_hz: float = 12.0) -> list[int]:
    return [frame.index for frame in on_ticks(Recording(times), rate_hz)]


def steady(count: int, rate_hz: float) -> list[float]:
    return [index / rate_hz for index in range(count)]


@pytest.mark.parametrize("rate_hz", [12.0, 15.0, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0, 240.0])
def test_three_seconds_are_36_frames_whatever_the_rate(rate_hz: float) -> None:
    times = steady(round(3 * rate_hz), rate_hz)
    frames = shown(times)
    assert len(frames) == 36
    wrong = [abs(times[index] - tick / 12.0) for tick, index in enumerate(frames)]
    assert max(wrong) <= 0.5 / rate_hz + 1e-6


@pytest.mark.parametrize("rate_hz", [10.0, 12.0, 25.0, 30.0, 60.0])
def test_a_steady_recording_gives_the_frames_that_the_runtime_steps(rate_hz: float) -> None:
    times = steady(40, rate_hz)
    clock = FrameClock(12.0, 1.0)
    stepped = [index for index, time in enumerate(times) for _ in range(clock.tick(time).steps)]
    assert shown(times) == stepped


def test_stamps_that_jitter_move_no_frame_further_than_to_its_neighbour() -> None:
    rng = np.random.default_rng(3)
    times = [i / 30 + rng.uniform(0, 0.016) for i in range(90)]
    times = [time - times[0] for time in times]
    frames = shown(times)
    assert len(frames) in (35, 36)
    wrong = [abs(times[index] - tick / 12.0) for tick, index in enumerate(frames)]
    assert max(wrong) <= 1 / 30


def test_a_held_frame_stays_until_the_next_one() -> None:
    """A GIF whose fourth picture stands for two seconds, a screen recording that pauses."""
    times = [0.0, 0.1, 0.2, 0.3, 2.3, 2.4, 2.5]
    frames = shown(times, 10.0)
    assert frames == [0, 1, 2, *[3] * 20, 4, 5, 6]
    assert shown([0.0, 3.0, 3.1], 10.0) == [*[0] * 30, 1, 2]


def test_frames_of_one_time_are_not_a_rate() -> None:
    assert shown([0.0, 0.0, 0.0, 0.1, 0.2], 10.0) in ([0, 3, 4], [2, 3, 4], [1, 3, 4])
    assert shown([0.0]) == [0]
    assert shown([]) == []


@given(
    steps=st.lists(st.floats(0.0, 3.0), max_size=60),
    rate_hz=st.sampled_from([1.0, 6.0, 12.0, 25.0]),
)
@settings(max_examples=200)
def test_any_times_give_every_tick_once_and_in_order(steps: list[float], rate_hz: float) -> None:
    times = [0.0, *np.cumsum(steps).tolist()]
    frames = shown(times, rate_hz)
    assert frames == sorted(frames)
    assert frames[0] in range(len(times))
    assert abs(len(frames) - (times[-1] * rate_hz + 1)) <= 0.5 * rate_hz + 1.0
    for tick, index in enumerate(frames):  # never from the future by more than half an interval
        before = times[index] - times[index - 1] if index else 0.0
        assert times[index] - 0.5 * before <= tick / rate_hz + 1e-5


def test_only_two_images_are_alive_however_long_the_recording() -> None:
    recording = Recording(steady(480, 60.0), (90, 160))
    for _ in fitted(on_ticks(recording, 12.0), Preprocessor(frame_spec(24, 32)).fit):
        pass
    assert recording.most == 2


@pytest.mark.parametrize("seconds", [2, 3, 8, 9, 10, 60])
def test_a_long_clip_gives_its_middle_and_is_not_kept(seconds: int) -> None:
    recording = Recording(steady(30 * seconds, 30.0))
    taken, length = middle_frames(recording, 12.0, lambda image: image, 36)
    ticks = [index % 251 for index in shown(recording.times)]
    assert length == len(ticks) == 12 * seconds
    start = max(0, (len(ticks) - 36) // 2)
    assert [int(image[0, 0, 0]) for image in taken] == ticks[start : start + 36]
    assert recording.opened == (1 if seconds <= 9 else 2)
    assert recording.most <= 2 + 2 * 36  # of this size the fitted frames are copies of their own


def test_the_memory_is_that_of_the_frames_that_are_kept() -> None:
    """Eight seconds at 60 of 960x540, a quarter of Full HD: 750 MB of images went through."""
    recording = Recording(steady(480, 60.0), (540, 960))
    tracemalloc.start()
    try:
        taken, _ = middle_frames(recording, 12.0, Preprocessor(frame_spec(96, 128)).fit, 36)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = 2 * sum(image.nbytes for image in taken)
    assert len(taken) == 36
    assert peak < kept + 4 * 540 * 960 * 3


def test_a_recording_without_frames_is_named() -> None:
    with pytest.raises(DataError, match="recording gives no frames"):
        middle_frames(Recording([]), 12.0, lambda image: image, 36)


def test_pictures_come_in_the_natural_order_of_their_names(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    from shiftedge.export.data.files import open_clip

    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/clip\xe9"))  # no UTF-8
    folder.mkdir()
    for number in range(1, 25):  # as `ffmpeg -i clip.mp4 frame%d.png` names them
        _, content = cv2.imencode(".png", np.full((8, 8, 3), number, np.uint8))
        (folder / f"frame{number}.png").write_bytes(content.tobytes())
    with closing(open_clip(folder)) as source:
        assert [int(f.image[0, 0, 0]) for f in on_ticks(source, 12.0)] == list(range(1, 25))
    for number in range(1, 25):  # optical flow, as extractors put it beside
        for name in (f"flow_x_{number:05d}.png", f"y_{number:05d}.png"):
            (folder / name).write_bytes(b"never read")
    with closing(open_clip(folder, rate_hz=24.0)) as source:
        assert len(list(on_ticks(source, 12.0))) == 12
    with closing(open_clip(folder, frames=5)) as source:
        assert [int(f.image[0, 0, 0]) for f in on_ticks(source, 12.0)] == [1, 2, 3, 4, 5]
