"""A person as the camera sees them: looks, and how trunk, head and arms are painted.

Trunk and head are painted once, as sprites with transparency, and moved per frame; arms are
polygons per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.arm import HAND, PALM, PALM_EDGES, THUMB, ArmShapes, fixed
from shiftedge.runtime.capture.synthetic.hand import Floats
from shiftedge.runtime.capture.synthetic.lens import Lens
from shiftedge.runtime.capture.synthetic.ranges import Dice
from shiftedge.runtime.capture.synthetic.room import FRACTION_BITS, Bgr, Image, colour, soft_noise
from shiftedge.runtime.process.extras import require

cv2 = require("cv2")

Floats32 = NDArray[np.float32]

# Share of the radius, shift towards the light in radii; and the brightness of each layer.
LAYERS_FAR = np.array([[1.0, 0.0, 0.92]])
LAYERS_SMALL = np.array([[1.0, 0.0, 0.66], [0.74, 0.14, 1.0]])
LAYERS_LARGE = np.array([
    [1.0, 0.0, 0.58], [0.90, 0.05, 0.76], [0.74, 0.11, 0.92], [0.54, 0.18, 1.02], [0.28, 0.26, 1.09]
])  # fmt: skip

_SKINS = np.array([
    [185, 208, 240], [150, 180, 225], [115, 150, 205], [80, 115, 170], [55, 82, 130], [38, 55, 88]
], float)  # fmt: skip
"""BGR, light to dark, under daylight."""
_PATTERNS = ("plain", "plain", "plain", "stripes", "columns", "checks", "print", "knit")


@dataclass(frozen=True)
class Looks:
    """What a person looks like. Colours are BGR 0..255, lengths are in heads."""

    skin: Floats
    hair: Floats
    cloth: Floats
    trousers: Floats
    print_colour: Floats
    pattern: str
    long_sleeves: bool
    long_hair: bool
    bald: bool
    beard: bool
    glasses: bool
    face_width: float
    shoulders: float
    neckline: float
    light: Floats
    """(3,), direction to the light: x right, y down, z to the camera."""

    @classmethod
    def draw(cls, dice: Dice) -> Looks:
        """Somebody at random."""
        rng = dice.rng
        tone = dice.even(0.0, len(_SKINS) - 1.001)
        low = int(tone)
        skin = _SKINS[low] * (1 - tone + low) + _SKINS[low + 1] * (tone - low)
        hair = np.array([22.0, 26.0, 32.0]) + rng.random() ** 2 * np.array([70.0, 110.0, 150.0])
        if dice.chance(0.12):
            hair = np.full(3, dice.even(120.0, 215.0))
        light = dice.near3(1.0) + np.array([0.0, -0.8, 0.9])
        return cls(
            skin=np.clip(skin * dice.even(0.85, 1.08) + dice.near3(5), 15, 250),
            hair=hair,
            cloth=colour(rng, dull=0.5),
            trousers=0.6 * colour(rng, dull=0.8),
            print_colour=colour(rng, dull=0.3),
            pattern=_PATTERNS[dice.count(0, len(_PATTERNS))],
            long_sleeves=dice.chance(0.5),
            long_hair=dice.chance(0.35),
            bald=dice.chance(0.08),
            beard=dice.chance(0.22),
            glasses=dice.chance(0.3),
            face_width=dice.even(0.34, 0.40),
            shoulders=dice.even(0.86, 1.12),
            neckline=dice.even(0.0, 0.35),
            light=light / np.linalg.norm(light),
        )


@dataclass(frozen=True)
class Sprite:
    """A painted part with transparency, and where its own origin is."""

    pixels: Image
    """uint8 (rows, columns, 4): BGR already times its coverage, and the coverage."""
    origin: tuple[float, float]
    """Pixel of the sprite that ``place`` puts on the given point."""

    def place(self, image: Image, point: tuple[float, float], angle: float, stretch: float) -> None:
        """Paint over ``image``, turned by ``angle`` radians about the origin."""
        c, s = np.cos(angle), np.sin(angle)
        m = np.array([[c * stretch, -s, 0.0], [s * stretch, c, 0.0]])
        m[:, 2] = np.asarray(point) - m[:, :2] @ np.asarray(self.origin)
        paste(image, self.pixels, m)


def paste(image: Image, pixels: Image, matrix: Floats, light: float = 1.0) -> None:
    """Paint premultiplied BGRA over ``image``, moved by a matrix (2, 3) that is changed here."""
    height, width = image.shape[:2]
    rows, columns = pixels.shape[:2]
    corners = np.array([[0, 0, 1], [columns, 0, 1], [0, rows, 1], [columns, rows, 1]]) @ matrix.T
    left, top = (max(0, int(v)) for v in np.floor(corners.min(0)))
    right, bottom = (int(v) + 1 for v in np.ceil(corners.max(0)))
    right, bottom = min(width, right), min(height, bottom)
    if right <= left or bottom <= top:
        return
    matrix[:, 2] -= (left, top)
    over = cv2.warpAffine(pixels, matrix, (right - left, bottom - top))
    keep = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(over, 3)), cv2.COLOR_GRAY2BGR)
    over = cv2.cvtColor(over, cv2.COLOR_BGRA2BGR)
    if light != 1.0:
        over = cv2.multiply(over, (light, light, light, 0.0))
    patch = image[top:bottom, left:right]
    image[top:bottom, left:right] = cv2.add(cv2.multiply(patch, keep, scale=1.0 / 255.0), over)


def premultiplied(values: Floats32, cover: Floats32) -> Image:
    """Pixels of a sprite from colours (rows, columns, 3) and coverage (rows, columns), 0..1."""
    cover = np.clip(cover, 0.0, 1.0)[..., None]
    pixels = np.empty((*cover.shape[:2], 4), np.uint8)
    pixels[..., :3] = np.clip(values, 0.0, 255.0) * cover
    pixels[..., 3:] = np.rint(255.0 * cover)
    return pixels


def _smooth(points: Sequence[tuple[float, float]], rounds: int = 3) -> Floats:
    """Chaikin's corner cutting of a closed outline."""
    outline = np.array(points, float)
    for _ in range(rounds):
        ahead = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * ahead, 0.25 * outline + 0.75 * ahead], 1)
        outline = outline.reshape(-1, 2)
    return outline


