"""Films through models, frame by frame, as they run on a camera: logits, and what was true.

Each film is rendered or read once for all models of one frame size and rate, which step its frames
in turn. Processes share the films out among them; what comes back does not depend on how many.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.processes import mapped
from shiftedge.export.score.films import Image, Watchable
from shiftedge.runtime.live.cuts import CutDetector
from shiftedge.runtime.loading import load
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.progress import Advance
from shiftedge.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import TrueEvent

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Streamed:
    """One film that has been through a model."""

    logits: Logits
    """(frames, classes) at the spec's rate."""
    events: tuple[TrueEvent, ...]
    """What happens in it, labels that the model lacks included."""
    seconds: float
    cuts: tuple[int, ...] = ()
    """Frames before which the states were emptied, since they seemed to show another scene."""
    kind: str = "gestures"
    """See :data:`shiftedge.export.score.films.KINDS`."""
    name: str = ""
    conditions: tuple[Mapping[str, str], ...] = ()
    """Of each event, where they are known."""


@dataclass(frozen=True)
class ModelChoice:
    """A model as :func:`shiftedge.runtime.loading.load` takes it."""

    path: str | None
    """None: the bundled model."""
    engine: str | None = None
    precision: str | None = None

    def load(self) -> Model:
        """The model, with one thread: processes share the cores.

        Raises:
            ModelError, BundleError, SpecError, MissingExtraError: as ``load`` does.
        """
        return load(self.path, engine=self.engine, precision=self.precision, threads=1)


def stream(
    models: Sequence[ModelChoice],
    films: Sequence[Watchable],
    *,
    workers: int = 1,
    advance: Advance = lambda count: None,
) -> list[list[Streamed]]:
    """All films through all models.

    Args:
        workers: processes.
        advance: told about films that are done.

    Returns:
        For each model its films, in order.

    Raises:
        ShiftedgeError: a model cannot be loaded or fails, a film cannot be read.
    """
    rows = []
    for row in mapped(functools.partial(_watch, tuple(models)), films, workers):
        rows.append(row)
        advance(1)
    return [[row[at] for row in rows] for at in range(len(models))]


def cuts_of(frames: Iterable[Image]) -> tuple[int, ...]:
    """Frames of a model's size before which a live stream would empty the states."""
    detector = CutDetector()
    return tuple(at for at, frame in enumerate(frames) if detector.update(frame))


class _Watcher:
    """One model before one film."""

    def __init__(self, step: Callable[[Image], Logits], reset: Callable[[], None]) -> None:
        self._step, self._reset = step, reset
        self._detector = CutDetector()
        self._rows: list[Logits] = []
        self._cuts: list[int] = []

    def take(self, frame: Image) -> None:
        """The next frame, of the model's size."""
        if self._detector.update(frame):
            self._reset()
            self._cuts.append(len(self._rows))
        self._rows.append(self._step(frame))

    def streamed(
        self,
        spec: ModelSpec,
        film: Watchable,
        events: tuple[TrueEvent, ...],
        conditions: tuple[Mapping[str, str], ...],
    ) -> Streamed:
        """All of it."""
        logits = np.stack(self._rows) if self._rows else np.zeros((0, spec.classes), np.float32)
        seconds = len(logits) / spec.frame_rate_hz
        return Streamed(
            logits, events, seconds, tuple(self._cuts), film.kind, film.name, conditions
        )


@functools.cache
def _loaded(choice: ModelChoice) -> Model:
    """Once a process."""
    return choice.load()


def _watch(models: tuple[ModelChoice, ...], film: Watchable) -> list[Streamed]:
    loaded = [_loaded(choice) for choice in models]
    alike: dict[tuple[float, ...], list[int]] = {}
    for at, model in enumerate(loaded):
        spec = model.spec
        key = (spec.frame_rate_hz, spec.height, spec.width, spec.resize_short_side)
        alike.setdefault(key, []).append(at)
    done: dict[int, Streamed] = {}
    for group in alike.values():
        first = loaded[group[0]]
        opened = film.open(first.spec)
        streams = [loaded[at].stream() for at in group]
        watchers = [_Watcher(each.step_fitted, each.reset) for each in streams]
        for image in opened.frames:
            fitted = first.preprocessor.fit(image)
            for watcher in watchers:
                watcher.take(fitted)
        truth = opened.events, opened.conditions
        for at, watcher in zip(group, watchers, strict=True):
            done[at] = watcher.streamed(loaded[at].spec, film, *truth)
    return [done[at] for at in range(len(loaded))]


def minutes(films: Sequence[Streamed]) -> float:
    """Their length together."""
    return math.fsum(film.seconds for film in films) / 60.0
