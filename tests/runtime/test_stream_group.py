"""A group of streams is those streams, bit for bit, whatever is done to each on the way."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.fake_engine import FakeEngine
from numpy.typing import NDArray

from shiftedge.runtime.engines.base import Engine
from shiftedge.runtime.errors import FrameError, ModelError, NumericsError, ShiftedgeError
from shiftedge.runtime.loading import load
from shiftedge.runtime.model import GROUP_MOST, Model, StreamGroup

Frames = list[NDArray[np.uint8]]
COUNT = 3
ACTIONS = st.lists(
    st.tuples(st.sampled_from(("step", "step", "reset", "keep", "restore")), st.integers(0, 2)),
    max_size=12,
)


@pytest.fixture(scope="module")
def model(tiny_onnx: Path) -> Model:
    pytest.importorskip("onnxruntime")
    return load(tiny_onnx, threads=1)


@given(ACTIONS, st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_group_is_its_streams(model: Model, actions: list[tuple[str, int]], seed: int) -> None:
    group, alone = model.stream_group(COUNT), [model.stream() for _ in range(COUNT)]
    random, kept = np.random.default_rng(seed), {0: (b"", b"")}
    kept.clear()
    for action, number in actions:
        one = group.streams[number]
        if action == "step":
            sizes = random.integers(20, 60, (COUNT, 2))
            frames = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
            made = group.step(frames)
            expected = [stream.step(frame) for stream, frame in zip(alone, frames, strict=True)]
            assert made.tobytes() == np.stack(expected).tobytes()
        elif action == "reset":
            one.reset()
            alone[number].reset()
        elif action == "keep":
            kept[number] = one.snapshot(), alone[number].snapshot()
        elif number in kept:
            for stream, snapshot in zip((one, alone[number]), kept[number], strict=True):
                stream.restore(snapshot)
    for mine, other in zip(group.streams, alone, strict=True):
        assert mine.snapshot() == other.snapshot()
        assert (mine.frames, mine.warm) == (other.frames, other.warm)


def test_what_a_group_is(model: Model, camera_frames: Frames) -> None:
    group = model.stream_group(2)
    assert (len(group), group.model) == (2, model)
    logits = group.step(np.stack(camera_frames[:2]))
    assert (logits.shape, logits.dtype) == ((2, 4), np.float32)
    assert [stream.frames for stream in group.streams] == [1, 1]
    group.reset()
    assert group.streams[1].snapshot() == model.stream().snapshot()
    for count in (0, -1, GROUP_MOST + 1, 1.0, True, None):
        with pytest.raises(ModelError, match="expected a whole number from 1 to 256"):
            model.stream_group(count)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="expected a Model"):
        StreamGroup("model", 2)  # type: ignore[arg-type]


def test_what_is_no_frame_moves_nothing(model: Model, camera_frames: Frames) -> None:
    group = model.stream_group(2)
    group.step(camera_frames[:2])
    before = [stream.snapshot() for stream in group.streams]
    bad: Any
    for bad, words in (
        (camera_frames[:1], "given 1 frames; expected 2"),
        (None, "given None frames; expected 2"),
        ([camera_frames[0], camera_frames[1][..., 0]], "Frame 1 of the group: "),
    ):
        with pytest.raises(FrameError, match=words):
            group.step(bad)
    assert [stream.snapshot() for stream in group.streams] == before


class _Failing(FakeEngine):
    """Whose step of a group ends as it is told, once every stream has moved on."""

    how: Any = None

    def step_group(self, sessions: Any, images: Any) -> Any:
        made = Engine.step_group(self, sessions, images)
        if isinstance(self.how, Exception):
            raise self.how
        if self.how is not None:
            made[self.how] = np.nan
        return made


def test_a_failure_moves_nothing(spec: Any, moving_frames: Frames) -> None:
    engine = _Failing(spec)
    model = Model(engine)
    group, frames = model.stream_group(3), moving_frames[:3]
    group.step(frames)
    before = [stream.snapshot() for stream in group.streams]
    engine.how = ModelError("The GPU failed.")
    with pytest.raises(ModelError, match="The GPU failed"):
        group.step(frames)
    assert [stream.snapshot() for stream in group.streams] == before
    engine.how = 1
    with pytest.raises(NumericsError, match="the states of stream 1 of the group were emptied"):
        group.step(frames)
    found = [stream.snapshot() for stream in group.streams]
    assert (found[0], found[2]) == (before[0], before[2])
    assert found[1] == model.stream().snapshot()
    assert [stream.frames for stream in group.streams] == [1, 0, 1]


def test_one_thread_at_a_time(model: Model, camera_frames: Frames) -> None:
    group, said = model.stream_group(2), []
    with group.streams[1]._alone:

        def other() -> None:
            try:
                group.step(camera_frames[:2])
            except ShiftedgeError as error:
                said.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert said == [
        "This stream is in use by another thread; open one stream per thread with model.stream()."
    ]
    assert group.streams[0].frames == 0
    group.step(camera_frames[:2])  # the locks that were taken are free again
