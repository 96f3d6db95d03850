"""A folder of own clips: which labels it has, what is refused, what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shiftedge.export.personalise.clips import Reading, find_labels, may_mirror, read, variants
from shiftedge.runtime.capture.film_writer import FilmWriter
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.spec import ModelSpec

pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")

SPEC = ModelSpec(
    "t", ("Swiping Left", "No gesture"), 48, 64, 48, (), 1, silent_labels=("No gesture",)
)  # fmt: skip


def film(path: Path, *, way: int = 1, frames: int = 36) -> Path:
    """A square that goes down (``way`` 1), or elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FilmWriter(path, (64, 48), 12.0) as out:
        for index in range(frames):
            image = np.full((48, 64, 3), 60, np.uint8)
            top = way * index % 32
            left = 7 * way % 48
            image[top : top + 16, left : left + 16] = 220
            out.write(image)
    return path


def data(folder: Path, *labels: str, count: int = 2) -> Path:
    for place, label in enumerate(labels):
        for number in range(count):
            film(folder / label / f"{number}.avi", way=1 + number + 3 * place)
    return folder


def test_labels_are_folders_gestures_first(tmp_path: Path) -> None:
    found = find_labels(data(tmp_path, "background", "Snap", "No gesture"), SPEC)
    assert list(found.paths) == ["Snap", "background", "No gesture"]
    assert found.gestures == ["Snap"]
    assert [path.name for path in found.paths["Snap"]] == ["0.avi", "1.avi"]


def test_a_label_of_the_model_may_get_more_clips(tmp_path: Path) -> None:
    assert find_labels(data(tmp_path, "Swiping Left"), SPEC).gestures == ["Swiping Left"]


@pytest.mark.parametrize("name", ["snap", "SNAP", "swiping left", "no gesture"])
def test_labels_that_differ_in_case_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="differ in upper and lower case alone"):
        find_labels(data(tmp_path, "Snap", name), SPEC)


def test_what_is_no_data_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*shiftedge record"):
        find_labels(tmp_path / "nowhere", SPEC)
    with pytest.raises(DataError, match="holds no labels"):
        find_labels(tmp_path, SPEC)
    film(tmp_path / "loose.avi")
    with pytest.raises(DataError, match="holds clips, and no folders of labels"):
        find_labels(tmp_path, SPEC)
    (tmp_path / "Snap").mkdir()
    with pytest.raises(DataError, match=r"Snap holds no clips; record some"):
        find_labels(tmp_path, SPEC)
    film(tmp_path / "Snap" / "1.avi")
    with pytest.raises(DataError, match="The label 'Snap' has 1 clip; expected 10, and 2 at least"):
        find_labels(tmp_path, SPEC)


def test_background_alone_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds background alone"):
        find_labels(data(tmp_path, "No gesture"), SPEC)


def test_pictures_without_a_clip_of_their_own_are_refused(tmp_path: Path) -> None:
    import cv2

    (tmp_path / "Snap").mkdir()
    cv2.imwrite(str(tmp_path / "Snap" / "1.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="holds pictures, so it is one clip"):
        find_labels(tmp_path, SPEC)


def test_clips_that_cannot_be_read_are_listed_and_left_out(tmp_path: Path) -> None:
    data(tmp_path, "Snap", count=3)
    (tmp_path / "Snap" / "1.avi").write_bytes(b"not a video")
    film(tmp_path / "Snap" / "9.avi", frames=2)
    found, counted = Reading(), []
    clips = list(read(find_labels(tmp_path, SPEC), SPEC, found, counted.append))
    assert [path.name for _, path, _ in clips] == ["0.avi", "2.avi"]
    assert clips[0][2].shape == (36, 48, 64, 3)
    assert len(counted) == 4
    assert ["1.avi" in found.unusable[0], "9.avi" in found.unusable[1]] == [True, True]


def test_the_same_clip_twice_is_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        film(tmp_path / "Snap" / f"{name}.avi")
    found = Reading()
    assert len(list(read(find_labels(tmp_path, SPEC), SPEC, found))) == 2
    assert "b.avi is nearly the same as" in found.remarks[0]


def test_one_clip_under_two_labels_is_refused(tmp_path: Path) -> None:
    for label in ("Snap", "Wave"):
        film(tmp_path / label / "a.avi")
        film(tmp_path / label / "b.avi", way=len(label) + ord(label[0]) % 3)
    with pytest.raises(DataError, match="nearly the same clip and have different labels"):
        list(read(find_labels(tmp_path, SPEC), SPEC, Reading()))


def test_variants_are_the_clip_as_it_might_have_been() -> None:
    images = np.random.default_rng(1).integers(0, 256, (24, 48, 64, 3), np.uint8)
    turned, *others = variants(images, 4, np.random.default_rng(2), mirror=True)
    np.testing.assert_array_equal(turned, images[:, :, ::-1])
    for each in others:
        assert each.shape[1:] == images.shape[1:]
        assert 24 / 1.34 <= len(each) <= 24 * 1.34
    straight = next(variants(images, 1, np.random.default_rng(2), mirror=False))
    assert straight.shape[1:] == images.shape[1:]
    assert not np.array_equal(straight[:24], images[:, :, ::-1][: len(straight)])


@pytest.mark.parametrize(
    ("label", "may"),
    [("Snap", True), ("Swiping Left", False), ("tilt_right", False), ("Circle clockwise", False)],
)
def test_what_a_mirror_changes(label: str, may: bool) -> None:
    assert may_mirror(label) is may
