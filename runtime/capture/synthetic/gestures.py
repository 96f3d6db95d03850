"""How each gesture is acted out: key poses drawn at random, as different people do it.

``ACTORS`` maps a label to its track; a new label is a new entry. Every act has its label's strokes
and begins and ends with the hand at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from shiftedge.runtime.capture.synthetic.acting import Actor, Axes, Path
from shiftedge.runtime.capture.synthetic.hand import Floats, frame_by_thumb, frame_of
from shiftedge.runtime.capture.synthetic.labels import NO_GESTURE, SLIDES, SWIPES
from shiftedge.runtime.capture.synthetic.motion import Act, Key, Wobble
from shiftedge.runtime.capture.synthetic.ranges import Dice

_FORMED_S, _SURE_S = 0.25, 0.35
"""A held sign's stroke: from this long before the hand arrives to this long after."""
_STILL = np.zeros(12)

_End = tuple[Floats, Axes]
"""Where a stroke begins or ends: wrist and axes of the hand."""


def _swipe_shape(dice: Dice) -> Floats:
    return dice.shape("flat", "flat", "flat", "open", "open", "relaxed", "cupped", "point")


def _stroke(
    label: str, dice: Dice, rest: Key, ends: tuple[_End, _End], shape: Floats, bulge: Floats
) -> Act:
    """From one end to the other, and perhaps back the same way and once more."""
    path = Path(dice, rest)
    arch = [dice.near(-0.12, 0.15), 0.1, 0.1]
    path.to(dice.even(0.3, 0.8) * path.tempo, *ends[0], shape, arch)
    strokes = []
    for again in (False, True):
        start = path.hold(dice.of("hold_s"))
        follow = shape + dice.rng.normal(0.0, 0.06, 12)
        duration_s = dice.of("stroke_s")
        strokes.append((start, path.to(duration_s, *ends[1], follow, bulge)))
        if again or not dice.happens("return_stroke"):
            break
        # Back the way it came, for another stroke or for no reason: with less care.
        path.hold(dice.even(0.03, 0.25), 0.02)
        wrist, axes = ends[0]
        sag = bulge + np.array([0.0, dice.even(0.0, 0.25), dice.even(-0.4, 0.0)])
        loose = 0.6 * follow + 0.4 * dice.shape("relaxed")
        path.to(duration_s * dice.even(0.9, 2.0), wrist + dice.near3(0.1), axes, loose, sag)
        if not dice.happens("repeat"):
            break
    path.hold(min(dice.of("hold_s"), 0.7))
    path.back()
    return Act(label, tuple(path.keys), strokes=tuple(strokes))


def _horizontal(label: str, dice: Dice, rest: Key, *, to_right: bool, two: bool) -> Act:
    """Across the image: the forearm turns about the elbow and the arm goes along."""
    even, near = dice.even, dice.near
    shape = dice.shape("two") if two else _swipe_shape(dice)
    height, depth = even(0.35, 1.75), even(0.7, 1.5)
    left = np.array([even(-2.2, -0.9), height + near(0, 0.15), depth])
    right = np.array([even(0.0, 1.1), height + near(0, 0.15), depth])
    if right[0] - left[0] < 1.2:
        left[0] = right[0] - even(1.2, 1.7)
    middle, half = 0.5 * (left + right), 0.5 * (right - left)
    half = half * dice.of("travel") * (even(0.5, 0.9) if two else 1.0)
    # Direction of the fingers at both ends, as a clock hand: 0 is up, positive is right.
    spread = even(0.1, 0.5) if two else even(0.3, 1.0)
    angles = (-spread * even(0.5, 1.4), spread * even(0.6, 1.5))
    toward = even(0.0, 0.9)
    rolls = [even(-0.4, 0.8), even(-0.4, 0.8)] if two else [even(-0.4, 1.6), even(0.6, 3.0)]
    if dice.chance(0.35):
        rolls[1] = rolls[0]
    ends = [
        (wrist, frame_of(np.array([np.sin(a), -np.cos(a), toward]), roll))
        for wrist, a, roll in zip((middle - half, middle + half), angles, rolls, strict=True)
    ]
    if not to_right:
        ends.reverse()
    bulge = np.array([0.0, near(-0.12, 0.12), even(0.0, 0.5)])
    return _stroke(label, dice, rest, (ends[0], ends[1]), shape, bulge)


