"""TVM's own pipeline: what relax makes of an ONNX file without any schedule of ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Peer
from shiftedge.export.compiler.targets import find_variant
from shiftedge.runtime.process.cpu import taken_away
from shiftedge.runtime.process.extras import require


class TvmContender(Peer):
    """Relax's ONNX importer, the default build for LLVM with this processor's name and features,
    the virtual machine. States stay TVM's own tensors: a step reads those that the last one gave.
    """

    title = "TVM"
    packages = ("apache-tvm", "apache-tvm-ffi")

    def load(self, path: Path, threads: int) -> None:
        os.environ["TVM_NUM_THREADS"] = str(threads)  # read when TVM starts its threads
        onnx, tvm = require("onnx"), require("tvm")
        relax, importer = require("tvm.relax"), require("tvm.relax.frontend.onnx")
        self.version = tvm.__version__
        target = _host(tvm)
        module = importer.from_onnx(onnx.load(str(path)), keep_params_in_input=False)
        library = relax.build(module, target=tvm.target.Target(target))
        self._run = relax.VirtualMachine(library, tvm.cpu())["main"]
        self.settings = {
            "threads": threads,
            "target": {key: target[key] for key in ("kind", "mcpu")},
            "pipeline": "relax.build's own",
        }
        self._make = tvm.runtime.tensor
        self._inputs = [self._make(self.frame) for _ in range(2)]

    def tensor(self, values: NDArray[Any]) -> Any:
        """See :meth:`Peer.tensor`: the frame goes where frames go."""
        if values is not self.frame:
            return self._make(values)
        self._inputs.reverse()
        self._inputs[0].copyfrom(values)
        return self._inputs[0]

    def array(self, tensor: Any) -> NDArray[Any]:
        found: NDArray[Any] = tensor.numpy()
        return found

    def step(self) -> None:
        self._out, *self._states = self._run(self._input, *self._states)


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
