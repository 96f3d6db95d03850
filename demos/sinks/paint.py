"""Text, boxes and colours on BGR images, with the best font that the installed OpenCV has."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.process.extras import require
from shiftedge.runtime.words import plain

Image = NDArray[np.uint8]
"""uint8, shape (height, width, 3), BGR; painted on in place."""
Colour = tuple[int, int, int]
"""Blue, green, red, each 0..255."""

GROUND: Colour = (30, 24, 22)
TRACK: Colour = (58, 48, 45)
FAINT: Colour = (98, 86, 82)
DIM: Colour = (172, 160, 154)
WHITE: Colour = (246, 243, 240)

PALETTE: tuple[Colour, ...] = (
    (233, 180, 86),
    (60, 160, 245),
    (140, 205, 60),
    (80, 210, 245),
    (200, 130, 225),
    (90, 105, 240),
    (205, 195, 70),
    (150, 150, 250),
)
"""Bright on a dark ground and easy to tell apart, also for most colour-blind people (after the
palette of Okabe and Ito)."""

LONGEST_WORDS = 200
"""Characters of a name that may be tried for their width."""
HERSHEY_HEIGHT_PX = 30.0
"""Height of a line of OpenCV 4's stroke font at scale 1."""


def colour_of(index: int, silent: bool) -> Colour:
    """The colour of a label: grey for one that never fires."""
    return FAINT if silent else PALETTE[index % len(PALETTE)]


def fill(image: Image, left: int, top: int, width: int, height: int, colour: Colour) -> None:
    """Paint a rectangle, cut off at the image's edges; nothing where a side is 0 or less."""
    left, right = max(left, 0), left + width
    top, bottom = max(top, 0), top + height
    if right > left and bottom > top:
        image[top:bottom, left:right] = colour


def shade(
    image: Image, left: int, top: int, width: int, height: int, colour: Colour, strength: float
) -> None:
    """Blend a rectangle towards ``colour``; ``strength`` 0 leaves it, 1 covers it."""
    part = image[max(top, 0) : top + height, max(left, 0) : left + width]
    if part.size and strength > 0.0:
        cv2 = require("cv2")
        cover = np.full_like(part, colour)
        cv2.addWeighted(part, 1.0 - strength, cover, strength, 0.0, dst=cover)
        part[...] = cover


def text(
    image: Image,
    words: str,
    x: int,
    y: int,
    size_px: int,
    colour: Colour,
    *,
    weight: int = 400,
    align: str = "left",
) -> None:
    """Write ``words`` with their baseline at ``y``.

    Args:
        size_px: height of a line.
        weight: 400 is regular, 700 bold.
        align: ``x`` is the left end, the right end or the centre of the words.
    """
    cv2 = require("cv2")
    words = _encodable(words)
    width = text_width(words, size_px, weight)
    x -= {"left": 0, "center": width // 2, "right": width}[align]
    font = _font()
    if font is not None:
        cv2.putText(image, words, (x, y), colour, font, size_px, weight)
    else:
        scale, thickness = _hershey(size_px, weight)
        face = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(image, words, (x, y), face, scale, colour, thickness, cv2.LINE_AA)


@functools.lru_cache(maxsize=1024)
def text_width(words: str, size_px: int, weight: int = 400) -> int:
    """Width of ``words`` in pixels."""
    cv2 = require("cv2")
    words = _encodable(words)
    font = _font()
    if font is not None:
        left, _, width, _ = cv2.getTextSize((8192, 256), words, (0, 128), font, size_px, weight)
        return int(left + width)
    scale, thickness = _hershey(size_px, weight)
    (width, _), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    return int(width)


@functools.lru_cache(maxsize=256)
def fit_text(words: str, size_px: int, widest_px: int, weight: int = 400) -> tuple[str, int]:
    """The words and the size at which they fit into ``widest_px``: smaller first, then cut. Of any
    words: a name may be long, or hold what is no character."""
    words = plain(words, LONGEST_WORDS).encode("utf-8", "replace").decode()
    smallest = max(9, size_px // 2)
    while size_px > smallest and text_width(words, size_px, weight) > widest_px:
        size_px -= 1
    shown = words
    while len(words) > 1 and text_width(shown, size_px, weight) > widest_px:
        words = words[:-1]
        shown = words.rstrip() + "..."
    return shown, size_px


def _encodable(words: str) -> str:
    """``words`` with a question mark for what UTF-8 cannot encode: OpenCV crashes on it."""
    return words.encode("utf-8", "replace").decode()


@functools.lru_cache(maxsize=1)
def _font() -> Any:
    """OpenCV 5's TrueType font; None in OpenCV 4, which has strokes and ASCII only."""
    cv2 = require("cv2")
    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None


def _hershey(size_px: int, weight: int) -> tuple[float, int]:
    return size_px * 0.8 / HERSHEY_HEIGHT_PX, 2 if weight >= 600 and size_px >= 20 else 1
