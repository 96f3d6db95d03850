"""Acts in a row: what both arms and the body do at any time, and what is true of each moment."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.gestures import ACTORS
from shiftedge.runtime.capture.synthetic.hand import Floats
from shiftedge.runtime.capture.synthetic.labels import (
    GESTURES,
    IGNORED,
    LABELS,
    MIRRORED,
    NO_GESTURE,
    OTHER,
    REVERSED,
    SLIDES,
    SWIPES,
)
from shiftedge.runtime.capture.synthetic.lens import SEEN, Lens, hand_path, into_view, share_seen
from shiftedge.runtime.capture.synthetic.motion import Act, BodyKey, Key, Wobble
from shiftedge.runtime.capture.synthetic.others import act_other
from shiftedge.runtime.capture.synthetic.ranges import Dice

DECIDED = 0.6
"""Share of a stroke after which it can be told from other movements."""
REPORT_S = 0.4
"""How long after its end a gesture still counts as seen, so that a decoder can fire late."""
_TRIES = 12
"""Draws of a gesture until one is in view."""
_RISING = ("Swiping Up", "Sliding Two Fingers Up")
"""The arm that rises runs into these strokes without a border."""


@dataclass(frozen=True)
class TrueEvent:
    """One gesture that happens: its stroke, from ``start_s`` to ``end_s``."""

    label: str
    start_s: float
    end_s: float
    hand: str = ""
    """"right" or "left", the performer's."""


@dataclass(frozen=True)
class _Span:
    """An act, from its rest to its rest."""

    label: str
    start_s: float
    end_s: float
    shown_until_s: float
    strokes: tuple[tuple[float, float], ...]


def act_out(dice: Dice, label: str, rest: Key) -> Act:
    """One performance of ``label`` by the right hand, from ``rest``."""
    return act_other(dice, rest) if label == OTHER else ACTORS[label](dice, rest)


def visible_act(dice: Dice, label: str, rest: Key, left: bool, lens: Lens) -> Act:
    """An act that shows ``label`` to the camera when the right or left hand does it."""
    wanted = MIRRORED.get(label, label) if left else label
    for _ in range(_TRIES):
        act = into_view(act_out(dice, wanted, rest), lens, left)
        paths = [hand_path(act, stroke, lens, left) for stroke in act.strokes]
        if all(share_seen(path, lens) >= SEEN for path in paths):
            break
    return act


def held_hand(dice: Dice, label: str, rest: Key, left: bool, lens: Lens) -> Key:
    """The hand held out where a gesture of ``label`` has ended, as a place to start from."""
    act = visible_act(dice, label, rest, left, lens)
    key = next(key for key in act.right if key.time_s >= act.strokes[0][1] - 1e-9)
    return replace(key, time_s=0.0, bulge=None, moving=False)


