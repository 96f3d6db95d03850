"""torch in eager mode: one call of a kernel after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Array
from shiftedge.benchmarks.engines.onnx_to_torch import to_torch
from shiftedge.benchmarks.engines.peer import Peer
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["TorchContender"]


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

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        torch = self._torch = require("torch")
        self.version = torch.__version__
        spec = self.set_up(spec)
        torch.set_num_threads(threads)
        self.settings = {
            "threads": torch.get_num_threads(),
            "mode": self.mode,
            "layout": self.layout,
        }
        layout = {"memory_format": getattr(torch, self.layout)}
        self._context = getattr(torch, self.mode)()
        self._context.__enter__()
        module = to_torch(path, spec).to(**layout)
        self._input, self._other = (
            torch.zeros(self.frame.shape).contiguous(**layout) for _ in range(2)
        )
        # States begin with the strides that a step gives them, a slice's, so that nothing is
        # compiled for two kinds of them.
        fresh = [torch.from_numpy(state.fresh()) for state in spec.states]
        self._logits, *given = module(self._input, *fresh)
        self._strides = [state.stride() for state in given]
        self.reset()
        self._step = self.finish(module, path)

    def finish(self, module: Any, path: Path) -> Any:
        """What a step calls, made from the module."""
        return module

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: normalises, and brings the pixels into the layout."""
        super().prepare(image)
        self._input, self._other = self._other, self._input
        self._input.copy_(self._torch.from_numpy(self.frame))

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        self._logits, *self._states = self._step(self._input, *self._states)

    def logits(self) -> Array:
        """See :meth:`Contender.logits`."""
        found: Array = self._logits.numpy().reshape(-1)
        return found

    def states(self) -> list[Array]:
        """See :meth:`Contender.states`."""
        return [
            state.numbers(found.numpy())
            for state, found in zip(self.spec.states, self._states, strict=True)
        ]

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        self._states = [
            self._torch.empty_strided(
                state.shape, strides, dtype=getattr(self._torch, state.dtype)
            ).fill_(state.zero_point)
            for state, strides in zip(self.spec.states, self._strides, strict=True)
        ]
