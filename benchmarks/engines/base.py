"""The seam between the benchmark and whatever it times.

Only :meth:`Contender.step` is timed. What a camera program would have done before it (the frame in
memory), and what it would do after (looking at the logits), lies outside, alike for all.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.agreement import TOLERANCE
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import ModelSpec

__all__ = ["HALF_TOLERANCE", "INT8_TOLERANCE", "Array", "Contender", "StateBuffers"]

INT8_TOLERANCE = 0.2
"""Of int8 models, relative to a tensor's largest value. Engines add in other orders; a sum that
rounds the other way is a whole step off, and the steps of fifty layers and the frames before add
up: ONNX Runtime with and without its optimisations differs by 0.04 in the logits and 0.13 in a
state of an untrained MobileNetV2 over 32 frames. Another function is off by about 1."""

HALF_TOLERANCE = 5e-2
"""Of what computes in bfloat16. A product rounded to it is off by up to 0.4%; over fifty layers and
the frames whose states are fed back that grows some tenfold. More is another function."""

Array = NDArray[np.float32]


class Contender(abc.ABC):
    """One engine with one model and one stream of it.

    Args:
        path: the .onnx file, or the compiled bundle.
        threads: for one step, from 1.
        spec: of the model, for engines whose file does not tell it; None where nobody knows it.

    Raises:
        ShiftedgeError: the engine is not installed (MissingExtraError) or refuses the model.
    """

    version: str
    """Of the library underneath."""
    precision = "fp32"
    tolerance = TOLERANCE
    """Accepted difference from the reference, relative to a tensor's largest value."""
    checked = True
    """False for what computes nothing and is there to measure the harness."""
    packages: tuple[str, ...] = ()
    """Distributions that it needs, for the bytes on disk."""
    normalises = False
    """True where the timed step takes the uint8 frame and normalises it itself."""
    spec: ModelSpec
    settings: dict[str, Any]
    """What was asked for and what the engine made of it, for the report; plain JSON types."""

    @abc.abstractmethod
    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None: ...

    @abc.abstractmethod
    def prepare(self, image: NDArray[np.uint8]) -> None:
        """Bring the next frame to where :meth:`step` reads it. Not timed.

        Args:
            image: uint8, shape (height, width, 3) of the spec, BGR, C-contiguous.
        """

    @abc.abstractmethod
    def step(self) -> None:
        """Run the prepared frame and keep the new states. This is what is timed."""

    @abc.abstractmethod
    def logits(self) -> Array:
        """Of the last step: float32, shape (classes,); valid until the next."""

    @abc.abstractmethod
    def states(self) -> Sequence[Array] | None:
        """After the last step, in the order and shapes of the spec, as the float32 numbers that
        they stand for; None where the engine keeps them in a layout of its own."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Empty every state, as in a fresh stream."""

    def another(self) -> Contender:
        """One more stream of the same model, which may step in a thread of its own at the same
        time; the weights are shared.

        Raises:
            ModelError: the engine cannot.
        """
        raise ModelError("Several streams of one model are not supported by this engine here.")

    def kernel_seconds(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
        """Step through ``images``; the time of each kernel, seconds, by name and in order: the
        median over the later half.

        Raises:
            ModelError: the engine cannot tell.
        """
        raise ModelError("This engine does not tell the times of its kernels.")


class StateBuffers:
    """Two sets of states that swap roles: a step reads one and writes the other; nothing is copied.

    Args:
        spec: whose states to hold.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._specs = spec.states
        self.sets: tuple[list[NDArray[Any]], list[NDArray[Any]]] = (_fresh(spec), _fresh(spec))
        self.source = 0
        """Index of the set that the next step reads."""

    def swap(self) -> None:
        """After a step: what was written is what the next step reads."""
        self.source = 1 - self.source

    @property
    def current(self) -> list[NDArray[Any]]:
        """The states after the last step, of the spec's dtypes."""
        return self.sets[self.source]

    def numbers(self) -> list[Array]:
        """What the states after the last step stand for."""
        return [spec.numbers(state) for spec, state in zip(self._specs, self.current, strict=True)]

    def reset(self) -> None:
        """Empty the set that the next step reads."""
        for spec, state in zip(self._specs, self.current, strict=True):
            state.fill(spec.zero_point)


def _fresh(spec: ModelSpec) -> list[NDArray[Any]]:
    return [state.fresh() for state in spec.states]
