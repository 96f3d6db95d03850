"""What clips are called, and how sure a share of them is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from kit.streamed import SPEC
from numpy.typing import NDArray

from shiftedge.export.score.clips import call_clip, confusion_of

SILENT, LEFT, RIGHT = 0, 2, 3


def clip_of(label: int | None) -> NDArray[np.float32]:
    """Two seconds, in which one gesture shows for half a second."""
    logits = np.zeros((24, SPEC.classes), np.float32)
    logits[:, SILENT] = 8.0
    if label is not None:
        logits[10:16, label] = 16.0
    return logits


def test_a_clip_is_called_by_its_gesture_however_short() -> None:
    assert call_clip(clip_of(None), SPEC) == SILENT
    short = clip_of(RIGHT)
    assert short.mean(axis=0).argmax() == SILENT
    assert call_clip(short, SPEC) == RIGHT
    without = dataclasses.replace(SPEC, silent_labels=())
    assert call_clip(short, without) == SILENT


def test_confusions_add_up_and_a_foreign_label_is_something_else() -> None:
    called = [LEFT, LEFT, RIGHT, None]
    truth = ["Swiping Left", "Swiping Right", "Swiping Right", "Thumb Up"]
    other = clip_of(None)
    other[:, 1] = 12.0
    logits = [clip_of(each) for each in called[:3]] + [other]
    found = confusion_of([call_clip(each, SPEC) for each in logits], truth, SPEC.labels)
    assert found.truth == ("Swiping Left", "Swiping Right", "Thumb Up")
    assert found.table.tolist() == [[0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    assert found.accuracy.value == pytest.approx(3 / 4)
    low, high = found.accuracy.interval
    assert 0.0 <= low < 0.75 < high <= 1.0
