"""What else moves behind the person: passers-by, neighbours, pets, screens, curtains.

Each is drawn at random and then paints itself at any moment, so that films may be shown in any
order. Places and sizes are shares of the image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shiftedge.runtime.capture.synthetic.ranges import Dice
from shiftedge.runtime.capture.synthetic.room import FRACTION_BITS, Bgr, Image, bgr, colour
from shiftedge.runtime.process.extras import require

cv2 = require("cv2")

Mover = Callable[[Image, float], None]
"""Paints itself over a picture, at a time in seconds."""


def _oval(image: Image, x: float, y: float, a: float, b: float, fill: Bgr) -> None:
    """An oval with its middle and half axes in pixels."""
    size = 1 << FRACTION_BITS
    axes = (max(1, round(a * size)), max(1, round(b * size)))
    middle = (round(x * size), round(y * size))
    cv2.ellipse(image, middle, axes, 0.0, 0, 360, fill, -1, cv2.LINE_AA, FRACTION_BITS)


def _limb(image: Image, points: list[tuple[float, float]], thick: float, fill: Bgr) -> None:
    size = 1 << FRACTION_BITS
    line = np.rint(np.array(points) * size).astype(np.int32)
    cv2.polylines(image, [line], False, fill, max(1, round(thick)), cv2.LINE_AA, FRACTION_BITS)


def _figure(dice: Dice, height: int) -> tuple[float, Bgr, Bgr, Bgr]:
    """Height of the head in pixels, and colours of skin, hair or trousers, and cloth."""
    head = dice.even(0.05, 0.16) * height
    skin = np.array([60.0, 85.0, 120.0]) * dice.even(0.5, 1.9)
    return head, bgr(np.clip(skin, 0, 250)), bgr(0.5 * colour(dice.rng)), bgr(colour(dice.rng))


def _body(image: Image, x: float, y: float, k: float, skin: Bgr, dark: Bgr, cloth: Bgr) -> None:
    """Trunk and head of somebody whose head of height ``k`` has its middle at (x, y)."""
    _oval(image, x, y + 2.1 * k, 0.85 * k, 1.5 * k, cloth)
    _oval(image, x, y, 0.38 * k, 0.5 * k, skin)
    _oval(image, x, y - 0.2 * k, 0.40 * k, 0.36 * k, dark)


def _passer(dice: Dice, height: int, width: int) -> Mover:
    """Somebody who walks by, once in a while, with arms and legs that swing."""
    k, skin, dark, cloth = _figure(dice, height)
    speed = dice.even(0.2, 0.7) * width * (1.0 if dice.chance(0.5) else -1.0)
    every = dice.even(3.0, 12.0)
    offset, y = dice.even(-1.5, 1.0), dice.even(0.15, 0.4) * height

    def paint(image: Image, time_s: float) -> None:
        passed = (time_s - offset) % every
        x = (-2.0 * k if speed > 0 else width + 2.0 * k) + speed * passed
        if not -3.0 * k < x < width + 3.0 * k:
            return
        swing = float(np.sin(6.5 * time_s)) * k
        for sign in (-1.0, 1.0):
            foot = (x + sign * 0.8 * swing, y + 6.6 * k)
            _limb(image, [(x, y + 3.2 * k), foot], 0.5 * k, dark)
        _body(image, x, y, k, skin, dark, cloth)
        for sign in (-1.0, 1.0):
            hand = (x - sign * 0.7 * swing, y + 3.0 * k)
            _limb(image, [(x, y + 1.1 * k), hand], 0.33 * k, cloth)
            _oval(image, *hand, 0.2 * k, 0.2 * k, skin)

    return paint


def _neighbour(dice: Dice, height: int, width: int) -> Mover:
    """Somebody who sits or stands there and moves a hand now and then."""
    k, skin, dark, cloth = _figure(dice, height)
    x, y = dice.even(0.02, 0.98) * width, dice.even(0.2, 0.6) * height
    rates, phases = dice.rng.uniform(0.15, 0.9, 5), dice.rng.uniform(0.0, 6.3, 5)
    reach = dice.even(0.2, 1.1)

    def paint(image: Image, time_s: float) -> None:
        wave = np.sin(2.0 * np.pi * rates * time_s + phases)
        at = x + 0.15 * k * float(wave[4])
        _body(image, at, y, k, skin, dark, cloth)
        for sign, (u, v) in ((-1.0, wave[:2]), (1.0, wave[2:4])):
            elbow = (at + sign * 1.1 * k, y + 2.2 * k)
            lift = max(0.0, float(v)) ** 3
            hand = (at + sign * (0.5 + 0.5 * reach * float(u)) * k, y + (2.8 - 2.3 * lift) * k)
            _limb(image, [(at + sign * 0.7 * k, y + 1.0 * k), elbow, hand], 0.33 * k, cloth)
            _oval(image, *hand, 0.22 * k, 0.26 * k, skin)

    return paint


def _pet(dice: Dice, height: int, width: int) -> Mover:
    """A cat or a dog that strolls along an edge, or a shelf."""
    size = dice.even(0.04, 0.12) * height
    fur = bgr(np.array([35.0, 60.0, 85.0]) * dice.even(0.3, 2.4))
    y = dice.even(0.45, 0.97) * height
    rate, phase = dice.even(0.03, 0.2), dice.even(0.0, 6.3)

    def paint(image: Image, time_s: float) -> None:
        turn = 2.0 * np.pi * rate * time_s + phase
        x = width * (0.5 + 0.6 * float(np.sin(turn)))
        ahead = 1.0 if np.cos(turn) > 0 else -1.0
        bob = 0.1 * size * float(np.sin(9.0 * time_s))
        for place in (-0.9, -0.6, 0.6, 0.9):
            hip, step = x + place * size, 0.3 * size * float(np.sin(9.0 * time_s + 5.0 * place))
            _limb(image, [(hip, y), (hip + step, y + size)], 0.25 * size, fur)
        tail = [(x - ahead * size, y), (x - ahead * 1.7 * size, y - size + 3.0 * bob)]
        _limb(image, tail, 0.2 * size, fur)
        _oval(image, x, y, 1.2 * size, 0.5 * size, fur)
        _oval(image, x + ahead * 1.3 * size, y - 0.4 * size + bob, 0.45 * size, 0.4 * size, fur)

    return paint


def _screen(dice: Dice, height: int, width: int) -> Mover:
    """A screen on which something plays: cuts, and things that move."""
    w, h = dice.even(0.12, 0.4) * width, dice.even(0.12, 0.35) * height
    left, top = int(dice.even(-0.05, 0.9) * width), int(dice.even(-0.05, 0.5) * height)
    right, bottom = min(width, left + int(w)), min(height, top + int(h))
    left, top = max(0, left), max(0, top)
    seed, cut_s = dice.count(0, 1 << 30), dice.even(0.5, 4.0)

    def paint(image: Image, time_s: float) -> None:
        if right - left < 3 or bottom - top < 3:
            return
        draw = np.random.default_rng((seed, int((time_s + 100.0) / cut_s)))
        blocks = draw.uniform(20, 250, (3, 4, 3)).astype(np.float32)
        pan = 1.5 * np.sin(time_s * draw.uniform(0.5, 3.0) + np.arange(4))
        blocks = np.clip(blocks * (1.0 + 0.2 * pan[:, None]), 0, 255).astype(np.uint8)
        size = (right - left, bottom - top)
        image[top:bottom, left:right] = cv2.resize(blocks, size, interpolation=cv2.INTER_LINEAR)
        cv2.rectangle(image, (left, top), (right, bottom), (20.0, 20.0, 20.0), 1)

    return paint


def _curtain(dice: Dice, height: int, width: int) -> Mover:
    left = int(dice.even(-0.1, 0.85) * width)
    right = min(width, left + int(dice.even(0.1, 0.35) * width))
    left = max(0, left)
    cloth, depth = colour(dice.rng, dull=0.4), dice.even(0.1, 0.3)
    folds, rate = dice.even(40.0, 130.0), dice.even(0.2, 0.8)
    x = np.arange(left, max(left, right)) / width

    def paint(image: Image, time_s: float) -> None:
        if not x.size:
            return
        sway = 2.5 * np.sin(2.0 * np.pi * rate * time_s) * np.sin(5.0 * x + time_s)
        shade = 1.0 + depth * np.sin(folds * x + sway + 2.0 * np.sin(11.0 * x))
        image[:, left:right] = np.clip(cloth * shade[:, None], 0, 255).astype(np.uint8)

    return paint


_MOVERS = {
    "curtain": _curtain,
    "screen": _screen,
    "passer": _passer,
    "neighbour": _neighbour,
    "pet": _pet,
}


def draw_crowd(dice: Dice, height: int, width: int) -> list[Mover]:
    """What moves behind the person in one clip or film; mostly nothing."""
    return [make(dice, height, width) for name, make in _MOVERS.items() if dice.happens(name)]
