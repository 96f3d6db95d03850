"""What is behind the person: walls, windows, shelves, doors, plants, curtains, out of focus;
and a person as the camera sees them.

Trunk and head are painted once, as sprites with transparency, and moved per frame; arms are
polygons per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.motion import FRACTION_BITS, HAND, ArmShapes, Lens, uniform
from shiftedge.runtime.process.extras import require

cv2 = require("cv2")


Image = NDArray[np.uint8]
Bgr = tuple[float, float, float]


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
    b, g, r = (float(v) for v in np.clip(values, 0.0, 255.0))
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
    room = paint.canvas.astype(np.float32)
    if rng.random() < 0.25:  # wallpaper, trees behind a balcony, a blurred photograph
        room += (uniform(rng, 4.0, 30.0) * soft_noise(rng, height, width, 4, 5))[..., None]
        for channel in range(3):
            room[..., channel] += uniform(rng, 0.0, 10.0) * soft_noise(rng, height, width, 3, 2)
    grain = soft_noise(rng, height, width, int(rng.integers(2, 6)), 2)
    room += (uniform(rng, 2.0, 12.0) * grain)[..., None]
    # Plaster and cloth are never quite even; half of it survives the lens.
    fine = rng.standard_normal((height, width, 1)).astype(np.float32)
    room += uniform(rng, 0.0, 4.0) * fine
    blur = uniform(rng, 0.0, 0.02) * height if rng.random() < 0.6 else 0.0
    if blur > 0.4:
        room = cv2.GaussianBlur(room, (0, 0), blur)
    clipped: Image = np.clip(room, 0, 255).astype(np.uint8)
    return clipped


Floats32 = NDArray[np.float32]

# Share of the radius, shift towards the light in radii; and the brightness of each layer.
LAYERS_SMALL = np.array([[1.0, 0.0, 0.66], [0.74, 0.14, 1.0]])
LAYERS_LARGE = np.array(
    [
        [1.0, 0.0, 0.58],
        [0.9, 0.05, 0.76],
        [0.74, 0.11, 0.92],
        [0.54, 0.18, 1.02],
        [0.28, 0.26, 1.09],
    ]
)

_SKINS = np.array(
    [
        [185, 208, 240],
        [150, 180, 225],
        [115, 150, 205],
        [80, 115, 170],
        [55, 82, 130],
        [38, 55, 88],
    ],
    float,
)
"""BGR, light to dark, under daylight."""


@dataclass(frozen=True)
class Looks:
    """What a person looks like. Colours are BGR 0..255, lengths are in heads."""

    skin: NDArray[np.float64]
    hair: NDArray[np.float64]
    cloth: NDArray[np.float64]
    print_colour: NDArray[np.float64]
    pattern: str
    long_sleeves: bool
    long_hair: bool
    bald: bool
    beard: bool
    glasses: bool
    face_width: float
    shoulders: float
    neckline: float
    light: NDArray[np.float64]
    """(3,), direction to the light: x right, y down, z to the camera."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Looks:
        """Somebody at random."""
        tone = uniform(rng, 0.0, len(_SKINS) - 1.001)
        low = int(tone)
        skin = _SKINS[low] * (1 - tone + low) + _SKINS[low + 1] * (tone - low)
        hair = np.array([22.0, 26.0, 32.0]) + rng.random() ** 2 * np.array([70.0, 110.0, 150.0])
        if rng.random() < 0.12:
            hair = np.full(3, uniform(rng, 120.0, 215.0))
        light = rng.normal(0.0, 1.0, 3) + np.array([0.0, -0.8, 0.9])
        patterns = ("plain", "plain", "plain", "stripes", "columns", "checks", "print", "knit")
        return cls(
            skin=np.clip(skin * uniform(rng, 0.85, 1.08) + rng.normal(0, 5, 3), 15, 250),
            hair=hair,
            cloth=colour(rng, dull=0.5),
            print_colour=colour(rng, dull=0.3),
            pattern=patterns[int(rng.integers(len(patterns)))],
            long_sleeves=bool(rng.random() < 0.5),
            long_hair=bool(rng.random() < 0.35),
            bald=bool(rng.random() < 0.08),
            beard=bool(rng.random() < 0.22),
            glasses=bool(rng.random() < 0.3),
            face_width=uniform(rng, 0.34, 0.40),
            shoulders=uniform(rng, 0.86, 1.12),
            neckline=uniform(rng, 0.0, 0.35),
            light=light / np.linalg.norm(light),
        )


