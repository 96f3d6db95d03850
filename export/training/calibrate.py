"""After training: the decoder's settings, and how readily each gesture is believed.

Chosen is what finds most gestures while false events stay within their limits an hour, on films of
the kinds and ranges that models are scored on, whose seeds are neither trained on nor scored. An
arm that rises to swipe down looks like an upward swipe until it turns; a network trained frame by
frame says so at once, while an event cannot be taken back. A lower bias of such a label in the last
layer, and a decoder that waits, trade a little delay for fewer false events.

Coordinate search over small grids: the films are streamed once, and all settings of a grid are
decoded at once (:mod:`shiftedge.export.score.decoding`). Deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shiftedge.export.checkpoint import load_checkpoint, serialise_checkpoint
from shiftedge.export.networks import spec_of
from shiftedge.export.score.decoding import FilmBatch, at_thresholds, grid
from shiftedge.export.score.films import (
    CALIBRATION_SEED,
    KINDS,
    OWN,
    SECONDS,
    SEEDS,
    Watchable,
    film_tasks,
)
from shiftedge.export.score.stream import Streamed
from shiftedge.export.training.score import watch
from shiftedge.runtime.errors import CheckpointError
from shiftedge.runtime.process.files import atomic_path
from shiftedge.runtime.process.progress import ProgressFactory, progress
from shiftedge.runtime.spec import DecoderSettings, ModelSpec

SMOOTHING_S = (0.05, 0.1, 0.15, 0.25)
EXIT = (0.2, 0.3, 0.5)
MIN_DURATION_S = (0.08, 0.17, 0.25, 0.33)
REARM_S = 0.2
"""A swipe may follow another at once: a hand that is held out and swipes back."""
ENTER = tuple(round(float(1.0 / (1.0 + np.exp(-x))), 4) for x in np.linspace(-1.0, 5.0, 25))
"""0.27 to 0.993, even in the logit."""
BIAS = (-2.5, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
ROUNDS = 2
AT = 12.0
"""False events an hour that a model may have where people gesture."""
MARGIN = 0.75
"""Share of a limit that is used up: of settings chosen at the limit itself, other films have more
than that every second time."""
GAIN = 0.002
"""Of the gestures found, without which a setting stays as it is: one or two in an hour of films."""


Limits = Mapping[tuple[str, ...], float]
"""Kinds of films -> false events an hour that they may have together."""


def limits_at(at: float) -> Limits:
    """``at`` where people gesture, half of it where they do other things or nobody is there, and a
    twelfth where somebody sits still."""
    return {("gestures", OWN): at, ("others", "empty"): at / 2.0, ("still",): at / 12.0}


@dataclass(frozen=True)
class Calibration:
    """What was chosen."""

    decoder: DecoderSettings
    bias: tuple[float, ...]
    """Added to the logit of each label."""
    recall: float
    """Share of the gestures that are found so."""
    false_per_hour: Mapping[str, float]
    """In the films of each limit, by their kinds."""

    def record(self, labels: Sequence[str]) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {
            "bias": dict(zip(labels, self.bias, strict=True)),
            "recall": round(self.recall, 4),
            "false_per_hour": dict(self.false_per_hour),
        }


def choose(
    spec: ModelSpec,
    films: Sequence[Streamed],
    *,
    limits: Limits | None = None,
) -> Calibration:
    """Choose what finds most of the gestures in ``films`` within ``limits``.

    Args:
        films: that have been through the model, none that is scored on.
        limits: None: those at :data:`AT`. Kinds without films ask for nothing. Where nothing is
            found within them, the decoder stays as it is.
    """
    search = _Search(spec, films, limits_at(AT) if limits is None else limits)
    bias = np.zeros(spec.classes, np.float32)
    gestures = [at for at, name in enumerate(spec.labels) if name not in spec.silent_labels]
    shapes = grid(SMOOTHING_S, EXIT, MIN_DURATION_S, REARM_S)
    best = search.best([spec.decoder, *shapes], bias)
    for _ in range(ROUNDS):
        before = best.recall
        for label in gestures:
            for value in BIAS:
                trial = bias.copy()
                trial[label] = value
                found = search.best([best.decoder], trial)
                if found.recall > best.recall + GAIN:
                    best, bias = found, trial
        found = search.best([best.decoder, *shapes], bias)
        if found.recall > best.recall + GAIN:
            best = found
        if best.recall <= before:
            break
    return best


class _Search:
    """Films that are decoded again and again."""

    def __init__(self, spec: ModelSpec, films: Sequence[Streamed], limits: Limits) -> None:
        self._spec = spec
        self._batch = FilmBatch(films, spec)
        truth = self._batch.truth
        places = {kinds: np.isin(truth.kinds, kinds) for kinds in limits}
        self._limits = {
            "+".join(kinds): (there, float(truth.seconds[there].sum()) / 3600.0, limits[kinds])
            for kinds, there in places.items()
            if there.any()
        }

    def best(self, shapes: Sequence[DecoderSettings], bias: NDArray[np.float32]) -> Calibration:
        """The best of ``shapes`` at any threshold; of equal ones the first, and the highest."""
        settings = [each for shape in shapes for each in at_thresholds(shape, (*reversed(ENTER),))]
        outcome = self._batch.outcomes(settings, bias)
        false = outcome.false.sum(axis=2)
        rates = {
            name: false[:, there].sum(axis=1) / max(hours, 1e-9)
            for name, (there, hours, _) in self._limits.items()
        }
        within = np.ones(len(settings), bool)
        for name, (_, _, limit) in self._limits.items():
            within &= rates[name] <= MARGIN * limit
        right = outcome.found.sum(axis=(1, 2))
        of = np.maximum(outcome.counted.sum(axis=(1, 2)), 1)
        place = int(np.where(within, right / of, -1.0).argmax())
        if not within[place] or not right[place]:
            unchanged = tuple(0.0 for _ in self._spec.labels)
            return Calibration(self._spec.decoder, unchanged, 0.0, {})
        return Calibration(
            settings[place],
            tuple(float(value) for value in bias),
            float(right[place] / of[place]),
            {name: round(float(rate[place]), 3) for name, rate in rates.items()},
        )


def calibrate_net(
    net: nn.Module,
    spec: ModelSpec,
    *,
    films: Sequence[Watchable] | None = None,
    at: float = AT,
    seed: int = 0,
    share: float = 1.0,
    length_s: float = SECONDS,
    pictures: Path | None = None,
    bar: ProgressFactory = progress,
) -> Calibration:
    """Choose for a network, on wide films that are rendered for it.

    Args:
        films: others instead; what follows is of those that are rendered then.
        at: see :func:`limits_at`.
        seed: of the training, so that another one calibrates on other films.
        share: of the number of films that models are scored on, which is above two hours.
        length_s: of each film.
        pictures: folder of real hands and rooms to use.
    """
    if films is None:
        counts = {kind: max(1, round(share * count)) for kind, count in KINDS.items()}
        first = CALIBRATION_SEED + SEEDS * seed
        films = film_tasks(counts, first_seed=first, length_s=length_s, pictures=pictures)
    with bar("streaming films to calibrate on", len(films), "films") as advance:
        watched = watch(net, spec, films, advance=advance)
    return choose(spec, watched, limits=limits_at(at))


def calibrate_checkpoint(path: Path, output: Path, **how: Any) -> Calibration:
    """Choose for a checkpoint of ours, and write another one with it.

    Args:
        how: keywords of :func:`calibrate_net`.

    Raises:
        CheckpointError, DataError, SourceError: the checkpoint or a film cannot be read, or it is
            of another family.
        OutputError: it cannot be written.
    """
    found = load_checkpoint(path)
    if found.labels is None or "decoder" not in found.spec:
        raise CheckpointError(
            f"{path} does not say its labels and decoder, so they cannot be chosen anew; expected "
            "a checkpoint of `shiftedge train`."
        )
    chosen = calibrate_net(found.net, spec_of(found), **how)
    apply(found.net, chosen)
    content = serialise_checkpoint(
        found.net,
        found.description,
        labels=found.labels,
        spec={**found.spec, "decoder": asdict(chosen.decoder)},
        training={**found.training, "calibration": chosen.record(found.labels)},
        ranges=found.ranges,
    )
    with atomic_path(output) as temporary:
        temporary.write_bytes(content)
    return chosen


def apply(net: nn.Module, calibration: Calibration) -> None:
    """Fold the bias into the last layer of ``net``, in place."""
    last = net.classifier if hasattr(net, "classifier") else net.fc
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.add_(torch.tensor(calibration.bias))
