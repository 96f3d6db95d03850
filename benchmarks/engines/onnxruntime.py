"""ONNX Runtime at its best, as a peer; and at its plainest, as the reference.

Neither is the runtime's own engine, which keeps idle threads asleep to spare the board: back to
back, a peer is quicker with threads that spin.
"""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import INT8_TOLERANCE, Array, Contender, StateBuffers
from shiftedge.runtime.engines.onnxruntime import ask_for_exact_int8, check_claims
from shiftedge.runtime.errors import ModelError, SpecError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import utf8_path
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

__all__ = ["OnnxRuntimeContender", "ReferenceContender"]


class OnnxRuntimeContender(Contender):
    """Threads that spin, every graph optimisation, and I/O binding over two sets of states: the
    timed step is one call that copies nothing."""

    packages = ("onnxruntime",)

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        ort = require("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        ask_for_exact_int8(options)
        self._session = _open(ort, path, options)
        self.version = ort.__version__
        self.spec = _spec_of(self._session, path)
        self.precision = self.spec.precision
        if self.precision == "int8":
            self.tolerance = INT8_TOLERANCE
        self.settings = {"threads": threads, "spinning": True, "optimisation": "all"}
        self._bind()

    def _bind(self) -> None:
        """Buffers of one stream."""
        ort = require("onnxruntime")
        self._normalise = Preprocessor(self.spec).normalise
        self._frame = np.zeros((1, 3, self.spec.height, self.spec.width), np.float32)
        self._out = np.zeros((1, self.spec.classes), np.float32)
        self._buffers = StateBuffers(self.spec)
        values = [[_value(ort, state) for state in states] for states in self._buffers.sets]
        frame, out = _value(ort, self._frame), _value(ort, self._out)
        self._bindings = []
        for source in range(2):
            binding = self._session.io_binding()
            binding.bind_ortvalue_input("frame", frame)
            binding.bind_ortvalue_output("logits", out)
            for i, (old, new) in enumerate(zip(values[source], values[1 - source], strict=True)):
                binding.bind_ortvalue_input(f"state_{i}", old)
                binding.bind_ortvalue_output(f"next_state_{i}", new)
            self._bindings.append(binding)

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: normalises."""
        self._normalise(image, self._frame)

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        self._session.run_with_iobinding(self._bindings[self._buffers.source])
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

    def another(self) -> OnnxRuntimeContender:
        """See :meth:`Contender.another`: one session, whose runs need no turns."""
        other = copy.copy(self)
        other._bind()
        return other


class ReferenceContender(Contender):
    """A session without graph optimisations, its states passed as plain arrays: the same arithmetic
    as the file says, by another way than any peer's."""

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        ort = require("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with contextlib.suppress(OSError):  # which _open tells of
            check_claims(path.read_bytes(), path)  # the reference is the first to load a file
        self._session = _open(ort, path, options)
        self.version = ort.__version__
        self.spec = _spec_of(self._session, path)
        self.precision = self.spec.precision
        self.settings = {"threads": threads, "spinning": False, "optimisation": "none"}
        self._normalise = Preprocessor(self.spec).normalise
        self._frame = np.zeros((1, 3, self.spec.height, self.spec.width), np.float32)
        self._names = [f"state_{i}" for i in range(len(self.spec.states))]
        self._outputs = ["logits", *(f"next_{name}" for name in self._names)]
        self._logits = np.zeros((1, self.spec.classes), np.float32)
        self._states: list[NDArray[Any]] = []
        self.reset()

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: normalises."""
        self._normalise(image, self._frame)

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        feed = {"frame": self._frame, **dict(zip(self._names, self._states, strict=True))}
        self._logits, *self._states = self._session.run(self._outputs, feed)

    def logits(self) -> Array:
        """See :meth:`Contender.logits`."""
        return self._logits.reshape(-1)

    def states(self) -> list[Array]:
        """See :meth:`Contender.states`."""
        return [
            spec.numbers(state) for spec, state in zip(self.spec.states, self._states, strict=True)
        ]

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        self._states = [state.fresh() for state in self.spec.states]


def _open(ort: Any, path: Path, options: Any) -> Any:
    options.log_severity_level = 4  # failures come as exceptions
    try:
        with utf8_path(path) as name:
            return ort.InferenceSession(name, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise ModelError(f"{path} cannot be loaded by ONNX Runtime ({error}).") from error


def _spec_of(session: Any, path: Path) -> ModelSpec:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise SpecError(
            f"{path} has no {METADATA_KEY} in its metadata; `shiftedge export` makes files that "
            "have it."
        )
    return ModelSpec.from_json(text)


def _value(ort: Any, array: NDArray[Any]) -> Any:
    """A view of ``array``, which the caller keeps alive."""
    value = ort.OrtValue.ortvalue_from_numpy(array)
    if value.data_ptr() != array.ctypes.data:
        raise ModelError("This ONNX Runtime copies its inputs; expected 1.17 or newer.")
    return value