def _vertical(label: str, dice: Dice, rest: Key, *, upwards: bool, two: bool) -> Act:
    """Up or down in front of the chest or beside it, palm or edge or fingers first."""
    even, near = dice.even, dice.near
    shape = dice.shape("two") if two else _swipe_shape(dice)
    x, depth = even(-1.5, 0.2), even(0.7, 1.5)
    high = np.array([x + near(0, 0.12), even(-0.5, 0.7), depth])
    low = np.array([x + near(0, 0.15), even(1.3, 2.0), depth])
    low[1] = max(low[1], high[1] + even(0.95, 1.4))
    middle, half = 0.5 * (high + low), 0.5 * (low - high)
    half = half * dice.of("travel") * (even(0.55, 0.9) if two else 1.0)
    tilt = near(0.1, 0.3)
    style = 0.6 + 0.4 * dice.rng.random() if two else dice.rng.random()
    if style < 0.55:  # fingers hang or point ahead below, and point up above
        low_aim, high_aim = [tilt, even(-0.3, 0.5), 0.9], [tilt, -1.0, even(0, 0.4)]
        rolls = (np.pi, 0.0) if upwards else (np.pi, np.pi)
        low_roll, high_roll = rolls[0] + near(0, 0.3), rolls[1] + near(0, 0.4)
        if upwards and dice.chance(0.5):  # palm up all the way, towards the person above
            low_roll, high_roll = near(0, 0.3), np.pi + near(0, 0.3)
    elif style < 0.8:  # the forearm lies across the body
        low_aim = [1.0, even(-0.3, 0.4), even(0.1, 0.5)]
        high_aim = [1.0, even(-0.8, 0.1), even(0.1, 0.5)]
        low_roll = high_roll = (-1.6 if upwards else 1.6) + near(0, 0.35)
    else:  # the whole arm moves, the hand keeps its direction
        low_aim = high_aim = [tilt, -0.9, even(0.1, 0.8)]
        low_roll = high_roll = near(0, 0.4 if two else 0.5)
        if not two and dice.chance(0.3):
            low_roll = high_roll = low_roll + np.pi
    ends = [
        (middle + half, frame_of(np.array(low_aim), low_roll)),
        (middle - half, frame_of(np.array(high_aim), high_roll)),
    ]
    if not upwards:
        ends.reverse()
    bulge = np.array([near(0.0, 0.1), 0.0, even(0.0, 0.4)])
    return _stroke(label, dice, rest, (ends[0], ends[1]), shape, bulge)


def _sign(label: str, path: Path, arrive: float, leave: float, wobble: Wobble | None = None) -> Act:
    """An act whose meaning is there from shortly before ``arrive`` until ``leave``."""
    stroke = (arrive - _FORMED_S, arrive + _SURE_S)
    wobbles = () if wobble is None else (wobble,)
    return Act(label, tuple(path.keys), wobbles=wobbles, strokes=(stroke,), shown_until_s=leave)


def _thumb(label: str, dice: Dice, rest: Key, *, up: bool) -> Act:
    """A fist before the chest or beside it, seen from its fingers, its thumb up or down."""
    even, near = dice.even, dice.near
    path = Path(dice, rest)
    place = [even(-1.3, 0.1), even(0.5, 1.6), even(0.7, 1.4)]
    turn = even(0.1, 1.35)  # from across the body to straight at the camera
    forward = np.array([np.cos(turn), near(0.0, 0.15), np.sin(turn)])
    thumb = np.array([near(0.0, 0.22), -1.0 if up else 1.0, near(0.0, 0.2)])
    axes = frame_by_thumb(forward, thumb)
    shape = dice.shape("thumb")
    arch = [near(-0.15, 0.15), 0.1, 0.1]
    arrive = path.to(even(0.4, 0.9) * path.tempo, place, axes, shape, arch)
    leave = path.hold(max(dice.of("shown_s"), _SURE_S + 0.1))
    nod = Wobble(
        arrive, leave, even(1.0, 2.5), np.array([0.0, even(0.0, 0.08), 0.03]), _STILL, np.zeros(3)
    )
    path.back()
    return _sign(label, path, arrive, leave, nod if dice.chance(0.4) else None)


def _stop(label: str, dice: Dice, rest: Key) -> Act:
    """The palm to the camera, fingers up, held."""
    even, near = dice.even, dice.near
    path = Path(dice, rest)
    place = [even(-1.3, 0.2), even(0.1, 1.4), even(0.8, 1.7)]
    axes = frame_of(np.array([near(0.0, 0.15), -1.0, even(-0.05, 0.3)]), near(0.0, 0.25))
    shape = dice.shape("open", "open", "flat", "spread")
    arrive = path.to(even(0.35, 0.9) * path.tempo, place, axes, shape, [near(-0.1, 0.1), 0.1, -0.2])
    leave = path.hold(max(dice.of("shown_s"), _SURE_S + 0.1))
    path.back()
    return _sign(label, path, arrive, leave)


