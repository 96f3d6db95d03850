"""Peers on an NVIDIA GPU: ONNX Runtime with CUDA and with TensorRT, torch one kernel after the
other and as a recorded graph.

In the timed step the frame goes up to the device and the logits come down, as in ours; normalised
float32, where ours is the camera's bytes. States stay on the device, where ours cross over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Array, Contender
from shiftedge.benchmarks.engines.torch_peers import TorchContender
from shiftedge.runtime.engines.onnxruntime import SHORT_NAMES, OnnxRuntimeEngine
from shiftedge.runtime.errors import MissingExtraError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

_WARM_UP = 3
"""Steps before one is recorded, as torch's manual asks for."""


class OnnxRuntimeCudaContender(Contender):
    """Kernels of cuDNN and ONNX Runtime's own."""

    packages = ("onnxruntime-gpu",)
    providers: tuple[str, ...] = ("cuda",)

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        ort = require("onnxruntime")
        available = ort.get_available_providers()
        absent = [name for name in self.providers if SHORT_NAMES[name] not in available]
        if absent:
            raise MissingExtraError(
                f"onnxruntime {ort.__version__} as it is installed has no {absent[0]}: put the "
                "package onnxruntime-gpu in its place, on a machine with an NVIDIA GPU."
            )
        engine = OnnxRuntimeEngine(path, threads=threads, providers=self.providers)
        self.version, self.spec = engine.version, engine.spec
        self.precision = engine.spec.precision
        self.settings = {"threads": threads, "providers": list(self.providers)}
        self._session = engine.open_session()
        self._logits = np.zeros(self.spec.classes, np.float32)

    def prepare(self, image: NDArray[np.uint8]) -> None:
        self._session.normalise(image)

    def step(self) -> None:
        self._logits = self._session.run()

    def logits(self) -> Array:
        return self._logits

    def states(self) -> Sequence[Array]:
        pairs = zip(self.spec.states, self._session.states(), strict=True)
        return [state.numbers(found) for state, found in pairs]

    def reset(self) -> None:
        self._session.reset()


class OnnxRuntimeTensorRtContender(OnnxRuntimeCudaContender):
    """What TensorRT takes of the graph, the rest as above; its engine is built while it loads."""

    providers = ("tensorrt", "cuda")


class TorchCudaContender(TorchContender):
    """Eager torch on the GPU, in float32 without TF32."""

    title = "torch CUDA"
    device = "cuda"

    def load(self, path: Path, threads: int) -> None:
        torch = require("torch")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise MissingExtraError(
                "This torch finds no NVIDIA GPU: it takes one, its driver and a torch built for "
                "CUDA (pytorch.org says how to install that)."
            )
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        super().load(path, threads)
        if self.device == "cuda":
            self.settings["device"] = torch.cuda.get_device_name()

    def finish(self, module: Any, path: Path) -> Any:
        return module.to(self.device)

    def tensor(self, values: NDArray[Any]) -> Any:
        """On the host; the frame in pinned memory."""
        found = super().tensor(values)
        return found.pin_memory() if values is self.frame and self.device == "cuda" else found

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.asarray(tensor.cpu())

    def step(self) -> None:
        frame = self._input.to(self.device, non_blocking=True)
        out, *self._states = self._step(frame, *self._states)
        self._out = out.cpu()  # waits for it

    def reset(self) -> None:
        super().reset()
        self._states = [state.to(self.device) for state in self._states]


class TorchCudaGraphContender(TorchCudaContender):
    """The same step recorded once as a CUDA graph, its states written back in it, and replayed."""

    title = "torch CUDA graph"
    mode = "no_grad"
    _graph: Any = None

    def finish(self, module: Any, path: Path) -> Any:
        torch, module = self._torch, super().finish(module, path)
        self._frame = self.tensor(self.frame).to(self.device)
        self._kept = [state.clone() for state in self._states]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                module(self._frame, *self._kept)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._made, *following = module(self._frame, *self._kept)
            # A state may be a part of another, or of the frame: all are read before one is written.
            read = [state.clone() for state in following]
            for state, new in zip(self._kept, read, strict=True):
                state.copy_(new)
        self._graph = graph
        return module

    def step(self) -> None:
        self._frame.copy_(self._input, non_blocking=True)
        self._graph.replay()
        self._out = self._made.cpu()

    def reset(self) -> None:
        super().reset()
        if self._graph is not None:
            for state, fresh in zip(self._kept, self._states, strict=True):
                state.copy_(fresh)
            self._states = self._kept
