"""OpenVINO's CPU plugin as a peer: float32, tuned for latency, nothing copied."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import INT8_TOLERANCE, Array, Contender, StateBuffers
from shiftedge.runtime.errors import MissingExtraError, ModelError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.spec import ModelSpec

__all__ = ["OpenVinoContender"]


class OpenVinoContender(Contender):
    """Two requests over two sets of states, each bound once: one reads set 0 and writes set 1, the
    other the reverse. The timed step is one call of ``infer``."""

    packages = ("openvino",)
    hints: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    """Asked of the plugin. Without the first, CPUs that have bfloat16 would compute in it."""

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        try:
            openvino = importlib.import_module("openvino")
        except ImportError as error:
            raise MissingExtraError(
                "This needs the package openvino, which is not installed: run  pip install openvino"
            ) from error
        if spec is None:
            raise ModelError("OpenVINO needs the model's spec, which nothing here could read.")
        self.spec = spec
        self.precision = spec.precision
        if self.precision == "int8":
            self.tolerance = INT8_TOLERANCE
        self.version = openvino.__version__.partition("-")[0]
        wanted = {**self.hints, "INFERENCE_NUM_THREADS": threads}
        try:
            core = openvino.Core()
            model = core.compile_model(core.read_model(str(path)), "CPU", wanted)
            self.settings = {
                "threads": int(model.get_property("INFERENCE_NUM_THREADS")),
                "streams": int(model.get_property("NUM_STREAMS")),
                **self.hints,
                "INFERENCE_PRECISION_HINT": _precision(model),
            }
            self._normalise = Preprocessor(spec).normalise
            self._frame = np.zeros((1, 3, spec.height, spec.width), np.float32)
            self._out = np.zeros((1, spec.classes), np.float32)
            self._buffers = StateBuffers(spec)
            self._requests = [self._request(openvino, model, source) for source in range(2)]
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise ModelError(
                f"{path} cannot be loaded by OpenVINO ({lines[-1] if lines else error})."
            ) from error

    def _request(self, openvino: Any, model: Any, source: int) -> Any:
        request = model.create_infer_request()
        old, new = self._buffers.sets[source], self._buffers.sets[1 - source]
        bound = {"frame": self._frame, "logits": self._out}
        bound |= {f"state_{i}": array for i, array in enumerate(old)}
        bound |= {f"next_state_{i}": array for i, array in enumerate(new)}
        for name, array in bound.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return request

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: normalises."""
        self._normalise(image, self._frame)

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        request = self._requests[self._buffers.source]
        request.infer(None, share_inputs=True, share_outputs=True)
        self._buffers.swap()

    def logits(self) -> Array:
        """See :meth:`Contender.logits`."""
        return self._out.reshape(-1)

    def states(self) -> list[Array]:
        """See :meth:`Contender.states`."""
        return self._buffers.numbers()

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        self._buffers.reset()


def _precision(model: Any) -> str:
    """In which the compiled model computes, by OpenVINO's name: f32, bf16, f16."""
    return str(model.get_property("INFERENCE_PRECISION_HINT").to_string())
