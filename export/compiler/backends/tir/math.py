"""Activations on vectors, as TIR expressions of additions, products and bits only.

TVM would call libm's exp lane by lane; these stay in vector registers on every target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from shiftedge.export.compiler.backends.tir.nodes import as_type, bits_as, constant, literal
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.numerics.activations import (
    EXP_HIGHEST,
    EXP_LOWEST,
    EXP_POLYNOMIAL,
    EXPONENT_BIAS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    MANTISSA_BITS,
)


def activation(kind: Activation, value: Any, lanes: int) -> Any:
    """``kind`` of each lane of ``value``."""
    row, vectors = kind.value, _Vectors(lanes)
    if row.expression is not None:
        return row.expression(vectors, value)
    return vectors.clamp_bits(value, *(row.bounds or (-math.inf, math.inf)))


@dataclass(frozen=True)
class _Vectors:
    """``graph.activations.Vectors`` of TIR."""

    lanes: int

    def number(self, value: float) -> Any:
        return constant("float32", value, self.lanes)

    def multiply_add(self, x: Any, factor: Any, plus: Any) -> Any:
        return x * factor + plus  # which LLVM makes one instruction of

    def largest(self, x: Any, y: Any) -> Any:
        return tirx.max(x, y)

    def clamp(self, x: Any, low: float, high: float) -> Any:
        return tirx.max(tirx.min(x, self.number(high)), self.number(low))

    def with_sign(self, size: Any, x: Any) -> Any:
        sign = self._bits(x) & self._whole(-(1 << 31))
        return self._floats(self._bits(size) | sign)

    def clamp_bits(self, x: Any, low: float, high: float) -> Any:
        """A clamp from 0 on, by comparing bits as whole numbers.

        Floats that are not negative are in the order of their bits, and negative ones are negative
        there too. On AMD's Zen the largest and least of floats run in the pipes of the
        multiply-adds, those of whole numbers in all four: worth 1 to 4% of a block.
        """
        if low == -math.inf:
            return x
        bits = tirx.max(self._bits(x), self._whole(0))
        if high < math.inf:
            bits = tirx.min(bits, self._whole(int(np.float32(high).view(np.int32))))
        return self._floats(bits)

    def exp(self, x: Any) -> Any:
        x = self.clamp(x, EXP_LOWEST, EXP_HIGHEST)
        # The cast cuts towards zero: shifted by the bias, no number is negative and it floors.
        biased = x * self.number(LOG2_E) + self.number(EXPONENT_BIAS + 0.5)
        biased = as_type("int32", biased, self.lanes)
        power = as_type("float32", biased, self.lanes) - self.number(float(EXPONENT_BIAS))
        rest = x - power * self.number(LN2_HIGH) - power * self.number(LN2_LOW)
        result = self.number(EXP_POLYNOMIAL[0])
        for coefficient in EXP_POLYNOMIAL[1:]:
            result = result * rest + self.number(coefficient)
        bits = tirx.shift_left(biased, self._whole(MANTISSA_BITS))
        return result * self._floats(bits)

    def _whole(self, number: int) -> Any:
        return literal("int32", number, self.lanes)

    def _bits(self, x: Any) -> Any:
        return bits_as("int32", x, self.lanes)

    def _floats(self, bits: Any) -> Any:
        return bits_as("float32", bits, self.lanes)
