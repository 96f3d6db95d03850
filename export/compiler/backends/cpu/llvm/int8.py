"""Integer tiles as TIR: words of codes, dot products, and how sums become codes again.

The same sums are made on every processor: by its own instruction where it has one, otherwise by
plain vector arithmetic, which is slow and serves to verify kernels for another processor here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from shiftedge.export.compiler.backends.cpu.llvm import math as tir_math
from shiftedge.export.compiler.backends.cpu.llvm import pairs as tir_pairs
from shiftedge.export.compiler.backends.cpu.llvm.nodes import literal, splat, vector_type
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.kernel import Dot
from shiftedge.export.compiler.numerics.requantize import OutputStage

__all__ = [
    "const",
    "ended",
    "fma",
    "multiply_add",
    "pack",
    "packable",
    "plus",
    "stored",
]

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


def plus(packed: Any, lanes: int, dot: Dot, number: int) -> Any:
    """``words``, int32, with ``number`` added to each of their codes."""
    if not number:
        return packed
    narrow = _narrow(dot)
    count = dot.terms * lanes
    added = splat(literal(narrow, number), count)
    total = tirx.reinterpret(f"{narrow}x{count}", packed) + added
    return tirx.reinterpret(vector_type("int32", lanes), total)


def multiply_add(total: Any, values: Any, weights: Any, lanes: int, dot: Dot, *, own: bool) -> Any:
    """int32 ``total`` plus, lane by lane, the products of a word's codes and weights.

    Args:
        total: int32, ``lanes`` of them, like ``codes`` and ``weights``.
        codes: of the source, int32 words.
        weights: of 8 bits each, ``Dot.words``.
        lanes: of all of them.
        dot: how codes are stored.
        own: the processor has the instruction.
    """
    if dot.pairs:
        return tir_pairs.multiply_add(total, values, weights, dot, own=own)
    name = _INTRINSICS.get((dot.kind, lanes)) if own else None
    count = dot.terms * lanes
    if name is None:
        return total + _plainly(values, weights, lanes, dot)
    narrow = f"{_narrow(dot)}x{count}"
    weights = tirx.reinterpret(f"int8x{count}", weights)
    if dot.terms == 2:
        weights = tirx.Cast(narrow, weights)
    operands = [tirx.reinterpret(narrow, values), weights]
    result = vector_type("int32", lanes)
    if dot.kind == "sdot":
        operands.reverse()  # both are signed, and LLVM takes a lane of the last alone
    if dot.kind == "pmaddwd":
        return total + tirx.call_llvm_pure_intrin(result, name, *operands)
    return tirx.call_llvm_pure_intrin(result, name, total, *operands)


def _plainly(values: Any, weights: Any, lanes: int, dot: Dot) -> Any:
    """Elements are taken out of whole vectors by shifts: LLVM takes many times as long over code
    that takes every second or fourth lane of longer vectors."""
    weights = tirx.reinterpret(vector_type(f"int{8 * dot.terms}", lanes), weights)
    products = [
        _element(values, term, 32, dot.dtype, lanes)
        * tirx.Cast(
            vector_type("int32", lanes), _element(weights, term, 8 * dot.terms, "int8", lanes)
        )
        for term in range(dot.terms)
    ]
    total = products[0]
    for product in products[1:]:
        total = total + product
    return total


def _element(packed: Any, place: int, bits: int, dtype: str, lanes: int) -> Any:
    """The element ``place``, from the lowest bits on, of each word of so many bits, as one."""
    size = int(dtype[-2:].lstrip("t"))

    def by(count: int) -> Any:
        return splat(literal(f"int{bits}", count), lanes)

    if dtype.startswith("u"):
        return (packed >> by(size * place)) & by((1 << size) - 1)
    # Up to the sign, and back with it.
    return (packed << by(bits - size * (place + 1))) >> by(bits - size)


def ended(value: Any, stage: OutputStage, lanes: int) -> Any:
    """float32 ``value`` up to where it is rounded, or to its end where it is not."""
    if stage.activation is not Activation.NONE:
        value = tir_math.activation(stage.activation, value, lanes)
    if stage.scale is not None:
        value = value * const(float(stage.scale), lanes)
    return value if stage.rounded else _held(value, stage.low, stage.high, lanes)


def _held(value: Any, low: float, high: float, lanes: int) -> Any:
    """float32 ``value``, not below ``low`` and not above ``high``."""
    if low > -_INFINITE:
        value = tirx.max(value, const(low, lanes))
    if high < _INFINITE:
        value = tirx.min(value, const(high, lanes))
    return value


_INFINITE = 3.4028234663852886e38


def stored(value: Any, stage: OutputStage, dtype: str, storage_offset: int, lanes: int) -> Any:
    """What is left of the ending after :func:`ended`, as the target's type keeps it."""
    if not stage.rounded:
        return value
    value = _held(value, stage.low - stage.zero, stage.high - stage.zero, lanes)
    if dtype in ("float32", "int32"):
        name = "llvm.roundeven.f32" if lanes == 1 else f"llvm.roundeven.v{lanes}f32"
        whole = tirx.call_llvm_pure_intrin(vector_type("float32", lanes), name, value)
        whole = whole + const(float(stage.zero), lanes) if stage.zero else whole
        return whole if dtype == "float32" else tirx.Cast(vector_type(dtype, lanes), whole)
    # What is added with _ROUND is even, so that halves go the same way as without it.
    odd = (stage.zero - storage_offset) % 2
    shifted = value + const(_ROUND + stage.zero - storage_offset - odd, lanes)
    values = tirx.Cast(
        vector_type(dtype, lanes), tirx.reinterpret(vector_type("int32", lanes), shifted)
    )
    return values + splat(literal(dtype, odd), lanes) if odd else values


