"""How each label is acted out: key poses drawn at random, as different people do it; and acts in
a row, with what is true of each moment.

A track is a function of a generator and the resting hand; it returns an :class:`Act` that begins
at 0 s with the hand where it rests. ``ACTORS`` maps a label to its tracks, so a new label is a new
entry. "Doing other things" is what a detector fires on by mistake, so its tracks hold the same
ingredients as the gestures: hands that rise and drop, cross the image slowly, or swing without a
stroke. Lengths are in heads; see :mod:`~shiftedge.runtime.capture.synthetic.motion` for the axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic import (
    IGNORED,
    LABELS,
    MIRRORED,
    NO_GESTURE,
    OPPOSITE,
    OTHER,
    SWIPES,
)
from shiftedge.runtime.capture.synthetic.motion import (
    POSE_SIZE,
    Act,
    BodyKey,
    Floats,
    Key,
    Lens,
    Wobble,
    frame_of,
    in_view,
    pose,
    uniform,
)

Actor = Callable[[np.random.Generator, Key], Act]


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


_STILL_POSE = np.zeros(POSE_SIZE)


def _pick(rng: np.random.Generator, *names: str) -> Floats:
    return pose(rng, names[int(rng.integers(len(names)))])


def _bend(amount: float) -> Floats:
    """Amplitude of fingers that drum."""
    return np.array([amount] * 4 + [0.4 * amount] * 4 + [0.0] * 4)


def _touch(rng: np.random.Generator, rest: Key) -> Act:
    """Scratch the head or the cheek, rub the nose, adjust glasses."""
    path = Path(rest)
    place = [uniform(rng, -0.6, 0.2), uniform(rng, -0.15, 0.95), uniform(rng, 0.3, 0.7)]
    shape = _pick(rng, "relaxed", "claw", "point", "pinch", "cupped", "fist")
    aim = [uniform(rng, 0.0, 0.7), -1.0, uniform(rng, -0.4, 0.1)]
    arrive = path.go(uniform(rng, 0.4, 0.9), place, aim, uniform(rng, 1.6, 3.6), shape)
    leave = path.hold(rng, uniform(rng, 0.5, 2.2))
    path.back(rng)
    wrist = rng.normal(0.0, 0.05, 3)
    rub = Wobble(arrive, leave, uniform(rng, 1.0, 4.5), wrist, _bend(uniform(rng, 0, 0.3)), wrist)
    tilt = rng.normal(0.0, 0.05)
    body = (
        BodyKey(0.0),
        BodyKey(arrive, roll=tilt, nod=uniform(rng, 0, 0.6)),
        BodyKey(leave, roll=tilt),
        BodyKey(path.time_s),
    )
    return Act(OTHER, tuple(path.keys), body=body, wobbles=(rub,))


def _drink(rng: np.random.Generator, rest: Key) -> Act:
    """A cup from the desk to the mouth and back; or a telephone to the ear."""
    prop = "cup" if rng.random() < 0.65 else "phone"
    path = Path(rest)
    shape = pose(rng, "grip")
    side = [uniform(rng, -1.6, -0.6), uniform(rng, 2.0, 2.5), 1.1]
    lift = path.go(uniform(rng, 0.4, 0.8), side, [0.7, 0.1, 0.7], uniform(rng, 1.2, 1.8), shape)
    if prop == "cup":
        place, aim, roll = [uniform(rng, -0.55, -0.3), 0.75, 0.75], [0.8, -0.4, -0.1], 1.5
    else:
        place, aim, roll = [uniform(rng, -0.75, -0.5), 0.6, 0.25], [0.15, -1.0, -0.1], 1.3
    path.go(uniform(rng, 0.5, 1.0), place, aim, roll + rng.normal(0, 0.2), shape)
    path.hold(rng, uniform(rng, 0.8, 2.5))
    put = path.go(uniform(rng, 0.5, 1.0), side, [0.7, 0.1, 0.7], 1.5, shape)
    path.back(rng)
    return Act(OTHER, tuple(path.keys), prop=prop, prop_s=(lift, put))


def _wave(rng: np.random.Generator, rest: Key) -> Act:
    """Wave, or wag a finger: many short turns, where a swipe is one long stroke."""
    path = Path(rest)
    place = [uniform(rng, -1.6, -0.1), uniform(rng, 0.0, 1.2), uniform(rng, 0.6, 1.2)]
    shape = _pick(rng, "open", "open", "flat", "point", "two", "relaxed")
    roll = uniform(rng, -0.5, 0.5)
    arrive = path.go(uniform(rng, 0.35, 0.8), place, [0.0, -1.0, 0.2], roll, shape)
    leave = path.hold(rng, uniform(rng, 1.0, 2.5))
    path.back(rng)
    swing = np.array([uniform(rng, 0.3, 0.8), 0.0, 0.0])
    wave = Wobble(arrive, leave, uniform(rng, 1.6, 3.6), swing * 0.35, _STILL_POSE, swing)
    return Act(OTHER, tuple(path.keys), wobbles=(wave,))


def _drum(rng: np.random.Generator, rest: Key) -> Act:
    """Drum fingers on the desk, or in the air."""
    path = Path(rest)
    low = rng.random() < 0.6
    height = uniform(rng, 1.7, 2.1) if low else uniform(rng, 0.3, 1.3)
    place = [uniform(rng, -1.0, 0.0), height, 1.1]
    aim = [0.3, uniform(rng, -0.2, 0.2), 0.8] if low else [0.0, -1.0, 0.3]
    shape = _pick(rng, "cupped", "relaxed", "claw")
    arrive = path.go(uniform(rng, 0.3, 0.7), place, aim, uniform(rng, 2.5, 3.8), shape)
    leave = path.hold(rng, uniform(rng, 1.0, 2.5))
    path.back(rng)
    still = np.array([0.0, 0.02, 0.0])
    rate, bend = uniform(rng, 2.0, 4.5), uniform(rng, 0.3, 0.6)
    drum = Wobble(arrive, leave, rate, still, _bend(bend), still)
    return Act(OTHER, tuple(path.keys), wobbles=(drum,))


def _rise_and_drop(rng: np.random.Generator, rest: Key) -> Act:
    """The hand comes up and goes down again, and no stroke happens between."""
    path = Path(rest)
    place = [uniform(rng, -1.7, 0.5), uniform(rng, -0.3, 1.5), uniform(rng, 0.5, 1.4)]
    shape = _pick(rng, "relaxed", "flat", "open", "fist", "point", "cupped")
    aim = [rng.normal(0.1, 0.4), -1.0, uniform(rng, 0.0, 0.9)]
    roll = uniform(rng, -0.5, 3.0)
    path.go(uniform(rng, 0.4, 1.0), place, aim, roll, shape, [rng.normal(-0.2, 0.2), 0.1, 0.1])
    path.hold(rng, uniform(rng, 0.1, 1.8))
    path.back(rng, 0.35, 1.0)
    return Act(OTHER, tuple(path.keys))


def _change_shape(rng: np.random.Generator, rest: Key) -> Act:
    """Numbers, pinches, snaps and turns of the hand in one place."""
    path = Path(rest)
    place = np.array([uniform(rng, -1.3, 0.0), uniform(rng, 0.2, 1.2), uniform(rng, 0.6, 1.3)])
    aim = np.array([rng.normal(0.1, 0.3), -1.0, uniform(rng, 0.0, 0.9)])
    roll = uniform(rng, -0.6, 3.0)
    turning = rng.random() < 0.4
    step = uniform(rng, 0.3, 0.8)
    for _ in range(int(rng.integers(2, 6))):
        roll += uniform(rng, 0.6, 1.6) if turning else rng.normal(0.0, 0.15)
        shape = _pick(rng, "point", "two", "claw", "pinch", "fist", "open", "thumb")
        path.go(step, place + rng.normal(0, 0.08, 3), aim + rng.normal(0, 0.1, 3), roll, shape)
        path.hold(rng, uniform(rng, 0.0, 0.4) + 0.02)
        step = uniform(rng, 0.15, 0.4)
    path.back(rng)
    return Act(OTHER, tuple(path.keys))


def _talk(rng: np.random.Generator, rest: Key) -> Act:
    """Gesticulate: short moves about one place, one or both hands."""

    def arm() -> tuple[Key, ...]:
        path = Path(rest)
        home = np.array([uniform(rng, -1.0, -0.2), uniform(rng, 1.0, 1.9), 1.1])
        for _ in range(int(rng.integers(3, 7))):
            shape = _pick(rng, "relaxed", "open", "cupped", "pinch", "point")
            aim = np.array([0.4, -0.6, 0.7]) + rng.normal(0.0, 0.3, 3)
            place = home + rng.normal(0.0, 0.22, 3)
            path.go(uniform(rng, 0.3, 0.7), place, aim, uniform(rng, -0.5, 3.0), shape)
        path.back(rng)
        return tuple(path.keys)

    return Act(OTHER, arm(), left=arm() if rng.random() < 0.6 else ())


def _reach(rng: np.random.Generator, rest: Key) -> Act:
    """Reach for something at the side or for the camera, slowly, and come back."""
    path = Path(rest)
    kind = rng.random()
    if kind < 0.45:
        place = [uniform(rng, -2.6, -1.4), uniform(rng, 1.6, 2.4), uniform(rng, 0.8, 1.4)]
        aim = [-0.6, 0.1, 0.8]
    elif kind < 0.7:
        place = [uniform(rng, -0.4, 0.3), uniform(rng, 0.2, 1.2), uniform(rng, 1.9, 2.2)]
        aim = [0.1, -0.4, 0.9]
    else:  # across the body
        place = [uniform(rng, 0.5, 1.1), uniform(rng, 1.5, 2.2), uniform(rng, 0.8, 1.2)]
        aim = [0.9, 0.0, 0.4]
    shape = _pick(rng, "cupped", "claw", "open", "relaxed")
    path.go(uniform(rng, 0.7, 1.3), place, aim, uniform(rng, 2.0, 3.6), shape)
    path.hold(rng, uniform(rng, 0.3, 1.2))
    path.back(rng, 0.7, 1.3)
    lean = rng.normal(0.0, 0.08)
    body = (BodyKey(0.0), BodyKey(path.time_s * 0.5, (lean, 0.0), lean), BodyKey(path.time_s))
    return Act(OTHER, tuple(path.keys), body=body)


def _shift_body(rng: np.random.Generator, rest: Key) -> Act:
    """Lean, turn to somebody, nod, bend forward or rise: the whole picture moves."""
    path = Path(rest)
    keys = [BodyKey(0.0)]
    time = 0.0
    for _ in range(int(rng.integers(1, 4))):
        time += uniform(rng, 0.3, 0.9)
        shift = (rng.normal(0.0, 0.4), rng.normal(0.0, 0.2))
        key = BodyKey(time, shift, rng.normal(0, 0.08), uniform(rng, -1, 1), rng.normal(0, 0.5))
        keys.append(key)
        time += uniform(rng, 0.05, 0.8)
        keys.append(BodyKey(time, key.shift, key.roll, key.yaw, key.nod))
    time += uniform(rng, 0.4, 0.9)
    keys.append(BodyKey(time))
    path.hold(rng, time)
    return Act(OTHER, tuple(path.keys), body=tuple(keys))


def _stretch(rng: np.random.Generator, rest: Key) -> Act:
    """Both arms up, or crossed, or to the head, and down again."""

    def arm(place: list[float], aim: list[float], roll: float, times: list[float]) -> list[Key]:
        path = Path(rest)
        path.go(times[0], place, aim, roll, shape, [-0.3, 0.0, 0.3])
        path.hold(rng, times[1])
        path.back(rng, times[2], times[2] + 0.01)
        return path.keys

    shape = _pick(rng, "relaxed", "fist", "open")
    times = [uniform(rng, 0.6, 1.1), uniform(rng, 0.5, 1.6), uniform(rng, 0.6, 1.0)]
    kind = rng.random()
    if kind < 0.4:
        place, aim, roll = [uniform(rng, -1.2, -0.3), -1.0, 0.2], [0.2, -1.0, 0.0], 0.3
    elif kind < 0.7:
        place, aim, roll = [0.1, 1.6, 0.8], [1.0, -0.3, 0.1], 3.0
    else:
        place, aim, roll = [-0.5, 0.0, -0.1], [0.5, -0.8, -0.3], 1.5
    right = arm(place, aim, roll, times)
    left = arm(place, aim, roll, times)
    return Act(OTHER, tuple(right), left=tuple(left))


OTHER_ACTORS: tuple[Actor, ...] = (
    _touch,
    _touch,
    _drink,
    _wave,
    _drum,
    _rise_and_drop,
    _rise_and_drop,
    _change_shape,
    _talk,
    _reach,
    _shift_body,
    _stretch,
)
"""The everyday tracks; one that stands twice is twice as likely."""

ACTORS[OTHER] = OTHER_ACTORS


DECIDED = 0.6
"""Share of a stroke after which it can be told from other movements."""
REPORT_S = 0.4
"""How long after its end a gesture still counts as seen, so that a decoder can fire late."""

_FROM_HOLD = 0.15
"""Share of swipes that start from where a swipe the other way has ended and the hand was held."""
_TRIES = 25
"""Draws of a gesture until one is in view."""


@dataclass(frozen=True)
class TrueEvent:
    """One gesture that happens: its stroke, from ``start_s`` to ``end_s``."""

    label: str
    start_s: float
    end_s: float


def _shift(key: Key, offset_s: float) -> Key:
    return key.at(key.time_s + offset_s)


class Timeline:
    """Acts of one person, one after the other.

    Args:
        rest_right: the right hand at rest; the track of each act starts and ends there.
        rest_left: the left hand at rest, as a right hand (it is drawn mirrored).
    """

    def __init__(self, rest_right: Key, rest_left: Key) -> None:
        self._rests = (rest_right, rest_left)
        self._keys: tuple[list[Key], list[Key]] = ([rest_right.at(-1e3)], [rest_left.at(-1e3)])
        self._body: list[BodyKey] = [BodyKey(-1e3)]
        self._wobbles: tuple[list[Wobble], list[Wobble]] = ([], [])
        self._spans: list[tuple[str, float, float]] = []
        self.events: list[TrueEvent] = []
        self.props: list[tuple[str, int, float, float]] = []
        """What is held: name, hand (0 right, 1 left), from, until."""
        self.end_s = 0.0

    def add(self, act: Act, start_s: float, *, left: bool = False, chained: bool = False) -> float:
        """Append an act; returns the time of its end.

        Args:
            act: as the right hand does it.
            start_s: not before the end of the act before.
            left: the left hand does it, so the image and a horizontal label are mirrored.
            chained: the act begins where the hand is now and not at its rest.
        """
        hands = (act.left, act.right) if left else (act.right, act.left)
        for side, keys in enumerate(hands):
            if not keys:
                continue
            moved = [_shift(key, start_s) for key in keys]
            before = self._keys[side][-1]
            first = replace(before.at(start_s), bulge=None, moving=False)
            if not chained or before.time_s < start_s:
                self._keys[side].append(first)
            self._keys[side].extend(moved[1:])
        mirror = -1.0 if left else 1.0
        self._body.extend(
            BodyKey(
                key.time_s + start_s,
                (mirror * key.shift[0], key.shift[1]),
                mirror * key.roll,
                mirror * key.yaw,
                key.nod,
            )
            for key in act.body
        )
        for wobble in act.wobbles:
            later = replace(wobble, start_s=wobble.start_s + start_s, end_s=wobble.end_s + start_s)
            self._wobbles[int(left)].append(later)
        if act.prop:
            span = (act.prop_s[0] + start_s, act.prop_s[1] + start_s)
            self.props.append((act.prop, int(left), *span))
        label = MIRRORED.get(act.label, act.label) if left else act.label
        self.end_s = start_s + act.end_s
        self._spans.append((label, start_s, self.end_s))
        if act.stroke is not None:
            event = TrueEvent(label, start_s + act.stroke[0], start_s + act.stroke[1])
            self.events.append(event)
        return self.end_s

    def cut_return(self, until_s: float) -> None:
        """Forget what the hands do after ``until_s``, so that the next act starts from there."""
        for keys in self._keys:
            while len(keys) > 1 and keys[-1].time_s > until_s + 1e-6:
                keys.pop()
        self.end_s = until_s
        if self._spans:
            label, start, _ = self._spans[-1]
            self._spans[-1] = (label, start, until_s)

    def arm(self, side: int) -> tuple[tuple[Key, ...], tuple[Wobble, ...]]:
        """Keys and wobbles of the right (0) or left (1) arm, for ``arm_at``."""
        keys = self._keys[side]
        return (*keys, keys[-1].at(1e6)), tuple(self._wobbles[side])

    def body(self) -> tuple[BodyKey, ...]:
        """Keys of the body, for ``body_at``."""
        return (*self._body, replace(self._body[-1], time_s=1e6))

    def labels_at(self, times: Floats) -> NDArray[np.int8]:
        """Index into LABELS of what a decoder should say at each time, or IGNORED."""
        result = np.full(len(times), LABELS.index(NO_GESTURE), np.int8)
        other = LABELS.index(OTHER)
        for label, start, end in self._spans:
            inside = (times >= start) & (times <= end)
            if label == OTHER:
                # The first moments of a movement could become anything.
                result[inside] = other
                result[inside & (times < start + 0.2)] = IGNORED
            elif label in SWIPES:
                result[inside] = IGNORED
        for event in self.events:
            self._label_stroke(result, times, event)
        return result

    def _label_stroke(self, result: NDArray[np.int8], times: Floats, event: TrueEvent) -> None:
        """Approach, stroke, report, hold and return of one gesture."""
        span = next(s for s in self._spans if s[1] <= event.start_s <= s[2])
        other, rest = LABELS.index(OTHER), LABELS.index(NO_GESTURE)
        decided = event.start_s + DECIDED * (event.end_s - event.start_s)
        report = event.end_s + REPORT_S
        # The arm that rises to where the stroke begins is a movement like any other; it must not
        # look like a swipe up. Only before a swipe up do the two run into one another.
        if event.label != "Swiping Up":
            result[(times >= span[1] + 0.2) & (times < event.start_s)] = other
        result[(times >= event.start_s) & (times < decided)] = IGNORED
        result[(times >= decided) & (times <= report)] = LABELS.index(event.label)
        after = (times > report) & (times <= span[2])
        result[after] = rest
        result[after & self._moving_at(times)] = other

    def _moving_at(self, times: Floats) -> NDArray[np.bool_]:
        moving = np.zeros(len(times), bool)
        for keys in self._keys:
            for before, key in itertools.pairwise(keys):
                if key.moving:
                    moving |= (times > before.time_s + 0.1) & (times < key.time_s)
        return moving

    @classmethod
    def around(
        cls,
        rng: np.random.Generator,
        label: str,
        rests: tuple[Key, Key],
        lens: Lens,
        seconds: float,
    ) -> tuple[Timeline, float]:
        """One act of ``label`` and a window of ``seconds`` that shows what the label means.

        Returns:
            The timeline, and the time at which the window starts.
        """
        left = bool(rng.random() < 0.5)
        rest = rests[int(left)]
        if label in SWIPES and rng.random() < _FROM_HOLD:
            rest = held_hand(rng, OPPOSITE[label], rest, left, lens)
        act = visible_act(rng, label, rest, left, lens)
        if rest is not rests[int(left)]:  # the hand has been held out: it goes to rest afterwards
            away, home = act.right[-1], rests[int(left)]
            away = replace(home, time_s=away.time_s, bulge=away.bulge, moving=True)
            act = replace(act, right=(*act.right[:-1], away))
        timeline = cls(rests[0] if left else rest, rest if left else rests[1])
        end = timeline.add(act, 0.0, left=left)
        if act.stroke is not None:
            # At least 60% of the stroke and a little of what follows is in the window.
            first = max(act.stroke[1] + 0.25 - seconds, -0.5)
            last = max(min(act.stroke[0] - 0.05, end), first)
            start = uniform(rng, first, last)
        elif label == OTHER:
            start = uniform(rng, min(-0.3, end - seconds), max(0.35 * end, end - seconds))
        else:
            start = uniform(rng, 0.0, 1.0)
        return timeline, start


def held_hand(rng: np.random.Generator, label: str, rest: Key, left: bool, lens: Lens) -> Key:
    """The hand held out where a gesture of ``label`` has ended, as a place to start from."""
    act = visible_act(rng, label, rest, left, lens)
    assert act.stroke is not None
    key = next(key for key in act.right if key.time_s >= act.stroke[1] - 1e-9)
    return replace(key, time_s=0.0, bulge=None, moving=False)


def visible_act(rng: np.random.Generator, label: str, rest: Key, left: bool, lens: Lens) -> Act:
    """An act that shows ``label`` to the camera when the right or left hand does it."""
    wanted = MIRRORED.get(label, label) if left else label
    act = act_out(rng, wanted, rest)
    for _ in range(_TRIES):
        if in_view(act, lens, left):
            break
        act = act_out(rng, wanted, rest)
    return act
