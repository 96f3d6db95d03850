"""Acts in a row: what both arms and the body do at any time, and what is true of each moment."""

from __future__ import annotations

import itertools
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
from shiftedge.runtime.capture.synthetic.acts import act_out
from shiftedge.runtime.capture.synthetic.motion import (
    Act,
    BodyKey,
    Floats,
    Key,
    Lens,
    Wobble,
    in_view,
    uniform,
)

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
            moved = [key.at(key.time_s + start_s) for key in keys]
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