_NEON = ("sdot", "smlal", "smull")
PACKED = {
    "int8": _NEON,
    "int16": (*_NEON, "pmaddwd"),
    "int32": ("vpdpbusd",),
    "uint8": ("vpdpbusd",),
}
"""By type, the kinds of ``Dot`` whose processors' instructions make codes of it."""


def packable(kind: str, dtype: str, lanes: int, count: int) -> int:
    """How many of ``count`` neighbouring vectors ``pack`` takes at once; 0 where it cannot."""
    if kind in _NEON and lanes == 4:
        return 4 if count >= 4 and dtype == "int8" else min(count, 2)
    if lanes == 8 and (kind, dtype) in (("pmaddwd", "int16"), ("vpdpbusd", "uint8")):
        return min(count, 2)
    return 1 if kind == "vpdpbusd" and lanes == 16 else 0


def pack(
    values: Sequence[Any],
    stage: OutputStage,
    dtype: str,
    storage_offset: int,
    kind: str,
    width: int,
) -> Any:
    """The codes of several vectors, by instructions that hold what they narrow.

    Args:
        values: float32, of an ending that is not ``far``, as many as ``packable`` says.
        ending: whose rounding and bounds are left.
        dtype: of the codes.
        above: see ``Dot``.
        kind: of the ``Dot``.
        width: lanes of each of the values.
    """
    added = stage.zero - storage_offset
    low, high = stage.low - storage_offset, stage.high - storage_offset
    if width == 16:
        return _avx512(values[0], dtype, added, int(low), int(high))
    lanes = width * min(len(values), 2)
    if kind in _NEON and dtype == "int16" and added == low == 0:
        int16 = tirx.reinterpret(f"uint16x{lanes}", _int16_neon(values, signed=False)[0])
        held = tirx.min(int16, splat(literal("uint16", int(high)), lanes))
        return tirx.reinterpret(f"int16x{lanes}", held)
    held = _HELD.get(dtype) if kind not in _NEON or lanes == 8 else None
    bounded = [
        _bounded(each, lanes, added, low, high, held)
        for each in (_int16_neon(values) if kind in _NEON else _int16_avx2(values))
    ]
    if dtype == "int16":
        return bounded[0]
    if dtype == "uint8":
        return _bytes_avx2(bounded[0], lanes)
    if len(values) == 1:
        return tirx.Cast("int8x4", bounded[0])
    quarters = [_call("int8x8", "llvm.aarch64.neon.sqxtn.v8i8", each) for each in bounded]
    return _concatenated(quarters, 8)


def _int16_neon(values: Sequence[Any], *, signed: bool = True) -> list[Any]:
    """int16 of float32, in pairs where there are some; unsigned ones hold what is negative to 0."""
    to_whole, to_int16 = ("fcvtns", "sqxtn") if signed else ("fcvtnu", "uqxtn")
    whole = [_call("int32x4", f"llvm.aarch64.neon.{to_whole}.v4i32.v4f32", x) for x in values]
    int16 = [_call("int16x4", f"llvm.aarch64.neon.{to_int16}.v4i16", each) for each in whole]
    if len(int16) == 1:
        return int16
    return [_concatenated(int16[first : first + 2], 4) for first in range(0, len(int16), 2)]