@dataclass(frozen=True)
class Sprite:
    """A painted part with transparency, and where its own origin is."""

    premultiplied: Image
    """uint8 BGR, already times its coverage."""
    uncovered: Image
    """uint8, three equal channels: 255 where the background shows."""
    origin: tuple[float, float]
    """Pixel of the sprite that ``place`` puts on the given point."""

    def place(self, image: Image, point: tuple[float, float], angle: float, stretch: float) -> None:
        """Paint over ``image``, turned by ``angle`` radians about the origin."""
        height, width = image.shape[:2]
        rows, columns = self.uncovered.shape[:2]
        c, s = np.cos(angle), np.sin(angle)
        m = np.array([[c * stretch, -s, 0.0], [s * stretch, c, 0.0]])
        m[:, 2] = np.asarray(point) - m[:, :2] @ np.asarray(self.origin)
        corners = np.array([[0, 0, 1], [columns, 0, 1], [0, rows, 1], [columns, rows, 1]]) @ m.T
        left, top = (max(0, int(v)) for v in np.floor(corners.min(0)))
        right, bottom = np.ceil(corners.max(0)).astype(int) + 1
        right, bottom = min(width, int(right)), min(height, int(bottom))
        if right <= left or bottom <= top:
            return
        m[:, 2] -= (left, top)
        size = (right - left, bottom - top)
        over = cv2.warpAffine(self.premultiplied, m, size)
        keep = cv2.warpAffine(self.uncovered, m, size, borderValue=(255, 255, 255))
        patch = image[top:bottom, left:right]
        image[top:bottom, left:right] = cv2.add(cv2.multiply(patch, keep, scale=1.0 / 255.0), over)


def _sprite(values: Floats32, cover: Floats32, origin: tuple[float, float]) -> Sprite:
    cover = np.clip(cover, 0.0, 1.0)[..., None]
    over = np.clip(values, 0.0, 255.0) * cover
    keep = np.repeat(255.0 - 255.0 * cover, 3, axis=2)
    return Sprite(over.astype(np.uint8), np.rint(keep).astype(np.uint8), origin)


def _smooth(points: list[tuple[float, float]], rounds: int = 3) -> NDArray[np.float64]:
    """Chaikin's corner cutting of a closed outline."""
    outline = np.array(points, float)
    for _ in range(rounds):
        ahead = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * ahead, 0.25 * outline + 0.75 * ahead], 1)
        outline = outline.reshape(-1, 2)
    return outline


def _mask(
    outline: NDArray[np.float64],
    rows: int,
    columns: int,
    lens_scale: float,
    at: NDArray[np.float64],
) -> Floats32:
    mask = np.zeros((rows, columns), np.uint8)
    pixels = np.rint((outline * lens_scale + at) * 16).astype(np.int32)
    cv2.fillPoly(mask, [pixels], 255.0, cv2.LINE_AA, 4)
    result: Floats32 = mask.astype(np.float32) / np.float32(255.0)
    return result


