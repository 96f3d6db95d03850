"""Loading, streams, snapshots and what happens when a step goes wrong."""

from __future__ import annotations

import shutil
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.fake_engine import FakeEngine, FakeSession
from numpy.typing import NDArray

from shiftedge.runtime import model as model_module
from shiftedge.runtime.errors import (
    FrameError,
    ModelError,
    NumericsError,
    ShiftedgeError,
    SnapshotError,
)
from shiftedge.runtime.loading import load
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec, StateSpec

Frames = list[NDArray[np.uint8]]


def feed(stream: model_module.Stream, frames: Frames) -> list[bytes]:
    return [stream.step(frame).tobytes() for frame in frames]


# Loading.


def test_load_and_stream(tiny_onnx: Path, camera_frames: Frames) -> None:
    pytest.importorskip("onnxruntime")
    model = load(tiny_onnx, threads=1)
    assert (model.spec.name, model.engine.name, model.spec.classes) == ("tiny", "onnxruntime", 4)
    assert repr(model) == "Model('tiny', engine='onnxruntime', classes=4, frame=24x32, states=2)"
    logits = model.stream().step(camera_frames[0])
    assert logits.dtype == np.float32
    assert logits.shape == (4,)
    assert feed(load(str(tiny_onnx), engine="onnxruntime", threads=1).stream(), camera_frames) == (
        feed(model.stream(), camera_frames)
    )


def test_load_without_a_path_takes_the_bundled_model(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(ModelError, match=r"no bundled model \(gestures\.onnx\); name a model"):
        load()
    shutil.copy(tiny_onnx, tmp_path / "gestures.onnx")
    assert load().spec.name == "tiny"


def test_load_refuses_in_a_sentence(tmp_path: Path, tiny_onnx: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "weights.pth").write_bytes(b"")
    bundle = tmp_path / "bundle"
    cases = [
        ({"path": tmp_path / "absent.onnx"}, "no model file"),
        ({"path": tmp_path / "absent", "engine": "native"}, "no bundle folder"),
        ({"path": bundle}, r"holds no manifest.json, so it is no compiled bundle"),
        ({"path": bundle, "engine": "native"}, r"holds no manifest\.json"),
        ({"path": bundle, "engine": "onnxruntime"}, r"runs an \.onnx file, and .* is a folder"),
        ({"path": bundle, "providers": ["cpu"]}, "providers belong to ONNX Runtime"),
        ({"path": bundle / "manifest.json"}, "is a file of a bundle; name the bundle's folder"),
        ({"path": bundle / "libmodel.so", "engine": "native"}, "name the bundle's folder"),
        ({"path": tiny_onnx, "engine": "native"}, "make a bundle with `shiftedge compile`"),
        ({"engine": "native"}, r"the bundled model, gestures\.onnx, is not compiled"),
        ({"path": tiny_onnx, "engine": "tvm"}, "no engine 'tvm'; known are native, onnxruntime"),
        ({"path": tiny_onnx, "engine": ""}, "no engine ''"),
        ({"path": tmp_path / "weights.pth"}, "looks like a checkpoint.*shiftedge export"),
        ({"path": tiny_onnx, "threads": 0}, "threads is 0"),
        ({"path": tiny_onnx, "providers": ["npu"]}, "provider npu"),
    ]
    for arguments, message in cases:
        with pytest.raises(ModelError, match=message):
            load(**arguments)  # type: ignore[arg-type]


# Stepping.


def test_frames_of_any_size_are_fitted(fake_model: Model, camera_frames: Frames) -> None:
    fitted = [fake_model.preprocessor.fit(frame) for frame in camera_frames]
    assert feed(fake_model.stream(), camera_frames) == feed(fake_model.stream(), fitted)


def test_the_same_frames_give_the_same_bytes(fake_model: Model, moving_frames: Frames) -> None:
    assert feed(fake_model.stream(), moving_frames) == feed(fake_model.stream(), moving_frames)


def test_memory_reaches_the_receptive_field_and_no_further(
    fake_model: Model, moving_frames: Frames
) -> None:
    memory = fake_model.spec.receptive_field
    long, short, shorter = (fake_model.stream() for _ in range(3))
    feed(long, moving_frames[:-1])
    feed(short, moving_frames[-memory:-1])
    feed(shorter, moving_frames[-memory + 1 : -1])
    last = moving_frames[-1:]
    assert feed(long, last) == feed(short, last)
    assert feed(long, last) != feed(shorter, last)


def test_frames_and_warm_up_are_counted(fake_model: Model, moving_frames: Frames) -> None:
    stream = fake_model.stream()
    counts = [(stream.frames, stream.warm)]
    for frame in moving_frames[:4]:
        stream.step(frame)
        counts.append((stream.frames, stream.warm))
    assert counts == [(0, 3), (1, 2), (2, 1), (3, 0), (4, 0)]
    stream.reset()
    assert (stream.frames, stream.warm) == (0, 3)
    assert stream.model is fake_model


def test_reset_equals_a_new_stream(fake_model: Model, moving_frames: Frames) -> None:
    stream = fake_model.stream()
    feed(stream, moving_frames[:5])
    stream.reset()
    assert feed(stream, moving_frames) == feed(fake_model.stream(), moving_frames)


def test_streams_of_one_model_do_not_touch_each_other(
    fake_model: Model, moving_frames: Frames
) -> None:
    a, b = fake_model.stream(), fake_model.stream()
    mixed = []
    for frame, other in zip(moving_frames, reversed(moving_frames), strict=True):
        mixed.append(a.step(frame).tobytes())
        b.step(other)
    assert mixed == feed(fake_model.stream(), moving_frames)


@pytest.mark.parametrize("bad", [None, np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8)])
def test_a_bad_frame_changes_nothing(
    fake_model: Model, moving_frames: Frames, bad: NDArray[np.uint8]
) -> None:
    stream = fake_model.stream()
    feed(stream, moving_frames[:2])
    before = stream.snapshot()
    with pytest.raises(FrameError):
        stream.step(bad)
    assert stream.snapshot() == before
    stream.step(moving_frames[3])  # and the stream is free again


