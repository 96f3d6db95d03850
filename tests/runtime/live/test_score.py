"""Events against the truth."""

from __future__ import annotations

import pytest

from shiftedge.runtime.capture.synthetic import TrueEvent
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.live.score import LATE_S, score


def event(label: str, time_s: float) -> GestureEvent:
    return GestureEvent(time_s=time_s, label=label, index=1, confidence=0.9, start_s=time_s)


LEFT = TrueEvent("Swiping Left", 2.0, 2.6)
RIGHT = TrueEvent("Swiping Right", 5.0, 5.5)


def test_each_gesture_is_answered_once() -> None:
    result = score(
        [event("Swiping Left", 2.7), event("Swiping Left", 2.9), event("Swiping Right", 5.4)],
        [LEFT, RIGHT],
        10.0,
    )
    assert [(true.label, found.time_s) for true, found in result.recognised] == [
        ("Swiping Left", 2.7),
        ("Swiping Right", 5.4),
    ]
    assert [false.time_s for false in result.false] == [2.9]
    assert result.missed == ()
    assert result.delay_s == pytest.approx((0.1 - 0.1) / 2)


@pytest.mark.parametrize("time_s", [1.9, 2.6 + LATE_S + 0.01])
def test_an_event_at_another_time_is_false_and_the_gesture_missed(time_s: float) -> None:
    result = score([event("Swiping Left", time_s)], [LEFT], 10.0)
    assert (len(result.recognised), len(result.false), result.missed) == (0, 1, (LEFT,))
    assert result.delay_s is None


def test_another_label_is_false() -> None:
    result = score([event("Swiping Right", 2.5)], [LEFT], 10.0)
    assert (len(result.recognised), len(result.false), len(result.missed)) == (0, 1, 1)


def test_a_gesture_that_the_end_cut_off_is_not_missed() -> None:
    assert score([], [LEFT, RIGHT], 5.2).missed == (LEFT,)


def test_json_says_the_same() -> None:
    result = score([event("Swiping Left", 2.8), event("Stop Sign", 4.0)], [LEFT, RIGHT], 10.0)
    assert result.to_dict() == {
        "gestures": 2,
        "recognised": [{"label": "Swiping Left", "end_s": 2.6, "reported_s": 2.8}],
        "missed": [{"label": "Swiping Right", "end_s": 5.5}],
        "false": [{"label": "Stop Sign", "time_s": 4.0}],
        "delay_s": 0.2,
    }
