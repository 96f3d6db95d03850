"""bfloat16 as TIR: loads become float32, stores round, and pairs are multiplied.

Values are float32 everywhere but in memory. On a processor with AVX512_BF16 two neighbouring
channels are multiplied and added at a time by ``vdpbf16ps``; elsewhere the same sums are made by
plain vector arithmetic, which is slow and serves to verify kernels here. Intel defines the
instruction as two multiply-adds, the odd element's first, each rounded to the nearest even; a
product of two bfloat16 numbers is exact in float32, so plain arithmetic gives the same bits, but
for numbers below 2^-126, which the instruction takes and gives as 0.

TVM 0.27's code generator ends the process where it meets its own type bfloat16. So bits are uint16
here, and the two instructions stand in functions of LLVM's language, imported and always inlined.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.ir.expr import StringImm

from shiftedge.export.compiler.backends.tir.nodes import (
    as_type,
    bits_as,
    literal,
    number,
    vector_type,
)

_DOT_LANES = 16
_ROUNDING_LANES = (8, 16)
_BITS = 16

_DOT = """
declare <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{bits}(<{n} x float>, <{m} x bfloat>, <{m} x bfloat>)
define linkonce_odr hidden <{n} x float> @shiftedge_dpbf16ps_{n}(<{n} x float> %total, <{n} x i32> %source, <{n} x i32> %weights) alwaysinline {{
  %x = bitcast <{n} x i32> %source to <{m} x bfloat>
  %w = bitcast <{n} x i32> %weights to <{m} x bfloat>
  %r = call <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{bits}(<{n} x float> %total, <{m} x bfloat> %w, <{m} x bfloat> %x)
  ret <{n} x float> %r
}}
"""  # noqa: E501
_ROUND = """
declare <{n} x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.{bits}(<{n} x float>)
define linkonce_odr hidden <{n} x i16> @shiftedge_cvtneps2bf16_{n}(<{n} x float> %x) alwaysinline {{
  %r = call <{n} x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.{bits}(<{n} x float> %x)
  %b = bitcast <{n} x bfloat> %r to <{n} x i16>
  ret <{n} x i16> %b
}}
"""


def importing(body: Any) -> Any:
    """A statement in which the processor's own instructions may be used."""
    wanted = ((_DOT, _DOT_LANES), *((_ROUND, lanes) for lanes in _ROUNDING_LANES))
    functions = (text.format(n=lanes, m=2 * lanes, bits=32 * lanes) for text, lanes in wanted)
    return tirx.AttrStmt(number(0), "pragma_import_llvm", StringImm("".join(functions)), body)


def multiply_add(total: Any, source: Any, weights: Any, lanes: int, *, own: bool) -> Any:
    """float32 ``total`` plus, lane by lane, the products of a lane's two numbers and weights: pairs
    packed into int32, the even element in the lower half. ``own``: the processor has the
    instruction, and the statement is in :func:`importing`."""
    if own and lanes == _DOT_LANES:
        name, result = f"shiftedge_dpbf16ps_{lanes}", vector_type("float32", lanes)
        return tirx.call_pure_extern(result, name, total, source, weights)
    for upper in (True, False):
        total = total + _half(source, lanes, upper) * _half(weights, lanes, upper)
    return total


def widened(bits: Any, lanes: int) -> Any:
    """uint16 ``bits`` as the float32 numbers that they stand for."""
    wide = as_type("uint32", bits, lanes)
    return bits_as("float32", wide << literal("uint32", _BITS, lanes), lanes)


def narrowed(value: Any, lanes: int, *, own: bool) -> Any:
    """float32 ``value``, not NaN, to the nearest bfloat16, halves to even, as uint16 bits."""
    if own and lanes in _ROUNDING_LANES:
        name, result = f"shiftedge_cvtneps2bf16_{lanes}", vector_type("uint16", lanes)
        return tirx.call_pure_extern(result, name, value)
    bits, shift = bits_as("uint32", value, lanes), literal("uint32", _BITS, lanes)
    odd = (bits >> shift) & literal("uint32", 1, lanes)
    bits = (bits + odd + literal("uint32", 0x7FFF, lanes)) >> shift
    return as_type("uint16", bits, lanes)


def _half(packed: Any, lanes: int, upper: bool) -> Any:
    bits = bits_as("uint32", packed, lanes)
    if upper:
        return bits_as("float32", bits & literal("uint32", 0xFFFF0000, lanes), lanes)
    return bits_as("float32", bits << literal("uint32", _BITS, lanes), lanes)
