"""A model that reads the answer off the frame, and sources whose frames hold it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.report import ShowReport
from shiftedge.demos.show import Watched, show
from shiftedge.demos.sinks import Moment, Sink
from shiftedge.demos.sinks.film import FilmSink
from shiftedge.runtime.capture import FrameSource, TimedFrame
from shiftedge.runtime.engines.base import Engine, EngineSession
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

PlaySource = Callable[[FrameSource], str]
"""Makes ``show`` open a source; returns the text to pass."""

LEVELS = 40
"""Brightness of a frame is this times (label index + 1); flat frames are never scene cuts."""


class ReadingEngine(Engine):
    """Sure of the label whose brightness the frame has."""

    name = "reading"
    version = "1"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def open_session(self) -> ReadingSession:
        return ReadingSession(self.spec)


class ReadingSession(EngineSession):
    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = np.zeros(self._spec.classes, np.float32)
        index = round(float(image.mean()) / LEVELS) - 1
        logits[min(max(index, 0), self._spec.classes - 1)] = 8.0
        return logits

    def reset(self) -> None:
        pass

    def save(self) -> bytes:
        return b""

    def load(self, block: bytes) -> None:
        pass


class Frames(FrameSource):
    """A recording in memory; ``error`` is raised after the last frame."""

    def __init__(
        self,
        frames: Sequence[TimedFrame],
        *,
        rate_hz: float | None = 24.0,
        live: bool = False,
        error: Exception | None = None,
        truth: Sequence[object] = (),
    ) -> None:
        self.name = "frames"
        self.live = live
        self.rate_hz = rate_hz
        self.truth = tuple(truth)
        self.closed = False
        self._frames = frames
        self._error = error

    def __iter__(self) -> Iterator[TimedFrame]:
        for frame in self._frames:
            if self.closed:
                return
            yield frame
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed = True


def film_of(parts: Sequence[tuple[int, float]], rate_hz: float = 24.0) -> list[TimedFrame]:
    """Frames of 32 x 24 pixels that show labels one after another; parts are (index, seconds)."""
    indices = [index for index, seconds in parts for _ in range(round(seconds * rate_hz))]
    return [
        TimedFrame(np.full((24, 32, 3), LEVELS * (index + 1), np.uint8), number / rate_hz, number)
        for number, index in enumerate(indices)
    ]


class Told(Sink):
    """Keeps the events that it is given."""

    name = "told"

    def __init__(self) -> None:
        self.moments: list[Moment] = []

    @property
    def events(self) -> list[GestureEvent]:
        return [moment.event for moment in self.moments if moment.event is not None]

    def take(self, image: NDArray[np.uint8], moment: Moment) -> bool | None:
        self.moments.append(moment)
        return None


def shown(
    model: Model, text: str, *sinks: Sink, film: Path | None = None, **how: Any
) -> ShowReport:
    """A show of one source, at full speed unless something else is said."""
    every = [*sinks, *([] if film is None else [FilmSink(film)])]
    return show(model, [Watched(text)], every, **{"realtime": False, **how})
