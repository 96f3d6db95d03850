"""Activations on vectors, as TIR expressions of additions, products and bits only.

TVM would call libm's exp lane by lane; these stay in vector registers on every target.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from shiftedge.export.compiler.backends.cpu.llvm.nodes import splat
from shiftedge.export.compiler.graph.graph import Activation

__all__ = ["activation"]

# exp by range reduction x = n ln 2 + r; the polynomial in r is that of Cephes' expf, error 2e-7.
_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP_POLYNOMIAL = (
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
    5.0000001201e-1, 1.0, 1.0,
)  # fmt: skip
_EXP_LOWEST, _EXP_HIGHEST = -87.0, 88.0  # 2^n stays a normal number
_MANTISSA_BITS, _EXPONENT_BIAS = 23, 127  # IEEE 754 binary32


def activation(kind: Activation, value: Any, lanes: int) -> Any:
    """``kind`` of each lane of ``value``."""

    def const(number: float) -> Any:
        return splat(tirx.FloatImm("float32", number), lanes)

    def clip(clipped: Any, low: float, high: float) -> Any:
        return tirx.max(tirx.min(clipped, const(high)), const(low))

    if kind is Activation.RELU:
        return _clip_bits(value, None, lanes)
    if kind is Activation.RELU6:
        return _clip_bits(value, 6.0, lanes)
    if kind in (Activation.HARD_SIGMOID, Activation.HARD_SWISH):
        gate = clip(value * const(1 / 6) + const(0.5), 0.0, 1.0)
        return gate if kind is Activation.HARD_SIGMOID else value * gate
    if kind in (Activation.SIGMOID, Activation.SWISH):
        negative = clip(const(0.0) - value, _EXP_LOWEST, _EXP_HIGHEST)
        gate = const(1.0) / (const(1.0) + _exp(negative, lanes))
        return gate if kind is Activation.SIGMOID else value * gate
    return value


def _clip_bits(value: Any, high: float | None, lanes: int) -> Any:
    """max(value, 0), and no more than ``high``, by comparing bits as whole numbers.

    Floats that are not negative are in the order of their bits, and negative ones are negative
    there too. On AMD's Zen the largest and least of floats run in the pipes of the multiply-adds,
    those of whole numbers in all four: worth 1 to 4% of a block.
    """
    integers = "int32" if lanes == 1 else f"int32x{lanes}"
    floats = "float32" if lanes == 1 else f"float32x{lanes}"
    bits = tirx.reinterpret(integers, value)
    bits = tirx.max(bits, splat(tirx.IntImm("int32", 0), lanes))
    if high is not None:
        most = int(np.float32(high).view(np.int32))
        bits = tirx.min(bits, splat(tirx.IntImm("int32", most), lanes))
    return tirx.reinterpret(floats, bits)


def _exp(value: Any, lanes: int) -> Any:
    """exp of lanes between _EXP_LOWEST and _EXP_HIGHEST."""

    def const(number: float) -> Any:
        return splat(tirx.FloatImm("float32", number), lanes)

    def whole(number: int) -> Any:
        return splat(tirx.IntImm("int32", number), lanes)

    dtype = "int32" if lanes == 1 else f"int32x{lanes}"
    floats = "float32" if lanes == 1 else f"float32x{lanes}"
    # The cast cuts towards zero: shifted by the bias, no number is negative and it floors.
    biased = tirx.Cast(dtype, value * const(_LOG2_E) + const(_EXPONENT_BIAS + 0.5))
    power = tirx.Cast(floats, biased) - const(float(_EXPONENT_BIAS))
    rest = value - power * const(_LN2_HIGH) - power * const(_LN2_LOW)
    result = const(_EXP_POLYNOMIAL[0])
    for coefficient in _EXP_POLYNOMIAL[1:]:
        result = result * rest + const(coefficient)
    bits = tirx.shift_left(biased, whole(_MANTISSA_BITS))
    return result * tirx.reinterpret(floats, bits)
