"""How each label is acted out: key poses drawn at random, as different people do it.

A track is a function of a generator and the resting hand; it returns an :class:`Act` that begins
at 0 s with the hand where it rests. ``ACTORS`` maps a label to its tracks, so a new label is a new
entry. Lengths are in heads; see :mod:`~shiftedge.runtime.capture.synthetic.motion` for the axes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shiftedge.runtime.capture.synthetic.hand import Floats, frame_of, pose
from shiftedge.runtime.capture.synthetic.motion import Act, Key

__all__ = ["ACTORS", "Actor", "Path", "act_out", "resting_hand", "uniform"]

Actor = Callable[[np.random.Generator, Key], Act]


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A float between low and high."""
    return float(rng.uniform(low, high))


def resting_hand(rng: np.random.Generator, place: str | None = None) -> Key:
    """A right hand at rest: on the lap (out of sight), on the desk, or at the chin."""
    if place is None:
        place = ("lap", "lap", "desk", "desk", "chin")[int(rng.integers(5))]
    if place == "lap":
        wrist = [uniform(rng, -0.9, -0.3), uniform(rng, 2.5, 3.2), 0.9]
        forward, roll, shape = [0.5, 0.3, 0.7], uniform(rng, 2.2, 3.6), "relaxed"
    elif place == "desk":
        wrist = [uniform(rng, -0.9, -0.2), uniform(rng, 1.9, 2.4), uniform(rng, 0.9, 1.4)]
        forward = [uniform(rng, 0.3, 1.0), uniform(rng, -0.1, 0.25), uniform(rng, 0.2, 0.8)]
        roll, shape = uniform(rng, 2.2, 3.6), ("relaxed", "fist", "cupped")[int(rng.integers(3))]
    else:
        wrist = [uniform(rng, -0.45, -0.15), uniform(rng, 0.75, 1.0), 0.55]
        forward = [uniform(rng, 0.1, 0.5), -1.0, -0.1]
        roll, shape = uniform(rng, 0.6, 1.8), ("fist", "cupped", "relaxed")[int(rng.integers(3))]
    f, n = frame_of(np.array(forward), roll)
    return Key(0.0, np.array(wrist), f, n, pose(rng, shape), moving=False)


class Path:
    """Builds the keys of one arm, from where it rests."""

    def __init__(self, rest: Key) -> None:
        self.rest = rest.at(0.0)
        self.keys = [self.rest]
        self.time_s = 0.0

    def go(
        self,
        duration_s: float,
        wrist: Floats | list[float],
        forward: Floats | list[float],
        roll: float,
        shape: Floats,
        bulge: list[float] | None = None,
    ) -> float:
        """Move there; returns the time of arrival."""
        self.time_s += duration_s
        f, n = frame_of(np.asarray(forward, float), roll)
        curve = None if bulge is None else np.array(bulge)
        self.keys.append(Key(self.time_s, np.array(wrist, float), f, n, shape, curve))
        return self.time_s

    def hold(self, rng: np.random.Generator, duration_s: float, drift: float = 0.03) -> float:
        """Stay there, as still as people can."""
        last = self.keys[-1]
        self.time_s += duration_s
        self.keys.append(
            Key(
                self.time_s,
                last.wrist + rng.normal(0.0, drift, 3),
                last.forward + rng.normal(0.0, drift, 3),
                last.normal,
                last.pose,
                moving=False,
            )
        )
        return self.time_s

    def back(self, rng: np.random.Generator, low_s: float = 0.35, high_s: float = 0.9) -> None:
        """Return to the rest, in an arc that sags."""
        self.time_s += uniform(rng, low_s, high_s)
        bulge = np.array([rng.normal(-0.1, 0.15), uniform(rng, 0.0, 0.3), uniform(rng, -0.2, 0.2)])
        rest = self.rest
        wrist = rest.wrist + rng.normal(0.0, 0.06, 3)
        self.keys.append(Key(self.time_s, wrist, rest.forward, rest.normal, rest.pose, bulge))


def _swipe_shape(rng: np.random.Generator) -> Floats:
    names = ("flat", "flat", "flat", "open", "open", "relaxed", "cupped", "two", "point")
    return pose(rng, names[int(rng.integers(len(names)))])


def _stroke_s(rng: np.random.Generator) -> float:
    return uniform(rng, 0.24, 0.5) if rng.random() < 0.6 else uniform(rng, 0.5, 0.85)


