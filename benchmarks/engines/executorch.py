"""ExecuTorch with XNNPACK: exported and lowered by torch, run by ExecuTorch's Python bindings."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import INT8_TOLERANCE, Array
from shiftedge.benchmarks.engines.onnx_to_torch import to_torch
from shiftedge.benchmarks.engines.onnx_to_torch_codes import sign_codes, signed, unsigned
from shiftedge.benchmarks.engines.peer import Peer, converted
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["ExecuTorchContender"]

PROGRAM = "model.pte"
LOWERED = "lowered.json"
"""What XNNPACK got of the model, see :func:`_lowered`."""
FORM = 2
"""Of what is made here: another number, and nothing that an older version made is taken."""


class ExecuTorchContender(Peer):
    """The program is made once and kept in the cache.

    New states are copies that ExecuTorch makes of its planned memory, some 60 KB for MobileNetV2:
    without, the next step would overwrite what it reads. Those of a quantised file are int8 codes.
    """

    title = "ExecuTorch"
    packages = ("executorch", "torch")

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        require("executorch")
        torch = self._torch = require("torch")
        spec = self.set_up(spec)
        self.precision = spec.precision
        if self.precision == "int8":
            self.tolerance = INT8_TOLERANCE
        self.version = importlib.metadata.version("executorch")
        torch.set_num_threads(threads)
        try:
            folder = converted(
                *(path, "executorch", self.packages, lambda to: _lower(path, spec, to)),
                {"form": FORM},
            )
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
            **json.loads((folder / LOWERED).read_text()),
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
        return [
            state.numbers(unsigned(found.numpy()))
            for state, found in zip(self.spec.states, self._states, strict=True)
        ]

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        torch = self._torch
        self._out = torch.zeros(1, self.spec.classes)
        self._states = [torch.from_numpy(signed(state.fresh())) for state in self.spec.states]


def _lower(path: Path, spec: ModelSpec, folder: Path) -> None:
    torch, exir = require("torch"), require("executorch.exir")
    partitioner = require("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    with torch.no_grad():
        frame = torch.zeros(1, 3, spec.height, spec.width)
        states = (torch.from_numpy(signed(state.fresh())) for state in spec.states)
        module = sign_codes(to_torch(path, spec), spec)
        program = torch.export.export(module, (frame, *states))
    edge = exir.to_edge_transform_and_lower(program, partitioner=[partitioner.XnnpackPartitioner()])
    (folder / LOWERED).write_text(json.dumps(_lowered(edge.exported_program().graph_module)))
    (folder / PROGRAM).write_bytes(edge.to_executorch().buffer)


def _lowered(module: Any) -> dict[str, int]:
    """How many parts went to XNNPACK, how many convolutions are in them, and how many of those it
    computes with codes: those whose input, weights and result the partitioner has joined with the
    calls around. A convolution in float32 of quantised weights is not among them."""
    utilities = require("executorch.backends.xnnpack.utils.quant_utils")

    def joined(node: Any) -> bool:
        return bool(utilities.is_tagged_as_implicit_q_dq(node))

    parts = [
        getattr(module, node.target)
        for node in module.graph.nodes
        if node.op == "get_attr" and hasattr(getattr(module, node.target), "backend_id")
    ]
    convolutions = [
        node
        for part in parts
        for node in part.original_module.graph_module.graph.nodes
        if node.op == "call_function" and "convolution" in str(node.target)
    ]
    integers = [
        node
        for node in convolutions
        if all(map(joined, node.args[:2])) and any(map(joined, _after(node)))
    ]
    return {
        "parts": len(parts),
        "convolutions": len(convolutions),
        "integer_convolutions": len(integers),
    }


def _after(node: Any) -> list[Any]:
    """The users of ``node`` and theirs: an activation may come before the codes."""
    return [found for user in node.users for found in (user, *user.users)]
