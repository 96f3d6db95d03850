"""Learning from clips whose label is known and whose moment is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shiftedge.export.personalise.classifier import (
    Example,
    Floats,
    Learner,
    keep_of,
    logits_of,
    minimum,
    raised,
    smoothed,
)

INPUTS, RATE_HZ = 24, 12.0
KEEP = keep_of(RATE_HZ)
QUIET, OLD, NEW, OTHER_NEW = range(4)
RNG = np.random.default_rng(5)
MEANT = {label: RNG.normal(0, 2.0, INPUTS) for label in (OLD, NEW, OTHER_NEW)}
"""What the features are while a gesture is shown."""
WEIGHT = np.stack([np.zeros(INPUTS), MEANT[OLD]]).astype(np.float32)
BIAS = np.array([0.0, -0.5 * float(MEANT[OLD] @ MEANT[OLD])], np.float32)


def clip(label: int, seed: int, *, begin: int = 12, length: int = 10) -> Floats:
    """36 frames, among which a gesture is shown for a while."""
    rows = np.random.default_rng(seed).normal(0, 0.4, (36, INPUTS))
    if label != QUIET:
        rows[begin : begin + length] += MEANT[label]
    return rows.astype(np.float32)


def logits(features: Floats) -> Floats:
    """Of a model of two labels, the first one silent."""
    return np.asarray(features @ WEIGHT.T + BIAS, np.float32)


def learner(classes: int = 4, taught: tuple[int, ...] = ()) -> Learner:
    memory = [clip(number % 2, 100 + number) for number in range(20)]
    pairs = [(each, logits(each)) for each in memory]
    return Learner(2, classes, [QUIET], taught, pairs, KEEP, RATE_HZ)


def examples(teacher: Learner, *labels: int, count: int = 4, seed: int = 0) -> list[Example]:
    found = []
    for label in labels:
        for number in range(count):
            features = clip(label, seed + 10 * label + number, begin=6 + 4 * number)
            found.append(teacher.example(label, features, logits(features)))
    return found


def best(change: Floats, example: Example) -> int:
    """The label that is likeliest at the frame where any gesture is."""
    chances = logits_of(change, example)
    chances = np.exp(chances - chances.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    peak = chances[:, 1:].max(0)
    return int(peak.argmax()) + 1 if peak.max() > 0.6 else QUIET


def test_new_labels_are_learned_and_old_ones_stay() -> None:
    teacher = learner()
    change = teacher.learn(examples(teacher, NEW, OTHER_NEW, QUIET))
    for label in (QUIET, OLD, NEW, OTHER_NEW):
        for seen in examples(teacher, label, seed=1000):
            assert best(change, seen) == label


def test_it_is_the_same_every_time() -> None:
    first, second = (teacher.learn(examples(teacher, NEW)) for teacher in (learner(), learner()))
    np.testing.assert_array_equal(first, second)


def test_a_branch_is_the_change() -> None:
    teacher = learner()
    change = teacher.learn(examples(teacher, NEW, OTHER_NEW))
    weight, bias = teacher.branch(change)
    features = clip(NEW, 77)
    example = teacher.example(NEW, features, logits(features))
    added = smoothed(np.asarray(features @ weight.T + bias, np.float32), KEEP)
    np.testing.assert_allclose(example.start + added, logits_of(change, example), atol=0.05)


def test_a_raised_label_is_likelier_by_as_much() -> None:
    teacher = learner()
    change = teacher.learn(examples(teacher, NEW))
    example = examples(teacher, NEW)[0]
    more = logits_of(raised(change, [NEW], 2.0), example) - logits_of(change, example)
    assert more[-1, NEW] == pytest.approx(2.0, abs=0.05)
    assert np.abs(more[:, [QUIET, OLD]]).max() == 0.0


@given(st.floats(0.0, 0.99), st.integers(1, 30))
def test_the_average_of_ones_is_known(keep: float, count: int) -> None:
    ones: NDArray[np.float32] = np.ones((count, 2), np.float32)
    wanted = 1.0 - keep ** np.arange(1, count + 1)
    np.testing.assert_allclose(smoothed(ones, keep)[:, 0], wanted, atol=1e-5)


@given(st.integers(0, 1000))
def test_the_search_finds_the_least_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    curvature = (root @ root.T + 0.1 * np.eye(6)).astype(np.float32)
    goal = rng.normal(size=6).astype(np.float32)

    def bowl(point: Floats) -> tuple[float, Floats]:
        away = point - goal
        return 0.5 * float(away @ curvature @ away), np.asarray(curvature @ away, np.float32)

    found = minimum(bowl, np.zeros(6, np.float32), 200)
    assert bowl(found)[0] < 1e-3 * max(bowl(np.zeros(6, np.float32))[0], 1.0)
