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

from shiftedge.export.compiler.backends.cpu.llvm.nodes import number, splat, vector_type

__all__ = ["importing", "multiply_add", "narrowed", "widened"]

_DOT_LANES = 16
_ROUNDING_LANES = (8, 16)
_BITS = 16  # bits

_FUNCTION = """
declare {result} @llvm.x86.avx512bf16.{instruction}({taken})
define linkonce_odr hidden {given} @{name}({parameters}) alwaysinline {{
{body}
}}
"""


def _dot_function(lanes: int) -> str:
    floats, packed, bf16_pairs = (
        f"<{lanes} x float>",
        f"<{lanes} x i32>",
        f"<{2 * lanes} x bfloat>",
    )
    call = f"dpbf16ps.{32 * lanes}"
    body = (
        f"  %x = bitcast {packed} %source to {bf16_pairs}\n"
        f"  %w = bitcast {packed} %weights to {bf16_pairs}\n"
        f"  %r = call {floats} @llvm.x86.avx512bf16.{call}"
        f"({floats} %total, {bf16_pairs} %w, {bf16_pairs} %x)\n"
        f"  ret {floats} %r"
    )
    return _FUNCTION.format(
        result=floats,
        instruction=call,
        taken=f"{floats}, {bf16_pairs}, {bf16_pairs}",
        given=floats,
        name=_dot_name(lanes),
        parameters=f"{floats} %total, {packed} %source, {packed} %weights",
        body=body,
    )


def _round_function(lanes: int) -> str:
    floats, bf16_pairs, bits = f"<{lanes} x float>", f"<{lanes} x bfloat>", f"<{lanes} x i16>"
    call = f"cvtneps2bf16.{32 * lanes}"
    body = (
        f"  %r = call {bf16_pairs} @llvm.x86.avx512bf16.{call}({floats} %x)\n"
        f"  %b = bitcast {bf16_pairs} %r to {bits}\n"
        f"  ret {bits} %b"
    )
    return _FUNCTION.format(
        result=bf16_pairs,
        instruction=call,
        taken=floats,
        given=bits,
        name=_round_name(lanes),
        parameters=f"{floats} %x",
        body=body,
    )


def _dot_name(lanes: int) -> str:
    return f"shiftedge_dpbf16ps_{lanes}"


def _round_name(lanes: int) -> str:
    return f"shiftedge_cvtneps2bf16_{lanes}"


def importing(body: Any) -> Any:
    """A statement in which the processor's own instructions may be used."""
    functions = [_dot_function(_DOT_LANES), *map(_round_function, _ROUNDING_LANES)]
    return tirx.AttrStmt(number(0), "pragma_import_llvm", StringImm("".join(functions)), body)


def multiply_add(total: Any, source: Any, weights: Any, lanes: int, *, own: bool) -> Any:
    """float32 ``total`` plus, lane by lane, the two products of a word's numbers and weights.

    Args:
        total: float32, ``lanes`` of them.
        codes: int32 words, of the source; the even element is the lower half.
        weights: int32 words.
        lanes: of all of them.
        own: the processor has the instruction, and the statement is in :func:`importing`.
    """
    if own and lanes == _DOT_LANES:
        result = vector_type("float32", lanes)
        return tirx.call_pure_extern(result, _dot_name(lanes), total, source, weights)
    for half in (_upper, _lower):
        total = total + half(source, lanes) * half(weights, lanes)
    return total


def widened(bits: Any, lanes: int) -> Any:
    """uint16 ``bits`` as the float32 numbers that they stand for."""
    wide = tirx.Cast(vector_type("uint32", lanes), bits)
    return _float32(wide << _unsigned(_BITS, lanes), lanes)


def narrowed(value: Any, lanes: int, *, own: bool) -> Any:
    """float32 ``value``, not NaN, to the nearest bfloat16, halves to even, as uint16 bits."""
    if own and lanes in _ROUNDING_LANES:
        result = vector_type("uint16", lanes)
        return tirx.call_pure_extern(result, _round_name(lanes), value)
    bits = tirx.reinterpret(vector_type("uint32", lanes), value)
    odd = (bits >> _unsigned(_BITS, lanes)) & _unsigned(1, lanes)
    bits = (bits + odd + _unsigned(0x7FFF, lanes)) >> _unsigned(_BITS, lanes)
    return tirx.Cast(vector_type("uint16", lanes), bits)


def _lower(packed: Any, lanes: int) -> Any:
    wide = tirx.reinterpret(vector_type("uint32", lanes), packed)
    return _float32(wide << _unsigned(_BITS, lanes), lanes)


def _upper(packed: Any, lanes: int) -> Any:
    wide = tirx.reinterpret(vector_type("uint32", lanes), packed)
    return _float32(wide & _unsigned(0xFFFF0000, lanes), lanes)


def _float32(bits: Any, lanes: int) -> Any:
    return tirx.reinterpret(vector_type("float32", lanes), bits)


def _unsigned(value: int, lanes: int) -> Any:
    return splat(tirx.IntImm("uint32", value), lanes)
