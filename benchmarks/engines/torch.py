"""torch in eager mode, one call of a kernel after the other; and ``torch.compile``, inductor on the
CPU with the weights frozen in."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Peer
from shiftedge.benchmarks.engines.to_torch import quantised_convolutions, to_torch
from shiftedge.runtime.errors import MissingExtraError
from shiftedge.runtime.process.extras import require


class TorchContender(Peer):
    """The model as an fx module in inference mode, its maps in channels_last, which is the quicker
    layout on x86-64 for MobileNetV2 and for ResNet-50.

    A step's new states are the tensors that the module gave: nothing is copied.
    """

    title = "torch"
    packages = ("torch",)
    layout = "channels_last"
    """A ``torch.memory_format`` by name."""
    mode = "inference_mode"
    """A context of torch's by name, entered for good: the process does nothing else."""

    def load(self, path: Path, threads: int) -> None:
        torch = self._torch = require("torch")
        self.version = torch.__version__
        torch.set_num_threads(threads)
        self.settings = {
            "threads": torch.get_num_threads(),
            "mode": self.mode,
            "layout": self.layout,
        }
        layout = {"memory_format": getattr(torch, self.layout)}
        self._context = getattr(torch, self.mode)()
        self._context.__enter__()
        module = to_torch(path, self.spec).to(**layout)
        self._inputs = [torch.zeros(self.frame.shape).contiguous(**layout) for _ in range(2)]
        # States begin with the strides that a step gives them, a slice's, so that nothing is
        # compiled for two kinds of them.
        fresh = [torch.from_numpy(state.fresh()) for state in self.spec.states]
        _, *given = module(self._inputs[0], *fresh)
        self._strides = [state.stride() for state in given]
        self.reset()
        self._step = self.finish(module, path)

    def finish(self, module: Any, path: Path) -> Any:
        """What a step calls, made from the module."""
        return module

    def tensor(self, values: NDArray[Any]) -> Any:
        """See :meth:`Peer.tensor`: the frame is brought into the layout."""
        found = self._torch.from_numpy(values)
        if values is not self.frame:
            return found
        self._inputs.reverse()
        return self._inputs[0].copy_(found)

    def array(self, tensor: Any) -> NDArray[Any]:
        found: NDArray[Any] = tensor.numpy()
        return found

    def step(self) -> None:
        self._out, *self._states = self._step(self._input, *self._states)

    def reset(self) -> None:
        super().reset()
        self._states = [
            self._torch.empty_strided(state.shape, strides, dtype=state.dtype).copy_(state)
            for state, strides in zip(self._states, self._strides, strict=True)
        ]


class TorchCompileContender(TorchContender):
    """Compiled while it is loaded, for static shapes, by the C++ compiler that is at hand.

    Frozen, weights are packed once for oneDNN, and inductor chooses layouts itself: contiguous
    inputs were the quicker ones. Of a quantised file inductor makes oneDNN's integer convolutions.
    """

    title = "torch.compile"
    layout = "contiguous_format"
    mode = "no_grad"

    def load(self, path: Path, threads: int) -> None:
        require("torch")
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise MissingExtraError(
                f"torch.compile needs a C++ compiler, and there is no {compiler}: run  apt install "
                "g++  or name one in CXX."
            )
        super().load(path, threads)
        self.settings |= {"backend": "inductor", "freezing": True}

    def finish(self, module: Any, path: Path) -> Any:
        config: Any = importlib.import_module("torch._inductor.config")
        config.freezing = True
        config.compile_threads = 1  # no pool of processes that would stay
        step = self._torch.compile(module, dynamic=False)
        step(self._inputs[0], *self._states)
        if self.precision == "int8":
            # The convolutions that inductor has just given to oneDNN quantised, by its own count.
            counted: Any = importlib.import_module("torch._dynamo.utils").counters["inductor"]
            found = sum(int(counted[f"qconv_{kind}_lower_count"]) for kind in ("unary", "binary"))
            self.check_integers(path, found, quantised_convolutions(module))
            self.settings["integer_convolutions"] = found
        return step