def _horizontal(rng: np.random.Generator, rest: Key, *, to_right: bool) -> Act:
    """A swipe across the image: the forearm turns about the elbow and the arm goes along."""
    shape = _swipe_shape(rng)
    height = uniform(rng, 0.35, 1.75)
    depth = uniform(rng, 0.7, 1.5)
    left = np.array([uniform(rng, -2.2, -0.9), height + rng.normal(0, 0.15), depth])
    right = np.array([uniform(rng, 0.0, 1.1), height + rng.normal(0, 0.15), depth])
    if right[0] - left[0] < 1.2:
        left[0] = right[0] - uniform(rng, 1.2, 1.7)
    # Direction of the fingers at both ends, as a clock hand: 0 is up, positive is right.
    spread = uniform(rng, 0.3, 1.0)
    angles = (-spread * uniform(rng, 0.5, 1.4), spread * uniform(rng, 0.6, 1.5))
    toward = uniform(rng, 0.0, 0.9)
    rolls = [uniform(rng, -0.4, 1.6), uniform(rng, 0.6, 3.0)]
    if rng.random() < 0.35:
        rolls[1] = rolls[0]
    ends = [
        (wrist, np.array([np.sin(a), -np.cos(a), toward]), roll)
        for wrist, a, roll in zip((left, right), angles, rolls, strict=True)
    ]
    if not to_right:
        ends.reverse()
    path = Path(rest)
    path.go(uniform(rng, 0.3, 0.7), *ends[0], shape, [rng.normal(-0.1, 0.15), 0.1, 0.1])
    start = path.hold(rng, uniform(rng, 0.04, 0.5))
    bulge = [0.0, rng.normal(-0.12, 0.12), uniform(rng, 0.0, 0.5)]
    end = path.go(_stroke_s(rng), *ends[1], shape + rng.normal(0, 0.06, 12), bulge)
    path.hold(rng, uniform(rng, 0.04, 0.7))
    path.back(rng)
    label = "Swiping Left" if to_right else "Swiping Right"
    return Act(label, tuple(path.keys), stroke=(start, end))


def _vertical(rng: np.random.Generator, rest: Key, *, upwards: bool) -> Act:
    """A swipe up or down in front of the chest or beside it, palm or edge or fingers first."""
    shape = _swipe_shape(rng)
    x = uniform(rng, -1.5, 0.2)
    depth = uniform(rng, 0.7, 1.5)
    high = np.array([x + rng.normal(0, 0.12), uniform(rng, -0.5, 0.7), depth])
    low = np.array([x + rng.normal(0, 0.15), uniform(rng, 1.3, 2.0), depth])
    low[1] = max(low[1], high[1] + uniform(rng, 0.95, 1.4))
    tilt = rng.normal(0.1, 0.3)
    style = rng.random()
    if style < 0.55:  # fingers hang or point ahead below, and point up above
        low_aim, high_aim = [tilt, uniform(rng, -0.3, 0.5), 0.9], [tilt, -1.0, uniform(rng, 0, 0.4)]
        rolls = (np.pi, 0.0) if upwards else (np.pi, np.pi)
        low_roll, high_roll = rolls[0] + rng.normal(0, 0.3), rolls[1] + rng.normal(0, 0.4)
        if upwards and rng.random() < 0.5:  # palm up all the way, towards the person above
            low_roll, high_roll = rng.normal(0, 0.3), np.pi + rng.normal(0, 0.3)
    elif style < 0.8:  # the forearm lies across the body
        low_aim = [1.0, uniform(rng, -0.3, 0.4), uniform(rng, 0.1, 0.5)]
        high_aim = [1.0, uniform(rng, -0.8, 0.1), uniform(rng, 0.1, 0.5)]
        low_roll = high_roll = (-1.6 if upwards else 1.6) + rng.normal(0, 0.35)
    else:  # the whole arm moves, the hand keeps its direction
        low_aim = high_aim = [tilt, -0.9, uniform(rng, 0.1, 0.8)]
        low_roll = high_roll = rng.normal(0, 0.5) + (np.pi if rng.random() < 0.3 else 0.0)
    ends = [(low, low_aim, low_roll), (high, high_aim, high_roll)]
    if not upwards:
        ends.reverse()
    path = Path(rest)
    path.go(uniform(rng, 0.3, 0.8), *ends[0], shape, [rng.normal(-0.15, 0.15), 0.1, 0.1])
    start = path.hold(rng, uniform(rng, 0.08, 0.5))
    bulge = [rng.normal(0.0, 0.1), 0.0, uniform(rng, 0.0, 0.4)]
    end = path.go(_stroke_s(rng), *ends[1], shape + rng.normal(0, 0.06, 12), bulge)
    path.hold(rng, uniform(rng, 0.06, 0.7))
    path.back(rng)
    label = "Swiping Up" if upwards else "Swiping Down"
    return Act(label, tuple(path.keys), stroke=(start, end))


def _swiping_left(rng: np.random.Generator, rest: Key) -> Act:
    return _horizontal(rng, rest, to_right=True)


def _swiping_right(rng: np.random.Generator, rest: Key) -> Act:
    return _horizontal(rng, rest, to_right=False)


def _swiping_up(rng: np.random.Generator, rest: Key) -> Act:
    return _vertical(rng, rest, upwards=True)


def _swiping_down(rng: np.random.Generator, rest: Key) -> Act:
    return _vertical(rng, rest, upwards=False)


def _sitting(rng: np.random.Generator, rest: Key) -> Act:
    path = Path(rest)
    for _ in range(int(rng.integers(1, 4))):
        path.hold(rng, uniform(rng, 0.8, 2.0), drift=0.02)
    return Act("No gesture", tuple(path.keys))


ACTORS: dict[str, tuple[Actor, ...]] = {
    "Swiping Left": (_swiping_left,),
    "Swiping Right": (_swiping_right,),
    "Swiping Up": (_swiping_up,),
    "Swiping Down": (_swiping_down,),
    "No gesture": (_sitting,),
}
"""Label -> the tracks that act it out, equally likely. :mod:`.others` adds the everyday ones."""


def act_out(rng: np.random.Generator, label: str, rest: Key) -> Act:
    """One performance of ``label`` that starts from ``rest``."""
    actors = ACTORS[label]
    return actors[int(rng.integers(len(actors)))](rng, rest)
