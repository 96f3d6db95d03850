"""OpenVINO's CPU plugin as a peer, tuned for latency, nothing copied: in float32 or as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.engines.base import BF16_TOLERANCE, Bound
from shiftedge.runtime.process.extras import require

PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
"""OpenVINO's names -> the report's."""
TOLERANCES = {"fp16": 1e-2, "bf16": BF16_TOLERANCE}
"""A product rounded to float16 is off by up to 0.05%, an eighth of what bfloat16's is."""


class OpenVinoContender(Bound):
    """Two requests over two sets of states, each bound once: one reads set 0 and writes set 1, the
    other the reverse. The timed step is one call of ``infer``."""

    title = "OpenVINO"
    packages = ("openvino",)
    hints: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    """Asked of the plugin. Without the first, CPUs that have bfloat16 would compute in it."""

    def load(self, path: Path, threads: int) -> None:
        openvino = require("openvino")
        self.version = openvino.__version__.partition("-")[0]
        wanted = {**self.hints, "INFERENCE_NUM_THREADS": threads}
        core = openvino.Core()
        model = core.compile_model(core.read_model(str(path)), "CPU", wanted)
        self.settings = {
            "threads": int(model.get_property("INFERENCE_NUM_THREADS")),
            "streams": int(model.get_property("NUM_STREAMS")),
            **self.hints,
            "INFERENCE_PRECISION_HINT": str(
                model.get_property("INFERENCE_PRECISION_HINT").to_string()
            ),
        }
        self.bind()
        self._requests = [self._request(openvino, model, source) for source in range(2)]

    def _request(self, openvino: Any, model: Any, source: int) -> Any:
        request = model.create_infer_request()
        bound = {"frame": self.frame, "logits": self._out}
        bound |= {f"state_{i}": array for i, array in enumerate(self.sets[source])}
        bound |= {f"next_state_{i}": array for i, array in enumerate(self.sets[1 - source])}
        for name, array in bound.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return request

    def step(self) -> None:
        self._requests[self._source].infer(None, share_inputs=True, share_outputs=True)
        self._source = 1 - self._source


class OpenVinoDefaultContender(OpenVinoContender):
    """In bfloat16 or float16 on CPUs that compute in them, else in float32: the precision is the
    plugin's own choice, read back from the compiled model."""

    hints = {"PERFORMANCE_HINT": "LATENCY"}  # noqa: RUF012 - read, never written

    def load(self, path: Path, threads: int) -> None:
        super().load(path, threads)
        if self.precision != "int8":
            found = self.settings["INFERENCE_PRECISION_HINT"]
            self.precision = PRECISIONS.get(found, found)
            self.tolerance = TOLERANCES.get(self.precision, self.tolerance)
