"""What acts are made of: where hands rest, and the keys of one arm from a rest to a rest.

Lengths are in heads; see :mod:`~shiftedge.runtime.capture.synthetic.motion` for the axes. Tracks
describe the right arm, on the left of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shiftedge.runtime.capture.synthetic.hand import Floats, frame_of
from shiftedge.runtime.capture.synthetic.motion import Act, Key
from shiftedge.runtime.capture.synthetic.ranges import Dice

Actor = Callable[[Dice, Key], Act]
"""A track: performs once, from where the hand rests at 0 s."""
Triple = Sequence[float] | Floats
Axes = tuple[Floats, Floats]

SITTING = ("lap", "lap", "desk", "desk", "chin")
STANDING = ("hang", "hang", "hang", "hip", "front")


def resting_hand(dice: Dice, places: Sequence[str] = SITTING) -> Key:
    """A right hand at rest in one of these places, as likely as they are named."""
    place = places[dice.count(0, len(places))]
    even = dice.even
    if place == "lap":  # out of sight
        wrist = [even(-0.9, -0.3), even(2.5, 3.2), 0.9]
        forward, roll, shape = [0.5, 0.3, 0.7], even(2.2, 3.6), dice.shape("relaxed")
    elif place == "desk":
        wrist = [even(-0.9, -0.2), even(1.9, 2.4), even(0.9, 1.4)]
        forward = [even(0.3, 1.0), even(-0.1, 0.25), even(0.2, 0.8)]
        roll, shape = even(2.2, 3.6), dice.shape("relaxed", "fist", "cupped")
    elif place == "chin":
        wrist = [even(-0.45, -0.15), even(0.75, 1.0), 0.55]
        forward = [even(0.1, 0.5), -1.0, -0.1]
        roll, shape = even(0.6, 1.8), dice.shape("fist", "cupped", "relaxed")
    elif place == "hang":
        wrist = [even(-1.25, -0.95), even(3.0, 3.25), even(-0.1, 0.3)]
        forward, roll, shape = [even(-0.1, 0.2), 1.0, 0.1], even(-1.9, -1.2), dice.shape("relaxed")
    elif place == "hip":
        wrist = [even(-1.05, -0.85), even(2.2, 2.5), even(0.0, 0.2)]
        forward, roll, shape = [0.8, 0.5, 0.3], even(2.6, 3.6), dice.shape("relaxed", "cupped")
    else:  # before the belly
        wrist = [even(-0.7, -0.3), even(2.2, 2.6), even(0.5, 0.7)]
        forward, roll, shape = [1.0, even(-0.1, 0.4), 0.2], even(2.6, 3.6), dice.shape("relaxed")
    f, n = frame_of(np.array(forward), roll)
    return Key(0.0, np.array(wrist), f, n, shape, moving=False)


class Path:
    """Builds the keys of one arm, from where it rests and goes back to; ``dice`` draw how fast this
    person moves between strokes."""

    def __init__(self, dice: Dice, rest: Key) -> None:
        self._dice = dice
        self.tempo = dice.of("tempo")
        self.rest = rest.at(0.0)
        self.keys = [self.rest]
        self.time_s = 0.0

    def to(
        self, duration_s: float, wrist: Triple, axes: Axes, shape: Floats, bulge: Triple | None
    ) -> float:
        """Move there in exactly this time; returns the time of arrival."""
        self.time_s += duration_s
        curve = None if bulge is None else np.asarray(bulge, float)
        self.keys.append(Key(self.time_s, np.asarray(wrist, float), *axes, shape, curve))
        return self.time_s

    def go(
        self,
        duration_s: float,
        wrist: Triple,
        forward: Triple,
        roll: float,
        shape: Floats,
        bulge: Triple | None = None,
    ) -> float:
        """Move there, at this person's tempo; returns the time of arrival."""
        axes = frame_of(np.asarray(forward, float), roll)
        return self.to(duration_s * self.tempo, wrist, axes, shape, bulge)

    def hold(self, duration_s: float, drift: float = 0.03) -> float:
        """Stay there, as still as people can."""
        last = self.keys[-1]
        self.time_s += duration_s
        wrist = last.wrist + self._dice.near3(drift)
        forward = last.forward + self._dice.near3(drift)
        key = Key(self.time_s, wrist, forward, last.normal, last.pose, moving=False)
        self.keys.append(key)
        return self.time_s

    def back(self, low_s: float = 0.35, high_s: float = 0.9) -> None:
        """Return to the rest, in an arc that sags."""
        dice, rest = self._dice, self.rest
        self.time_s += dice.even(low_s, high_s) * self.tempo
        bulge = np.array([dice.near(-0.1, 0.15), dice.even(0.0, 0.3), dice.even(-0.2, 0.2)])
        wrist = rest.wrist + dice.near3(0.06)
        self.keys.append(Key(self.time_s, wrist, rest.forward, rest.normal, rest.pose, bulge))