def trunk_sprite(rng: np.random.Generator, looks: Looks, lens: Lens) -> Sprite:
    """Neck, shoulders and trunk; the origin is the middle of the waist."""
    k = lens.scale
    half = 1.5
    columns, rows = int(2 * half * k), int(3.6 * k)
    at = np.array([half * k, 0.0])
    w = looks.shoulders
    side = [(0.24, 0.66), (0.5, 0.76), (w, 0.86), (w + 0.12, 1.15), (w, 1.7), (w * 0.95, 3.0)]
    side.append((w, 4.2))
    trunk = _smooth([(-u, v) for u, v in side] + side[::-1])
    cover = _mask(trunk, rows, columns, k, at)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    x, y = x / k - half, y / k
    values = np.empty((rows, columns, 3), np.float32)
    values[:] = looks.cloth
    ink = looks.print_colour.astype(np.float32)
    period = uniform(rng, 0.12, 0.5)
    share = uniform(rng, 0.15, 0.5)
    inked = np.zeros((rows, columns), bool)
    if looks.pattern in ("stripes", "checks"):
        inked |= np.mod(y, period) < share * period
    if looks.pattern in ("columns", "checks"):
        inked |= np.mod(x, period) < share * period
    if looks.pattern == "print":
        inked |= (np.abs(x) < period + 0.1) & (np.abs(y - 1.6) < 0.5 * period + 0.1)
    values[inked] = 0.65 * ink + 0.35 * values[inked]
    if looks.pattern == "knit":
        values *= 1.0 + 0.10 * rng.standard_normal((rows, columns, 1)).astype(np.float32)
    folds = soft_noise(rng, rows, columns, 4, 3) * np.float32(uniform(rng, 0.02, 0.09))
    across = x / (w + 0.1)
    shade = 1.0 - 0.28 * across**2 + np.float32(0.30 * looks.light[0]) * across + folds
    shade -= 0.22 * np.exp(-(((y - 0.68) / 0.12) ** 2)) * (np.abs(x) < 0.6)
    values *= shade[..., None]
    # Skin of the neck and of the neckline, in the shadow of the chin.
    low = 0.66 + looks.neckline
    edge = [(0.19, 0.2), (0.21, 0.6), (0.30, 0.72), (0.08, low)]
    neck = _smooth([(-0.19, 0.2), *edge, *((-u, v) for u, v in edge[:0:-1])], 2)
    skin_cover = _mask(neck, rows, columns, k, at)
    tone = 0.92 - 0.3 * np.exp(-(((y - 0.42) / 0.16) ** 2)) + np.float32(0.5 * looks.light[0]) * x
    skin = looks.skin.astype(np.float32) * tone[..., None]
    values += (skin - values) * skin_cover[..., None]
    return _sprite(values, np.maximum(cover, skin_cover), (half * k, 2.6 * k))


def head_sprite(rng: np.random.Generator, looks: Looks, lens: Lens) -> Sprite:
    """Skull, face without its features, ears and hair; the origin is the centre of the head."""
    k = lens.scale
    half = 0.78
    columns, rows = int(2 * half * k) + 1, int(2.0 * k)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    x, y = x / k - half, y / k - half
    width = looks.face_width
    jaw = width * (1.0 - 0.20 * np.clip((y - 0.05) / 0.45, 0, 1) ** 2)

    def inside(distance: Floats32, radius: float) -> Floats32:
        edge: Floats32 = np.clip((1.0 - distance) * np.float32(radius * k) + 0.5, 0.0, 1.0)
        return edge

    far = np.sqrt((x / jaw) ** 2 + (y / 0.50) ** 2)
    face = inside(far, width)
    ears = np.sqrt(((np.abs(x) - width) / 0.06) ** 2 + ((y - 0.03) / 0.11) ** 2)
    nx, ny = x / width, y / 0.5
    nz = np.sqrt(np.clip(1.0 - nx**2 - ny**2, 0.0, 1.0))
    light = looks.light
    lit = np.float32(light[0]) * nx + np.float32(light[1]) * ny + np.float32(light[2]) * nz
    skin = looks.skin.astype(np.float32) * (0.70 + 0.38 * np.clip(lit, -0.6, 1.0))[..., None]
    skin += (
        np.array([-6.0, -8.0, 8.0], np.float32)
        * np.exp(-(((np.abs(x) - 0.18) / 0.1) ** 2) - ((y - 0.15) / 0.1) ** 2)[..., None]
    )
    strands = 1.0 + 0.06 * soft_noise(rng, rows, columns, 30, 1)[..., None]
    hair = looks.hair.astype(np.float32) * strands * (0.85 + 0.3 * np.clip(lit, 0, 1))[..., None]
    values = skin
    cover = np.maximum(face, inside(ears, 0.06))
    if looks.beard:
        low = np.clip((y - 0.13 - 0.9 * np.maximum(0.0, 0.2 - np.abs(x))) * 14.0, 0.0, 1.0) * face
        low = low * np.float32(uniform(rng, 0.5, 0.9))
        values = values + (hair - values) * low[..., None]
    if not looks.bald:
        skull = inside(np.sqrt((x / (width + 0.06)) ** 2 + ((y + 0.06) / 0.53) ** 2), width)
        line = uniform(rng, -0.32, -0.2) + uniform(rng, 0.6, 2.0) * x**2
        above = np.clip((line - y) * 0.5 * k, 0.0, 1.0)
        sides = np.clip((np.abs(x) - width * 0.93) * k, 0, 1) * np.clip((0.05 - y) * k, 0, 1)
        cap = skull * np.maximum(above, sides)
        if looks.long_hair:
            low = uniform(rng, 0.6, 1.05)
            fall = inside(np.sqrt((x / (width + 0.14)) ** 2 + ((y - 0.1) / low) ** 2), width)
            # It falls beside the face and the neck, not before them.
            open_front = np.clip((0.86 * width - np.abs(x)) * k, 0, 1) * (y > 0.0)
            cap = np.maximum(cap, fall * np.maximum(1.0 - face, above) * (1.0 - open_front))
        values = values + (hair - values) * cap[..., None]
        cover = np.maximum(cover, cap)
    return _sprite(values, cover, (half * k, half * k))


