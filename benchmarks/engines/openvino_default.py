"""OpenVINO as it comes: in bfloat16 or float16 on CPUs that compute in them, else in float32."""

from __future__ import annotations

from pathlib import Path

from shiftedge.benchmarks.engines.openvino import OpenVinoContender
from shiftedge.runtime.spec import ModelSpec

__all__ = ["OpenVinoDefaultContender"]

PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
"""OpenVINO's names -> the report's."""
TOLERANCES = {"fp16": 1e-2, "bf16": 5e-2}
"""A product rounded to bfloat16 is off by up to 0.4%, to float16 by 0.05%; over fifty layers and
the frames whose states are fed back that grows some tenfold. More is another function."""


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
