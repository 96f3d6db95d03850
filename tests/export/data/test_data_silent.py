"""Labels without a gesture, and labels with a direction, told by their names."""

from __future__ import annotations

import pytest

from shiftedge.export.data import looks_silent, silent_labels
from shiftedge.export.training.augment import mirror_table
from shiftedge.runtime.errors import SpecError


@pytest.mark.parametrize(
    "label",
    ["No gesture", "no gesture", "no_gesture", "NoGesture", "NO-GESTURE", "non-gesture",
     "Doing other things", "doing_nothing", "None", "none", "background", "Background", "bg",
     "nothing", "negative", "idle", "other", "others", "Other things", "unknown", "neutral",
     "00_background", "14. No gesture", "none2", "D0X", "__background__", "unlabelled",
     "keine", "Arri\u00e8re-plan", "背景", "배경", "なし"],
)  # fmt: skip
def test_usual_names_are_silent(label: str) -> None:
    assert looks_silent(label)
    assert silent_labels(("left", label)) == (label,)


@pytest.mark.parametrize(
    "label",
    ["Swiping Left", "Stop Sign", "nod", "note", "OK", "another hand", "Thumb Up", "5", "", "no",
     "nonet", "restart", "idle hands up"],
)  # fmt: skip
def test_gestures_are_not(label: str) -> None:
    assert not looks_silent(label)


def test_the_user_says_which() -> None:
    labels = ("left", "Stillstand", "none")
    assert silent_labels(labels) == ("none",)
    assert silent_labels(labels, ["Stillstand"]) == ("Stillstand", "none")
    assert silent_labels(labels, ["still_stand"], usual=False) == ("Stillstand",)
    assert silent_labels(labels, usual=False) == ()


def test_an_unknown_label_is_answered_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="There is no label 'nogestur' to be silent; did you mean"):
        silent_labels(("left", "no_gesture"), ["nogestur"])
    with pytest.raises(SpecError, match="the nearest are 'swipe_left', 'swipe_right'"):
        silent_labels(("swipe_left", "swipe_right", "x"), ["swipe"])
    with pytest.raises(SpecError, match=r"the labels are '0', '1', .* and 5 more"):
        silent_labels([str(number) for number in range(10)], ["zzz"])


@pytest.mark.parametrize(
    ("names", "partners"),
    [
        (("No gesture", "Swiping Left", "Swiping Right", "Swiping Up"), [0, 2, 1, 3]),
        (("left", "right", "none"), [1, 0, 2]),
        (("swipe_l", "swipe_r"), [1, 0]),
        (("swipeLeft", "swipeRight"), [1, 0]),
        (("Turning Hand Clockwise", "Turning Hand Counterclockwise"), [1, 0]),
        (("turn counter-clockwise", "turn clockwise", "turn cw"), [2, 0, 0]),
        (("Sliding Two Fingers Left", "Sliding Two Fingers Right"), [1, 0]),
        (("nach links", "nach rechts", "rest"), [1, 0, 2]),
        (("向左", "向右"), [1, 0]),
        (("left", "up"), [-1, 1]),
        (("0", "1", "class 2"), [-1, -1, -1]),
        (("left to right", "right to left"), [1, 0]),
    ],
)
def test_what_labels_become_in_a_mirror(names: tuple[str, ...], partners: list[int]) -> None:
    assert mirror_table(names).tolist() == partners
