"""Activations of float32 in numpy, as kernels compute them: bit for bit where ``exact``.

Elsewhere LLVM adds some products in one rounding and some not, which moves the last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.numerics.fma import fma32

Array = NDArray[np.float32]

# exp by range reduction x = n ln 2 + r; the polynomial in r is that of Cephes' expf, error 2e-7.
# The code generators make it of the same numbers.
LOG2_E = 1.44269504088896341
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
EXP_POLYNOMIAL = (
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
    5.0000001201e-1, 1.0, 1.0,
)  # fmt: skip
EXP_LOWEST, EXP_HIGHEST = -87.0, 88.0  # 2^n stays a normal number
MANTISSA_BITS, EXPONENT_BIAS = 23, 127  # IEEE 754 binary32


def activated(kind: Activation, y: Array) -> Array:
    """``kind`` of float32 numbers."""
    row = kind.value
    if row.expression is not None:
        made: Array = row.expression(_NumpyVectors(), y)
        return made
    low, high = row.bounds or (-np.inf, np.inf)
    return y if low == -np.inf and high == np.inf else _NumpyVectors().clamp(y, low, high)


class _NumpyVectors:
    """``graph.activations.Vectors`` of numpy."""

    def number(self, value: float) -> Any:
        return np.float32(value)

    def multiply_add(self, x: Array, factor: Array, plus: Array) -> Array:
        return fma32(x, factor, plus)

    def largest(self, x: Array, y: Array) -> Any:
        return np.maximum(x, y)

    def clamp(self, x: Array, low: float, high: float) -> Any:
        return x.clip(np.float32(low), np.float32(high))

    def with_sign(self, size: Array, x: Array) -> Any:
        return np.copysign(size, x)

    def exp(self, x: Array) -> Array:
        x = self.clamp(x, EXP_LOWEST, EXP_HIGHEST)
        biased = fma32(x, np.float32(LOG2_E), np.float32(EXPONENT_BIAS + 0.5)).astype(np.int32)
        power = np.float32(EXPONENT_BIAS) - biased.astype(np.float32)
        rest = fma32(power, np.float32(LN2_LOW), fma32(power, np.float32(LN2_HIGH), x))
        result: Array = np.full_like(x, EXP_POLYNOMIAL[0])
        for coefficient in EXP_POLYNOMIAL[1:]:
            result = fma32(result, rest, np.float32(coefficient))
        return result * (biased << MANTISSA_BITS).view(np.float32)
