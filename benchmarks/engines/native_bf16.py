"""The bfloat16 variant of a bundle, beside the float32 one in the same run."""

from __future__ import annotations

from shiftedge.benchmarks.engines.base import HALF_TOLERANCE
from shiftedge.benchmarks.engines.native import NativeContender

__all__ = ["NativeHalfContender"]


class NativeHalfContender(NativeContender):
    """Of a bundle that holds one; its row meets peers in bfloat16 only."""

    wanted = "bf16"
    tolerance = HALF_TOLERANCE
