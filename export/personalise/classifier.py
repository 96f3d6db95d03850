"""What is to be added to a model's logits, learned in numpy from clips and what is remembered.

Linear in the features, smoothed over time by an exponential average, since a gesture shows itself
for longer than a frame. What is known of a clip is its label alone, not when the gesture happens in
it. So two things are asked of it, by turns:

- each frame is either the gesture or nothing: the probability of the label and of the silent ones
  together is to be 1 (a label that is allowed is not yet a label that is right);
- somewhere in the clip is a stretch of :data:`STRETCH_S` in which it is the gesture. Where, is
  taken to be where the classifier so far finds it likeliest, first where the features leave what
  they mostly are (multiple-instance learning by expectation and maximisation).

Of frames that are remembered, the probabilities are to stay what they were: the model is asked to
agree with itself (Li and Hoiem, "Learning without Forgetting", 2016), so no labels of theirs are
needed. Weights are as small as does (ridge), those of old labels smaller than new ones', in
coordinates in which the remembered features vary alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

STRETCH_S = 0.6
"""For which a gesture shows itself."""
SMOOTHING_S = 0.5
"""Time constant of the average. Measured over three rendered people and three labels: 0 s finds 25
of 100 gestures where 0.3 s finds 45, and 0.5 s some more."""
ROUNDS = 5
ITERATIONS = 40
"""Of the search, in each round."""
COMPONENTS = 192
"""Directions of the features that are used, those in which remembered ones vary most."""
SAMPLED_MOST = 600
"""Remembered frames from which those directions are found."""
HISTORY = 10
"""Steps of the search from which the curvature is guessed."""
RIDGE_NEW, RIDGE_OLD = 1e-4, 10.0
NEW_BIAS = -4.0
"""Of a label that nothing is known of yet: nearly never."""
MEMORY_WEIGHT = 16.0
"""Of all that is remembered, where all clips of gestures together weigh 1."""
BACKGROUND_WEIGHT = 1.0
"""Of all clips of background together."""
GESTURE_WEIGHT = 5.0
"""More, of a remembered frame in which the old layer sees a gesture: there are few of them."""
SHARPNESS = 3.0
"""How much likelier a stretch has to be to be taken for the gesture."""


@dataclass(frozen=True, eq=False)
class Example:
    """A clip as a learner sees it; :meth:`Learner.example` makes it."""

    label: int
    """Of the new model."""
    seen: NDArray[np.float16]
    """(T, components + 1): its features in the learner's coordinates, smoothed; and what smoothing
    makes of 1."""
    start: Floats
    """(T, classes): logits before anything was learned."""


def smoothed(rows: Floats, keep: float) -> Floats:
    """(T, width): exponential average over time from zeros on, as a model's state does it."""
    out = np.empty_like(rows)
    state = np.zeros(rows.shape[1:], rows.dtype)
    for index, row in enumerate(rows):
        state = np.float32(keep) * state + np.float32(1.0 - keep) * row
        out[index] = state
    return out


def keep_of(rate_hz: float) -> float:
    """Share of the average that stays from one frame to the next."""
    return float(np.exp(-1.0 / (SMOOTHING_S * rate_hz)))


