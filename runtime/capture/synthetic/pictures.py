"""Real pixels in rendered clips: photographed hands on the painted arms, photographed rooms behind.

A folder of pictures has any of these in it, as JPEG or PNG::

    hands/SHAPE/    one hand each, fingers up, the wrist at the lower edge, before a plain ground
                    (or cut out, as PNG with transparency); SHAPE is open, two, point, three, fist,
                    thumb or another shape of the renderer
    rooms/          rooms with nobody in them, or nobody who matters
    people/         one person who does nothing, and with whose arms nothing is done either

Pictures of a gesture do not belong into ``rooms`` or ``people``: they would be labelled as none.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.arm import HAND, ArmShapes
from shiftedge.runtime.capture.synthetic.hand import POSES, Floats
from shiftedge.runtime.capture.synthetic.person import ArmPaint, Looks, paste, premultiplied
from shiftedge.runtime.capture.synthetic.ranges import Dice
from shiftedge.runtime.capture.synthetic.room import Image
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.extras import require

cv2 = require("cv2")

_SUFFIXES = (".jpg", ".jpeg", ".png")
_ALIASES = {"flat": "open", "spread": "open", "relaxed": "open", "vee": "two"}
"""Shapes that a picture of another shape shows well enough."""
_CUT_PX = 100
"""Height at which cut-out hands are kept."""
_ROOM_PX = 240
_LEAST_AREA = 0.25
"""Hands seen from farther aside than this share of their area are painted instead."""


@dataclass(frozen=True)
class Cutout:
    """A hand without its ground."""

    levels: tuple[NDArray[np.float32], ...]
    """float32 (rows, columns, 4), BGR and coverage 0..1; each half as large as the one before."""
    foot: tuple[float, float]
    """Pixel where the forearm begins."""
    length: float
    """Pixels from there to the tip of the longest finger."""


class Pictures:
    """What a folder of pictures holds; files are read when they are first wanted.

    Raises:
        DataError: there is no picture in the places that are looked in.
    """

    def __init__(self, folder: Path) -> None:
        self.hands = {
            place.name: found
            for place in sorted((folder / "hands").glob("*"))
            if place.is_dir() and (found := _files(place))
        }
        self.rooms = _files(folder / "rooms")
        self.people = _files(folder / "people")
        if not (self.hands or self.rooms or self.people):
            raise DataError(
                f"{folder} has no pictures that rendered clips can use; expected JPEG or PNG files "
                "in hands/SHAPE, rooms or people."
            )

    def room(self, dice: Dice, height: int, width: int, *, people: bool) -> Image | None:
        """A part of a photograph as what is behind; None if none can be read."""
        files = self.people if people else self.rooms
        if not files:
            return None
        photo = _photo(files[dice.count(0, len(files))])
        if photo is None:
            return None
        rows, columns = photo.shape[:2]
        zoom = dice.even(1.0, 1.3 if people else 2.2)
        tall = int(min(rows, columns * height / width) / zoom)
        wide = int(tall * width / height)
        y, x = dice.count(0, rows - tall + 1), dice.count(0, columns - wide + 1)
        part = photo[y : y + tall, x : x + wide]
        if dice.chance(0.5):
            part = part[:, ::-1]
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        tint = np.exp(dice.near3(0.1) + dice.near(0.0, 0.2))
        tinted: Image = np.clip(part * tint + dice.near(0.0, 6.0), 0, 255).astype(np.uint8)
        return tinted

    def person(self, dice: Dice, looks: Looks, layers: Floats) -> PhotoPaint | None:
        """Arms with photographed hands; None if none can be read."""
        found = {}
        for shape in self.hands:
            files = self.hands[shape]
            cut = _cutout(files[dice.count(0, len(files))])
            if cut is not None:
                found[shape] = cut
        return PhotoPaint(dice, looks, layers, found) if found else None


class PhotoPaint(ArmPaint):
    """Paints arms whose hands are photographs wherever there is one of the hand's shape."""

    def __init__(
        self, dice: Dice, looks: Looks, layers: Floats, cutouts: dict[str, Cutout]
    ) -> None:
        super().__init__(dice, looks, layers)
        flip = dice.chance(0.5)
        tone = dice.even(0.3, 1.0)  # how far the photographed skin takes the person's
        self._sprites: dict[str, tuple[Cutout, list[Image]]] = {}
        colours = []
        for shape, cut in cutouts.items():
            whole = cut.levels[0]
            mean = whole[..., :3][whole[..., 3] > 0.8].mean(0)
            gain = (1.0 - tone) + tone * self.skin / np.maximum(mean, 20.0)
            colours.append(mean * gain)
            levels = []
            for level in cut.levels:
                turned = level[:, ::-1] if flip else level
                tinted = (turned[..., :3] * gain).astype(np.float32)
                levels.append(premultiplied(tinted, turned[..., 3]))
            if flip:
                foot = (whole.shape[1] - 1.0 - cut.foot[0], cut.foot[1])
                cut = Cutout(cut.levels, foot, cut.length)
            self._sprites[shape] = (cut, levels)
        # The forearm has the colour of the hand that is pasted onto it.
        self._skin = self._table(np.mean(colours, axis=0), layers)

    def draw(self, image: Image, shapes: ArmShapes, index: int, prop: str = "") -> None:
        """See :meth:`ArmPaint.draw`."""
        pose = shapes.poses[index]
        name = min(POSES, key=lambda each: float(((POSES[each] - pose) ** 2).sum()))
        found = self._sprites.get(name) or self._sprites.get(_ALIASES.get(name, ""))
        side, along = shapes.axes[index]
        area = abs(side[0] * along[1] - side[1] * along[0])
        if found is None or prop or area < _LEAST_AREA * shapes.hand_px[index] ** 2:
            super().draw(image, shapes, index, prop)
            return
        level = (shapes.light[index] * (self._LEVELS - 1)).astype(int).tolist()
        self.draw_sleeve(image, shapes, index, level)
        cut, levels = found
        scale = shapes.hand_px[index] / cut.length
        number = min(len(levels) - 1, max(0, int(-np.log2(max(scale, 1e-3)))))
        share = 0.5**number
        matrix = np.empty((2, 3))
        matrix[:, 0] = side / (cut.length * share)
        matrix[:, 1] = -along / (cut.length * share)
        matrix[:, 2] = shapes.wrist[index] - matrix[:, :2] @ (np.array(cut.foot) * share)
        light = 0.75 + 0.4 * float(shapes.light[index, HAND])
        paste(image, levels[number], matrix, light)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)


