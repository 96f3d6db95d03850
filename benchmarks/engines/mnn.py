"""MNN: converted by its own converter, run by its expression module.

The converter is called as the native function that it is. Its Python program, ``mnnconvert``, as
well as everything else in ``MNN.tools``, is never imported here: with 3.6.1, importing it runs
``pip install`` for a logging library, and it then sends the machine's id and facts about the model
to a server of the vendor's.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Array
from shiftedge.benchmarks.engines.peer import Peer, converted
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["MnnContender"]

FILE = "model.mnn"


class MnnContender(Peer):
    """States stay MNN's own variables: a step takes those that the last one gave. MNN computes
    when a value is read, so the timed step reads the logits."""

    title = "MNN"
    packages = ("mnn",)

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        require("MNN")
        self._express, networks = require("MNN.expr"), require("MNN.nn")
        spec = self.set_up(spec)
        self.version = importlib.metadata.version("mnn")
        folder = converted(path, "mnn", self.packages, lambda to: _convert(path, to))
        wanted = {"backend": "CPU", "numThread": threads, "precision": "high"}
        states = range(len(spec.states))
        try:
            manager = networks.create_runtime_manager((wanted,))
            self._module = networks.load_module_from_file(
                str(folder / FILE),
                ["frame", *(f"state_{index}" for index in states)],
                ["logits", *(f"next_state_{index}" for index in states)],
                runtime_manager=manager,
                rearrange=True,
                shape_mutable=False,
            )
        except Exception as error:  # MNN's errors have no common base
            raise self.refused(path, error) from error
        self.settings = {"threads": threads, "backend": "CPU", "precision": "high"}
        self._input = self._variable(self.frame)
        self.reset()

    def _variable(self, values: Array) -> Any:
        return self._express.const(values, values.shape, self._express.NCHW)

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: normalises."""
        super().prepare(image)
        self._input = self._variable(self.frame)

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        out, *self._states = self._module.forward([self._input, *self._states])
        self._logits = out.read()

    def logits(self) -> Array:
        """See :meth:`Contender.logits`."""
        return np.asarray(self._logits, np.float32).reshape(-1)

    def states(self) -> list[Array]:
        """See :meth:`Contender.states`."""
        return [np.array(state.read(), np.float32) for state in self._states]

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        self._logits = np.zeros(self.spec.classes, np.float32)
        self._states = [
            self._variable(np.zeros(state.shape, np.float32)) for state in self.spec.states
        ]


def _convert(model: Path, folder: Path) -> None:
    tools = importlib.import_module("_tools")  # MNN's, by this name
    made = folder / FILE
    arguments = ["-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(made)]
    tools.mnnconvert(["mnnconvert", *arguments, "--bizCode", "shiftedge"])
    if not made.is_file():
        raise ModelError(f"{model.name} was not converted by MNN; its converter says why above.")
