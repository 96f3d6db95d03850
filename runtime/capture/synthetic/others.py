"""What people do before a webcam that is no gesture: "Doing other things".

These are what a detector fires on by mistake, so they hold the same ingredients as the gestures:
hands that rise and drop, cross the image slowly, or swing without a stroke.
"""

from __future__ import annotations

import numpy as np

from shiftedge.runtime.capture.synthetic.hand import POSE_SIZE, Floats, pose
from shiftedge.runtime.capture.synthetic.labels import OTHER
from shiftedge.runtime.capture.synthetic.motion import Act, BodyKey, Key, Wobble
from shiftedge.runtime.capture.synthetic.tracks import ACTORS, Actor, Path, uniform

__all__ = ["OTHER_ACTORS"]

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
