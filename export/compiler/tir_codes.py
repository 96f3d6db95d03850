"""Integer tiles as TIR: words of codes, dot products, and how sums become codes again.

The same sums are made on every processor: by its own instruction where it has one, otherwise by
plain vector arithmetic, which is slow and serves to verify kernels for another processor here.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from shiftedge.export.compiler import tir_math, tir_pairs
from shiftedge.export.compiler.graph import Activation
from shiftedge.export.compiler.requantise import Ending
from shiftedge.export.compiler.tir_kernel import Dot
from shiftedge.export.compiler.tir_nodes import literal, splat, vector_type

__all__ = ["const", "ended", "fma", "multiply_add", "plus", "stored"]

_ROUND = 12582912.0
"""1.5 * 2^23: a float32 of less than 2^22 that it is added to has no bits behind the point left,
rounded to the nearest, halves to even; and the sum's lowest 16 bits are the number's own."""
_INTRINSICS = {
    ("pmaddwd", 4): "llvm.x86.sse2.pmadd.wd",
    ("pmaddwd", 8): "llvm.x86.avx2.pmadd.wd",
    ("pmaddwd", 16): "llvm.x86.avx512.pmaddw.d.512",
    ("vpdpbusd", 4): "llvm.x86.avx512.vpdpbusd.128",
    ("vpdpbusd", 8): "llvm.x86.avx512.vpdpbusd.256",
    ("vpdpbusd", 16): "llvm.x86.avx512.vpdpbusd.512",
    ("sdot", 4): "llvm.aarch64.neon.sdot.v4i32.v16i8",
}


def plus(words: Any, lanes: int, dot: Dot, number: int) -> Any:
    """``words``, int32, with ``number`` added to each of their codes."""
    if not number:
        return words
    narrow = _narrow(dot)
    count = dot.terms * lanes
    added = splat(literal(narrow, number), count)
    total = tirx.reinterpret(f"{narrow}x{count}", words) + added
    return tirx.reinterpret(vector_type("int32", lanes), total)


def multiply_add(total: Any, codes: Any, weights: Any, lanes: int, dot: Dot, *, own: bool) -> Any:
    """int32 ``total`` plus, lane by lane, the products of a word's codes and weights.

    Args:
        total: int32, ``lanes`` of them, like ``codes`` and ``weights``, which are words.
        codes: of the source.
        weights: signed.
        lanes: of all of them.
        dot: how codes are stored.
        own: the processor has the instruction.
    """
    if dot.pairs:
        return tir_pairs.multiply_add(total, codes, weights, dot, own=own)
    name = _INTRINSICS.get((dot.kind, lanes)) if own else None
    count = dot.terms * lanes
    if name is None:
        return total + _plainly(codes, weights, lanes, dot)
    narrow = f"{_narrow(dot)}x{count}"
    operands = [tirx.reinterpret(narrow, value) for value in (codes, weights)]
    result = vector_type("int32", lanes)
    if dot.kind == "sdot":
        operands.reverse()  # both are signed, and LLVM takes a lane of the last alone
    if dot.kind == "pmaddwd":
        return total + tirx.call_llvm_pure_intrin(result, name, *operands)
    return tirx.call_llvm_pure_intrin(result, name, total, *operands)


def _plainly(codes: Any, weights: Any, lanes: int, dot: Dot) -> Any:
    count = dot.terms * lanes
    wide = f"int32x{count}"
    left = tirx.reinterpret(f"{dot.dtype}x{count}", codes)
    right = tirx.reinterpret(f"{_narrow(dot)}x{count}", weights)
    products = tirx.Cast(wide, left) * tirx.Cast(wide, right)
    parts = [
        tirx.Shuffle(
            [products], [tirx.IntImm("int32", place) for place in range(term, count, dot.terms)]
        )
        for term in range(dot.terms)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def ended(value: Any, ending: Ending, lanes: int) -> Any:
    """float32 ``value`` after ``ending``, rounded but still float32."""
    if ending.activation is not Activation.NONE:
        value = tir_math.activation(ending.activation, value, lanes)
    if ending.steps is not None:
        scale, offset = (const(float(number), lanes) for number in ending.steps)
        value = fma(value, scale, offset, lanes)
    if float(ending.low) > -_INFINITE:
        value = tirx.max(value, const(float(ending.low), lanes))
    if float(ending.high) < _INFINITE:
        value = tirx.min(value, const(float(ending.high), lanes))
    return value


_INFINITE = 3.4028234663852886e38


def stored(value: Any, ending: Ending, dtype: str, above: int, lanes: int) -> Any:
    """``value`` after ``ended``, as the target's type keeps it."""
    if not ending.rounded:
        return value
    if dtype == "float32":
        name = "llvm.roundeven.f32" if lanes == 1 else f"llvm.roundeven.v{lanes}f32"
        return tirx.call_llvm_pure_intrin(vector_type("float32", lanes), name, value)
    # What is subtracted is even, so that halves go the same way as without it.
    bits = tirx.reinterpret(vector_type("int32", lanes), value + const(_ROUND - above, lanes))
    return tirx.Cast(vector_type(dtype, lanes), bits)


def fma(left: Any, right: Any, more: Any, lanes: int) -> Any:
    """left * right + more, rounded once."""
    name = "llvm.fma.f32" if lanes == 1 else f"llvm.fma.v{lanes}f32"
    return tirx.call_llvm_pure_intrin(vector_type("float32", lanes), name, left, right, more)


def const(number: float, lanes: int) -> Any:
    return splat(tirx.FloatImm("float32", number), lanes)


def _narrow(dot: Dot) -> str:
    return f"int{32 // dot.terms}"
