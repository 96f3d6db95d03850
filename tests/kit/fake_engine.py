"""An engine of a few lines of numpy, for tests that need no model."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.engines.base import Engine, EngineSession
from shiftedge.runtime.spec import ModelSpec

GRID = 4
"""Regions on each axis whose mean colours are the features."""


class FakeEngine(Engine):
    """Deterministic logits with a real memory, for any spec.

    Each state plays one shift block: it holds its input of the frame before, and gives the mean of
    both to the next. So logits depend on the last ``len(spec.states) + 1`` frames and on nothing
    older, as in a real model; where the states are small, part of the signal is dropped.
    """

    name = "fake"
    version = "1"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.digest = hashlib.sha256(spec.to_json().encode()).digest()
        features = 3 * GRID * GRID
        angles = np.outer(np.arange(1, spec.classes + 1), np.arange(1, features + 1))
        self.projection: NDArray[np.float32] = np.cos(angles).astype(np.float32)

    def open_session(self) -> FakeSession:
        """A new session with empty states."""
        return FakeSession(self)


class FakeSession(EngineSession):
    """See :class:`FakeEngine`."""

    def __init__(self, engine: FakeEngine) -> None:
        self._spec = engine.spec
        self._projection = engine.projection
        self._states: list[NDArray[np.float32]] = []
        self.reset()

    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        signal = _features(image)
        states = []
        for state in self._states:
            signal = np.resize(signal, state.size)
            states.append(signal)
            signal = 0.5 * (signal + state)
        self._states = states
        logits = self._projection @ np.resize(signal, self._projection.shape[1])
        return logits.astype(np.float32)

    def reset(self) -> None:
        self._states = [np.zeros(state.size, np.float32) for state in self._spec.states]

    def save(self) -> bytes:
        return b"".join(state.tobytes() for state in self._states)

    def load(self, block: bytes) -> None:
        flat = np.frombuffer(block, np.float32)
        ends = np.cumsum([state.size for state in self._states])[:-1]
        self._states = [part.copy() for part in np.split(flat, ends)] if self._states else []


def _features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean colour of each region, 0..1, float32 (3 * GRID * GRID,)."""
    parts = [
        region.mean(axis=(0, 1)) if region.size else np.zeros(3)
        for band in np.array_split(image, GRID)
        for region in np.array_split(band, GRID, axis=1)
    ]
    return (np.concatenate(parts) / 255.0).astype(np.float32)
