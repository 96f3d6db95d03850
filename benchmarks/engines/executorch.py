"""ExecuTorch with XNNPACK: exported and lowered by torch, run by ExecuTorch's Python bindings."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Array
from shiftedge.benchmarks.engines.onnx_to_torch import to_torch
from shiftedge.benchmarks.engines.peer import Peer, converted
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["ExecuTorchContender"]

PROGRAM = "model.pte"


class ExecuTorchContender(Peer):
    """The program is made once and kept in the cache.

    New states are copies that ExecuTorch makes of its planned memory, some 60 KB for MobileNetV2:
    without, the next step would overwrite what it reads.
    """

    title = "ExecuTorch"
    packages = ("executorch", "torch")

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        require("executorch")
        torch = self._torch = require("torch")
        spec = self.set_up(spec)
        self.version = importlib.metadata.version("executorch")
        torch.set_num_threads(threads)
        try:
            folder = converted(path, "executorch", self.packages, lambda to: _lower(path, spec, to))
            bindings = require("executorch.extension.pybindings.portable_lib")
            bindings._unsafe_reset_threadpool(threads)
            self._program = bindings._load_program(str(folder / PROGRAM))
            self._method = self._program.load_method("forward")
        except ShiftedgeError:
            raise
        except Exception as error:  # neither torch's nor ExecuTorch's errors have a common base
            raise self.refused(path, error) from error
        self.settings = {
            "threads": int(bindings._threadpool_get_thread_count()),
            "backend": "XNNPACK",
        }
        self._input = torch.from_numpy(self.frame)
        self.reset()

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: normalises."""
        super().prepare(image)
        self._input = self._torch.from_numpy(self.frame)

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        method = self._method
        method.set_inputs((self._input, *self._states))
        method.execute()
        self._out, *self._states = method.get_outputs(clone_outputs=True)

    def logits(self) -> Array:
        """See :meth:`Contender.logits`."""
        found: Array = self._out.numpy().reshape(-1)
        return found

    def states(self) -> list[Array]:
        """See :meth:`Contender.states`."""
        return [state.numpy() for state in self._states]

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        torch = self._torch
        self._out = torch.zeros(1, self.spec.classes)
        self._states = [torch.zeros(state.shape) for state in self.spec.states]


def _lower(path: Path, spec: ModelSpec, folder: Path) -> None:
    torch, exir = require("torch"), require("executorch.exir")
    partitioner = require("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    shapes = [(1, 3, spec.height, spec.width), *(state.shape for state in spec.states)]
    with torch.no_grad():
        examples = tuple(torch.zeros(shape) for shape in shapes)
        program = torch.export.export(to_torch(path, spec), examples)
    edge = exir.to_edge_transform_and_lower(program, partitioner=[partitioner.XnnpackPartitioner()])
    (folder / PROGRAM).write_bytes(edge.to_executorch().buffer)
