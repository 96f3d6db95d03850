"""Which labels never become an event: one answer in the model, in training and in what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")

from kit.networks import from_checkpoint, save_checkpoint

from shiftedge.__main__ import main
from shiftedge.export.models.build import build
from shiftedge.export.networks import from_name
from shiftedge.export.to_onnx import describe
from shiftedge.export.training.session import stored
from shiftedge.runtime.errors import ModelError, SpecError
from shiftedge.runtime.inspection import spec_text
from shiftedge.runtime.live.decode import GestureDecoder
from shiftedge.runtime.spec import ModelSpec

NET = {"architecture": "mobilenet_v2", "classes": 3, "width": 0.25}


def model(labels: tuple[str, ...], **more: Any) -> ModelSpec:
    return describe(build(NET), name="x", labels=labels, height=48, width=48, **more)


@pytest.mark.parametrize(
    "name", ["No gesture", "no_gesture", "Doing nothing", "None", "background"]
)
def test_ten_seconds_of_doing_nothing_are_no_event(name: str) -> None:
    decoder = GestureDecoder(model((name, "left", "right")))
    logits = np.array([6.0, 0.0, 0.0], np.float32)
    assert not any(decoder.update(logits, index / 12) for index in range(120))


def test_describe_takes_those_that_it_is_given() -> None:
    labels = ("none", "left", "right")
    assert model(labels).silent_labels == ("none",)
    assert model(labels, silent_labels=()).silent_labels == ()
    assert model(labels, silent_labels=["right"]).silent_labels == ("right",)
    with pytest.raises(SpecError, match="no label 'rihgt' to be silent; did you mean 'right'"):
        model(labels, silent_labels=["rihgt"])


def test_a_checkpoint_carries_them_whatever_they_are_called(tmp_path: Path) -> None:
    labels = ("Ruhe", "none", "right")
    spec = model(labels, silent_labels=["Ruhe"])
    path = tmp_path / "c.pt"
    save_checkpoint(path, build(NET), NET, labels=labels, spec=stored(spec), training={})
    assert from_checkpoint(path)[1].silent_labels == ("Ruhe",)
    assert from_checkpoint(path, silent=["none"])[1].silent_labels == ("Ruhe", "none")
    assert from_checkpoint(path, usual_silent=False)[1].silent_labels == ()
    assert from_checkpoint(path, labels=["a", "b", "c"])[1].silent_labels == ("a",)


def test_architectures_and_own_modules_take_them_too() -> None:
    more: dict[str, Any] = {
        "classes": 3,
        "labels": ["x", "idle", "y"],
        "size": (48, 48),
        "width": 0.25,
    }
    assert from_name("mobilenet_v2", **more)[1].silent_labels == ("idle",)
    named = from_name("mobilenet_v2", silent=["x"], usual_silent=False, **more)[1]
    assert named.silent_labels == ("x",)


def test_inspect_shows_them() -> None:
    assert "  0  none  (never an event)" in spec_text(model(("none", "left", "right")))
    assert "labels           3, each of them an event" in spec_text(model(("a", "b", "c")))


@pytest.mark.parametrize(
    ("labels", "words", "silent", "note"),
    [
        ("none\nleft\nright\n", (), ["none"], None),
        ("a\nb\nc\n", (), [], "no label is silent, so each becomes an event"),
        ("a\nb\nc\n", ("--silent", "b", "--silent", "C"), ["b", "c"], None),
        ("none\nb\nc\n", ("--no-silent",), [], "stands for no gesture ('none'?), name it"),
        ("none\nb\nc\n", ("--no-silent", "--silent", "b"), ["b"], None),
    ],
)
def test_the_command_says_and_takes_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    labels: str,
    words: tuple[str, ...],
    silent: list[str],
    note: str | None,
) -> None:
    pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
    pytest.importorskip("onnxscript", reason="the export extra (onnxscript) is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

    def stop(net: object, spec: ModelSpec, *_: object, **__: object) -> None:
        raise ModelError(json.dumps(spec.silent_labels))

    monkeypatch.setattr("shiftedge.export.to_onnx.export_model", stop)
    (tmp_path / "labels.txt").write_text(labels)
    given = ["export", "--model", "mobilenet_v2", "--width", "0.25", "--size", "48"]
    given += ["--labels", str(tmp_path / "labels.txt"), "--output", str(tmp_path / "m.onnx")]
    assert main([*given, *words]) == 1
    said = capsys.readouterr().err
    assert f"shiftedge: {json.dumps(silent)}" in said
    assert note in said if note else "no label is silent" not in said


def test_a_label_that_is_none_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="the camera extra (opencv) is not installed")
    for label in ("swipe_left", "rest"):
        for number in range(2):
            path = tmp_path / "data" / label / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    out = ["--output", str(tmp_path / "out"), "--width", "0.25", "--size", "48"]
    assert main(["train", str(tmp_path / "data"), *out, "--silent", "swipe_lft"]) == 1
    assert (
        "no label 'swipe_lft' to be silent; did you mean 'swipe_left'?" in capsys.readouterr().err
    )
    assert main(["train", str(tmp_path / "data"), *out, "--quantize", "--no-silent"]) == 1
    assert "--quantize" in capsys.readouterr().err
