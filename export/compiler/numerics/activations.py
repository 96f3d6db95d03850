"""Activations of float32 in numpy, as kernels compute them: bit for bit where ``exact``.

Elsewhere LLVM adds some products in one rounding and some not, which moves the last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.numerics.fma import fma32

__all__ = ["activated"]

Array = NDArray[np.float32]

# exp as the code generators make it, see ``backends.cpu.llvm.math``.
_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_POLYNOMIAL = (
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
    5.0000001201e-1, 1.0, 1.0,
)  # fmt: skip
_LOWEST, _HIGHEST = -87.0, 88.0
_MANTISSA_BITS, _BIAS = 23, 127


def activated(kind: Activation, y: Array) -> Array:
    """``kind`` of float32 numbers."""
    row = kind.value
    if row.expression is not None:
        made: Array = row.expression(_Vectors(), y)
        return made
    low, high = row.bounds or (-np.inf, np.inf)
    return y if low == -np.inf and high == np.inf else _Vectors().clamp(y, low, high)


class _Vectors:
    """``graph.activations.Vectors`` of numpy."""

    def number(self, value: float) -> Any:
        return np.float32(value)

    def multiply_add(self, x: Array, factor: Array, plus: Array) -> Array:
        return fma32(x, factor, plus)

    def largest(self, x: Array, y: Array) -> Array:
        larger: Array = np.maximum(x, y)
        return larger

    def clamp(self, x: Array, low: float, high: float) -> Array:
        held: Array = x.clip(np.float32(low), np.float32(high))
        return held

    def with_sign(self, size: Array, x: Array) -> Array:
        signed: Array = np.copysign(size, x)
        return signed

    def exp(self, x: Array) -> Array:
        x = self.clamp(x, _LOWEST, _HIGHEST)
        biased = fma32(x, np.float32(_LOG2_E), np.float32(_BIAS + 0.5)).astype(np.int32)
        power = np.float32(_BIAS) - biased.astype(np.float32)
        rest = fma32(power, np.float32(_LN2_LOW), fma32(power, np.float32(_LN2_HIGH), x))
        result: Array = np.full_like(x, _POLYNOMIAL[0])
        for coefficient in _POLYNOMIAL[1:]:
            result = fma32(result, rest, np.float32(coefficient))
        return result * (biased << _MANTISSA_BITS).view(np.float32)