class ArmPaint:
    """Colours of the arms and how a frame of :class:`ArmShapes` is painted."""

    _LEVELS = 16

    def __init__(self, rng: np.random.Generator, looks: Looks, layers: NDArray[np.float64]) -> None:
        warm = looks.skin * uniform(rng, 0.92, 1.15)
        self._skin = self._table(warm, layers)
        # Cloth has no hard edge where it turns away, as skin seen against skin seems to have.
        soft = layers.copy()
        soft[:, 2] = 1.0 - 0.5 * (1.0 - layers[:, 2])
        self._cloth = self._table(looks.cloth, soft)
        self._prop = self._table(colour(rng, dull=0.3), layers[:1] * 1.4)
        self._layers = len(layers)
        self._long = looks.long_sleeves

    def _table(self, base: NDArray[np.float64], layers: NDArray[np.float64]) -> list[list[Bgr]]:
        steps = np.linspace(0.62, 1.16, self._LEVELS)
        table = []
        for brightness in layers[:, 2]:
            rows = np.clip(base * brightness * steps[:, None], 0.0, 255.0)
            table.append([(float(b), float(g), float(r)) for b, g, r in rows])
        return table

    def draw(self, image: Image, shapes: ArmShapes, index: int, prop: str = "") -> None:
        """Paint the arm at moment ``index`` over ``image``."""
        level = (shapes.light[index] * (self._LEVELS - 1)).astype(int).tolist()
        outlines = shapes.polygons[index]
        for part in (0, 1):
            covered = self._long or part == 0
            for layer in range(self._layers):
                self._fill(image, outlines[layer, part], self._skin[layer][level[part]])
            if covered:
                for layer in range(self._layers):
                    sleeve = shapes.sleeves[index, layer, part]
                    self._fill(image, sleeve, self._cloth[layer][level[part]])
        if prop:
            corners = np.rint(shapes.cup[index] * (1 << FRACTION_BITS)).astype(np.int32)
            self._fill(image, corners, self._prop[0][level[HAND]])
        for part in shapes.order[index].tolist():
            if part == 5:
                group = range(HAND, HAND + 5)
            elif part == 4:
                group = range(HAND + 17, HAND + 19)
            else:
                group = range(HAND + 5 + 3 * part, HAND + 8 + 3 * part)
            for layer in range(self._layers):
                colours = self._skin[layer]
                if part == 5:
                    self._fill(image, shapes.palms[index, layer], colours[level[HAND]])
                for capsule in group:
                    self._fill(image, outlines[layer, capsule], colours[level[capsule]])

    @staticmethod
    def _fill(image: Image, outline: NDArray[np.int32], fill: Bgr) -> None:
        cv2.fillConvexPoly(image, outline, fill, cv2.LINE_AA, FRACTION_BITS)