def _mask(outline: Floats, rows: int, columns: int, scale: float, at: Floats) -> Floats32:
    mask = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(mask, [fixed(outline * scale + at)], 255.0, cv2.LINE_AA, FRACTION_BITS)
    cover: Floats32 = mask * np.float32(1.0 / 255.0)
    return cover


_LEGS = {
    # From the waist down, one side, x and y in heads: standing, and knees of who sits.
    True: ((0.95, 3.3), (0.82, 5.0), (0.72, 6.9), (0.22, 6.95), (0.2, 5.0), (0.08, 3.75)),
    False: ((0.95, 3.1), (1.05, 3.6), (0.85, 4.1), (0.75, 5.6), (0.3, 5.65), (0.15, 3.9)),
}


def trunk_sprite(dice: Dice, looks: Looks, lens: Lens, rise: float, *, standing: bool) -> Sprite:
    """Neck, shoulders, trunk and legs, as much as is seen of who rises by ``rise`` heads.

    The origin is the middle of the waist.
    """
    k = lens.scale
    half = 1.5
    seen = (lens.size[0] - lens.head[1]) / k + rise
    length = float(np.clip(seen, 3.0, 7.0))
    columns, rows = int(2 * half * k), int(length * k)
    at = np.array([half * k, 0.0])
    w = looks.shoulders
    waist = 0.85 if standing else 0.95
    side = [(0.24, 0.66), (0.5, 0.76), (w, 0.86), (w + 0.12, 1.15), (w, 1.7)]
    side += [(w * waist, 3.0), (w * waist, 3.6 if length > 3.7 else 4.2)]
    trunk = _smooth([(-u, v) for u, v in side] + side[::-1])
    cover = _mask(trunk, rows, columns, k, at)
    x = (np.arange(columns, dtype=np.float32) / np.float32(k) - np.float32(half))[None]
    y = (np.arange(rows, dtype=np.float32) / np.float32(k))[:, None]
    values = np.empty((rows, columns, 3), np.float32)
    values[:] = looks.cloth
    ink = looks.print_colour.astype(np.float32)
    period, share = dice.even(0.12, 0.5), dice.even(0.15, 0.5)
    if looks.pattern in ("stripes", "checks"):
        rows_inked = (np.mod(y, period) < share * period)[:, 0]
        values[rows_inked] = 0.65 * ink + 0.35 * values[rows_inked]
    if looks.pattern in ("columns", "checks"):
        columns_inked = (np.mod(x, period) < share * period)[0]
        values[:, columns_inked] = 0.65 * ink + 0.35 * values[:, columns_inked]
    if looks.pattern == "print":
        inked = (np.abs(x) < period + 0.1) & (np.abs(y - 1.6) < 0.5 * period + 0.1)
        values[inked] = 0.65 * ink + 0.35 * values[inked]
    if length > 3.5:
        legs = np.zeros_like(cover)
        for sign in (-1.0, 1.0):
            outline = _smooth([(sign * 0.95 * w * u, v) for u, v in _LEGS[standing]], 2)
            legs = np.maximum(legs, _mask(outline, rows, columns, k, at))
        legs *= np.float32(0.3) + np.float32(0.7) * np.clip((y - 3.3) * 4.0, 0.0, 1.0)
        values += (looks.trousers.astype(np.float32) - values) * legs[..., None]
        cover = np.maximum(cover, legs > 0.2)
    folds = soft_noise(dice.rng, rows, columns, 4, 2) * np.float32(dice.even(0.02, 0.09))
    if looks.pattern == "knit":
        folds += 0.10 * dice.rng.standard_normal((rows, columns), np.float32)
    across = x / np.float32(w + 0.1)
    shade = 1.0 - 0.28 * across**2 + np.float32(0.30 * looks.light[0]) * across + folds
    shade -= 0.22 * np.exp(-(((y - 0.68) / 0.12) ** 2)) * (np.abs(x) < 0.6)
    values *= shade[..., None]
    # Skin of the neck and of the neckline, in the shadow of the chin.
    low = 0.66 + looks.neckline
    edge = [(0.19, 0.2), (0.21, 0.6), (0.30, 0.72), (0.08, low)]
    neck = _smooth([(-0.19, 0.2), *edge, *((-u, v) for u, v in edge[:0:-1])], 2)
    top = slice(0, int(1.2 * k))
    skin_cover = _mask(neck, rows, columns, k, at)[top]
    tone = 0.92 - 0.3 * np.exp(-(((y[top] - 0.42) / 0.16) ** 2)) + (0.5 * looks.light[0]) * x
    skin = looks.skin * tone[..., None]
    values[top] += ((skin - values[top]) * skin_cover[..., None]).astype(np.float32)
    cover[top] = np.maximum(cover[top], skin_cover)
    return Sprite(premultiplied(values, cover), (half * k, 2.6 * k))