class Poisoned(FakeEngine):
    """Gives a logit that is not finite for a black frame, and keeps it in its states."""

    value = np.float32(np.nan)

    def open_session(self) -> FakeSession:
        return PoisonedSession(self)


class PoisonedSession(FakeSession):
    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = super().step(image)
        if not image.any():
            self._states[0][:] = Poisoned.value
            logits[1] = Poisoned.value
        return logits


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_do_not_poison_later_frames(
    spec: ModelSpec, moving_frames: Frames, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Poisoned, "value", np.float32(value))
    stream = Model(Poisoned(spec)).stream()
    feed(stream, moving_frames[:2])
    with pytest.raises(NumericsError, match=r"not finite; its states were emptied"):
        stream.step(np.zeros((24, 32, 3), np.uint8))
    assert stream.frames == 0
    assert feed(stream, moving_frames) == feed(Model(FakeEngine(spec)).stream(), moving_frames)


def test_a_second_thread_is_refused_and_the_states_stay_whole(
    spec: ModelSpec, moving_frames: Frames
) -> None:
    inside, leave = threading.Event(), threading.Event()

    class SlowSession(FakeSession):
        def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
            inside.set()
            assert leave.wait(20)
            return super().step(image)

    class Slow(FakeEngine):
        def open_session(self) -> FakeSession:
            return SlowSession(self)

    stream = Model(Slow(spec)).stream()
    saved = stream.snapshot()
    first = threading.Thread(target=stream.step, args=(moving_frames[0],))
    first.start()
    assert inside.wait(20)
    for call in (
        lambda: stream.step(moving_frames[1]),
        stream.reset,
        stream.snapshot,
        lambda: stream.restore(saved),
    ):
        with pytest.raises(ShiftedgeError, match="in use by another thread; open one stream per"):
            call()
    leave.set()
    first.join()
    expected = Model(FakeEngine(spec)).stream()
    feed(expected, moving_frames[:1])
    assert feed(stream, moving_frames[2:]) == feed(expected, moving_frames[2:])


# Snapshots.