class Learner:
    """Teaches a model new labels.

    Args:
        known: labels of the model.
        classes: of the new one, those first.
        silent: its silent labels, old or new.
        taught: old labels that there are examples of, which may change as much as new ones.
        memory: of each remembered clip its features (T, inputs), float16 or float32, and logits
            (T, known).
        keep: share of the average that stays from one frame to the next.
        rate_hz: of frames.
    """

    def __init__(
        self,
        known: int,
        classes: int,
        silent: Sequence[int],
        taught: Sequence[int],
        memory: Sequence[tuple[NDArray[Any], Floats]],
        keep: float,
        rate_hz: float,
    ) -> None:
        self._classes, self._silent, self._keep = classes, list(silent), keep
        self._stretch = max(1, round(STRETCH_S * rate_hz))
        self._middle, self._basis = _coordinates([clip for clip, _ in memory])
        self._ridge = np.full((classes, self._basis.shape[1] + 1), RIDGE_NEW, np.float32)
        self._ridge[[row for row in range(known) if row not in taught]] = RIDGE_OLD
        self._ridge[:, -1] = 0.0
        self.remembered = [self.example(0, *clip) for clip in memory]
        """The remembered clips, in order; their labels say nothing."""
        self._turns = np.repeat(
            np.arange(len(memory)), [len(example.seen) for example in self.remembered]
        )
        start = np.concatenate([example.start for example in self.remembered])
        self._wanted = np.zeros_like(start)
        self._wanted[:, :known] = _softmax(start[:, :known])
        quiet = [index for index in self._silent if index < known]
        weights = 1.0 + GESTURE_WEIGHT * (1.0 - self._wanted[:, quiet].sum(1))
        self._memory_weights = (MEMORY_WEIGHT * weights / weights.sum()).astype(np.float32)

    def example(self, label: int, features: NDArray[Any], logits: Floats) -> Example:
        """A clip of ``label``, of its features (T, inputs) and the model's logits (T, known)."""
        seen: Floats = np.ones((len(features), self._basis.shape[1] + 1), np.float32)
        seen[:, :-1] = (np.asarray(features, np.float32) - self._middle) @ self._basis
        start = np.full((len(features), self._classes), NEW_BIAS, np.float32)
        start[:, : logits.shape[1]] = logits
        return Example(label, smoothed(seen, self._keep).astype(np.float16), start)

    def branch(self, change: Floats) -> tuple[Floats, Floats]:
        """Weights (classes, inputs) and bias of what is to be smoothed and added, for a change."""
        weight: Floats = change[:, :-1] @ self._basis.T
        return weight, change[:, -1] - weight @ self._middle

    def learn(self, examples: Sequence[Example], without: tuple[int, int] | None = None) -> Floats:
        """What to change, (classes, components + 1); the same examples give the same.

        Args:
            without: (n, of): leaves out each remembered clip whose number is n modulo ``of``.
        """
        clips = _Clips(examples, self._silent, self._stretch)
        count, together = len(self._wanted), [*self.remembered, *examples]
        inputs = np.concatenate([example.seen for example in together], dtype=np.float32)
        begin = np.concatenate([example.start for example in together])
        seen, start = inputs[count:], begin[count:]
        clips.believe(_unusual(seen, clips.spans), 2.0)
        weights = self._memory_weights[:, None]
        if without is not None:
            weights = np.where(self._turns[:, None] % without[1] == without[0], 0.0, weights)
        weights = weights.astype(np.float32)

        def objective(vector: Floats) -> tuple[float, Floats]:
            change = vector.reshape(self._ridge.shape)
            logs = begin + inputs @ change.T
            logs -= _log_sum(logs)
            chances = np.exp(logs)
            slope = np.empty_like(logs)
            loss = -float((weights * self._wanted * logs[:count]).sum())
            slope[:count] = weights * (chances[:count] - self._wanted)
            more, slope[count:] = clips.loss(logs[count:], chances[count:])
            loss += more + 0.5 * float((self._ridge * change * change).sum())
            sides = slope.T @ inputs + self._ridge * change
            return loss, np.asarray(sides.ravel(), np.float32)

        vector = np.zeros(self._ridge.size, np.float32)
        for _ in range(ROUNDS):
            vector = minimum(objective, vector, ITERATIONS)
            logits = start + seen @ vector.reshape(self._ridge.shape).T
            clips.believe((logits - _log_sum(logits))[np.arange(len(logits)), clips.labels])
        learned: Floats = vector.reshape(self._ridge.shape)
        return learned


def logits_of(change: Floats, example: Example) -> Floats:
    """(T, classes): of a clip, after a change."""
    added: Floats = example.seen @ change.T
    return np.asarray(example.start + added, np.float32)


def raised(change: Floats, labels: Sequence[int], by: float) -> Floats:
    """The same change with higher biases of some labels."""
    higher: Floats = change.copy()
    higher[list(labels), -1] += np.float32(by)
    return higher


class _Clips:
    """What is asked of the frames of clips; see the module."""

    def __init__(self, examples: Sequence[Example], silent: list[int], stretch: int) -> None:
        lengths = [len(example.seen) for example in examples]
        ends = np.cumsum(lengths)
        self.spans = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        self.labels = np.repeat([example.label for example in examples], lengths)
        self._stretch, self._silent = stretch, silent
        self._shown = [example.label not in silent for example in examples]
        # Of gestures, and of background, each clip weighs as much as another.
        each = {
            shown: weight / max(1, self._shown.count(shown))
            for shown, weight in ((True, 1.0), (False, BACKGROUND_WEIGHT))
        }
        shares = np.array([each[shown] for shown in self._shown], np.float32)
        self._share = np.repeat(shares / lengths, lengths).astype(np.float32)[:, None]
        self._shares = shares
        self._belief: Floats = np.zeros(len(self.labels), np.float32)

    def believe(self, scores: NDArray[Any], sharpness: float = SHARPNESS) -> None:
        """Where in each clip of a gesture it is: where ``scores`` (N,) are high for a while."""
        for span, shown, share in zip(self.spans, self._shown, self._shares, strict=True):
            if not shown:
                continue
            width = min(self._stretch, span.stop - span.start)
            window = np.ones(width) / width
            mean = np.convolve(scores[span], window, "valid")
            odds = np.exp(sharpness * (mean - mean.max()))
            self._belief[span] = share * np.convolve(odds / odds.sum(), window)

    def loss(self, logs: Floats, chances: Floats) -> tuple[float, Floats]:
        """Of log probabilities (N, classes), and its slope by the logits."""
        rows = np.arange(len(logs))
        allowed = np.zeros(logs.shape, bool)
        allowed[rows, self.labels] = True
        allowed[:, self._silent] = True
        good = np.where(allowed, chances, 0.0)
        total = good.sum(1, keepdims=True) + 1e-9
        loss = -float((self._share * np.log(total)).sum())
        slope = self._share * (chances - good / total)
        belief = self._belief[:, None]
        loss -= float((self._belief * logs[rows, self.labels]).sum())
        slope += belief * chances
        slope[rows, self.labels] -= self._belief
        return loss, slope


