"""torch.compile: the inductor backend on the CPU, with the weights frozen in."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.engines.onnx_to_torch_codes import quantised_convolutions
from shiftedge.benchmarks.engines.torch import TorchContender
from shiftedge.runtime.errors import MissingExtraError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["TorchCompileContender"]


class TorchCompileContender(TorchContender):
    """Compiled while it is loaded, for static shapes, by the C++ compiler that is at hand.

    Frozen, weights are packed once for oneDNN, and inductor chooses layouts itself: contiguous
    inputs were the quicker ones. Of a quantised file inductor makes oneDNN's integer convolutions.
    """

    title = "torch.compile"
    layout = "contiguous_format"
    mode = "no_grad"

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        require("torch")
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise MissingExtraError(
                f"torch.compile needs a C++ compiler, and there is no {compiler}: run  apt install "
                "g++  or name one in CXX."
            )
        super().__init__(path, threads, spec)
        self.settings |= {"backend": "inductor", "freezing": True}

    def finish(self, module: Any, path: Path) -> Any:
        """See :meth:`TorchContender.finish`."""
        config: Any = importlib.import_module("torch._inductor.config")
        config.freezing = True
        config.compile_threads = 1  # no pool of processes that would stay
        step = self._torch.compile(module, dynamic=False)
        try:
            step(self._input, *self._states)
        except Exception as error:  # inductor's errors have no common base
            raise self.refused(path, error) from error
        if self.precision == "int8":
            found = self._integers()
            self.check_integers(path, found, quantised_convolutions(module))
            self.settings["integer_convolutions"] = found
        return step

    def _integers(self) -> int:
        """The convolutions that inductor has just given to oneDNN with their codes, by its own
        count."""
        counted: Any = importlib.import_module("torch._dynamo.utils").counters["inductor"]
        return sum(int(counted[f"qconv_{kind}_lower_count"]) for kind in ("unary", "binary"))
