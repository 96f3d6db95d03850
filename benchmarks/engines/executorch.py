"""ExecuTorch with XNNPACK: exported and lowered by torch, run by ExecuTorch's Python bindings."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Peer, converted
from shiftedge.benchmarks.engines.to_torch import (
    quantised_convolutions,
    signed,
    to_torch,
    unsigned,
)
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

PROGRAM = "model.pte"
LOWERED = "lowered.json"
"""What XNNPACK got of the model: graphs ("parts"), convolutions of quantised values in them
("integer"), and how many the file has ("quantised")."""
FORM = 3
"""Of what is made here: another number, and nothing that an older version made is taken."""


class ExecuTorchContender(Peer):
    """The program is made once and kept in the cache.

    New states are copies that ExecuTorch makes of its planned memory, some 60 KB for MobileNetV2:
    without, the next step would overwrite what it reads. Those of a quantised file are int8.
    """

    title = "ExecuTorch"
    packages = ("executorch", "torch")

    def load(self, path: Path, threads: int) -> None:
        require("executorch")
        torch = self._torch = require("torch")
        self.version = importlib.metadata.version("executorch")
        torch.set_num_threads(threads)
        folder = converted(
            *(path, "executorch", self.packages, lambda to: _lower(path, self.spec, to)),
            {"form": FORM},
        )
        lowered = json.loads((folder / LOWERED).read_text())
        self.check_integers(path, lowered["integer"], lowered["quantised"])
        bindings = require("executorch.extension.pybindings.portable_lib")
        bindings._unsafe_reset_threadpool(threads)
        self._program = bindings._load_program(str(folder / PROGRAM))
        self._method = self._program.load_method("forward")
        self.settings = {
            "threads": int(bindings._threadpool_get_thread_count()),
            "backend": "XNNPACK",
            "parts": lowered["parts"],
            "integer_convolutions": lowered["integer"],
        }

    def tensor(self, values: NDArray[Any]) -> Any:
        return self._torch.from_numpy(signed(values))

    def array(self, tensor: Any) -> NDArray[Any]:
        return unsigned(tensor.numpy())

    def step(self) -> None:
        method = self._method
        method.set_inputs((self._input, *self._states))
        method.execute()
        self._out, *self._states = method.get_outputs(clone_outputs=True)


def _lower(path: Path, spec: ModelSpec, folder: Path) -> None:
    torch, exir = require("torch"), require("executorch.exir")
    partitioner = require("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    with torch.no_grad():
        frame = torch.zeros(1, 3, spec.height, spec.width)
        states = (torch.from_numpy(signed(state.fresh())) for state in spec.states)
        module = to_torch(path, spec, "signed")
        program = torch.export.export(module, (frame, *states))
    edge = exir.to_edge_transform_and_lower(program, partitioner=[partitioner.XnnpackPartitioner()])
    parts = _parts(edge.exported_program().graph_module)
    lowered = {
        "parts": len(parts),
        "integer": sum(_is_integer(node) for part in parts for node in part.nodes),
        "quantised": quantised_convolutions(module),
    }
    (folder / LOWERED).write_text(json.dumps(lowered))
    (folder / PROGRAM).write_bytes(edge.to_executorch().buffer)


def _parts(module: Any) -> list[Any]:
    """The graphs that went to XNNPACK as the partitioner cut them out."""
    held = (getattr(module, node.target) for node in module.graph.nodes if node.op == "get_attr")
    return [each.original_module.graph for each in held if hasattr(each, "backend_id")]


def _is_integer(node: Any) -> bool:
    """A convolution that XNNPACK computes with integers: the partitioner has joined the calls
    around it, for input, weights and result. One of quantised weights whose calls stand for
    themselves runs in float32."""
    joined = require("executorch.backends.xnnpack.utils.quant_utils").is_tagged_as_implicit_q_dq
    if node.op != "call_function" or "convolution" not in str(node.target):
        return False
    after = [found for user in node.users for found in (user, *user.users)]  # past an activation
    return all(map(joined, node.args[:2])) and any(map(joined, after))