def minimum(
    objective: Callable[[Floats], tuple[float, Floats]], start: Floats, iterations: int
) -> Floats:
    """A point near the least value of a function, by L-BFGS (Nocedal and Wright, 7.2).

    Args:
        objective: gives the value and the slope.
    """
    point = start
    value, slope = objective(point)
    steps: list[Floats] = []
    turns: list[Floats] = []
    for _ in range(iterations):
        step = -_inverse_times(slope, steps, turns)
        falls = float(slope @ step)
        length = 1.0
        while True:
            there = point + np.float32(length) * step
            new_value, new_slope = objective(there)
            if new_value <= value + 1e-4 * length * falls or length < 1e-6:
                break
            length *= 0.5
        if new_value > value:
            return point
        step, turn = there - point, new_slope - slope
        if float(step @ turn) > 1e-10:
            steps, turns = [*steps[1 - HISTORY :], step], [*turns[1 - HISTORY :], turn]
        done = value - new_value < 1e-6 * abs(new_value)
        point, value, slope = there, new_value, new_slope
        if done:
            break
    return point


def _inverse_times(slope: Floats, steps: list[Floats], turns: list[Floats]) -> Floats:
    """The slope by the inverse of the curvature, as far as it is known (the two loops)."""
    if not steps:
        short: Floats = slope / np.float32(max(1.0, float(np.linalg.norm(slope))))
        return short
    left: Floats = slope.copy()
    shares = []
    for step, turn in zip(reversed(steps), reversed(turns), strict=True):
        share = float(step @ left) / float(turn @ step)
        shares.append(share)
        left -= np.float32(share) * turn
    left *= np.float32(float(steps[-1] @ turns[-1]) / float(turns[-1] @ turns[-1]))
    for step, turn, share in zip(steps, turns, reversed(shares), strict=True):
        left += np.float32(share - float(turn @ left) / float(turn @ step)) * step
    return left


def _coordinates(clips: Sequence[NDArray[Any]]) -> tuple[Floats, Floats]:
    """The middle of features, and (inputs, components): directions in which they vary alike."""
    step = -(-sum(map(len, clips)) // SAMPLED_MOST)  # frames that follow are much alike
    away = np.concatenate([clip[::step] for clip in clips], dtype=np.float32)
    middle: Floats = away.mean(0)
    away -= middle
    # The same directions as of the covariance, of which there are more than frames.
    values, vectors = np.linalg.eigh(away @ away.T / np.float32(len(away)))
    count = min(COMPONENTS, away.shape[1], int((values > 1e-6 * values[-1]).sum()))
    kept = slice(-1, -1 - count, -1)
    directions = away.T @ vectors[:, kept]
    directions /= np.linalg.norm(directions, axis=0)
    # What hardly varies is not blown up to what does.
    mean = max(float(values.sum()) / away.shape[1], 1e-12)
    return middle, np.asarray(directions / np.sqrt(values[kept] + mean), np.float32)


def _unusual(seen: Floats, spans: Sequence[slice]) -> Floats:
    """(N,): how far frames are from what their clip mostly is."""
    far = [np.linalg.norm(seen[span] - np.median(seen[span], axis=0), axis=1) for span in spans]
    found = np.concatenate(far)
    return np.asarray(found / max(float(found.std()), 1e-9), np.float32)


def _log_sum(logits: Floats) -> Floats:
    most = logits.max(1, keepdims=True)
    return np.asarray(most + np.log(np.exp(logits - most).sum(1, keepdims=True)), np.float32)


def _softmax(logits: Floats) -> Floats:
    return np.asarray(np.exp(logits - _log_sum(logits)), np.float32)
