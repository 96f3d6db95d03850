"""What is not what an argument wants is a sentence, not a TypeError from the depths."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shiftedge
from shiftedge.runtime.bundle import check_signature
from shiftedge.runtime.capture import open_source
from shiftedge.runtime.errors import FrameError, ModelError, ShiftedgeError, SourceError, SpecError
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import DecoderSettings, ModelSpec, StateSpec


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": 5},
        {"path": b"tiny.onnx"},
        {"path": ["tiny.onnx"]},
        {"path": "null\0byte.onnx"},
        {"path": "x" * 100_000},
        {"engine": 1},
        {"engine": ["native"]},
        {"engine": "x" * 100_000},
        {"threads": "2"},
        {"threads": 2.5},
        {"threads": True},
        {"threads": 0},
        {"providers": 5},
        {"providers": "npu"},
        {"providers": [None]},
        {"precision": 1},
        {"precision": ["fp32"]},
        {"precision": "fp64"},
        {"precision": ""},
        {"path": ""},
        {"trusted_keys": "key.pub"},
    ],
)
def test_load(arguments: dict[str, Any], tiny_onnx: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    with pytest.raises(ModelError) as caught:
        shiftedge.load(**{"path": tiny_onnx, **arguments})
    said = str(caught.value)
    assert len(said) <= 1500
    assert said.endswith(".")
    (value,) = arguments.values()
    wanted = (
        "expected",
        "known are",
        "check",
        "not in this onnxruntime",
        "is asked for",
        "leave the keys out",
    )
    assert any(words in said for words in wanted), (value, said)


@pytest.mark.parametrize("keys", ["key.pub", Path("key.pub"), ["key.pub"], ("key.pub",)])
def test_one_key_is_a_list_of_one(keys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("cryptography", reason="the sign extra is not installed")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"The key key\.pub cannot be read"):
        check_signature(b"", bytes(64), keys)


@pytest.mark.parametrize("keys", [5, [5], {"key": "key.pub"}, b"key.pub"])
def test_what_is_no_key(keys: Any) -> None:
    pytest.importorskip("cryptography", reason="the sign extra is not installed")
    with pytest.raises(ModelError, match=r"trusted_keys is .*; expected the path of a public key"):
        check_signature(b"", bytes(64), keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "abcd"},
        {"labels": {"a": 1}},
        {"labels": (1, 2)},
        {"labels": ("x" * 100_000,) * 6},
        {"silent_labels": "No gesture"},
        {"states": "abcd"},
        {"states": ({"name": "a", "shape": [1]},)},
        {"states": (StateSpec("a", 5),)},  # type: ignore[arg-type]
        {"mean": 0.5},
        {"mean": np.zeros(3)},
        {"std": "123"},
        {"decoder": {"enter": 0.5}},
        {"decoder": None},
        {"height": "24"},
        {"height": 24.0},
        {"name": 5},
        {"name": ""},
        {"precision": 1},
        {"frame_rate_hz": "12"},
    ],
)
def test_spec(spec: ModelSpec, changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="expected") as caught:
        dataclasses.replace(spec, **changes)
    assert len(str(caught.value)) < 600


def test_lists_are_as_good_as_tuples(spec: ModelSpec) -> None:
    lists = dataclasses.replace(
        spec,
        labels=list(spec.labels),  # type: ignore[arg-type]
        silent_labels=list(spec.silent_labels),  # type: ignore[arg-type]
        states=list(spec.states),  # type: ignore[arg-type]
        mean=list(spec.mean),  # type: ignore[arg-type]
    )
    assert lists == spec
    assert hash(lists) == hash(spec)


@pytest.mark.parametrize("image", [np.float32, np.uint16, bool, "gray", "rgba", None, "list"])
def test_frames(fake_model: Model, image: Any) -> None:
    shapes = {"gray": (24, 32), "rgba": (24, 32, 4)}
    frame: Any = None
    if image == "list":
        frame = [[[0, 0, 0]]]
    elif image is not None:
        kind = np.uint8 if image in shapes else image
        frame = np.zeros(shapes.get(image, (24, 32, 3)), kind)
    with pytest.raises(FrameError, match="expected uint8 of shape"):
        fake_model.stream().step(frame)
    with pytest.raises(FrameError, match="expected uint8 of shape"):
        shiftedge.LiveStream(fake_model).feed(frame, 0.0)


@pytest.mark.parametrize("snapshot", ["text", None, 5, b"", b"x" * 100])
def test_snapshots(fake_model: Model, snapshot: Any) -> None:
    with pytest.raises(ShiftedgeError, match="snapshot"):
        fake_model.stream().restore(snapshot)


def test_decoder(fake_model: Model, spec: ModelSpec) -> None:
    for given in (fake_model, "tiny", None):
        with pytest.raises(SpecError, match=r"expected a ModelSpec, such as model\.spec"):
            shiftedge.GestureDecoder(given)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="expected a DecoderSettings"):
        shiftedge.GestureDecoder(spec, {"enter": 0.5})  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="expected a probability"):
        shiftedge.GestureDecoder(spec, DecoderSettings(enter="0.5"))  # type: ignore[arg-type]


def test_a_model_is_no_path(spec: ModelSpec) -> None:
    for kind in (shiftedge.Stream, shiftedge.LiveStream):
        for given in ("tiny.onnx", None, 5, spec):
            with pytest.raises(ModelError, match=r"expected a Model, such as shiftedge\.load"):
                kind(given)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="expected an engine"):
        Model("tiny.onnx")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="expected a Model"):
        LiveSession("tiny.onnx", "synthetic:still?seconds=1")  # type: ignore[arg-type]


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_models_and_streams_stay_in_their_process(fake_model: Model, take: Any) -> None:
    with pytest.raises(TypeError, match=r"call shiftedge\.load\(\) in each process"):
        take(fake_model)
    with pytest.raises(TypeError, match=r"what snapshot\(\) gave"):
        take(fake_model.stream())


def test_what_a_live_stream_calls(fake_model: Model) -> None:
    for decoder in ("x", shiftedge.GestureDecoder, print):
        with pytest.raises(TypeError, match=r"The decoder is .*; expected an object with update"):
            shiftedge.LiveStream(fake_model, decoder)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_note is 'x'; expected a function"):
        shiftedge.LiveStream(fake_model, on_note="x")  # type: ignore[arg-type]


def test_times_of_a_decoder(spec: ModelSpec) -> None:
    logits = np.zeros(spec.classes, np.float32)
    for time_s in ("1", None, 10**400, float("nan"), np.timedelta64(1, "s"), 1j):
        with pytest.raises(FrameError, match="expected a finite number of seconds"):
            shiftedge.GestureDecoder(spec).update(logits, time_s)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [None, -1, 2.5, True, b"0", ["0"]])
def test_sources(fake_model: Model, source: Any) -> None:
    with pytest.raises(SourceError, match=r"The source is .*; expected"):
        LiveSession(fake_model, source)
    with pytest.raises(SourceError, match=r"The source is .*; expected"):
        open_source(source)


@pytest.mark.parametrize("retry", ["forever", 5, -1.0, True])
def test_retries(fake_model: Model, retry: Any) -> None:
    with pytest.raises(SourceError, match=r"retry is .*; expected a Retry"):
        LiveSession(fake_model, "0", retry=retry)


@pytest.mark.parametrize("source", [Path("absent.mp4"), 99, np.int64(99)])
def test_a_path_and_a_camera_s_number_are_sources(fake_model: Model, source: Any) -> None:
    pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")
    with pytest.raises(SourceError, match=str(source)):
        LiveSession(fake_model, source)
