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

_TABLE = """
name          kind   wide         narrow        clean       why

head          log    0.06..0.6    0.21..0.5     0.27..0.32  share of the height: from 4 m before
              a webcam to leaning into it; a model trained on 0.21 and more missed heads of 0.09
across        even   0.06..0.94   0.3..0.7      0.46..0.54  of the width: cameras stand anywhere
down          even   0..1         0..0.8        0.37..0.58  0: the head touches the upper edge, 1:
              as low as lets a chest in
headless      chance 0.12         0             0           of a head above the image, as laptops
              see who stands, and boards who is near
perspective   even   0.75..1.05   0.75..1.05    0.75..1.05  height of the image over the camera's
              distance: webcams see 40 to 55 degrees of height
standing      chance 0.4          0             0           who is far from a camera often stands
desk          chance 0.4          0             0           of a desk before who sits

left          chance 0.5          0.5           0.5         of the left hand: mirrored images of the
              right one have their room and clothes mirrored as well
stroke_s      log    0.2..2       0.24..0.85    0.24..0.85  a flick, to who shows a gesture to a
              machine; swipes of 1 to 1.8 s were missed after training on 0.24 to 0.85
hold_s        log    0.03..1.2    0.15..0.7     0.15..0.7   waiting before and after a stroke
shown_s       log    0.5..2.6     0.5..2.6      0.5..2.6    for which a thumb or a palm is shown
tempo         log    0.7..1.8     1             1           factor on the time of all but strokes
travel        even   0.8..1.25    1             1           factor on the length of strokes
from_hold     chance 0.25         0.15          0.15        that the hand is held out already
return_stroke chance 0.25         0             0           that the hand goes back the way it came,
              the commonest false event with real people
repeat        chance 0.4          0             0           of another stroke after such a return
elbow         even   0.3..1.2     0             0           how far the elbow follows the hand's
              direction: a thumb that points down needs it high
restless      chance 0.4          0.4           0.4         of a person who sways a good deal
lively        chance 0.35         0             0           among other things, of walking, sitting
              down, clapping, typing, knocking against the camera, switching a lamp

source_hz     log    5..30        240           240         webcams in the dark give 5 to 10, boards
              15; 240 stands for any camera that is never too slow for the model's clock
dropped       even   0..0.15      0             0           share of frames that never arrive
exposure_s    log    0.004..0.08  0.01..0.075   0.012..0.03 for blur; in the dark as long as a frame
light         log    0.45..1.4    0.5..1.25     0.95..1.1   a dim room, to one with the sun in it
light_slope   even   0..0.35      0..0.3        0..0.12     a lamp or a window on one side
balance       even   0..0.09      0.06          0.02        deviation of the colour channels
contrast      even   -0.25..0.4   -0.2..0.35    0.05        of the tone curve
gamma         even   0..0.25      0.22          0.06        deviation of the tone curve's exponent
lift          even   -14..24      -12..22       0           black that is none, or crushed
noise         log    0.3..14      0.5..10       0.8..1.8    deviation in levels of 255
frozen        chance 0.2          0.2           0           of no noise: codecs freeze what is still
drift         chance 0.3          0             0           that exposure and white balance roll
lamp          chance 0.04         0.06          0           that a lamp is switched in any clip
blur          chance 0.35         0.35          0           of a lens out of focus
blur_px       log    0.4..1.5     0.4..0.9      0.4..0.9    its deviation at 96 lines
jpeg          chance 0.25         0.5           0           of a codec's blocks
jpeg_quality  even   12..92       25..92        25..92      of them
palette       chance 0.12         0.18          0           of few colours in a pattern, as in GIFs
palette_step  even   8..34        6..28         6..28       levels between two of its colours
grey          chance 0.04         0.03          0           of a camera without colour, or infrared
tilted        chance 0.25         0.5           0           of a telephone that leans on a cup
roll          even   0..0.06      0.035         0.035       deviation of its tilt in radians
shaky         chance 0.1          0.12          0           of a desk that somebody types on
shake         log    0.001..0.008 0.0005..0.006 0.001       its deviation, share of the height

empty         chance 0.15         0.08          0           of nobody, in clips of no gesture
passer        chance 0.08         0             0           that somebody walks by behind
neighbour     chance 0.08         0             0           that somebody sits beside, and moves
pet           chance 0.05         0             0           of a cat or a dog
screen        chance 0.08         0             0           of a screen that plays
curtain       chance 0.06         0             0           of a curtain in the wind
photo_hand    chance 0.6          0.6           0.6         of photographed hands, of those given
photo_room    chance 0.6          0.6           0.6         of a photographed room
photo_people  chance 0.12         0.12          0.12        of a photographed person, arms painted
"""
"""``log`` is even in the logarithm: each doubling is as likely as another. A single number is both
ends. Lengths of time are in seconds, sizes in shares of the image."""


@dataclass(frozen=True)
class Range:
    """Where one quantity is drawn from."""

    kind: str
    low: float
    high: float
    why: str

    def draw(self, rng: np.random.Generator) -> float:
        """A value from ``low`` to ``high``."""
        if self.kind == "log":
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Ranges:
    """A preset: a range for every name."""

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


def _preset(name: str) -> Ranges:
    head, *lines = _TABLE.strip().splitlines()
    column = head.split().index(name)
    rows: list[str] = []
    for line in filter(None, lines):
        if line[0] == " ":
            rows[-1] += " " + line.strip()
        else:
            rows.append(line)
    table = {}
    for row in rows:
        cells = row.split(maxsplit=5)
        low, _, high = cells[column].partition("..")
        table[cells[0]] = Range(cells[1], float(low), float(high or low), cells[5])
    return Ranges(name, table)


WIDE, NARROW, CLEAN = (_preset(name) for name in ("wide", "narrow", "clean"))


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