class Head:
    """Skull, hair and face; the face's features move with the turn of the head.

    Sprites are kept by the face's state in coarse steps, so few are painted.
    """

    def __init__(self, dice: Dice, looks: Looks, lens: Lens) -> None:
        self._looks = looks
        self._k = lens.scale
        self._half = 0.78
        self._plain = self._painted(dice)
        self._kept: dict[tuple[int, ...], Sprite] = {}

    def _painted(self, dice: Dice) -> Image:
        looks, k, half = self._looks, np.float32(self._k), self._half
        columns, rows = int(2 * half * k) + 1, int(2.0 * k)
        x = (np.arange(columns, dtype=np.float32) / k - np.float32(half))[None]
        y = (np.arange(rows, dtype=np.float32) / k - np.float32(half))[:, None]
        width = np.float32(looks.face_width)
        jaw = width * (1.0 - 0.20 * np.clip((y - 0.05) / 0.45, 0, 1) ** 2)

        def inside(u: Floats32, v: Floats32, radius: float) -> Floats32:
            distance = np.sqrt(u * u + v * v)
            edge: Floats32 = np.clip((1.0 - distance) * np.float32(radius * k) + 0.5, 0.0, 1.0)
            return edge

        face = inside(x / jaw, y / 0.50, float(width))
        ears = inside((np.abs(x) - width) / 0.06, (y - 0.03) / 0.11, 0.06)
        nx, ny = x / width, y / 0.5
        nz = np.sqrt(np.clip(1.0 - nx**2 - ny**2, 0.0, 1.0))
        light = looks.light.astype(np.float32)
        lit = light[0] * nx + light[1] * ny + light[2] * nz
        values = looks.skin.astype(np.float32) * (0.70 + 0.38 * np.clip(lit, -0.6, 1.0))[..., None]
        blush = np.exp(-(((np.abs(x) - 0.18) / 0.1) ** 2)) * np.exp(-(((y - 0.15) / 0.1) ** 2))
        values += np.array([-6.0, -8.0, 8.0], np.float32) * blush[..., None]
        strands = 1.0 + 0.06 * soft_noise(dice.rng, rows, columns, 30, 1)[..., None]
        glow = (0.85 + 0.3 * np.clip(lit, 0, 1))[..., None]
        hair = looks.hair.astype(np.float32) * strands * glow
        cover = np.maximum(face, ears)
        if looks.beard:
            low = np.clip((y - 0.13 - 0.9 * np.maximum(0.0, 0.2 - np.abs(x))) * 14.0, 0.0, 1.0)
            low = low * face * np.float32(dice.even(0.5, 0.9))
            values += (hair - values) * low[..., None]
        if not looks.bald:
            skull = inside(x / (width + 0.06), (y + 0.06) / 0.53, float(width))
            line = dice.even(-0.32, -0.2) + dice.even(0.6, 2.0) * x**2
            above = np.clip((line - y) * 0.5 * k, 0.0, 1.0)
            sides = np.clip((np.abs(x) - width * 0.93) * k, 0, 1) * np.clip((0.05 - y) * k, 0, 1)
            cap = skull * np.maximum(above, sides)
            if looks.long_hair:
                low = dice.even(0.6, 1.05)
                fall = inside(x / (width + 0.14), (y - 0.1) / np.float32(low), float(width))
                # It falls beside the face and the neck, not before them.
                open_front = np.clip((0.86 * width - np.abs(x)) * k, 0, 1) * (y > 0.0)
                cap = np.maximum(cap, fall * np.maximum(1.0 - face, above) * (1.0 - open_front))
            values += (hair - values) * cap[..., None]
            cover = np.maximum(cover, cap)
        return premultiplied(values, cover)

    @staticmethod
    def face(yaw: float, nod: float, blink: bool, mouth: float) -> tuple[int, ...]:
        """A face's state in steps: yaw and nod -1..1; the mouth open so many heads."""
        return round(4 * min(max(yaw, -1.0), 1.0)), round(3 * nod), int(blink), round(mouth / 0.024)

    def sprite(self, face: tuple[int, ...]) -> Sprite:
        """The head with its face in that state."""
        if face not in self._kept:
            pixels = self._plain.copy()
            self._face(pixels, face[0] / 4, face[1] / 3, bool(face[2]), 0.012 + face[3] * 0.024)
            self._kept[face] = Sprite(pixels, (self._half * self._k, self._half * self._k))
        return self._kept[face]

    def _face(self, pixels: Image, yaw: float, nod: float, blink: bool, mouth: float) -> None:
        """Eyes, brows, nose and mouth."""
        looks, k, half = self._looks, self._k, self._half
        ox, oy = half + 0.10 * yaw, half + 0.07 * nod

        def at(u: float, v: float) -> tuple[int, int]:
            return round((u + ox) * k * 16), round((v + oy) * k * 16)

        def tone(fill: Floats) -> tuple[float, ...]:
            return float(fill[0]), float(fill[1]), float(fill[2]), 255.0

        def oval(u: float, v: float, a: float, b: float, fill: Floats, width: int = -1) -> None:
            axes = (max(4, round(a * k * 16)), max(4, round(b * k * 16)))
            cv2.ellipse(pixels, at(u, v), axes, 0.0, 0, 360, tone(fill), width, cv2.LINE_AA, 4)

        dark = np.minimum(looks.hair * 0.8, looks.skin * 0.5)
        line = max(1, round(0.028 * k))
        for u in (-0.155, 0.155):
            ends = at(u - 0.075, -0.10), at(u + 0.075, -0.105)
            cv2.line(pixels, *ends, tone(dark), line, cv2.LINE_AA, 4)
            if blink:
                oval(u, 0.0, 0.06, 0.008, looks.skin * 0.55)
            else:
                oval(u, 0.0, 0.062, 0.032, np.minimum(looks.skin * 0.4 + 125.0, 235.0))
                oval(u + 0.03 * yaw, 0.0, 0.028, 0.030, np.array([30.0, 35.0, 45.0]))
            if looks.glasses:
                oval(u, 0.01, 0.125, 0.10, np.array([25.0, 25.0, 28.0]), line)
        oval(0.02 * yaw, 0.14, 0.055, 0.03, looks.skin * 0.80)
        oval(0.015 + 0.03 * yaw, 0.08, 0.022, 0.06, np.minimum(looks.skin * 1.08, 250.0))
        oval(0.0, 0.27, 0.105, 0.014 + mouth, looks.skin * np.array([0.62, 0.58, 0.80]))
        oval(0.0, 0.27, 0.085, mouth * 0.6, looks.skin * 0.3)


