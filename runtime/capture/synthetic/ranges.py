"""How far everything that the renderer draws may vary, and why: one table, and its presets.

``WIDE`` is what cameras see, for training. ``NARROW`` is what the bundled model was trained on, and
``CLEAN`` is a good camera before a seated person, for films that people look at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shiftedge.runtime.capture.synthetic.hand import Floats, pose


@dataclass(frozen=True)
class Range:
    """Where one quantity is drawn from."""

    low: float
    high: float
    why: str
    even: bool = True
    """Evenly; else evenly in the logarithm, so that each doubling is as likely as another."""

    def draw(self, rng: np.random.Generator) -> float:
        """A value from ``low`` to ``high``."""
        if self.even:
            return float(rng.uniform(self.low, self.high))
        return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))


@dataclass(frozen=True)
class Ranges:
    """A preset: a range for every name. Those in [0, 1] that are one number are chances."""

    name: str
    table: Mapping[str, Range]

    def __getitem__(self, name: str) -> Range:
        return self.table[name]

    def with_(self, name: str, **changes: float | tuple[float, float]) -> Ranges:
        """A preset that differs in some ranges; a single number is both ends."""
        table = dict(self.table)
        for key, value in changes.items():
            low, high = value if isinstance(value, tuple) else (value, value)
            table[key] = dataclasses.replace(table[key], low=low, high=high)
        return Ranges(name, table)


_LOG = False

WIDE = Ranges(
    "wide",
    {
        # Where the person is.
        "head": Range(
            0.06,
            0.60,
            "share of the height: from 4 m before a webcam to leaning into it; a model "
            "trained on 0.21 and more missed heads of 0.09",
            _LOG,
        ),
        "across": Range(0.06, 0.94, "share of the width: a camera stands where there is room"),
        "headless": Range(
            0.12,
            0.12,
            "chance that the head is above the image, as laptops see who "
            "stands, and boards who is near",
        ),
        "down": Range(0.0, 1.0, "0: the head touches the upper edge, 1: as low as lets a chest in"),
        "perspective": Range(
            0.75,
            1.05,
            "height of the image over the camera's distance: 40 to 55 "
            "degrees of height are what webcams see",
        ),
        "standing": Range(0.4, 0.4, "chance; who is far from the camera mostly stands"),
        "left": Range(
            0.5,
            0.5,
            "chance of the left hand; with few left-handers in the training, "
            "mirrored images would be the only ones",
        ),
        # How people move.
        "stroke_s": Range(
            0.2,
            2.0,
            "seconds: a flick, to who shows a gesture to a machine; real "
            "swipes of 1 to 1.8 s were missed after training on 0.24 to 0.85",
            _LOG,
        ),
        "hold_s": Range(0.03, 1.2, "seconds of waiting before and after a stroke", _LOG),
        "shown_s": Range(0.5, 2.6, "seconds for which a thumb or a palm is shown", _LOG),
        "tempo": Range(
            0.7, 1.8, "factor on the time of everything but strokes: people differ", _LOG
        ),
        "from_hold": Range(0.25, 0.25, "chance that the hand is held out already"),
        "return_stroke": Range(
            0.25,
            0.25,
            "chance that the hand goes back the way it came, the "
            "commonest false event with real people",
        ),
        "repeat": Range(0.4, 0.4, "chance that a stroke is repeated after its return"),
        "elbow": Range(
            0.3, 1.2, "how far the elbow follows the hand's direction: thumbs down need it high"
        ),
        "travel": Range(0.8, 1.25, "factor on the length of strokes"),
        # What the camera does.
        "source_hz": Range(
            5.0,
            30.0,
            "frames a second: webcams in the dark give 5 to 10, boards "
            "15; they are resampled to the model's clock",
            _LOG,
        ),
        "dropped": Range(0.0, 0.15, "share of frames that never arrive"),
        "exposure_s": Range(0.004, 0.08, "seconds, for blur; in the dark as long as a frame", _LOG),
        "light": Range(0.3, 1.5, "factor: a dim room to one with the sun in it", _LOG),
        "light_slope": Range(0.0, 0.35, "a lamp or a window on one side"),
        "balance": Range(0.0, 0.09, "deviation of the colour channels: lamps, cheap sensors"),
        "contrast": Range(-0.25, 0.4, "of the tone curve"),
        "gamma": Range(0.0, 0.25, "deviation of the exponent of the tone curve"),
        "lift": Range(-14.0, 24.0, "black that is none, or crushed"),
        "noise": Range(0.3, 14.0, "deviation in levels of 255", _LOG),
        "frozen": Range(0.2, 0.2, "chance of no noise: codecs freeze what does not move"),
        "drift": Range(0.3, 0.3, "chance that exposure and white balance roll while it films"),
        "lamp": Range(0.04, 0.04, "chance that a lamp is switched in any clip"),
        "blur": Range(0.35, 0.35, "chance of a lens out of focus"),
        "blur_px": Range(0.4, 1.5, "its deviation at 96 lines", _LOG),
        "jpeg": Range(0.25, 0.25, "chance of a codec's blocks"),
        "jpeg_quality": Range(12.0, 92.0, "of them"),
        "palette": Range(0.12, 0.12, "chance of few colours with a fixed pattern, as in GIFs"),
        "palette_step": Range(8.0, 34.0, "levels between two of its colours"),
        "grey": Range(0.04, 0.04, "chance of a camera without colour, or infrared"),
        "roll": Range(0.0, 0.06, "deviation in radians: a telephone that leans on a cup"),
        "tilted": Range(0.25, 0.25, "chance of that"),
        "shaky": Range(0.1, 0.1, "chance of a camera on a desk that somebody types on"),
        "shake": Range(0.001, 0.008, "its deviation, share of the height", _LOG),
        # Who and what else is there.
        "lively": Range(
            0.35,
            0.35,
            "chance, among other things, of walking, sitting down, "
            "clapping, typing, knocking against the camera, a lamp",
        ),
        "empty": Range(0.15, 0.15, "chance of nobody, among clips of no gesture"),
        "passer": Range(0.08, 0.08, "chance that somebody walks by behind"),
        "neighbour": Range(0.08, 0.08, "chance that somebody sits beside, and moves"),
        "pet": Range(0.05, 0.05, "chance of a cat or a dog"),
        "screen": Range(0.08, 0.08, "chance of a screen that plays"),
        "curtain": Range(0.06, 0.06, "chance of a curtain in the wind"),
        "desk": Range(0.4, 0.4, "chance of a desk before who sits"),
        "photo_hand": Range(0.6, 0.6, "chance of photographed hands, where pictures are given"),
        "photo_room": Range(0.6, 0.6, "chance of a photographed room, where pictures are given"),
        "photo_people": Range(0.12, 0.12, "chance of a photographed person with painted arms"),
        "restless": Range(0.4, 0.4, "chance of a person who sways a good deal"),
    },
)

_ALONE = dict.fromkeys(("passer", "neighbour", "pet", "screen", "curtain"), 0.0)

NARROW = WIDE.with_(
    "narrow",
    head=(0.21, 0.50),
    across=(0.3, 0.7),
    headless=0.0,
    down=(0.0, 0.8),
    standing=0.0,
    stroke_s=(0.24, 0.85),
    hold_s=(0.15, 0.7),
    tempo=1.0,
    from_hold=0.15,
    return_stroke=0.0,
    travel=1.0,
    elbow=0.0,
    source_hz=240.0,
    dropped=0.0,
    exposure_s=(0.01, 0.075),
    light=(0.5, 1.25),
    light_slope=(0.0, 0.3),
    balance=0.06,
    contrast=(-0.2, 0.35),
    gamma=0.22,
    lift=(-12.0, 22.0),
    noise=(0.5, 10.0),
    drift=0.0,
    lamp=0.06,
    blur_px=(0.4, 0.9),
    jpeg=0.5,
    jpeg_quality=(25.0, 92.0),
    palette=0.18,
    palette_step=(6.0, 28.0),
    grey=0.03,
    roll=0.035,
    tilted=0.5,
    shaky=0.12,
    desk=0.0,
    lively=0.0,
    shake=(0.0005, 0.006),
    empty=0.08,
    **_ALONE,
)

CLEAN = NARROW.with_(
    "clean",
    head=(0.27, 0.32),
    across=(0.46, 0.54),
    down=(0.37, 0.58),
    exposure_s=(0.012, 0.03),
    light=(0.95, 1.1),
    light_slope=(0.0, 0.12),
    balance=0.02,
    contrast=0.05,
    gamma=0.06,
    lift=0.0,
    noise=(0.8, 1.8),
    frozen=0.0,
    lamp=0.0,
    blur=0.0,
    jpeg=0.0,
    palette=0.0,
    grey=0.0,
    tilted=0.0,
    shaky=0.0,
    empty=0.0,
)


class Dice:
    """A generator and the ranges that it draws from."""

    def __init__(self, rng: np.random.Generator, ranges: Ranges) -> None:
        self.rng = rng
        self.ranges = ranges

    def of(self, name: str) -> float:
        """A value of the range ``name``."""
        return self.ranges[name].draw(self.rng)

    def happens(self, name: str) -> bool:
        """Whether the chance ``name`` comes true."""
        return bool(self.rng.random() < self.ranges[name].low)

    def chance(self, share: float) -> bool:
        """True in ``share`` of all cases."""
        return bool(self.rng.random() < share)

    def even(self, low: float, high: float) -> float:
        """Evenly between low and high."""
        return float(self.rng.uniform(low, high))

    def near(self, middle: float, deviation: float) -> float:
        """Normally distributed."""
        return float(self.rng.normal(middle, deviation))

    def near3(self, deviation: float) -> Floats:
        """Three values about zero."""
        return self.rng.normal(0.0, deviation, 3)

    def count(self, low: int, high: int) -> int:
        """A whole number from low to high - 1."""
        return int(self.rng.integers(low, high))

    def shape(self, *names: str) -> Floats:
        """One person's version of one of these poses of a hand."""
        return pose(self.rng, names[int(self.rng.integers(len(names)))])
