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

from shiftedge.benchmarks.engines.base import Peer, converted
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.extras import require

FILE = "model.mnn"


class MnnContender(Peer):
    """States stay MNN's own variables: a step takes those that the last one gave. MNN computes
    when a value is read, so the timed step reads the logits."""

    title = "MNN"
    packages = ("mnn",)

    def load(self, path: Path, threads: int) -> None:
        require("MNN")
        self._express, networks = require("MNN.expr"), require("MNN.nn")
        self.version = importlib.metadata.version("mnn")
        folder = converted(path, "mnn", self.packages, lambda to: _convert(path, to))
        wanted = {"backend": "CPU", "numThread": threads, "precision": "high"}
        states = range(len(self.spec.states))
        self._module = networks.load_module_from_file(
            str(folder / FILE),
            ["frame", *(f"state_{index}" for index in states)],
            ["logits", *(f"next_state_{index}" for index in states)],
            runtime_manager=networks.create_runtime_manager((wanted,)),
            rearrange=True,
            shape_mutable=False,
        )
        self.settings = {"threads": threads, "backend": "CPU", "precision": "high"}

    def tensor(self, values: NDArray[Any]) -> Any:
        return self._express.const(values, values.shape, self._express.NCHW)

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.array(tensor if isinstance(tensor, np.ndarray) else tensor.read(), np.float32)

    def step(self) -> None:
        out, *self._states = self._module.forward([self._input, *self._states])
        self._out = out.read()


def _convert(model: Path, folder: Path) -> None:
    tools = importlib.import_module("_tools")  # MNN's, by this name
    made = folder / FILE
    arguments = ["-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(made)]
    tools.mnnconvert(["mnnconvert", *arguments, "--bizCode", "shiftedge"])
    if not made.is_file():
        raise ModelError(f"{model.name} was not converted by MNN; its converter says why above.")
