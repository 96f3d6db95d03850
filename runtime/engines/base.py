"""The seam between a stream and whatever computes its step.

An engine takes the camera frame already scaled to the model's size, as uint8 BGR, and does the
rest itself: one engine normalises in numpy, another inside its first convolution.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.spec import ModelSpec


class EngineSession(abc.ABC):
    """The states of one stream, and the step that moves them on. Used by one thread at a time."""

    @abc.abstractmethod
    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run one frame and keep the new states.

        Args:
            image: uint8, shape (height, width, 3) of the spec, BGR, C-contiguous.

        Returns:
            Logits, float32, shape (classes,), the caller's own.
        """

    @abc.abstractmethod
    def reset(self) -> None:
        """Empty every state, as in a fresh stream."""

    @abc.abstractmethod
    def save(self) -> bytes:
        """All states as one block; the layout is the engine's own and of constant length."""

    @abc.abstractmethod
    def load(self, block: bytes) -> None:
        """Take the states from a block that :meth:`save` of the same engine and model gave."""

    def states(self) -> Sequence[NDArray[Any]] | None:
        """Copies of the states in the spec's order, shapes and dtypes, to be looked at; None where
        the engine lays them out in its own way."""
        return None


class Engine(abc.ABC):
    """One loaded model. Sessions of it may run in several threads at once."""

    name: str
    """As in ``load(..., engine=name)``."""
    version: str
    """Of the library underneath, for reports."""
    spec: ModelSpec
    digest: bytes
    """Identifies the weights, 16 bytes or more, so that a snapshot fits no other model."""

    @abc.abstractmethod
    def open_session(self) -> EngineSession:
        """A new session with empty states."""

    def step_group(
        self, sessions: Sequence[EngineSession], images: Sequence[NDArray[np.uint8]]
    ) -> NDArray[np.float32]:
        """Run a frame of each of several sessions of this engine, all different; by default one
        after the other.

        Returns:
            Logits, float32, shape (sessions, classes), the caller's own.

        Raises:
            As :meth:`EngineSession.step`; the sessions before the one that failed have moved on.
        """
        pairs = zip(sessions, images, strict=True)
        return np.stack([session.step(image) for session, image in pairs])