@functools.lru_cache(maxsize=8)
def pictures_of(folder: Path) -> Pictures:
    """The pictures of a folder, looked for once a process."""
    return Pictures(folder)


@functools.lru_cache(maxsize=512)
def _photo(path: Path) -> Image | None:
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if photo is None or min(photo.shape[:2]) < 32:
        return None
    share = _ROOM_PX / photo.shape[0]
    if share < 1.0:
        photo = cv2.resize(photo, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    result: Image = photo
    return result


@functools.lru_cache(maxsize=2048)
def _cutout(path: Path) -> Cutout | None:
    """A hand cut out of its plain ground; None where that cannot be trusted."""
    photo = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if photo is None or photo.ndim != 3:
        return None
    size = (max(8, round(photo.shape[1] * _CUT_PX / photo.shape[0])), _CUT_PX)
    photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    mask = photo[..., 3] if photo.shape[2] == 4 else _mask(photo)
    solid = mask > 128
    area, width = solid.mean(), solid[-4:].any(0).mean()
    rows = np.flatnonzero(solid.any(1))
    touches = solid[:60, :2].mean() + solid[:60, -2:].mean() + solid[:1].mean()
    if not (0.08 < area < 0.5 and 0.05 < width < 0.6) or rows[0] > 70 or touches > 0.1:
        return None
    edge = cv2.GaussianBlur(cv2.erode(mask, np.ones((2, 2), np.uint8)), (0, 0), 0.7)
    whole = np.dstack([photo[..., :3], edge]).astype(np.float32)
    whole[..., 3] /= 255.0
    foot = 0.92 * _CUT_PX
    under = np.flatnonzero(solid[int(foot)])
    middle = float(under.mean()) if under.size else 0.5 * size[0]
    levels = [whole]
    for _ in range(3):
        half = (max(2, levels[-1].shape[1] // 2), max(2, levels[-1].shape[0] // 2))
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
    return Cutout(tuple(levels), (middle, foot), foot - float(rows[0]))


def _mask(photo: Image) -> Image:
    """What differs in colour from the ground at the upper and the side edges."""
    lab = cv2.cvtColor(photo, cv2.COLOR_BGR2LAB).astype(np.float32)
    edges = (lab[:8], lab[:60, :6], lab[:60, -6:])
    ground = np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)
    far = np.abs(lab[..., 1:] - ground[1:]).sum(2) + 0.15 * np.maximum(0.0, ground[0] - lab[..., 0])
    levels = cv2.GaussianBlur(np.clip(4.0 * far, 0, 255).astype(np.uint8), (0, 0), 1.0)
    border, mask = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    if border < 12 or count < 2:
        return np.zeros_like(mask)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    whole = np.where(parts == largest, 255, 0).astype(np.uint8)
    closed: Image = cv2.morphologyEx(whole, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return closed
