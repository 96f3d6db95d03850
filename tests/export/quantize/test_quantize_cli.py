"""The command, its sources, and what it refuses, one sentence each."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("cv2", reason="the camera extra (opencv) is not installed")

import cv2
from kit.quantized_files import (
    HEIGHT,
    WIDTH,
    images,
    no_convolution,
    quantized_to,
    small,
    spec,
    write,
)

from shiftedge.__main__ import main
from shiftedge.export import quantize as package
from shiftedge.export.quantize import QuantizeSettings, accuracy, pipeline
from shiftedge.export.quantize.source import CLIP_MOST, FRAMES_LEAST, read_clips
from shiftedge.runtime.errors import DataError, SourceError


def pictures(folder: Path, frames: NDArray[np.uint8]) -> Path:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "small.onnx", small, spec())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two labels of two clips, 36 frames each."""
    for number, name in enumerate(("left/1", "left/2", "right/1", "right/2")):
        pictures(tmp_path / "clips" / name, images(36, number))
    return tmp_path / "clips"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof of 80 frames instead of 3,000."""
    quick = functools.partial(package.QuantizeSettings, lengths=(40, 80))
    monkeypatch.setattr(package, "QuantizeSettings", quick)


def run(*words: object) -> int:
    return main(["quantize", *map(str, words)])


def test_a_folder_of_clips_becomes_a_report(
    model: Path, data: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "int8.onnx", tmp_path / "report.json"
    words = (model, "--calibration", data, "--output", output, "--max-accuracy-drop", 100)
    assert run(*words, "--json", "--report", report) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(report.read_text())
    assert document["calibration"] == {
        "source": str(data), "clips": 4, "frames": 144, "notes": [],
    }  # fmt: skip
    assert output.stat().st_size == document["bytes_after"]
    assert run(*words) == 0
    assert "calibrated  144 frames in 4 clips" in capsys.readouterr().out
    assert main(["inspect", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "precision        int8" in shown
    assert "uint8, " in shown


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "shiftedge quantize my.onnx --calibration my_clips" in capsys.readouterr().out


def refused(
    capsys: pytest.CaptureFixture[str], output: Path, *words: object, status: int = 1
) -> str:
    """The one sentence on stderr; nothing was written."""
    before = sorted(output.parent.iterdir()) if output.parent.is_dir() else []
    assert run(*words, "--output", output) == status
    assert (sorted(output.parent.iterdir()) if output.parent.is_dir() else []) == before
    error = capsys.readouterr().err
    assert error.startswith("shiftedge: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_a_model_that_is_quantised_already(
    model: Path, data: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    int8 = tmp_path / "int8.onnx"
    words = ("--calibration", data, "--max-accuracy-drop", 100)
    assert run(model, *words, "--output", int8) == 0
    capsys.readouterr()
    message = refused(capsys, tmp_path / "again.onnx", int8, *words)
    assert "is quantised already (it holds DequantizeLinear)" in message


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.mkdir(), "holds no clips; expected videos or folders of pictures"),
        (lambda path: None, "There is no file or folder"),
        (lambda path: pictures(path, images(20)), "gives 20 frames in 1 clips.*needs at least 64"),
        (
            lambda path: pictures(path / "a", np.repeat(images(1), 80, axis=0)),
            "All 80 frames of .* are the same picture; expected clips with movement",
        ),
        (lambda path: path.write_bytes(b""), "film"),
    ],
)
def test_clips_that_do_not_serve(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object],
    sentence: str,
) -> None:
    source = tmp_path / "film.mp4"
    make(source)
    message = refused(capsys, tmp_path / "int8.onnx", model, "--calibration", source)
    assert re.search(sentence, message)


def test_an_unreadable_clip_among_good_ones_is_left_out_with_a_note(data: Path) -> None:
    (data / "left" / "3.mp4").write_bytes(b"no video at all")
    found = read_clips(str(data), spec())
    assert len(found.clips) == 4
    (note,) = found.notes
    assert "3.mp4 was left out: " in note
    for number in range(5):
        (data / "right" / f"bad{number}.mp4").write_bytes(b"neither")
    with pytest.raises(DataError, match=r"6 of 10 clips in .* cannot be read; expected most"):
        read_clips(str(data), spec())


def test_frames_of_a_size_that_changes(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "mixed", images(80))
    cv2.imwrite(str(folder / "40.png"), np.zeros((HEIGHT * 2, WIDTH * 2, 3), np.uint8))
    with pytest.raises(DataError, match=r"changes from 32x24 pixels to 64x48 at frame 40"):
        read_clips(str(folder), spec())


def test_clips_of_different_sizes_are_fitted(data: Path) -> None:
    large = np.repeat(np.repeat(images(36, 9), 2, axis=1), 2, axis=2)
    pictures(data / "left" / "large", large)
    assert {clip.shape[1:] for clip in read_clips(str(data), spec()).clips} == {(HEIGHT, WIDTH, 3)}


def test_splits_and_lists_are_read_and_test_is_not(data: Path, tmp_path: Path) -> None:
    split = tmp_path / "split"
    shutil.copytree(data, split / "train")
    shutil.copytree(data, split / "test")
    assert len(read_clips(str(split), spec()).clips) == 4
    table = tmp_path / "mine.csv"
    table.write_text("clips/left/1,left\nclips/left/2,left\nclips/right/1,right\nclips/gone,left\n")
    found = read_clips(str(table), spec())
    assert (len(found.clips), found.frames) == (3, 108)
    assert found.notes == (f"1 clips that are listed do not exist, such as {tmp_path}/clips/gone.",)


def test_names_that_are_not_utf8_are_read(data: Path) -> None:
    shutil.move(data / "left" / "1", os.fsdecode(os.fsencode(data) + b"/left/\xe9"))
    shutil.move(data / "right", os.fsdecode(os.fsencode(data) + b"/\xe8"))
    assert len(read_clips(str(data), spec()).clips) == 4


def test_a_clip_is_read_by_its_times_and_held_where_it_is_slow(tmp_path: Path) -> None:
    """Pictures are 12 a second; a model of 24 Hz is stepped twice with each, as it runs."""
    pictures(tmp_path / "clip", images(40))
    clips = read_clips(str(tmp_path / "clip"), spec(frame_rate_hz=24.0))
    assert clips.frames == 80
    np.testing.assert_array_equal(clips.clips[0], np.repeat(images(40), 2, axis=0))
    (thirds,) = read_clips(
        str(pictures(tmp_path / "b", images(200))), spec(frame_rate_hz=4.0)
    ).clips
    np.testing.assert_array_equal(thirds, images(200)[::3])


def test_a_long_film_does_not_speak_for_all(tmp_path: Path) -> None:
    pictures(tmp_path / "clips" / "long", images(CLIP_MOST + 30))
    pictures(tmp_path / "clips" / "short", images(20, 1))
    found = read_clips(str(tmp_path / "clips"), spec())
    assert sorted(map(len, found.clips)) == [20, CLIP_MOST]
    assert read_clips(str(tmp_path / "clips" / "long"), spec(), frames=100).frames == 100


def test_films_are_read_at_the_models_rate() -> None:
    found = read_clips("synthetic:moving?fps=36&seconds=10&size=64x48", spec())
    assert found.frames == pytest.approx(120, abs=1)
    (clip,) = found.clips
    assert clip.shape[1:] == (HEIGHT, WIDTH, 3)
    assert found.film == "moving"


def test_rendered_clips() -> None:
    found = read_clips("synthetic:", spec(), frames=100)
    assert [len(clip) for clip in found.clips] == [24] * 5
    assert found.film == "gestures"


def test_too_few_frames_are_not_asked_for() -> None:
    with pytest.raises(DataError, match=f"expected at least {FRAMES_LEAST}"):
        read_clips("synthetic:", spec(), frames=10)


def test_sources_that_are_none() -> None:
    with pytest.raises(SourceError):
        read_clips("synthetic:unknown", spec())


def test_no_permission_is_said_before_the_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "missing" / "int8.onnx"
    message = refused(capsys, output, model, "--calibration", "does not exist")
    assert "Cannot write" in message
    report = ("--report", tmp_path / "missing" / "report.json")
    message = refused(capsys, tmp_path / "a.onnx", model, "--calibration", "none", *report)
    assert "report.json" in message


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "There is no model file"),
        (lambda path: path.write_bytes(b"no model"), "cannot be loaded as an ONNX model"),
        (
            lambda path: write(path, lambda net: no_convolution(net), spec(1)),
            "holds no convolution with constant weights",
        ),
    ],
)
def test_models_that_do_not_serve(
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object],
    sentence: str,
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    message = refused(capsys, tmp_path / "int8.onnx", path, "--calibration", data)
    assert sentence in message


def test_interrupted_nothing_is_left(
    model: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "rank_layers", interrupt)
    output = tmp_path / "out" / "int8.onnx"
    output.parent.mkdir()
    output.write_bytes(b"as it was")
    words = (model, "--calibration", data, "--report", output.parent / "report.json")
    assert "interrupted" in refused(capsys, output, *words, status=130)
    assert output.read_bytes() == b"as it was"


def test_models_whose_labels_the_renderer_knows_are_scored(tmp_path: Path) -> None:
    labels = ("Swiping Left", "Swiping Right", "No gesture", "Doing other things")
    known = spec(labels=labels, silent_labels=labels[2:])
    assert accuracy.rendered(known)
    assert not accuracy.rendered(spec())
    path = write(tmp_path / "known.onnx", small, known)
    settings = QuantizeSettings(lengths=(40, 80), clips=12, films=0, max_accuracy_drop=100.0)
    report = quantized_to(path, "synthetic:", tmp_path / "int8.onnx", settings)
    assert report.accuracy["what"] == "clip accuracy"
    assert report.accuracy["over"].endswith("rendered clips")
    a = report.accuracy
    clips = int(a["over"].split()[0])
    assert 1 <= clips <= 12
    assert (a["after"] - a["before"]) * clips == pytest.approx(a["won"] - a["lost"])
    assert 0 <= a["standard_error"] <= 0.5
