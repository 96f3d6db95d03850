"""How each label is acted out: key poses drawn at random, as different people do it.

A track is a function of a generator and the resting hand; it returns an :class:`Act` that begins
at 0 s with the hand where it rests. ``ACTORS`` maps a label to its tracks, so a new label is a new
entry. "Doing other things" is what a detector fires on by mistake, so its tracks hold the same
ingredients as the gestures: hands that rise and drop, cross the image slowly, or swing without a
stroke. Lengths are in heads; see :mod:`~shiftedge.runtime.capture.synthetic.motion` for the axes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from shiftedge.runtime.capture.synthetic import (
    OTHER,
)
from shiftedge.runtime.capture.synthetic.motion import (
    POSE_SIZE,
    Act,
    BodyKey,
    Floats,
    Key,
    Wobble,
    frame_of,
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


def _sitting(rng: np.random.Generator, rest: Key) -> Act:
    path = Path(rest)
    for _ in range(int(rng.integers(1, 4))):
        path.hold(rng, uniform(rng, 0.8, 2.0), drift=0.02)
    return Act("No gesture", tuple(path.keys))


ACTORS: dict[str, tuple[Actor, ...]] = {
    "Swiping Left": (partial(_horizontal, to_right=True),),
    "Swiping Right": (partial(_horizontal, to_right=False),),
    "Swiping Up": (partial(_vertical, upwards=True),),
    "Swiping Down": (partial(_vertical, upwards=False),),
    "No gesture": (_sitting,),
}
"""Label -> the tracks that act it out, equally likely; below, the everyday ones are added."""


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


ACTORS[OTHER] = (
    *(_touch, _touch, _drink, _wave, _drum, _rise_and_drop, _rise_and_drop),
    *(_change_shape, _talk, _reach, _shift_body, _stretch),
)
"""A track that stands twice is twice as likely."""
