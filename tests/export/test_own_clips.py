"""Training on a user's own clips: read as they are, split, left out where unusable, named."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")
pytest.importorskip("cv2", reason="the camera extra (opencv) is not installed")

import cv2
from kit.clips import frame_spec, no_bar
from kit.networks import from_checkpoint, train

from shiftedge.export.checkpoint import load_checkpoint
from shiftedge.export.data import Clip, find_data
from shiftedge.export.data.clip_set import IGNORED, load_clips, split_clips
from shiftedge.export.training import CHECKPOINT, SCORES, Shape
from shiftedge.runtime.errors import DataError, OutputError

SHAPE = Shape(multiplier=0.25, height=32, width=32, rate_hz=6.0, dropout=0.0)


def write_clip(folder: Path, frames: int = 12, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(frames):
        image = rng.integers(0, 256, (36, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index:03d}.png"), image)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for label in ("No gesture", "Swiping Left"):
        for number in range(4):
            write_clip(tmp_path / "data" / label / str(number), seed=number)
    return tmp_path / "data"


def test_a_folder_of_clips_is_read(data: Path) -> None:
    names = ("No gesture", "Swiping Left")
    found = find_data(data).learn
    assert [clip.label for clip in found] == ["No gesture"] * 4 + ["Swiping Left"] * 4
    spec = frame_spec(32, 32, 6.0, names, silent_labels=("No gesture",))
    read = load_clips(found, spec, frames=10, unusable=[], remarks=[])
    assert read.frames.shape == (8, 10, 32, 32, 3)
    assert (read.frame_labels[:4] == 0).all()
    assert (read.frame_labels[4:] == IGNORED).all()
    # Twelve images at 12 Hz are six frames at 6 Hz; the last one is held.
    np.testing.assert_array_equal(read.frames[0, 5], read.frames[0, 9])
    assert not np.array_equal(read.frames[0, 4], read.frames[0, 5])


def test_videos_are_read_at_the_rate_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "Thumb Up" / "1.avi"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for index in range(30):
        writer.write(np.full((48, 64, 3), 8 * index, np.uint8))
    writer.release()
    clips = [Clip("Thumb Up", path)]
    spec = frame_spec(24, 32, 12.0, ("Thumb Up",))
    read = load_clips(clips, spec, frames=12, unusable=[], remarks=[])
    brightness = read.frames[0].mean(axis=(1, 2, 3)) / 8.0
    np.testing.assert_allclose(brightness, np.ceil(np.arange(12) * 2.5 - 0.5), atol=0.8)


def test_every_label_is_on_both_sides_of_the_split_and_no_clip_is(data: Path) -> None:
    train_clips, check = split_clips(find_data(data).learn)
    assert not set(train_clips) & set(check)
    assert set(train_clips) | set(check) == set(find_data(data).learn)
    assert {c.label for c in train_clips} == {c.label for c in check}
    assert split_clips(find_data(data).learn[::-1]) == (train_clips, check)


def broken_video(data: Path) -> None:
    (data / "Swiping Left" / "bad.mp4").write_bytes(b"not a video")


def broken_image(data: Path) -> None:
    (data / "Swiping Left" / "0" / "000.png").write_bytes(b"not an image")


def empty_clip(data: Path) -> None:
    (data / "Swiping Left" / "nothing").mkdir()


def short_clip(data: Path) -> None:
    write_clip(data / "Swiping Left" / "short", frames=2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken_video, "bad.mp4 is not a video"),
        (broken_image, "000.png is not a picture"),
        (empty_clip, "nothing holds no pictures"),
        (short_clip, "gives 1 frames at 6 a second; .* longer clip"),
    ],
)
def test_an_unusable_clip_is_left_out_and_named(
    data: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(data)
    said: list[str] = []
    scores = train(
        str(data), tmp_path / "out", epochs=1, threads=1, shape=SHAPE, bar=no_bar, say=said.append
    )
    (words,) = [text for text in said if "cannot be used" in text]
    assert re.search(rf"1 of \d clips cannot be used: .*{message}.* It is left out", words)
    # Whichever side it was on, both labels are still on both.
    assert set(scores["clip"]["recall"]) == {"No gesture", "Swiping Left"}


def test_a_rate_that_is_assumed_names_the_option_of_train(tmp_path: Path) -> None:
    still = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    (tmp_path / "a.mjpeg").write_bytes(40 * still)
    lengths, remarks = [], []
    for rate_hz in (None, 10.0):
        said: list[str] = []
        loaded = load_clips(
            [Clip("left", tmp_path / "a.mjpeg")],
            frame_spec(32, 32, 5.0, ("left",)),
            frames=4,
            unusable=[],
            remarks=said,
            clip_rate_hz=rate_hz,
        )
        lengths.append(int(loaded.lengths[0]))
        remarks.append(said)
    assert lengths == [8, 20]
    assert remarks[1] == []
    assert remarks[0][0].endswith("25 frames a second are assumed; --fps gives another rate.")


def test_many_unusable_clips_are_counted_and_end_the_training(data: Path, tmp_path: Path) -> None:
    for number in range(9):
        (data / "Swiping Left" / f"bad{number}.mp4").write_bytes(b"not a video")
    with pytest.raises(DataError) as caught:
        train(str(data), tmp_path / "out", epochs=1, threads=1, shape=SHAPE, bar=no_bar)
    assert str(caught.value).startswith("9 of 17 clips cannot be used: ")
    assert str(caught.value).count("bad") == 5
    assert "And 4 more. Replace or remove them." in str(caught.value)
    assert not (tmp_path / "out" / CHECKPOINT).exists()


def test_a_label_without_a_usable_clip_is_named(data: Path, tmp_path: Path) -> None:
    for number in range(1, 4):
        (data / "Swiping Left" / str(number) / "005.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"3 of 8 clips cannot be used: .*'Swiping Left' has 1 clip"
    ):
        train(str(data), tmp_path / "out", epochs=1, threads=1, shape=SHAPE, bar=no_bar)


def test_a_label_needs_two_clips(tmp_path: Path) -> None:
    write_clip(tmp_path / "Swiping Left" / "0")
    write_clip(tmp_path / "No gesture" / "0")
    with pytest.raises(DataError, match=r"'No gesture' has 1 clip .* at least two, one to learn"):
        split_clips(find_data(tmp_path).learn)


def test_train_on_a_folder_then_go_on_from_its_checkpoint(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scores = train(str(data), out, epochs=1, threads=1, shape=SHAPE, bar=no_bar, command="me")
    assert scores == json.loads((out / SCORES).read_text())
    assert scores["clip"]["labels"] == ["No gesture", "Swiping Left"]
    assert str(tmp_path) not in json.dumps(scores)
    _, spec = from_checkpoint(out / CHECKPOINT)
    assert spec.labels == ("No gesture", "Swiping Left")
    assert (spec.height, spec.width, spec.resize_short_side) == (32, 32, 32)
    assert spec.frame_rate_hz == 6.0
    assert spec.silent_labels == ("No gesture",)
    again = train(
        str(data), out, epochs=1, threads=1, shape=SHAPE, bar=no_bar, start=out / CHECKPOINT
    )
    assert again["clip"]["clips"] == 2
    wide = Shape(multiplier=1.0, height=32, width=32)
    with pytest.raises(DataError, match="same architecture"):
        train(str(data), out, epochs=1, threads=1, shape=wide, bar=no_bar, start=out / CHECKPOINT)


def test_ctrl_c_keeps_the_last_whole_epoch(data: Path, tmp_path: Path) -> None:
    @contextlib.contextmanager
    def impatient(description: str, total: int | None, unit: str) -> Iterator[Any]:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if description == "training" and done > 6:  # six clips are an epoch
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        train(str(data), tmp_path, epochs=3, threads=1, shape=SHAPE, bar=impatient)
    assert load_checkpoint(tmp_path / CHECKPOINT).training["epochs"] == 1
    assert not (tmp_path / SCORES).exists()


def test_wrong_wishes_are_refused_before_any_work(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 1"):
        train(str(data), tmp_path, epochs=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        train(str(data), tmp_path / "file", epochs=1)


def test_a_list_and_a_label_that_is_silent_by_the_users_word(data: Path, tmp_path: Path) -> None:
    (data / "No gesture").rename(data / "Ruhe")
    rows = [f"{label}/{clip},{label}\n" for label in ("Ruhe", "Swiping Left") for clip in range(4)]
    (data / "train.csv").write_text("path,label\n" + "".join(rows[:3] + rows[4:7]))
    (data / "val.csv").write_text("path,label\n" + rows[3] + rows[7])
    said: list[str] = []
    scores = train(
        str(data / "train.csv"),
        tmp_path / "out",
        epochs=1,
        threads=1,
        shape=SHAPE,
        bar=no_bar,
        say=said.append,
        silent=["ruhe"],
        mirror=False,
    )
    assert (scores["clips"], scores["clip"]["clips"]) == (6, 2)
    assert scores["settings"]["steady"] == ["Ruhe"]
    assert scores["settings"]["mirror"] is False
    assert from_checkpoint(tmp_path / "out" / CHECKPOINT)[1].silent_labels == ("Ruhe",)
    assert "6 clips of 2 labels to learn from, 2 to check with" in said
    assert said[0].startswith("8 clips are folders of pictures, taken for 12 a second; --fps")
    assert any(text.startswith("epoch 1 of 1: loss ") for text in said)
    more: dict[str, Any] = {"epochs": 1, "threads": 1, "shape": SHAPE, "bar": no_bar}
    again = {**more, "start": tmp_path / "out" / CHECKPOINT}
    for arguments, silent in (
        (again, ["Ruhe"]),
        ({**again, "usual_silent": False}, []),
        (more, []),
    ):
        scores = train(str(data / "train.csv"), tmp_path / "again", **arguments)
        assert scores["settings"]["steady"] == silent


def test_a_set_may_be_larger_than_the_memory_and_have_400_labels(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(f"class {index}" for index in range(400))
    wanted = [
        Clip(names[index * 50], clip.path) for index, clip in enumerate(find_data(data).learn)
    ]
    spec = frame_spec(16, 16, 12.0, names, silent_labels=names)
    more: dict[str, Any] = {"frames": 8, "unusable": [], "remarks": []}
    plain = load_clips(wanted, spec, **more)
    monkeypatch.setattr("shiftedge.export.data.clip_set._IN_MEMORY_BYTES", 0)
    mapped = load_clips(wanted, spec, folder=tmp_path / "cache", **more)
    assert isinstance(mapped.frames, np.memmap)
    assert not list((tmp_path / "cache").iterdir())
    np.testing.assert_array_equal(plain.frames, mapped.frames)
    np.testing.assert_array_equal(mapped.frame_labels[:, 0], np.arange(8) * 50)
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    with pytest.raises(
        DataError, match=r"8 clips of 8 frames of 16x16 take .* GB left; give --cache"
    ):
        load_clips(wanted, spec, **more)
