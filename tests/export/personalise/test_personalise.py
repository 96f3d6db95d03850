"""``shiftedge personalise``: the bundled model, taught gestures of squares, on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shiftedge.__main__ import main
from shiftedge.export.personalise import job as job_module
from shiftedge.export.personalise import memory
from shiftedge.export.personalise.features import FeatureModel
from shiftedge.export.personalise.job import PersonalJob, personalise
from shiftedge.export.score.clips import call_clip
from shiftedge.runtime.capture.film_writer import FilmWriter
from shiftedge.runtime.errors import DataError, OutputError
from shiftedge.runtime.loading import load
from shiftedge.runtime.model import Model

pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra (ONNX Runtime) is not installed")

pytestmark = pytest.mark.long
KINDS = {"Blink": 0, "Drop": 1, "Sweep": 2, "No gesture": 3}


def frames(label: str, seed: int) -> np.ndarray:
    """36 frames of a room, in which a square blinks, drops or sweeps for a second, or nothing."""
    rng = np.random.default_rng((KINDS[label], seed))
    room = np.random.default_rng(9).integers(60, 110, (12, 16, 3), np.uint8).repeat(8, 0)
    room = room.repeat(8, 1)
    begin, left, top = rng.integers(6, 14), rng.integers(20, 60), rng.integers(10, 30)
    out = np.stack([room] * 36)
    for step in range(12):
        across = 4 * step if label == "Sweep" else 0
        down = 4 * step if label == "Drop" else 0
        if label == "No gesture" or (label == "Blink" and step % 4 > 1):
            continue
        rows, columns = slice(top + down, top + down + 24), slice(left + across, left + across + 24)
        out[begin + step, rows, columns] = 230
    noise = rng.integers(-6, 7, out.shape)
    return np.clip(out + noise, 0, 255).astype(np.uint8)


def data(folder: Path, *labels: str, count: int = 5) -> Path:
    for label in labels:
        (folder / label).mkdir(parents=True)
        for number in range(count):
            with FilmWriter(folder / label / f"{number}.avi", (128, 96), 12.0) as film:
                for image in frames(label, number):
                    film.write(image)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CLIPS", 30)
    monkeypatch.setattr(job_module, "VARIANTS", 1)
    monkeypatch.setattr(job_module, "FOLDS", 2)


def called(model: Model, label: str, seed: int) -> str:
    session = model.engine.open_session()
    logits = np.stack([session.step(image) for image in frames(label, seed)])
    return model.spec.labels[call_clip(logits, model.spec)]


def test_gestures_are_learned_and_more_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    words = ["personalise", "--data", str(data(tmp_path / "a", "Blink", "Drop", "No gesture"))]
    (tmp_path / "a" / "Drop" / "9.avi").write_bytes(b"not a video")
    assert main([*words, "--output", str(first), "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["labels"] == [*load().spec.labels, "Blink", "Drop"]
    assert report["scores"]["Drop"]["clips"] == 5
    assert "9.avi" in err
    assert "'Blink' has 5 clips; 10 or more" in err
    model = load(first)
    assert model.spec.labels == tuple(report["labels"])
    right = [
        called(model, label, seed) == label for label in ("Blink", "Drop") for seed in (20, 21)
    ]
    assert sum(right) >= 3
    assert called(model, "No gesture", 30) in model.spec.silent_labels
    assert memory.memory_file(first).is_file()

    words = ["personalise", "--data", str(data(tmp_path / "b", "Sweep", "No gesture"))]
    assert main([*words, "--model", str(first), "--output", str(second)]) == 0
    out, err = capsys.readouterr()
    assert "Sweep" in out
    assert f"({memory.memory_file(first)})" in out
    again = load(second)
    assert again.spec.labels == (*model.spec.labels, "Sweep")
    assert len(again.spec.states) == len(model.spec.states)
    right = [
        called(again, label, seed) == label for label in ("Drop", "Sweep") for seed in (20, 21)
    ]
    assert sum(right) >= 3


def test_a_label_that_the_model_has_is_taught_more(tmp_path: Path) -> None:
    report = personalise(
        PersonalJob(data(tmp_path / "a", "Blink", "No gesture"), tmp_path / "1.onnx")
    )
    assert report.scores["Blink"].clips == 5
    more = personalise(
        PersonalJob(data(tmp_path / "b", "Blink"), tmp_path / "2.onnx", model=tmp_path / "1.onnx")
    )
    assert more.labels == report.labels
    assert any("no clips of nobody" in remark for remark in more.remarks)


def test_what_cannot_be_written_leaves_what_stood_there(tmp_path: Path) -> None:
    folder = data(tmp_path / "a", "Blink")
    with pytest.raises(OutputError):
        personalise(PersonalJob(folder, tmp_path / "nowhere" / "1.onnx"))
    assert not (tmp_path / "nowhere").exists()


def test_a_memory_is_of_one_model(tmp_path: Path) -> None:
    model = FeatureModel(None)
    clips = [model.features(frames("Drop", seed)).astype(np.float16) for seed in range(2)]
    path = tmp_path / "m.memory.npz"
    memory.save(path, clips, model.digest)
    back = memory.read(path, model)
    for clip, other in zip(clips, back.clips, strict=True):
        spread = np.ptp(np.concatenate(clips).astype(np.float32), axis=0)
        assert (np.abs(clip.astype(np.float32) - other) <= spread / 250 + 2e-2).all()
    memory.save(path, clips, bytes(32))
    with pytest.raises(DataError, match="features of another model"):
        memory.read(path, model)
    memory.save(path, [clip[:, :5] for clip in clips], model.digest)
    with pytest.raises(DataError, match="is damaged"):
        memory.read(path, model)
    for content in (b"", b"text", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is no memory of a model"):
            memory.read(path, model)


def test_neither_torch_nor_onnx_is_needed(tmp_path: Path) -> None:
    """On a board there is numpy, OpenCV and ONNX Runtime."""
    folder = data(tmp_path / "a", "Blink", "No gesture", count=2)
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'tvm', 'onnxscript', 'scipy'): sys.modules[name] = None\n"
        "import shiftedge.export.personalise.memory as memory\n"
        "memory.CLIPS = 10\n"
        "from shiftedge.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["personalise", "--data", str(folder), "--output", str(tmp_path / "m.onnx")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "m.onnx").spec.labels[-1] == "Blink"
