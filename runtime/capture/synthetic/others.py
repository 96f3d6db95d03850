"""What people do before a camera that is no gesture: "Doing other things".

These are what a detector fires on by mistake, so they hold the same ingredients as the gestures:
hands that rise and drop, cross the image slowly, or swing without a stroke. What would be a gesture
to somebody who looks on (a palm held to the camera, a thumb, an open hand that waves) is not here.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from shiftedge.runtime.capture.synthetic.acting import Actor, Path, Triple
from shiftedge.runtime.capture.synthetic.hand import POSE_SIZE, Floats
from shiftedge.runtime.capture.synthetic.labels import OTHER
from shiftedge.runtime.capture.synthetic.motion import Act, BodyKey, Key, Wobble
from shiftedge.runtime.capture.synthetic.ranges import Dice

_STILL_POSE = np.zeros(POSE_SIZE)
_STILL = np.zeros(3)


def _bend(amount: float) -> Floats:
    """Amplitude of fingers that drum."""
    return np.array([amount] * 4 + [0.4 * amount] * 4 + [0.0] * 4)


def _touch(dice: Dice, rest: Key) -> Act:
    """Scratch the head or the cheek, rub the nose, adjust glasses."""
    even = dice.even
    path = Path(dice, rest)
    place = [even(-0.6, 0.2), even(-0.15, 0.95), even(0.3, 0.7)]
    shape = dice.shape("relaxed", "claw", "point", "pinch", "cupped", "fist")
    aim = [even(0.0, 0.7), -1.0, even(-0.4, 0.1)]
    arrive = path.go(even(0.4, 0.9), place, aim, even(1.6, 3.6), shape)
    leave = path.hold(even(0.5, 2.2))
    path.back()
    wrist = dice.near3(0.05)
    rub = Wobble(arrive, leave, even(1.0, 4.5), wrist, _bend(even(0, 0.3)), wrist)
    tilt = dice.near(0.0, 0.05)
    body = (
        BodyKey(0.0),
        BodyKey(arrive, roll=tilt, nod=even(0, 0.6)),
        BodyKey(leave, roll=tilt),
        BodyKey(path.time_s),
    )
    return Act(OTHER, tuple(path.keys), body=body, wobbles=(rub,))


def _hold_thing(prop: str, dice: Dice, rest: Key) -> Act:
    """A cup from the desk to the mouth and back; or a telephone to the ear, or before the eyes."""
    even = dice.even
    path = Path(dice, rest)
    shape = dice.shape("grip")
    side = [even(-1.6, -0.6), even(2.0, 2.5), 1.1]
    lift = path.go(even(0.4, 0.8), side, [0.7, 0.1, 0.7], even(1.2, 1.8), shape)
    if prop == "cup":
        place, aim, roll = [even(-0.55, -0.3), 0.75, 0.75], [0.8, -0.4, -0.1], 1.5
    elif dice.chance(0.6):
        place, aim, roll = [even(-0.75, -0.5), 0.6, 0.25], [0.15, -1.0, -0.1], 1.3
    else:
        place, aim, roll = [even(-0.5, 0.0), even(1.0, 1.6), 0.9], [0.4, -0.9, 0.2], 3.1
    path.go(even(0.5, 1.0), place, aim, roll + dice.near(0, 0.2), shape)
    path.hold(even(0.8, 2.5))
    put = path.go(even(0.5, 1.0), side, [0.7, 0.1, 0.7], 1.5, shape)
    path.back()
    return Act(OTHER, tuple(path.keys), prop=prop, prop_s=(lift, put))


def _wag(dice: Dice, rest: Key) -> Act:
    """Wag a finger or beat time: many short turns, but of no open hand."""
    even = dice.even
    path = Path(dice, rest)
    place = [even(-1.6, -0.1), even(0.0, 1.2), even(0.6, 1.2)]
    shape = dice.shape("point", "point", "vee", "fist", "pinch")
    arrive = path.go(even(0.35, 0.8), place, [0.0, -1.0, 0.2], even(-0.5, 0.5), shape)
    leave = path.hold(even(1.0, 2.5))
    path.back()
    swing = np.array([even(0.3, 0.8), 0.0, 0.0])
    if dice.chance(0.3):
        swing = swing[[1, 0, 2]]
    wave = Wobble(arrive, leave, even(1.6, 3.6), swing * 0.35, _STILL_POSE, swing)
    return Act(OTHER, tuple(path.keys), wobbles=(wave,))


def _drum(dice: Dice, rest: Key) -> Act:
    """Drum fingers on the desk, or in the air."""
    even = dice.even
    path = Path(dice, rest)
    low = dice.chance(0.6)
    height = even(1.7, 2.1) if low else even(0.3, 1.3)
    place = [even(-1.0, 0.0), height, 1.1]
    aim = [0.3, even(-0.2, 0.2), 0.8] if low else [0.0, -1.0, 0.3]
    shape = dice.shape("cupped", "relaxed", "claw")
    arrive = path.go(even(0.3, 0.7), place, aim, even(2.5, 3.8), shape)
    leave = path.hold(even(1.0, 2.5))
    path.back()
    still = np.array([0.0, 0.02, 0.0])
    drum = Wobble(arrive, leave, even(2.0, 4.5), still, _bend(even(0.3, 0.6)), still)
    return Act(OTHER, tuple(path.keys), wobbles=(drum,))


def _type(dice: Dice, rest: Key) -> Act:
    """Both hands on a keyboard, and a look at it now and then."""
    even = dice.even
    rate, sides = even(2.5, 5.0), []
    length = even(1.0, 3.0)
    for _ in range(2):
        path = Path(dice, rest)
        place = [even(-0.6, -0.25), even(1.9, 2.3), even(1.0, 1.3)]
        arrive = path.go(even(0.4, 0.7), place, [0.2, -0.1, 1.0], np.pi, dice.shape("cupped"))
        leave = path.hold(length)
        path.back()
        own, wrist = rate * even(0.9, 1.1), np.array([0.04, 0.03, 0.0])
        tap = Wobble(arrive, leave, own, wrist, _bend(0.35), _STILL)
        sides.append((tuple(path.keys), tap))
    (right, tap), (left, other) = sides
    body = (BodyKey(0.0), BodyKey(0.6, nod=even(0.0, 0.8)), BodyKey(right[-1].time_s))
    return Act(OTHER, right, left=left, body=body, wobbles=(tap,), left_wobbles=(other,))


def _clap(dice: Dice, rest: Key) -> Act:
    """Clap, or rub both hands."""
    even = dice.even
    height, depth, apart = even(0.9, 1.7), even(0.7, 1.1), even(0.1, 0.3)
    rate, length, times = even(1.5, 4.0), even(0.8, 2.2), [even(0.4, 0.7), even(0.4, 0.8)]
    swing = np.array([-apart, 0.0, 0.0]) if dice.chance(0.7) else np.array([0.0, 0.12, 0.05])
    keys, claps = [], []
    for _ in range(2):
        path = Path(dice, rest)
        path.tempo = 1.0
        aim = [even(0.1, 0.4), -0.7, 0.6]
        place = [-0.12 - abs(swing[0]), height, depth]
        arrive = path.go(times[0], place, aim, np.pi / 2, dice.shape("flat"))
        leave = path.hold(length, 0.01)
        path.back(times[1], times[1] + 0.01)
        claps.append(Wobble(arrive, leave, rate, swing, _STILL_POSE, _STILL))
        keys.append(tuple(path.keys))
    return Act(OTHER, keys[0], left=keys[1], wobbles=(claps[0],), left_wobbles=(claps[1],))


def _raise_and_hold(dice: Dice, rest: Key) -> Act:
    """The hand comes up, stays, and goes down again, and no stroke happens between."""
    even = dice.even
    path = Path(dice, rest)
    if dice.chance(0.25):  # as at school: beside the head, all the way up
        place, aim = [even(-1.3, -0.7), even(-1.4, -0.5), even(0.0, 0.4)], [0.0, -1.0, 0.0]
        shape, roll = dice.shape("flat", "point", "relaxed"), even(0.9, 2.2)
    else:
        place = [even(-1.7, 0.5), even(-0.3, 1.5), even(0.5, 1.4)]
        aim = [dice.near(0.1, 0.4), -1.0, even(0.0, 0.9)]
        # An open hand shows its edge or its back: the palm would be a stop sign.
        shape, roll = dice.shape("relaxed", "fist", "point", "cupped"), even(-0.5, 3.0)
        if dice.chance(0.35):
            shape, roll = dice.shape("flat", "open"), even(1.3, 4.4)
    path.go(even(0.4, 1.0), place, aim, roll, shape, [dice.near(-0.2, 0.2), 0.1, 0.1])
    path.hold(even(0.1, 2.2))
    path.back(0.35, 1.0)
    return Act(OTHER, tuple(path.keys))


def _change_shape(dice: Dice, rest: Key) -> Act:
    """Numbers, pinches, snaps and turns of the hand in one place."""
    even, near = dice.even, dice.near
    path = Path(dice, rest)
    place = np.array([even(-1.3, 0.0), even(0.2, 1.2), even(0.6, 1.3)])
    aim = np.array([near(0.1, 0.3), -1.0, even(0.0, 0.9)])
    turning = dice.chance(0.4)
    roll = even(-0.6, 3.0)
    step = even(0.3, 0.8)
    for _ in range(dice.count(2, 6)):
        roll += even(0.6, 1.6) if turning else near(0.0, 0.15)
        shape = dice.shape("point", "vee", "three", "pinch", "fist", "cupped")
        path.go(step, place + dice.near3(0.08), aim + dice.near3(0.1), roll, shape)
        path.hold(even(0.02, 0.4))
        step = even(0.15, 0.4)
    path.back()
    return Act(OTHER, tuple(path.keys))


def _talk(dice: Dice, rest: Key) -> Act:
    """Gesticulate: short moves about one place, one or both hands."""
    even = dice.even

    def arm() -> tuple[Key, ...]:
        path = Path(dice, rest)
        home = np.array([even(-1.0, -0.2), even(1.0, 1.9), 1.1])
        for _ in range(dice.count(3, 7)):
            shape = dice.shape("relaxed", "open", "cupped", "pinch", "point")
            aim = np.array([0.4, -0.6, 0.7]) + dice.near3(0.3)
            place = home + dice.near3(0.22)
            path.go(even(0.3, 0.7), place, aim, even(0.8, 3.0), shape)
        path.back()
        return tuple(path.keys)

    return Act(OTHER, arm(), left=arm() if dice.chance(0.6) else ())


def _reach(dice: Dice, rest: Key) -> Act:
    """Reach for something at the side or for the camera, slowly, and come back."""
    even = dice.even
    path = Path(dice, rest)
    kind = dice.rng.random()
    if kind < 0.45:
        place, aim = [even(-2.6, -1.4), even(1.6, 2.4), even(0.8, 1.4)], [-0.6, 0.1, 0.8]
    elif kind < 0.7:
        place, aim = [even(-0.4, 0.3), even(0.2, 1.2), even(1.9, 2.2)], [0.1, -0.4, 0.9]
    else:  # across the body
        place, aim = [even(0.5, 1.1), even(1.5, 2.2), even(0.8, 1.2)], [0.9, 0.0, 0.4]
    shape = dice.shape("cupped", "claw", "relaxed")
    path.go(even(0.7, 1.3), place, aim, even(2.0, 3.6), shape)
    path.hold(even(0.3, 1.2))
    path.back(0.7, 1.3)
    lean = dice.near(0.0, 0.08)
    body = (BodyKey(0.0), BodyKey(path.time_s * 0.5, (lean, 0.0), lean), BodyKey(path.time_s))
    return Act(OTHER, tuple(path.keys), body=body)


def _shift_body(dice: Dice, rest: Key) -> Act:
    """Lean, turn to somebody or away, nod, bend forward: the whole picture moves."""
    even, near = dice.even, dice.near
    path = Path(dice, rest)
    keys = [BodyKey(0.0)]
    time = 0.0
    for _ in range(dice.count(1, 4)):
        time += even(0.3, 0.9) * path.tempo
        shift = (near(0.0, 0.4), near(0.0, 0.2))
        key = BodyKey(time, shift, near(0, 0.08), even(-1, 1), near(0, 0.5))
        keys.append(key)
        time += even(0.05, 0.8)
        keys.append(BodyKey(time, key.shift, key.roll, key.yaw, key.nod))
    time += even(0.4, 0.9)
    keys.append(BodyKey(time))
    path.hold(time)
    return Act(OTHER, tuple(path.keys), body=tuple(keys))


def _walk(dice: Dice, rest: Key) -> Act:
    """Go out of the picture at a side and come in again; the arms swing a little."""
    even = dice.even
    side = even(2.5, 9.0) * (1.0 if dice.chance(0.5) else -1.0)
    path = Path(dice, rest)
    keys = [BodyKey(0.0)]
    time = 0.0
    for start, stop in ((0.0, side), (side, 0.0)):
        step_s = even(0.35, 0.5) * path.tempo
        count = max(2, round(abs(side) / even(1.0, 1.6)))
        for number, place in enumerate(np.linspace(start, stop, count + 1)[1:], 1):
            time += step_s
            shift, turned = (float(place), 0.06 * (number % 2)), float(np.sign(stop - start))
            keys.append(BodyKey(time, shift, 0.02 * (-1) ** number, turned))
        time += even(0.1, 0.8)
        keys.append(BodyKey(time, (stop, 0.0)))
    path.hold(time, 0.02)
    swing = Wobble(0.0, time, 1.1, np.array([0.12, 0.03, 0.1]), _STILL_POSE, _STILL)
    return Act(OTHER, tuple(path.keys), body=tuple(keys), wobbles=(swing,))


def _sit_down(dice: Dice, rest: Key) -> Act:
    """Stand up, which may take the head out of the picture, and sit down again."""
    even = dice.even
    path = Path(dice, rest)
    up = (dice.near(0.0, 0.4), -even(1.2, 1.9))
    between = (0.5 * up[0], 0.45 * up[1])
    times = np.cumsum([0.0, even(0.3, 0.6), even(0.3, 0.6), even(0.2, 1.2), even(0.3, 0.6), 0.4])
    places = [(0.0, 0.0), between, up, up, between, (0.0, 0.0)]
    body = tuple(
        BodyKey(float(time) * path.tempo, place, nod=0.5 * (place is between))
        for time, place in zip(times, places, strict=True)
    )
    path.hold(body[-1].time_s, 0.03)
    return Act(OTHER, tuple(path.keys), body=body)


def _stretch(dice: Dice, rest: Key) -> Act:
    """Both arms up, or crossed, or to the head, and down again."""
    even = dice.even

    def arm(place: list[float], aim: list[float], roll: float, times: list[float]) -> list[Key]:
        path = Path(dice, rest)
        path.tempo = 1.0
        path.go(times[0], place, aim, roll, shape, [-0.3, 0.0, 0.3])
        path.hold(times[1])
        path.back(times[2], times[2] + 0.01)
        return path.keys

    shape = dice.shape("relaxed", "fist")
    times = [even(0.6, 1.1), even(0.5, 1.6), even(0.6, 1.0)]
    kind = dice.rng.random()
    if kind < 0.4:
        place, aim, roll = [even(-1.2, -0.3), -1.0, 0.2], [0.2, -1.0, 0.0], 0.3
    elif kind < 0.7:
        place, aim, roll = [0.1, 1.6, 0.8], [1.0, -0.3, 0.1], 3.0
    else:
        place, aim, roll = [-0.5, 0.0, -0.1], [0.5, -0.8, -0.3], 1.5
    return Act(OTHER, tuple(arm(place, aim, roll, times)), left=tuple(arm(place, aim, roll, times)))


def _cross(dice: Dice, rest: Key) -> Act:
    """A hand that wanders over the image with stops and turns: for a fly, a page, a stain."""
    path = Path(dice, rest)
    even = dice.even
    place: Triple = [even(-1.8, 0.6), even(0.4, 1.8), even(0.6, 1.2)]
    shape = dice.shape("relaxed", "point", "pinch", "cupped")
    aim, roll = [dice.near(0.1, 0.4), -1.0, even(0.2, 0.9)], even(0.0, 3.0)
    path.go(even(0.5, 0.9), place, aim, roll, shape)
    for _ in range(dice.count(2, 5)):
        place = np.asarray(place) + dice.near3(0.35) * np.array([1.0, 1.0, 0.3])
        path.go(even(0.25, 0.7), place, aim, roll + dice.near(0.0, 0.2), shape)
        path.hold(even(0.03, 0.3))
    path.back()
    return Act(OTHER, tuple(path.keys))


def _camera(what: str, dice: Dice, rest: Key) -> Act:
    """Somebody knocks against the desk or turns the camera, or switches a lamp."""
    path = Path(dice, rest)
    path.hold(dice.even(0.8, 2.5), 0.02)
    return Act(OTHER, tuple(path.keys), camera=what)


OF_HANDS: tuple[Actor, ...] = (
    *((_touch,) * 2),
    *(partial(_hold_thing, thing) for thing in ("cup", "phone")),
    *(_wag, _drum, *(_raise_and_hold,) * 3, _change_shape, _talk, _reach, _shift_body, _stretch),
)
"""The everyday tracks of who stays in place; one that stands twice is twice as likely."""
LIVELY: tuple[Actor, ...] = (
    *(_type, _clap, _cross, _walk, _sit_down),
    *(partial(_camera, what) for what in ("shake", "lamp")),
)
"""Those of a livelier place."""


def act_other(dice: Dice, rest: Key) -> Act:
    tracks = LIVELY if dice.happens("lively") else OF_HANDS
    return tracks[dice.count(0, len(tracks))](dice, rest)
