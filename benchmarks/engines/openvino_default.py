"""OpenVINO as it comes: in bfloat16 or float16 on CPUs that compute in them, else in float32."""

from __future__ import annotations

from pathlib import Path

from shiftedge.benchmarks.engines.base import HALF_TOLERANCE
from shiftedge.benchmarks.engines.openvino import OpenVinoContender
from shiftedge.runtime.spec import ModelSpec

__all__ = ["OpenVinoDefaultContender"]

PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
"""OpenVINO's names -> the report's."""
TOLERANCES = {"fp16": 1e-2, "bf16": HALF_TOLERANCE}
"""A product rounded to float16 is off by up to 0.05%, an eighth of what bfloat16's is."""


class OpenVinoDefaultContender(OpenVinoContender):
    """The precision is the plugin's own choice, read back from the compiled model."""

    hints = {"PERFORMANCE_HINT": "LATENCY"}  # noqa: RUF012 - read, never written

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        super().__init__(path, threads, spec)
        found = self.settings["INFERENCE_PRECISION_HINT"]
        if self.precision == "int8":
            return
        self.precision = PRECISIONS.get(found, found)
        self.tolerance = TOLERANCES.get(self.precision, self.tolerance)
