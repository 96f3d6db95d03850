"""Events of one model at its own settings, summed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from kit.streamed import SPEC, clear_film

from shiftedge.export.score.events import event_score
from shiftedge.export.score.stream import Streamed


def test_found_missed_and_false_are_summed() -> None:
    films = [clear_film(1, found=2, missed=1, false=3), clear_film(2, found=1, missed=0, false=0)]
    score = event_score(films, SPEC)
    assert (score.gestures, score.right, score.false, score.reported) == (4, 3, 3, 6)
    assert (score.precision, score.recall) == (0.5, 0.75)
    assert score.f1 == pytest.approx(0.6)
    assert score.minutes == pytest.approx(sum(film.seconds for film in films) / 60)
    assert score.false_per_minute == pytest.approx(3 / score.minutes)
    assert len(score.latency_s) == 3
    assert all(-0.3 < late < 0.3 for late in score.latency_s)
    summary = score.summary()
    assert summary["missed"] == {"Swiping Left": 1}
    assert summary["false"] == {"Swiping Left": 3}
    json.dumps(summary)


def test_silence_before_nobody_is_perfect() -> None:
    logits = np.zeros((24, SPEC.classes), np.float32)
    logits[:, 0] = 9.0
    score = event_score([Streamed(logits, (), 2.0)], SPEC)
    assert (score.precision, score.recall, score.f1) == (1.0, 1.0, 1.0)
    assert score.false_per_minute == 0.0
