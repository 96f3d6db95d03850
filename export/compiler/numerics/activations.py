"""Activations in numpy: as they are defined, and in float32 as kernels compute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.numerics.fma import fma32

__all__ = [
    "ACTIVATIONS",
    "EXP_BIAS",
    "EXP_POLYNOMIAL",
    "EXP_RANGE",
    "LN2_HIGH",
    "LN2_LOW",
    "LOG2_E",
    "MANTISSA_BITS",
    "activated",
]

Array = NDArray[np.float32]

ACTIVATIONS: dict[Activation, Callable[[NDArray[Any]], NDArray[Any]]] = {
    Activation.NONE: lambda x: x,
    Activation.RELU: lambda x: np.maximum(x, 0.0),
    Activation.RELU6: lambda x: np.clip(x, 0.0, 6.0),
    Activation.HARD_SIGMOID: lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    Activation.HARD_SWISH: lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    Activation.SIGMOID: lambda x: 1.0 / (1.0 + np.exp(-x)),
    Activation.SWISH: lambda x: x / (1.0 + np.exp(-x)),
}
"""Each as its definition says."""

# exp by range reduction x = n ln 2 + r; the polynomial in r is that of Cephes' expf, error 2e-7.
LOG2_E = 1.44269504088896341
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
EXP_POLYNOMIAL = (
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
    5.0000001201e-1, 1.0, 1.0,
)  # fmt: skip
EXP_RANGE = (-87.0, 88.0)
"""Of x, so that 2^n stays a normal number."""
MANTISSA_BITS, EXP_BIAS = 23, 127
"""Of IEEE 754 binary32."""


def activated(kind: Activation, y: Array) -> Array:
    """``kind`` of float32 numbers, bit for bit as kernels compute it."""
    zero, one = np.float32(0), np.float32(1)
    if kind in (Activation.HARD_SIGMOID, Activation.HARD_SWISH):
        gate = fma32(y, np.float32(1 / 6), np.float32(0.5)).clip(zero, one)
        gated: Array = y * gate
        return gate if kind is Activation.HARD_SIGMOID else gated
    if kind in (Activation.SIGMOID, Activation.SWISH):
        gate = one / (one + _exp((zero - y).clip(*map(np.float32, EXP_RANGE))))
        gated = y * gate
        return gate if kind is Activation.SIGMOID else gated
    if kind is Activation.NONE:
        return y
    held: Array = y.clip(zero, np.float32(6 if kind is Activation.RELU6 else np.inf))
    return held


def _exp(x: Array) -> Array:
    """exp within ``EXP_RANGE``."""
    biased = fma32(x, np.float32(LOG2_E), np.float32(EXP_BIAS + 0.5)).astype(np.int32)
    power = biased.astype(np.float32) - np.float32(EXP_BIAS)
    rest = fma32(-power, np.float32(LN2_LOW), fma32(-power, np.float32(LN2_HIGH), x))
    result: Array = np.full_like(x, EXP_POLYNOMIAL[0])
    for coefficient in EXP_POLYNOMIAL[1:]:
        result = fma32(result, rest, np.float32(coefficient))
    return result * (biased << MANTISSA_BITS).view(np.float32)
