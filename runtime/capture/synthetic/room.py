"""What is behind the person: walls, windows, shelves, doors, plants, curtains, out of focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.process.extras import require

cv2 = require("cv2")

Image = NDArray[np.uint8]
Bgr = tuple[float, float, float]
FRACTION_BITS = 4
"""Fractional bits of pixel coordinates handed to OpenCV."""


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A float between low and high."""
    return float(rng.uniform(low, high))


def colour(rng: np.random.Generator, *, dull: float = 0.6) -> NDArray[np.float64]:
    """A colour of things, BGR 0..255: mostly dull, now and then strong."""
    value = uniform(rng, 25.0, 235.0)
    strength = 14.0 if rng.random() < dull else 45.0
    warm = uniform(rng, -18.0, 18.0)
    shift = rng.normal(0.0, strength, 3) + np.array([-warm, 0.0, warm])
    shade: NDArray[np.float64] = np.clip(value + shift, 5.0, 250.0)
    return shade


def soft_noise(
    rng: np.random.Generator, height: int, width: int, cells: int, octaves: int = 3
) -> NDArray[np.float32]:
    """Cloudy noise of about unit variance, shape (height, width)."""
    total = np.zeros((height, width), np.float32)
    strength = 1.0
    for octave in range(octaves):
        count = max(2, cells << octave)
        rows = max(2, count * height // max(width, 1))
        grid = rng.standard_normal((rows, count)).astype(np.float32)
        total += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        strength *= 0.55
    return total


def bgr(values: NDArray[np.float64]) -> Bgr:
    b, g, r = (min(max(v, 0.0), 255.0) for v in values.tolist())
    return b, g, r


class _Painter:
    """A canvas in shares of the image, so that rooms look alike at every size."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.height, self.width = height, width
        self.canvas = np.empty((height, width, 3), np.uint8)

    def point(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self.width * 16), round(y * self.height * 16)

    def box(self, x: float, y: float, w: float, h: float, fill: NDArray[np.float64]) -> None:
        self.polygon([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], fill)

    def polygon(self, points: list[tuple[float, float]], fill: NDArray[np.float64]) -> None:
        corners = np.array([self.point(x, y) for x, y in points], np.int32)
        cv2.fillConvexPoly(self.canvas, corners, bgr(fill), cv2.LINE_AA, 4)

    def line(
        self, a: tuple[float, float], b: tuple[float, float], fill: NDArray[np.float64]
    ) -> None:
        thickness = max(1, round(self.height * uniform(self.rng, 0.004, 0.02)))
        start, stop = self.point(*a), self.point(*b)
        cv2.line(self.canvas, start, stop, bgr(fill), thickness, cv2.LINE_AA, 4)


def _wall(paint: _Painter) -> None:
    rng = paint.rng
    top, bottom = colour(rng, dull=0.8), colour(rng, dull=0.8)
    bottom = 0.35 * bottom + 0.65 * top
    along = np.linspace(0.0, 1.0, paint.height)[:, None, None]
    ramp = top * (1.0 - along) + bottom * along
    paint.canvas[:] = np.clip(ramp, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:  # a corner of the room, or a ceiling
        x, shade = uniform(rng, 0.1, 0.9), uniform(rng, 0.75, 0.95)
        top_y = uniform(rng, -0.1, 0.3)
        paint.polygon([(x, top_y), (2.0, top_y - 0.3), (2.0, 2.0), (x, 2.0)], top * shade)
        far = top_y - 0.3
        ceiling = [(x, top_y), (2.0, far), (2.0, -1.0), (-1.0, -1.0), (-1.0, top_y - 0.2)]
        paint.polygon(ceiling, np.minimum(top * 1.15, 245.0))
    if rng.random() < 0.25:  # a floor, as far rooms have
        edge, slope = uniform(rng, 0.6, 0.95), uniform(rng, -0.08, 0.08)
        floor = [(0.0, edge), (1.0, edge + slope), (1.0, 1.1), (0.0, 1.1)]
        paint.polygon(floor, colour(rng, dull=0.8) * 0.8)


def _window(paint: _Painter) -> None:
    rng = paint.rng
    x, y = uniform(rng, -0.1, 0.8), uniform(rng, -0.2, 0.3)
    w, h = uniform(rng, 0.15, 0.4), uniform(rng, 0.3, 0.7)
    frame, sky = colour(rng), np.array([245.0, 235.0, 220.0]) * uniform(rng, 0.6, 1.02)
    paint.box(x - 0.015, y - 0.02, w + 0.03, h + 0.04, frame)
    paint.box(x, y, w, h, sky)
    paint.box(x, y + h * uniform(rng, 0.4, 0.8), w, h * 0.2, sky * 0.7)
    paint.box(x + w * 0.48, y, w * 0.04, h, frame)
    if rng.random() < 0.3:  # blinds
        for k in range(9):
            paint.box(x, y + h * k / 9.0, w, h * 0.05, frame * 0.9)


def _shelf(paint: _Painter) -> None:
    rng = paint.rng
    x, y = uniform(rng, -0.15, 0.75), uniform(rng, -0.1, 0.4)
    w, rows = uniform(rng, 0.2, 0.45), int(rng.integers(1, 5))
    wood, step = colour(rng), uniform(rng, 0.14, 0.22)
    paint.box(x - 0.01, y - 0.02, w + 0.02, rows * step + 0.03, wood * 0.5)
    for row in range(rows):
        left, base = x, y + (row + 1) * step
        while left < x + w - 0.01:
            width, height = uniform(rng, 0.008, 0.03), step * uniform(rng, 0.5, 0.9)
            paint.box(left, base - height, width, height, colour(rng, dull=0.3))
            left += width * uniform(rng, 1.0, 1.6)
        paint.box(x, base, w, 0.015, wood)


def _picture(paint: _Painter) -> None:
    rng = paint.rng
    x, y = uniform(rng, 0.0, 0.85), uniform(rng, 0.0, 0.4)
    w, h = uniform(rng, 0.06, 0.22), uniform(rng, 0.08, 0.3)
    paint.box(x, y, w, h, colour(rng))
    paint.box(x + 0.01, y + 0.015, w - 0.02, h - 0.03, colour(rng, dull=0.3))
    for _ in range(int(rng.integers(0, 4))):
        a = (x + w * uniform(rng, 0.1, 0.6), y + h * uniform(rng, 0.1, 0.6))
        paint.box(*a, w * 0.3, h * 0.3, colour(rng, dull=0.3))


def _door(paint: _Painter) -> None:
    rng = paint.rng
    x, w, y = uniform(rng, -0.1, 0.9), uniform(rng, 0.15, 0.3), uniform(rng, -0.1, 0.2)
    wood = colour(rng)
    paint.box(x - 0.02, y - 0.03, w + 0.04, 1.5, wood * 0.7)
    paint.box(x, y, w, 1.5, wood)
    for k in range(2):
        paint.box(x + w * 0.15, y + 0.08 + 0.5 * k, w * 0.7, 0.4, wood * uniform(rng, 0.85, 1.1))


def _curtain(paint: _Painter) -> None:
    rng = paint.rng
    left = int(uniform(rng, -0.1, 0.8) * paint.width)
    right = left + int(uniform(rng, 0.12, 0.4) * paint.width)
    left, right = max(left, 0), min(right, paint.width)
    if right - left < 2:
        return
    x = np.arange(left, right) / paint.width
    folds = np.sin(x * uniform(rng, 60.0, 160.0) + 3.0 * np.sin(x * uniform(rng, 5.0, 15.0)))
    cloth = colour(rng, dull=0.4) * (1.0 + uniform(rng, 0.08, 0.25) * folds[:, None])
    paint.canvas[:, left:right] = np.clip(cloth, 0, 255).astype(np.uint8)


def _plant(paint: _Painter) -> None:
    rng = paint.rng
    x, y = uniform(rng, 0.0, 1.0), uniform(rng, 0.4, 1.0)
    green = np.array([40.0, 110.0, 60.0]) * uniform(rng, 0.4, 1.5)
    for _ in range(int(rng.integers(8, 22))):
        angle, length = rng.normal(-1.57, 0.8), uniform(rng, 0.06, 0.25)
        end = (x + np.cos(angle) * length * 0.75, y + np.sin(angle) * length)
        paint.line((x + rng.normal(0, 0.015), y), end, green * uniform(rng, 0.6, 1.4))
    paint.box(x - 0.04, y, 0.08, 0.1, colour(rng))


def _clutter(paint: _Painter) -> None:
    rng = paint.rng
    for _ in range(int(rng.integers(3, 14))):
        x, y = uniform(rng, -0.1, 1.0), uniform(rng, -0.1, 1.0)
        w, h = uniform(rng, 0.02, 0.2), uniform(rng, 0.02, 0.25)
        if rng.random() < 0.6:
            paint.box(x, y, w, h, colour(rng, dull=0.5))
        else:
            paint.line((x, y), (x + w * 2, y + rng.normal(0, 0.2)), colour(rng))


_THINGS = (_window, _shelf, _picture, _picture, _door, _curtain, _plant, _clutter, _shelf)


def draw_room(rng: np.random.Generator, height: int, width: int) -> Image:
    """A room at random, uint8 (height, width, 3) BGR."""
    paint = _Painter(rng, height, width)
    _wall(paint)
    for _ in range(int(rng.integers(0, 6))):
        _THINGS[int(rng.integers(len(_THINGS)))](paint)
    # Plaster and cloth are never quite even; half of it survives the lens.
    uneven = uniform(rng, 2.0, 12.0) * soft_noise(rng, height, width, int(rng.integers(2, 6)), 2)
    uneven += uniform(rng, 0.0, 4.0) * rng.standard_normal((height, width), np.float32)
    if rng.random() < 0.25:  # wallpaper, trees behind a balcony, a blurred photograph
        uneven += uniform(rng, 4.0, 30.0) * soft_noise(rng, height, width, 4, 5)
    room: Image = np.clip(paint.canvas + uneven[..., None], 0, 255).astype(np.uint8)
    blur = uniform(rng, 0.0, 0.02) * height if rng.random() < 0.6 else 0.0
    return cv2.GaussianBlur(room, (0, 0), blur) if blur > 0.4 else room
