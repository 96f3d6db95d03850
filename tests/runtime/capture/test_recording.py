"""Clips of a user's own: what is complained of, what is kept, and where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shiftedge.runtime.capture import TimedFrame, open_video
from shiftedge.runtime.capture.recording import (
    Recorder,
    Take,
    alike,
    checked_label,
    labels_of,
    signature,
    take,
)
from shiftedge.runtime.errors import DataError, OutputError

pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")

HEIGHT, WIDTH = 48, 64


def moving(
    *, frames: int = 30, rate_hz: float = 15.0, light: int = 90, speed: float = 1.0, row: int = 16
) -> Take:
    """A bright square that goes from left to right."""
    images = []
    for index in range(frames):
        image = np.full((HEIGHT, WIDTH, 3), light, np.uint8)
        left = int(speed * index) % (WIDTH - 16)
        image[row : row + 16, left : left + 16] = min(255, light + 90)
        images.append(image)
    times = tuple(index / rate_hz for index in range(frames))
    return Take(tuple(images), times, (frames - 1) / rate_hz)


def source(clip: Take) -> Iterator[TimedFrame]:
    for index, (image, time_s) in enumerate(zip(clip.images, clip.times_s, strict=True)):
        yield TimedFrame(image, time_s, index)


def test_as_many_seconds_as_asked_for_are_taken(tmp_path: Path) -> None:
    frames = source(moving(frames=60))
    first = take(frames, 1.0)
    assert (len(first.images), first.ended) == (16, False)
    assert first.rate_hz == pytest.approx(15.0)
    rest = take(frames, 10.0)
    assert (len(rest.images), rest.ended) == (44, True)


def test_a_good_clip_is_kept_whole_and_numbered(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", "Wave")
    clip = moving()
    assert recorder.complaints(clip) == []
    assert not recorder.folder.exists()
    first = recorder.keep(clip)
    assert first == tmp_path / "data" / "Wave" / "clip-001.avi"
    with open_video(first) as video:
        frames = list(video)
    assert len(frames) == 30
    assert frames[-1].time_s == pytest.approx(29 / 15, abs=0.02)
    error = [
        np.abs(frame.image.astype(int) - image).mean()
        for frame, image in zip(frames, clip.images, strict=True)
    ]
    assert max(error) < 4.0
    # Whoever records the label again adds to it.
    again = Recorder(tmp_path / "data", "Wave")
    assert again.keep(moving(speed=-1.0)).name == "clip-002.avi"
    assert labels_of(tmp_path / "data") == {"Wave": 2}


def test_a_number_that_was_removed_is_not_taken_again(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "Wave")
    recorder.keep(moving()).unlink()
    recorder.keep(moving(row=24))
    assert [path.name for path in (tmp_path / "Wave").iterdir()] == ["clip-001.avi"]
    (tmp_path / "Wave" / "clip-007.avi").write_bytes(b"not a video")
    assert Recorder(tmp_path, "Wave").keep(moving(row=8)).name == "clip-008.avi"


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        (Take(moving(frames=8).images, moving(frames=8).times_s, 2.0, True), "too short"),
        (Take((), (), 2.0, True), "too short"),
        (moving(light=2), "too dark"),
        (moving(light=232), "too bright"),
        (moving(speed=0.0), "Nothing moves"),
        (moving(frames=8, rate_hz=4.0, speed=4.0), r"4\.0 frames a second"),
    ],
)
def test_what_makes_a_bad_example_is_said(tmp_path: Path, clip: Take, sentence: str) -> None:
    recorder = Recorder(tmp_path, "Wave")
    (complaint,) = recorder.complaints(clip)
    assert sentence.replace("\\", "") in complaint


def test_a_pause_of_the_camera_is_said(tmp_path: Path) -> None:
    clip = moving(frames=40)
    times = tuple(time + (1.0 if index >= 20 else 0.0) for index, time in enumerate(clip.times_s))
    (complaint,) = Recorder(tmp_path, "Wave").complaints(Take(clip.images, times, 3.0))
    assert "paused for 1.1 s" in complaint
    even = list(Take(clip.images, times, 3.0).even())
    assert len(even) == 40
    assert sum((image == clip.images[19]).all() for image in even) > 5


def test_a_clip_that_was_kept_already_is_recognised(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "Wave")
    recorder.keep(moving())
    for each in (recorder, Recorder(tmp_path, "Wave")):  # also by who reads it from the disk
        (complaint,) = each.complaints(moving())
        assert "nearly the same as clip-001.avi" in complaint
        assert each.complaints(moving(speed=-1.3, row=8)) == []


def test_background_may_be_still_and_alike(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "No gesture", still=True)
    recorder.keep(moving(speed=0.0))
    assert recorder.complaints(moving(speed=0.0)) == []


def test_likeness_is_of_what_moves() -> None:
    one = signature(moving().images)
    assert alike(one, one + 1.0)
    assert not alike(one, signature(moving(speed=-1.0, row=8).images))
    assert not alike(one, signature(moving(speed=0.0).images))


@pytest.mark.parametrize("label", ["", " ", "a/b", "..", ".x", "a\nb", " a", "x" * 200, "a\\b"])
def test_a_label_that_is_no_name_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match="cannot be a label"):
        checked_label(label)
    with pytest.raises(DataError, match="cannot be a label"):
        Recorder(tmp_path, label)


def test_labels_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    Recorder(tmp_path, "Wave").keep(moving())
    with pytest.raises(DataError, match="has the label 'Wave'"):
        Recorder(tmp_path, "wave")


def test_a_folder_that_cannot_be_made_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    recorder = Recorder(tmp_path / "data" / "more", "Wave")
    with pytest.raises(OutputError, match="Cannot write into"):
        recorder.keep(moving())
    assert recorder.kept == []