class Timeline:
    """Acts of one person, one after the other. The track of each starts and ends where the hand
    rests, the left one too as a right hand (it is drawn mirrored)."""

    def __init__(self, rest_right: Key, rest_left: Key) -> None:
        self._keys: tuple[list[Key], list[Key]] = ([rest_right.at(-1e3)], [rest_left.at(-1e3)])
        self._body: list[BodyKey] = [BodyKey(-1e3)]
        self._wobbles: tuple[list[Wobble], list[Wobble]] = ([], [])
        self._spans: list[_Span] = []
        self.events: list[TrueEvent] = []
        self.props: list[tuple[str, int, float, float]] = []
        """What is held: name, hand (0 right, 1 left), from, until."""
        self.camera: list[tuple[str, float, float]] = []
        """What happens to the camera: "shake" or "lamp", from, until."""
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
        wobbles = (act.left_wobbles, act.wobbles) if left else (act.wobbles, act.left_wobbles)
        for side, keys in enumerate(hands):
            self._wobbles[side].extend(
                replace(wobble, start_s=wobble.start_s + start_s, end_s=wobble.end_s + start_s)
                for wobble in wobbles[side]
            )
            if not keys:
                continue
            before = self._keys[side][-1]
            if not chained or before.time_s < start_s:
                first = replace(before.at(start_s), bulge=None, moving=False)
                self._keys[side].append(first)
            self._keys[side].extend(key.at(key.time_s + start_s) for key in keys[1:])
        mirror = -1.0 if left else 1.0
        self._body.extend(key.seen_at(start_s, mirror) for key in act.body)
        if act.prop:
            span = (act.prop_s[0] + start_s, act.prop_s[1] + start_s)
            self.props.append((act.prop, int(left), *span))
        self.end_s = start_s + act.end_s
        if act.camera:
            self.camera.append((act.camera, start_s, self.end_s))
        label = MIRRORED.get(act.label, act.label) if left else act.label
        strokes = tuple((first + start_s, last + start_s) for first, last in act.strokes)
        shown = act.shown_until_s + start_s if act.shown_until_s else 0.0
        self._spans.append(_Span(label, start_s, self.end_s, shown, strokes))
        hand = "left" if left else "right"
        self.events.extend(TrueEvent(label, *stroke, hand) for stroke in strokes)
        return self.end_s

    def cut_return(self, until_s: float) -> None:
        """Forget what the hands do after ``until_s``, so that the next act starts from there."""
        for keys in self._keys:
            while len(keys) > 1 and keys[-1].time_s > until_s + 1e-6:
                keys.pop()
        self.end_s = until_s
        if self._spans:
            self._spans[-1] = replace(self._spans[-1], end_s=until_s)

    def arm(self, side: int) -> tuple[tuple[Key, ...], tuple[Wobble, ...]]:
        """Keys and wobbles of the right (0) or left (1) arm, for ``arm_at``."""
        keys = self._keys[side]
        return (*keys, keys[-1].at(1e6)), tuple(self._wobbles[side])

    def body(self) -> tuple[BodyKey, ...]:
        """Keys of the body, for ``body_at``."""
        return (*self._body, replace(self._body[-1], time_s=1e6))

    def labels_at(self, times: Floats) -> NDArray[np.int8]:
        """Index into LABELS of what a decoder should say at each time, or IGNORED."""
        rest, other = LABELS.index(NO_GESTURE), LABELS.index(OTHER)
        result = np.full(len(times), rest, np.int8)
        moving = self._moving_at(times)
        for span in self._spans:
            inside = (times >= span.start_s) & (times <= span.end_s)
            # The first moments of a movement could become anything.
            begun = inside & (times >= span.start_s + 0.2)
            if span.label == OTHER:
                result[inside] = IGNORED
                result[begun] = other
            elif span.strokes:
                result[inside] = IGNORED
                first, last = span.strokes[0][0], span.strokes[-1][1]
                # The arm that rises to where the stroke begins is a movement like any other, but
                # a hand held out may mean something already.
                if span.label not in _RISING:
                    result[begun & moving & (times < first)] = other
                result[inside & (times > last)] = rest
                result[inside & (times > first) & moving] = other
        for span in self._spans:
            for start, stop in span.strokes:
                decided = start + DECIDED * (stop - start)
                report = max(stop + REPORT_S, span.shown_until_s)
                result[(times >= start) & (times < decided)] = IGNORED
                result[(times >= decided) & (times <= report)] = LABELS.index(span.label)
                # A hand that has just been shown goes on meaning it for a moment.
                if span.shown_until_s:
                    result[(times > report) & (times <= report + 0.2)] = IGNORED
        return result

    def _moving_at(self, times: Floats) -> NDArray[np.bool_]:
        moving = np.zeros(len(times), bool)
        for keys in self._keys:
            for before, key in itertools.pairwise(keys):
                if key.moving:
                    moving |= (times > before.time_s + 0.1) & (times < key.time_s)
        return moving

    @classmethod
    def around(
        cls, dice: Dice, label: str, rests: tuple[Key, Key], lens: Lens, seconds: float
    ) -> tuple[Timeline, float]:
        """One act of ``label`` and a window of ``seconds`` that shows what the label means.

        Returns:
            The timeline, and the time at which the window starts.
        """
        left = dice.happens("left")
        home = rests[int(left)]
        rest = home
        if label in SWIPES + SLIDES and dice.happens("from_hold"):
            rest = held_hand(dice, REVERSED[label], home, left, lens)
        act = visible_act(dice, label, rest, left, lens)
        if rest is not home:  # the hand has been held out: it goes to rest afterwards
            away = act.right[-1]
            away = replace(home, time_s=away.time_s, bulge=away.bulge, moving=True)
            act = replace(act, right=(*act.right[:-1], away))
        timeline = cls(rests[0] if left else rest, rest if left else rests[1])
        end = timeline.add(act, 0.0, left=left)
        if label in GESTURES:
            # At least 60% of the stroke and a little of what follows is in the window.
            start_s, end_s = act.strokes[dice.count(0, len(act.strokes))]
            first = max(end_s + 0.25 - seconds, -0.5)
            start = dice.even(first, max(min(start_s - 0.05, end), first))
        elif label == OTHER:
            start = dice.even(min(-0.3, end - seconds), max(0.35 * end, end - seconds))
        else:
            start = dice.even(0.0, 1.0)
        return timeline, start
