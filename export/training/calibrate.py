"""After training: the decoder's settings, and how readily each gesture is believed.

Both are chosen on rendered films whose seeds are neither trained on nor scored. An arm that rises
to swipe down looks like an upward swipe until it turns; a network trained frame by frame says so at
once, while an event cannot be taken back. A lower bias of such a label in the last layer, and a
decoder that waits, trade a little delay for fewer false events.

Coordinate search over small grids: deterministic, seconds once the films have been streamed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shiftedge.export.data.score import EventScore, call_clip, decode
from shiftedge.runtime.capture.synthetic import TrueEvent
from shiftedge.runtime.spec import DecoderSettings, ModelSpec

SMOOTHING_S = (0.05, 0.1, 0.15)
ENTER = (0.6, 0.65, 0.7, 0.75, 0.8)
EXIT = (0.3, 0.5)
MIN_DURATION_S = (0.08, 0.25, 0.33)
REARM_S = 0.2
"""A swipe may follow another at once: a hand that is held out and swipes back."""
BIAS = (0.0, -0.5, -1.0, -1.5, -2.0, -2.5)
ROUNDS = 2


@dataclass(frozen=True)
class Streamed:
    """One film that has been through the network."""

    logits: NDArray[np.float32]
    """(frames, classes) at the spec's rate."""
    truth: tuple[TrueEvent, ...]
    seconds: float


@dataclass(frozen=True)
class Calibration:
    """What was chosen."""

    decoder: DecoderSettings
    bias: tuple[float, ...]
    """Added to the logit of each label."""
    quality: float
    """Mean of the event F1 over the films and the clip accuracy."""


def calibrate(
    spec: ModelSpec,
    films: Sequence[Streamed],
    clips: Sequence[NDArray[np.float32]],
    labels: Sequence[int],
) -> Calibration:
    """Choose settings that serve both the events in ``films`` and the ``clips``.

    Args:
        clips: logits (frames, classes) of single clips.
    """
    bias = np.zeros(spec.classes, np.float32)
    eligible = [i for i, name in enumerate(spec.labels) if name not in spec.silent_labels]

    def quality(decoder: DecoderSettings, bias: NDArray[np.float32]) -> float:
        chosen = dataclasses.replace(spec, decoder=decoder)
        events = EventScore()
        for film in films:
            events.add(decode(film.logits + bias, chosen), film.truth, film.seconds)
        right = sum(
            call_clip(logits + bias, chosen) == label
            for logits, label in zip(clips, labels, strict=True)
        )
        return 0.5 * (events.f1 + right / max(1, len(clips)))

    best = (quality(spec.decoder, bias), spec.decoder)
    for _ in range(ROUNDS):
        for smoothing, enter, leave, hold in itertools.product(
            SMOOTHING_S, ENTER, EXIT, MIN_DURATION_S
        ):
            decoder = DecoderSettings(smoothing, enter, leave, hold, REARM_S)
            reached = quality(decoder, bias)
            if reached > best[0]:
                best = (reached, decoder)
        for index in eligible:
            for value in BIAS:
                trial = bias.copy()
                trial[index] = value
                reached = quality(best[1], trial)
                if reached > best[0]:
                    best, bias = (reached, best[1]), trial
    return Calibration(best[1], tuple(float(value) for value in bias), best[0])


def apply(net: nn.Module, calibration: Calibration) -> None:
    """Fold the bias into the last layer of ``net``, in place."""
    last = net.classifier if hasattr(net, "classifier") else net.fc
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.add_(torch.tensor(calibration.bias))
