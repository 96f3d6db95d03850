"""A model stepped by a plain ONNX Runtime session: what every proof and score stands on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.engines.onnxruntime import failures_told, session_options
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec


class Stepper:
    """One stream through one serialised ONNX model of the contract, which gives after each step the
    tensors ``also`` too that it has as outputs.

    Raises:
        ModelError: ONNX Runtime does not load the model.
    """

    def __init__(self, model: bytes, spec: ModelSpec, also: Sequence[str] = ()) -> None:
        ort = require("onnxruntime")
        options = session_options(chosen_threads())
        try:
            self._session: Any = ort.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(f"ONNX Runtime does not load the model ({error}).") from error
        self.model, self.spec = model, spec
        self._normalise = Preprocessor(spec).normalise
        self._frame = np.zeros((1, 3, spec.height, spec.width), np.float32)
        _, *self._names = spec.inputs
        self._also = list(also)
        self._outputs = [*spec.outputs, *self._also]
        self._states: list[NDArray[Any]] = []
        self.reset()

    def reset(self) -> None:
        """A fresh stream."""
        self._states = [state.fresh() for state in self.spec.states]

    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (classes,) of the next frame: uint8 (H, W, 3), BGR, of the model's size."""
        self.run(image)
        return self.latest

    def run(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The same, and the values of the tensors that were asked for."""
        self._normalise(image, self._frame)
        return self.feed(self._frame)

    def feed(self, frame: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The same of a frame as the model takes it: float32 (1, 3, H, W)."""
        feed = {"frame": frame, **dict(zip(self._names, self._states, strict=True))}
        with failures_told("The model"):
            logits, *others = self._session.run(self._outputs, feed)
        count = len(self._names)
        self._states = others[:count]
        self.latest: NDArray[np.float32] = logits[0]
        found = dict(zip(self._also, others[count:], strict=True))
        found["frame"] = frame
        return found

    def states(self) -> list[NDArray[np.float32]]:
        """What the states stand for after the last step."""
        pairs = zip(self.spec.states, self._states, strict=True)
        return [spec.numbers(state) for spec, state in pairs]

    def logits(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Logits (frames, classes) of a clip from a fresh stream on."""
        self.reset()
        return np.stack([self.step(image) for image in images])