def _int16_avx2(values: Sequence[Any]) -> list[Any]:
    """The same; the instruction takes both vectors' first halves, then their second ones."""
    whole = [_call("int32x8", "llvm.x86.avx.cvt.ps2dq.256", each) for each in values]
    if len(whole) == 1:
        low, high = (
            tirx.Shuffle(whole, [tirx.IntImm("int32", lane) for lane in range(first, first + 4)])
            for first in (0, 4)
        )
        return [_call("int16x8", "llvm.x86.sse2.packssdw.128", low, high)]
    crossed = _call("int16x16", "llvm.x86.avx2.packssdw", *whole)
    order = (*range(4), *range(8, 12), *range(4, 8), *range(12, 16))
    return [tirx.Shuffle([crossed], [tirx.IntImm("int32", lane) for lane in order])]


def _avx512(value: Any, dtype: str, added: int, low: int, high: int) -> Any:
    """The same of 16 numbers: int32; or uint8, to which an instruction holds what is above 255."""
    nothing = splat(tirx.IntImm("int32", 0), 16)
    mode = [tirx.IntImm("int16", -1), tirx.IntImm("int32", _AS_SET)]
    name = "llvm.x86.avx512.mask.cvtps2dq.512"
    whole = _call("int32x16", name, value, nothing, *mode)
    if added:
        whole = whole + splat(tirx.IntImm("int32", added), 16)
    whole = tirx.max(whole, splat(tirx.IntImm("int32", low), 16))
    if dtype == "int32" or high < _BYTE:
        whole = tirx.min(whole, splat(tirx.IntImm("int32", high), 16))
    if dtype == "int32":
        return whole
    every, none = tirx.IntImm("int16", -1), splat(tirx.IntImm("uint8", 0), 16)
    return _call("uint8x16", "llvm.x86.avx512.mask.pmovus.db.512", whole, none, every)


_AS_SET = 4
"""Round as the processor's mode says: to the nearest, halves to even."""
_BYTE = 255


def _bounded(
    int16: Any, lanes: int, added: int, low: float, high: float, held: tuple[int, int] | None
) -> Any:
    """int16 plus ``added``, held to its bounds, but for those that narrowing ``held`` it to."""
    if added:
        name = f"llvm.sadd.sat.v{lanes}i16"
        int16 = _call(f"int16x{lanes}", name, int16, splat(literal("int16", added), lanes))
    if held is None or low > held[0]:
        int16 = tirx.max(int16, splat(literal("int16", int(low)), lanes))
    if held is None or high < held[1]:
        int16 = tirx.min(int16, splat(literal("int16", int(high)), lanes))
    return int16


_HELD = {"int8": (-128, _BYTE - 128), "uint8": (0, _BYTE)}
"""What narrowing 16 bits holds numbers to."""


def _bytes_avx2(int16: Any, lanes: int) -> Any:
    """uint8 of 8 or 16 int16."""
    low, high = (
        tirx.Shuffle([int16], [tirx.IntImm("int32", lane) for lane in range(first, first + 8)])
        for first in (0, lanes - 8)
    )
    both = tirx.reinterpret("uint8x16", _call("int8x16", "llvm.x86.sse2.packuswb.128", low, high))
    if lanes == 16:
        return both
    return tirx.Shuffle([both], [tirx.IntImm("int32", lane) for lane in range(8)])


def _concatenated(parts: Sequence[Any], lanes: int) -> Any:
    if len(parts) == 1:
        return parts[0]
    count = lanes * len(parts)
    return tirx.Shuffle(list(parts), [tirx.IntImm("int32", lane) for lane in range(count)])


def _call(result: str, name: str, *operands: Any) -> Any:
    return tirx.call_llvm_pure_intrin(result, name, *operands)


def fma(left: Any, right: Any, more: Any, lanes: int) -> Any:
    """left * right + more, rounded once."""
    name = "llvm.fma.f32" if lanes == 1 else f"llvm.fma.v{lanes}f32"
    return tirx.call_llvm_pure_intrin(vector_type("float32", lanes), name, left, right, more)


def const(number: float, lanes: int) -> Any:
    return splat(tirx.FloatImm("float32", number), lanes)


def _narrow(dot: Dot) -> str:
    return f"int{32 // dot.terms}"
