"""Scenes that change as a whole, and all that only moves, flickers or fades."""

from __future__ import annotations

import functools
import timeit

import numpy as np
import pytest
from numpy.typing import NDArray

from shiftedge.runtime.live.cuts import CutDetector

Image = NDArray[np.uint8]
SCENES = range(24)


def enlarge(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Bilinear, of (rows, columns, channels)."""
    for axis, size in ((0, height), (1, width)):
        place = np.linspace(0, values.shape[axis] - 1, size)
        low = np.minimum(place.astype(int), values.shape[axis] - 2)
        part = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        values = values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part
    return values


@functools.cache
def scene(seed: int, height: int = 224, width: int = 224) -> Image:
    """Random blobs of every size, as in a room: more contrast in the larger ones."""
    generator = np.random.default_rng(seed)
    image = np.full((height, width, 3), generator.uniform(80, 170))
    for cells in (3, 6, 14, 40):
        blobs = generator.normal(0.0, 40 / cells**0.4, (cells, cells, 3))
        image += enlarge(blobs, height, width)
    return np.clip(image, 0, 255).astype(np.uint8)


def hand(image: Image, top: int, left: int, side: int) -> Image:
    """A skin-coloured square with soft shading."""
    image = image.copy()
    shade = enlarge(np.random.default_rng(side).normal(0, 25, (6, 6, 1)), side, side)
    place = image[top : top + side, left : left + side]
    place[:] = np.clip(shade + np.array([110, 140, 200]), 0, 255)[
        : place.shape[0], : place.shape[1]
    ]
    return image


def cuts(*images: Image) -> list[bool]:
    detector = CutDetector()
    return [detector.update(image) for image in images]


def noisy(image: Image, gain: float = 1.0, offset: float = 0.0, noise: float = 0.0) -> Image:
    generator = np.random.default_rng(7)
    values = image.astype(np.float64) * gain + offset + generator.normal(0, noise, image.shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def test_another_scene_is_a_cut() -> None:
    found = [cuts(scene(i), scene(i + 100)) == [False, True] for i in SCENES]
    assert sum(found) >= len(found) - 1


def test_after_a_cut_the_new_scene_is_the_reference() -> None:
    a, b = scene(1), scene(2)
    assert cuts(a, b, b, b, a, a) == [False, True, False, False, True, False]


@pytest.mark.parametrize("size", [(224, 224), (112, 80), (112, 112), (96, 96), (225, 223)])
def test_other_sizes(size: tuple[int, int]) -> None:
    assert cuts(scene(1, *size), scene(2, *size)) == [False, True]
    assert cuts(scene(1, *size), noisy(scene(1, *size), 0.8, 5, 5)) == [False, False]


def test_a_hand_that_crosses_the_picture_is_not_a_cut() -> None:
    for i in SCENES:
        room = scene(i)
        crossing = [hand(room, 30, left, 150) for left in range(0, 200, 40)]
        assert not any(cuts(room, *crossing, room))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_hand_that_appears_close_by_is_not_a_cut(share: float) -> None:
    side = int(224 * share**0.5)
    for i in SCENES:
        for place in (0, (224 - side) // 2, 224 - side):
            assert not any(cuts(scene(i), hand(scene(i), place, place, side), scene(i)))


@pytest.mark.parametrize(
    ("gain", "offset", "noise"),
    [(0.3, 0, 0), (1.8, 0, 0), (1, 60, 0), (1, -60, 0), (1, 0, 30), (0.3, 0, 15), (0.5, 90, 5)],
)
def test_exposure_and_noise_are_not_a_cut(gain: float, offset: float, noise: float) -> None:
    for i in SCENES:
        before, after = noisy(scene(i), noise=noise), noisy(scene(i), gain, offset, noise)
        assert not any(cuts(before, after, before))


def test_a_slow_pan_is_not_a_cut() -> None:
    wide = scene(3, 224, 400)
    assert not any(cuts(*(wide[:, left : left + 224] for left in range(0, 160, 8))))


def test_blank_pictures_are_passed_over() -> None:
    black, grey = np.zeros((224, 224, 3), np.uint8), noisy(np.full((224, 224, 3), 90, np.uint8))
    a, b = scene(1), scene(2)
    assert cuts(a, black, a) == [False, False, False]  # a covered lens
    assert cuts(a, black, grey, b) == [False, False, False, True]  # black between two shots
    assert cuts(black, black, a) == [False, False, False]
    assert cuts(black, noisy(black, noise=20), black) == [False, False, False]


def test_reset_forgets_the_scene() -> None:
    detector = CutDetector()
    detector.update(scene(1))
    detector.reset()
    assert not detector.update(scene(2))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (5, 7), (29, 27)])
def test_tiny_pictures_are_taken(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*size, 3), np.uint8) for _ in range(3)]
    assert len(cuts(*images)) == 3


def test_another_size_is_not_a_cut() -> None:
    assert cuts(scene(1), scene(2, 112, 112)) == [False, False]


def test_the_frame_is_left_alone() -> None:
    image = scene(1).copy()
    kept = image.copy()
    image.setflags(write=False)
    cuts(image, image)
    assert (image == kept).all()


def test_a_frame_costs_little() -> None:
    images, detector = [scene(1), noisy(scene(1), noise=5)], CutDetector()
    best_s = min(timeit.repeat(lambda: [detector.update(x) for x in images], number=20, repeat=20))
    assert best_s / 40 < 200e-6  # 20 us on a quiet machine