@pytest.mark.parametrize("kind", ["fake", "onnxruntime"])
@pytest.mark.parametrize("fed", [0, 1, 4])
def test_a_snapshot_continues_exactly(
    kind: str, fed: int, tiny_onnx: Path, fake_model: Model, moving_frames: Frames
) -> None:
    if kind == "onnxruntime":
        pytest.importorskip("onnxruntime")
    models = [fake_model] * 2 if kind == "fake" else [load(tiny_onnx, threads=1) for _ in range(2)]
    stream = models[0].stream()
    feed(stream, moving_frames[:fed])
    saved = stream.snapshot()
    assert len(saved) == model_module.SNAPSHOT_HEADER.size + 4 * models[0].spec.state_size
    other = models[1].stream()
    feed(other, moving_frames[6:])
    for form in (saved, bytearray(saved), memoryview(saved)):
        other.restore(form)  # type: ignore[arg-type]
        assert (other.frames, other.warm) == (stream.frames, stream.warm)
    expected = feed(stream, moving_frames[fed:])
    assert feed(other, moving_frames[fed:]) == expected
    stream.restore(saved)  # a snapshot is a copy: stepping on did not change it
    assert feed(stream, moving_frames[fed:]) == expected


def test_a_model_without_states(spec: ModelSpec, moving_frames: Frames) -> None:
    bare = ModelSpec("bare", spec.labels, 24, 32, 28, (), 1)
    stream = Model(FakeEngine(bare)).stream()
    saved = stream.snapshot()
    before = feed(stream, moving_frames)
    stream.restore(saved)
    assert feed(stream, moving_frames) == before


def test_snapshots_of_others_are_refused(
    spec: ModelSpec, fake_model: Model, tiny_onnx: Path, moving_frames: Frames
) -> None:
    stream = fake_model.stream()
    feed(stream, moving_frames[:2])
    before = stream.snapshot()

    reweighted = FakeEngine(spec)
    reweighted.digest = bytes(32)
    renamed = FakeEngine(spec)
    renamed.name = "other"
    states = (StateSpec("s", (1, 2, 24, 32)),)
    wider = ModelSpec("tiny", spec.labels, 24, 32, 28, states, 3)
    cases = [
        (Model(FakeEngine(wider)), "of another model"),
        (Model(reweighted), "of another model"),
        (Model(renamed), "another engine.*this one is fake"),
    ]
    for other, message in cases:
        with pytest.raises(SnapshotError, match=message):
            stream.restore(other.stream().snapshot())
    assert stream.snapshot() == before


def test_damaged_snapshots_are_refused(fake_model: Model, moving_frames: Frames) -> None:
    stream = fake_model.stream()
    feed(stream, moving_frames[:2])
    saved = stream.snapshot()
    size = model_module.SNAPSHOT_HEADER.size
    version_2 = saved[:4] + struct.pack("<H", 2) + saved[6:]
    cases: list[tuple[object, str]] = [
        (b"", "0 bytes are not a snapshot"),
        (b"garbage" * 100, "not a snapshot"),
        (saved[: size - 1], "not a snapshot"),
        (saved[:size], "cut short: 0 bytes of states, expected 2304"),
        (saved[:-1], "cut short"),
        (saved + b"\0", "damaged or cut short"),
        (saved[:-1] + bytes([saved[-1] ^ 1]), "damaged"),
        (version_2, "version 2, and this shiftedge reads 1"),
        (None, "is a NoneType; expected bytes"),
        ("text", "is a str"),
    ]
    for damaged, message in cases:
        with pytest.raises(SnapshotError, match=message):
            stream.restore(damaged)  # type: ignore[arg-type]
        assert stream.snapshot() == saved


@settings(max_examples=60)
@given(place=st.integers(0, 400), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(place: int, bit: int) -> None:
    spec = ModelSpec("m", ("a", "b"), 8, 8, 8, (StateSpec("s", (1, 88)),), 2)
    stream = Model(FakeEngine(spec)).stream()
    stream.step(np.full((8, 8, 3), 7, np.uint8))
    saved = bytearray(stream.snapshot())
    saved[place % len(saved)] ^= 1 << bit
    with pytest.raises(SnapshotError):
        stream.restore(bytes(saved))


def test_a_block_that_the_session_would_not_take(fake_model: Model) -> None:
    """Same model, same layout, yet another length: an engine whose layout has changed."""
    stream = fake_model.stream()
    stream._session.save = lambda: bytes(8)  # type: ignore[method-assign]
    short = stream.snapshot()
    with pytest.raises(SnapshotError, match="8 bytes of states; expected 2304"):
        fake_model.stream().restore(short)