class ArmPaint:
    """Colours of the arms and how a frame of :class:`ArmShapes` is painted."""

    _LEVELS = 16

    def __init__(self, dice: Dice, looks: Looks, layers: Floats) -> None:
        self.skin = looks.skin * dice.even(0.92, 1.15)
        # Cloth has no hard edge where it turns away, as skin seen against skin seems to have.
        soft = layers.copy()
        soft[:, 2] = 1.0 - 0.5 * (1.0 - layers[:, 2])
        self._skin = self._table(self.skin, layers)
        self._cloth = self._table(looks.cloth, soft)
        self._prop = self._table(colour(dice.rng, dull=0.3), layers[:1] * 1.4)
        self._layers = range(len(layers))
        self._palm = PALM if len(layers) > 2 else PALM_EDGES
        self._long = looks.long_sleeves

    def _table(self, base: Floats, layers: Floats) -> list[list[Bgr]]:
        steps = np.linspace(0.62, 1.16, self._LEVELS)
        table = []
        for brightness in layers[:, 2]:
            rows = np.clip(base * brightness * steps[:, None], 0.0, 255.0)
            table.append([(float(b), float(g), float(r)) for b, g, r in rows])
        return table

    def draw(self, image: Image, shapes: ArmShapes, index: int, prop: str = "") -> None:
        """Paint the arm at moment ``index`` over ``image``."""
        level = (shapes.light[index] * (self._LEVELS - 1)).astype(int).tolist()
        self.draw_sleeve(image, shapes, index, level)
        if not shapes.hand_seen[index]:
            return
        if prop:
            self._fill(image, fixed(shapes.cup[index]), self._prop[0][level[HAND]])
        outlines = shapes.polygons[index]
        for part in shapes.order[index].tolist():
            group: Sequence[int] = self._palm
            if part < 5:
                group = THUMB if part == 4 else shapes.finger(index, part)
            for layer in self._layers:
                colours = self._skin[layer]
                if part == 5:
                    self._fill(image, shapes.palms[index, layer], colours[level[HAND]])
                for capsule in group:
                    self._fill(image, outlines[layer, capsule], colours[level[capsule]])

    def draw_sleeve(self, image: Image, shapes: ArmShapes, index: int, level: list[int]) -> None:
        """Upper arm and forearm."""
        outlines = shapes.polygons[index]
        for part in (0, 1):
            covered = self._long or part == 0
            for layer in self._layers:
                if part == 1:
                    self._fill(image, outlines[layer, part], self._skin[layer][level[part]])
            if covered:
                for layer in self._layers:
                    sleeve = shapes.sleeves[index, layer, part]
                    self._fill(image, sleeve, self._cloth[layer][level[part]])

    @staticmethod
    def _fill(image: Image, outline: NDArray[np.int32], fill: Bgr) -> None:
        cv2.fillConvexPoly(image, outline, fill, cv2.LINE_AA, FRACTION_BITS)
