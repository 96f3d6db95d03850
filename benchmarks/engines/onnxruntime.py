"""ONNX Runtime at its best, as a peer; and at its plainest, as the reference.

Neither is the runtime's own engine, which keeps idle threads asleep to spare the board: back to
back, a peer is quicker with threads that spin.
"""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Bound, Peer
from shiftedge.runtime.engines.onnxruntime import ask_for_exact_int8, check_claims, read_spec
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import utf8_path
from shiftedge.runtime.spec import ModelSpec


class OnnxRuntimeContender(Bound):
    """Threads that spin, every graph optimisation, and I/O binding over two sets of states: the
    timed step is one call that copies nothing."""

    title = "ONNX Runtime"
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
        self.settings = {"threads": threads, "spinning": True, "optimisation": "all"}
        self._bind(read_spec(self._session, path))

    def _bind(self, spec: ModelSpec) -> None:
        ort = require("onnxruntime")
        self.set_up(spec)
        self.bind()
        values = [[_value(ort, state) for state in states] for states in self.sets]
        frame, out = _value(ort, self.frame), _value(ort, self._out)
        self._bindings = []
        for source in range(2):
            binding = self._session.io_binding()
            binding.bind_ortvalue_input("frame", frame)
            binding.bind_ortvalue_output("logits", out)
            for i, (old, new) in enumerate(zip(values[source], values[1 - source], strict=True)):
                binding.bind_ortvalue_input(f"state_{i}", old)
                binding.bind_ortvalue_output(f"next_state_{i}", new)
            self._bindings.append(binding)

    def step(self) -> None:
        self._session.run_with_iobinding(self._bindings[self._source])
        self._source = 1 - self._source

    def another(self) -> OnnxRuntimeContender:
        """See :meth:`Contender.another`: one session, whose runs need no turns."""
        other = copy.copy(self)
        other._bind(self.spec)
        return other


class ReferenceContender(Peer):
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
        self.settings = {"threads": threads, "spinning": False, "optimisation": "none"}
        self.set_up(read_spec(self._session, path))
        self._names = [f"state_{i}" for i in range(len(self.spec.states))]
        self._outputs = ["logits", *(f"next_{name}" for name in self._names)]
        self._input = self.frame
        self.reset()

    def step(self) -> None:
        feed = {"frame": self._input, **dict(zip(self._names, self._states, strict=True))}
        self._out, *self._states = self._session.run(self._outputs, feed)


def _open(ort: Any, path: Path, options: Any) -> Any:
    options.log_severity_level = 4  # failures come as exceptions
    try:
        with utf8_path(path) as name:
            return ort.InferenceSession(name, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise ModelError(f"{path} cannot be loaded by ONNX Runtime ({error}).") from error


def _value(ort: Any, array: NDArray[Any]) -> Any:
    """A view of ``array``, which the caller keeps alive."""
    value = ort.OrtValue.ortvalue_from_numpy(array)
    if value.data_ptr() != array.ctypes.data:
        raise ModelError("This ONNX Runtime copies its inputs; expected 1.17 or newer.")
    return value
