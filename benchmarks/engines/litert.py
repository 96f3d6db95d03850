"""LiteRT: converted by litert-torch, run by its interpreter with the XNNPACK delegate."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np

from shiftedge.benchmarks.engines.base import Array
from shiftedge.benchmarks.engines.onnx_to_torch import to_torch
from shiftedge.benchmarks.engines.peer import Peer, converted
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["LiteRtContender"]

FILE = "model.tflite"


class LiteRtContender(Peer):
    """The interpreter owns all tensors, so a step copies the states, some 60 KB for MobileNetV2,
    from its outputs to its inputs."""

    title = "LiteRT"
    packages = ("ai-edge-litert",)

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        interpreter = require("ai_edge_litert.interpreter")
        spec = self.set_up(spec)
        self.version = importlib.metadata.version("ai-edge-litert")
        try:
            folder = converted(
                path, "litert", ("litert-torch", "torch"), lambda to: _convert(path, spec, to)
            )
            self._run = interpreter.Interpreter(str(folder / FILE), num_threads=threads)
            self._run.allocate_tensors()
        except ShiftedgeError:
            raise
        except Exception as error:  # neither torch's nor LiteRT's errors have a common base
            raise self.refused(path, error) from error
        # Numbered by the converter in the order of the module's arguments and results.
        takes, gives = self._run.get_input_details(), self._run.get_output_details()
        place = {entry["name"]: entry["index"] for entry in (*takes, *gives)}
        numbers = range(1 + len(spec.states))
        self._inputs = [place[f"serving_default_args_{number}"] for number in numbers]
        self._outputs = [place[f"serving_default_output_{number}_output"] for number in numbers]
        self.settings = {"threads": threads, "delegate": "XNNPACK"}
        self.reset()

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        run = self._run
        run.set_tensor(self._inputs[0], self.frame)
        run.invoke()
        for source, target in zip(self._outputs[1:], self._inputs[1:], strict=True):
            run.set_tensor(target, run.tensor(source)())

    def logits(self) -> Array:
        """See :meth:`Contender.logits`."""
        found: Array = self._run.get_tensor(self._outputs[0]).reshape(-1)
        return found

    def states(self) -> list[Array]:
        """See :meth:`Contender.states`."""
        return [self._run.get_tensor(index) for index in self._outputs[1:]]

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        for index, state in zip(self._inputs[1:], self.spec.states, strict=True):
            self._run.set_tensor(index, np.zeros(state.shape, np.float32))


def _convert(path: Path, spec: ModelSpec, folder: Path) -> None:
    torch, litert = require("torch"), require("litert_torch")
    shapes = [(1, 3, spec.height, spec.width), *(state.shape for state in spec.states)]
    examples = tuple(torch.zeros(shape) for shape in shapes)
    litert.convert(to_torch(path, spec), examples).export(str(folder / FILE))