def _shake(label: str, dice: Dice, rest: Key) -> Act:
    """An open hand that turns to and fro: short turns, where a swipe is one long stroke."""
    even = dice.even
    path = Path(dice, rest)
    place = [even(-1.5, 0.0), even(0.0, 1.3), even(0.6, 1.3)]
    shape = dice.shape("open", "open", "flat", "spread", "relaxed")
    arrive = path.go(even(0.35, 0.8), place, [0.0, -1.0, 0.2], even(-0.4, 0.4), shape)
    rate = even(1.5, 3.8)
    leave = path.hold(max(1.2 * dice.of("shown_s"), 1.9 / rate))
    path.back()
    swing = np.array([even(0.3, 0.8), 0.0, 0.0])
    wave = Wobble(arrive, leave, rate, swing * even(0.2, 0.5), _STILL, swing)
    stroke = (arrive, arrive + 1.6 / rate)
    return Act(label, tuple(path.keys), wobbles=(wave,), strokes=(stroke,), shown_until_s=leave)


def _zoom(label: str, dice: Dice, rest: Key, *, spreads: bool) -> Act:
    """All fingers together, then apart, as if to pull a picture larger; or the other way."""
    even, near = dice.even, dice.near
    path = Path(dice, rest)
    place = np.array([even(-1.2, 0.1), even(0.2, 1.4), even(0.8, 1.5)])
    aim, roll = [near(0.1, 0.2), -1.0, even(0.0, 0.7)], near(0.2, 0.35)
    shapes = [dice.shape("bunch", "bunch", "fist"), dice.shape("spread", "spread", "open")]
    if not spreads:
        shapes.reverse()
    path.go(even(0.35, 0.8), place, aim, roll, shapes[0], [near(-0.1, 0.1), 0.1, 0.1])
    start = path.hold(min(dice.of("hold_s"), 0.4), 0.02)
    drift = dice.near3(0.06)
    stop = start + min(dice.of("stroke_s"), 1.4)
    path.to(stop - start, place + drift, frame_of(np.array(aim), roll), shapes[1], None)
    path.hold(min(dice.of("hold_s"), 0.6), 0.02)
    path.back()
    return Act(label, tuple(path.keys), strokes=((start, stop),))


def _push(label: str, dice: Dice, rest: Key, *, away: bool) -> Act:
    """From the chest towards the camera, palm first; or from there to the chest."""
    even, near = dice.even, dice.near
    near_chest = np.array([even(-0.8, 0.0), even(0.6, 1.6), even(0.35, 0.6)])
    out = near_chest + np.array([near(0.0, 0.2), near(-0.15, 0.25), 0.0])
    out[2] = near_chest[2] + even(0.95, 1.5) * dice.of("travel")
    tilt = near(0.05, 0.2)
    towards = 0.0 if away or dice.chance(0.25) else np.pi
    shape = dice.shape("open", "open", "flat", "spread" if away else "cupped")
    ends = [
        (place, frame_of(np.array([tilt, -1.0, even(0.0, lean)]), towards + near(0.0, 0.25)))
        for place, lean in ((near_chest, 0.2), (out, 0.35))
    ]
    if not away:
        ends.reverse()
    path = Path(dice, rest)
    path.to(even(0.35, 0.8) * path.tempo, *ends[0], shape, [near(-0.1, 0.15), 0.1, 0.1])
    start = path.hold(min(dice.of("hold_s"), 0.3), 0.02)
    stop = start + dice.of("stroke_s")
    path.to(stop - start, *ends[1], shape + dice.rng.normal(0.0, 0.05, 12), None)
    path.hold(min(dice.of("hold_s"), 0.6))
    path.back()
    return Act(label, tuple(path.keys), strokes=((start, stop),))


def _sitting(label: str, dice: Dice, rest: Key) -> Act:
    path = Path(dice, rest)
    for _ in range(dice.count(1, 4)):
        path.hold(dice.even(0.8, 2.0), drift=0.02)
    return Act(label, tuple(path.keys))


ACTORS: dict[str, Actor] = {
    NO_GESTURE: partial(_sitting, NO_GESTURE),
    "Stop Sign": partial(_stop, "Stop Sign"),
    "Shaking Hand": partial(_shake, "Shaking Hand"),
}
"""Label -> the track that acts it out with the right hand."""


def _name(track: Callable[..., Act], labels: Sequence[str], flag: str, **more: bool) -> None:
    """Two labels that are opposites by ``flag``, which is true of the first."""
    for label, truth in zip(labels, (True, False), strict=True):
        ACTORS[label] = partial(track, label, **{flag: truth}, **more)


_name(_thumb, ("Thumb Up", "Thumb Down"), "up")
_name(_zoom, ("Zooming In With Full Hand", "Zooming Out With Full Hand"), "spreads")
_name(_push, ("Pushing Hand Away", "Pulling Hand In"), "away")
for _names, _two in ((SWIPES, False), (SLIDES, True)):
    _name(_horizontal, _names[:2], "to_right", two=_two)
    _name(_vertical, _names[2:], "upwards", two=_two)
