"""Frames with times in, results out: the parts in their right order."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from kit.fake_engine import FakeEngine, FakeSession
from numpy.typing import NDArray

from shiftedge.runtime.errors import FrameError, ModelError, NumericsError
from shiftedge.runtime.live.stream import LiveStream
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

Frames = list[NDArray[np.uint8]]


class Recorder:
    """A decoder that writes down what it gets, and reports every third update."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def update(self, logits: NDArray[np.float32], time_s: float) -> Any:
        self.calls.append((logits.tobytes(), time_s))
        return "event" if len(self.calls) % 3 == 0 else None

    def reset(self) -> None:
        self.calls.append("reset")


def live(model: Model, **options: Any) -> tuple[LiveStream, Recorder]:
    recorder = Recorder()
    return LiveStream(model, recorder, **options), recorder


def test_at_the_models_rate_each_frame_is_one_step(
    fake_model: Model, camera_frames: Frames
) -> None:
    stream, recorder = live(fake_model, detect_cuts=False)
    plain = fake_model.stream()
    results = [stream.feed(frame, i / 12) for i, frame in enumerate(camera_frames)]
    expected = [plain.step(frame).tobytes() for frame in camera_frames]
    assert [r.logits.tobytes() for r in results if r.logits is not None] == expected
    assert recorder.calls == [(logits, i / 12) for i, logits in enumerate(expected)]
    assert [r.event for r in results[:6]] == [None, None, "event", None, None, "event"]
    assert all(r.steps == 1 and r.reset is None for r in results)
    assert stream.stream.frames == len(camera_frames)


def test_a_fast_camera_is_thinned_out(fake_model: Model, camera_frames: Frames) -> None:
    stream, recorder = live(fake_model, detect_cuts=False)
    results = [stream.feed(frame, i / 24) for i, frame in enumerate(camera_frames)]
    assert [r.steps for r in results] == [1, 0] * 6
    skipped = results[1]
    assert (skipped.logits, skipped.event, skipped.step_s, skipped.fit_s) == (None, None, 0.0, 0.0)
    assert len(recorder.calls) == 6


def test_a_slow_camera_is_repeated(fake_model: Model, camera_frames: Frames) -> None:
    stream, recorder = live(fake_model, detect_cuts=False)
    plain = fake_model.stream()
    steps = []
    for i, frame in enumerate(camera_frames):
        result = stream.feed(frame, i / 4)
        steps.append(result.steps)
        for _ in range(result.steps):
            logits = plain.step(frame)
        assert result.logits is not None
        assert (result.logits == logits).all()
    assert set(steps[2:]) == {3}
    assert len(recorder.calls) == len(camera_frames)  # the decoder sees each frame's last logits


@pytest.mark.parametrize(("jump_s", "reason"), [(1.5, "gap"), (-3.0, "clock")])
def test_gaps_and_clocks_start_anew(
    fake_model: Model, camera_frames: Frames, jump_s: float, reason: str
) -> None:
    stream, recorder = live(fake_model)
    for i, frame in enumerate(camera_frames[:5]):
        stream.feed(frame, i / 12)
    result = stream.feed(camera_frames[5], 4 / 12 + jump_s)
    assert (result.reset, result.steps) == (reason, 1)
    assert stream.stream.frames == 1
    fresh = fake_model.stream().step(camera_frames[5])
    assert recorder.calls[-2:] == ["reset", (fresh.tobytes(), 4 / 12 + jump_s)]


