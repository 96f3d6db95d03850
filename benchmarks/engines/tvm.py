"""TVM's own pipeline: what relax makes of an ONNX file without any schedule of ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Array
from shiftedge.benchmarks.engines.peer import Peer
from shiftedge.export.compiler.targets import find_variant
from shiftedge.runtime.process.cpu import taken_away
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["TvmContender"]


class TvmContender(Peer):
    """Relax's ONNX importer, the default build for LLVM with this processor's name and features,
    the virtual machine. States stay TVM's own tensors: a step reads those that the last one gave.
    """

    title = "TVM"
    packages = ("apache-tvm", "apache-tvm-ffi")

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        os.environ["TVM_NUM_THREADS"] = str(threads)  # read when TVM starts its threads
        onnx, tvm = require("onnx"), require("tvm")
        relax, importer = require("tvm.relax"), require("tvm.relax.frontend.onnx")
        self._tvm = tvm
        self.version = tvm.__version__
        spec = self.set_up(spec)
        target = _host(tvm)
        try:
            module = importer.from_onnx(onnx.load(str(path)), keep_params_in_input=False)
            library = relax.build(module, target=tvm.target.Target(target))
            self._run = relax.VirtualMachine(library, tvm.cpu())["main"]
        except Exception as error:  # TVM's errors have no common base
            raise self.refused(path, error) from error
        self.settings = {
            "threads": threads,
            "target": {key: target[key] for key in ("kind", "mcpu")},
            "pipeline": "relax.build's own",
        }
        self._input, self._other = (tvm.runtime.tensor(self.frame) for _ in range(2))
        self.reset()

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: normalises."""
        super().prepare(image)
        self._input, self._other = self._other, self._input
        self._input.copyfrom(self.frame)

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        self._out, *self._states = self._run(self._input, *self._states)

    def logits(self) -> Array:
        """See :meth:`Contender.logits`."""
        found: Array = self._out.numpy().reshape(-1)
        return found

    def states(self) -> list[Array]:
        """See :meth:`Contender.states`."""
        return [state.numpy() for state in self._states]

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        make = self._tvm.runtime.tensor
        self._out = make(np.zeros((1, self.spec.classes), np.float32))
        self._states = [make(np.zeros(state.shape, np.float32)) for state in self.spec.states]


def _host(tvm: Any) -> dict[str, Any]:
    """A target for LLVM with all that this processor can do, or with the level that is left of it,
    since LLVM finds what the environment takes away too."""
    if taken_away():
        host = find_variant("host")
        return {"kind": "llvm", "mcpu": host.device.name, "mtriple": host.target.triple}
    find = tvm.get_global_func
    mcpu = str(find("target.llvm_get_system_cpu")())
    triple = str(find("target.llvm_get_system_triple")())
    return {"kind": "llvm", "mcpu": mcpu, "mtriple": triple}
