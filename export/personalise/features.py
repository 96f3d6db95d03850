"""What a model's last layers read of clips: by ONNX Runtime, frame after frame with its states."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.personalise.classifier import keep_of, smoothed
from shiftedge.export.personalise.onnx_branch import MAP_NUMBERS_MOST, Parts, take_apart
from shiftedge.runtime.engines.onnxruntime import failures_told, session_options
from shiftedge.runtime.errors import ModelError, NumericsError
from shiftedge.runtime.loading import load
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

Floats = NDArray[np.float32]


class FeatureModel:
    """A model file whose last layer can be exchanged, and the features that it reads.

    Args:
        path: an .onnx file; None is the bundled model.
        threads: for one step; None: one for each core, at most 4.

    Raises:
        ModelError: no such file, a bundle, not as its spec says, or its last layer is another kind.
        SpecError: the spec is absent, malformed or from a newer version.
        MissingExtraError: onnxruntime is not installed.
    """

    spec: ModelSpec

    def __init__(self, path: str | Path | None, threads: int | None = None) -> None:
        if path is not None and Path(path).is_dir():
            raise ModelError(
                f"{path} is a compiled bundle, whose last layer is part of its code; name the file "
                ".onnx that it was compiled from, and compile the result again."
            )
        engine: Any = load(path, engine="onnxruntime", threads=threads).engine
        self.spec = engine.spec
        self.name = str(path or "the bundled model")
        self.parts: Parts = take_apart(engine.path.read_bytes(), self.name)
        branch = self.parts.branch
        self.keep = keep_of(self.spec.frame_rate_hz) if branch is None else branch.keep
        ort = require("onnxruntime")
        options = session_options(chosen_threads(threads))
        del engine
        with failures_told(self.name):
            self._session = ort.InferenceSession(
                self.parts.with_taps(), options, providers=["CPUExecutionProvider"]
            )
        self.base_states = self.spec.states if branch is None else self.spec.states[:-1]
        """Without that of a branch."""
        self._states = [f"state_{index}" for index in range(len(self.base_states))]
        self._next = [f"next_{name}" for name in self._states]
        self._normalise = Preprocessor(self.spec).normalise
        self._find_taps()
        self.digest = self.parts.digest()
        """Of what makes the features."""

    def _find_taps(self) -> None:
        """Leave out a sum of maps that is too large to be read, or is none."""
        still = np.zeros((1, self.spec.height, self.spec.width, 3), np.uint8)
        sizes = [found.size for found in self._run(still)[0]]
        if len(sizes) == 2 and sizes[0] > MAP_NUMBERS_MOST:
            self.parts = dataclasses.replace(self.parts, taps=self.parts.taps[-1:])
            sizes = sizes[-1:]
        self.sizes = sizes
        """Numbers of each tensor that is read, the last layer's last."""

    def features(self, images: NDArray[np.uint8]) -> Floats:
        """Of a clip from empty states on.

        Args:
            images: uint8 (T, H, W, 3), BGR, of the model's size, at its rate.

        Returns:
            (T, inputs).

        Raises:
            ModelError: ONNX Runtime failed.
            NumericsError: a feature is not finite.
        """
        rows = [np.concatenate([np.ravel(part) for part in parts]) for parts in self._run(images)]
        found = np.asarray(rows, np.float32)
        if not np.isfinite(found).all():
            raise NumericsError(
                f"{self.name} gives features that are not finite; check it with `shiftedge export`."
            )
        return found

    def logits(self, features: NDArray[Any]) -> Floats:
        """(T, classes) of a clip's features, as the model gives them."""
        features = np.asarray(features, np.float32)
        last, branch = features[:, -self.sizes[-1] :], self.parts.branch
        logits = last @ self.parts.weight.T + self.parts.bias
        if branch is not None:
            # The branch's numbers are less by what is kept, so that the state is an average.
            new = features @ np.concatenate(branch.weights, axis=1).T + branch.bias
            logits += smoothed(new / np.float32(1.0 - branch.keep), branch.keep)
        return np.asarray(logits, np.float32)

    def _run(self, images: NDArray[np.uint8]) -> list[list[Floats]]:
        """Of each frame in turn, the tensors that a branch reads."""
        spec = self.spec
        frame = np.empty((1, 3, spec.height, spec.width), np.float32)
        states = [state.fresh() for state in self.base_states]
        wanted = [*self.parts.taps, *self._next]
        found = []
        for image in images:
            self._normalise(image, frame)
            feed = {"frame": frame, **dict(zip(self._states, states, strict=True))}
            with failures_told(self.name):
                made = self._session.run(wanted, feed)
            states = made[len(self.parts.taps) :]
            found.append(made[: len(self.parts.taps)])
        return found