def scene(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.kron(coarse, np.ones((14, 14, 1), np.uint8))


@pytest.fixture
def large_model() -> Model:
    return Model(FakeEngine(ModelSpec("m", ("a", "b"), 112, 112, 112, (), 1)))


def test_a_cut_starts_anew(large_model: Model) -> None:
    stream, recorder = live(large_model)
    images = [scene(1), scene(1), scene(2), scene(2)]
    results = [stream.feed(image, i / 12) for i, image in enumerate(images)]
    assert [r.reset for r in results] == [None, None, "cut", None]
    assert [r.steps for r in results] == [1, 1, 1, 1]
    assert recorder.calls.count("reset") == 1
    assert stream.stream.frames == 2

    trusting, recorder = live(large_model, detect_cuts=False)
    assert not any(trusting.feed(image, i / 12).reset for i, image in enumerate(images))
    assert "reset" not in recorder.calls


def test_after_a_cut_a_slow_camera_is_not_repeated(large_model: Model) -> None:
    stream, _ = live(large_model)
    images = [scene(1)] * 4 + [scene(2)] * 2
    results = [stream.feed(image, i / 4) for i, image in enumerate(images)]
    assert [(r.steps, r.reset) for r in results[3:]] == [(3, None), (1, "cut"), (3, None)]


def test_a_gap_is_reported_once_and_hides_a_cut(large_model: Model) -> None:
    stream, _ = live(large_model)
    stream.feed(scene(1), 0.0)
    assert stream.feed(scene(2), 60.0).reset == "gap"
    assert stream.feed(scene(2), 60.1).reset is None


def test_reset_starts_anew(fake_model: Model, camera_frames: Frames) -> None:
    stream, recorder = live(fake_model)
    first = [stream.feed(frame, 5 + i / 12).logits for i, frame in enumerate(camera_frames)]
    stream.reset()
    assert recorder.calls[-1] == "reset"
    results = [stream.feed(frame, i / 12) for i, frame in enumerate(camera_frames)]
    assert results[0].reset is None  # an older time is no surprise after a reset
    np.testing.assert_array_equal(first, [r.logits for r in results])


@pytest.mark.parametrize(
    ("image", "time_s"),
    [(None, 0.25), (np.zeros((4, 4)), 0.25), ("good", math.nan), ("good", None), ("good", "x")],
)
def test_bad_input_changes_nothing(
    fake_model: Model, camera_frames: Frames, image: Any, time_s: Any
) -> None:
    stream, recorder = live(fake_model)
    untouched, other = live(fake_model)
    for i in range(3):
        stream.feed(camera_frames[i], i / 12)
        untouched.feed(camera_frames[i], i / 12)
    with pytest.raises(FrameError):
        stream.feed(camera_frames[3] if isinstance(image, str) else image, time_s)
    for i in range(3, 6):
        a, b = (s.feed(camera_frames[i], i / 12) for s in (stream, untouched))
        assert a.steps == b.steps
        np.testing.assert_array_equal(a.logits, b.logits)
    assert recorder.calls == other.calls


@pytest.mark.parametrize("error", [NumericsError, ModelError])
def test_a_failing_step_starts_everything_anew(
    spec: ModelSpec, camera_frames: Frames, error: type[Exception]
) -> None:
    class FailingSession(FakeSession):
        count = 0

        def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.count += 1
            if self.count != 4:
                return super().step(image)
            if error is ModelError:
                raise ModelError("no memory")
            return np.full(4, np.nan, np.float32)

    class Failing(FakeEngine):
        def open_session(self) -> FakeSession:
            return FailingSession(self)

    stream, recorder = live(Model(Failing(spec)))
    for i in range(3):
        stream.feed(camera_frames[i], i / 12)
    with pytest.raises(error):
        stream.feed(camera_frames[3], 3 / 12)
    assert recorder.calls[-1] == "reset"
    assert stream.stream.frames == 0
    result = stream.feed(camera_frames[4], 4 / 12)
    fresh = Model(FakeEngine(spec)).stream().step(camera_frames[4])
    np.testing.assert_array_equal(result.logits, fresh)
    assert (result.steps, result.reset) == (1, None)


def test_times_are_measured(
    fake_model: Model, camera_frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 10.25, 11.0])
    stream, _ = live(fake_model)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    result = stream.feed(camera_frames[0], 0.0)
    assert (result.fit_s, result.step_s) == (0.25, 0.75)


def test_results_cannot_be_changed(fake_model: Model, camera_frames: Frames) -> None:
    stream, _ = live(fake_model)
    result = stream.feed(camera_frames[0], 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.steps = 3  # type: ignore[misc]


def test_the_models_own_decoder_is_the_default(spec: ModelSpec, camera_frames: Frames) -> None:
    """From the first frames on: a class that is clear at once is reported within the warm-up."""

    class SureSession(FakeSession):
        def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.array([0, 0, 12, 0], np.float32)

    class Sure(FakeEngine):
        def open_session(self) -> FakeSession:
            return SureSession(self)

    stream = LiveStream(Model(Sure(spec)))
    events = [stream.feed(frame, i / 12).event for i, frame in enumerate(camera_frames)]
    assert [event.label for event in events if event is not None] == ["Swiping Right"]
