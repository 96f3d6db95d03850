"""How tiles of int8 end: from sums to what is stored, vectors that are neighbours together.

A processor's narrowing instructions take two or four vectors at once, so the pieces of a tile are
brought up to where they are rounded one by one, and rounded in runs of neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from shiftedge.export.compiler.backends.tir.math import activation
from shiftedge.export.compiler.backends.tir.nodes import (
    as_type,
    bits_as,
    constant,
    fma,
    intrinsic,
    literal,
    number,
    shuffle,
    vector_type,
)
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.kernel_ir.kernel import Access, Epilogue, Part, Tile, pieces

_ROUND = 12582912.0
"""1.5 * 2^23: a float32 of less than 2^22 that it is added to has no bits behind the point left,
rounded to the nearest, halves to even; and the sum's lowest 16 bits are the number's own."""
_INFINITE = 3.4028234663852886e38


@dataclass(frozen=True)
class Piece:
    """Neighbouring columns of one row of a tile."""

    value: Any
    """TIR; float32 before it is rounded."""
    row: int
    column: int
    """The first."""
    lanes: int


def valid(part: Part, columns: int, most: int = 1 << 30) -> list[tuple[int, int]]:
    """Pieces of a part that lie below ``columns``, (first, lanes), of at most ``most`` lanes."""
    return pieces(max(0, min(part.width, columns - part.column)), min(part.lanes, most))


def ended(
    epilogue: Epilogue, sums: Any, dtype: str, lanes: int, load: Callable[[Access], Any]
) -> Any:
    """``sums`` of ``dtype`` up to where they are rounded, or to their end where they are not:
    scale, offset, residual, activation. ``load`` reads as many elements of a place."""
    value = as_type("float32", sums, lanes) if dtype == "int32" else sums
    scale, stage = epilogue.scale, epilogue.stage
    factor = constant("float32", scale, lanes) if isinstance(scale, float) else load(scale)
    if epilogue.offset is None:
        value = value * factor
    else:
        value = fma(value, factor, load(epilogue.offset), lanes)
    if epilogue.residual:
        steps = as_type("int32", load(epilogue.residual), lanes)
        if epilogue.added.plus:
            steps = steps + literal("int32", epilogue.added.plus, lanes)
        factor = constant("float32", epilogue.added.factor, lanes)
        value = fma(as_type("float32", steps, lanes), factor, value, lanes)
    if stage.activation is not Activation.NONE:
        value = activation(stage.activation, value, lanes)
    if stage.scale is not None:
        value = value * constant("float32", float(stage.scale), lanes)
    return value if stage.rounded else _held(value, stage.low, stage.high, lanes)


def finished(
    tile: Tile, epilogue: Epilogue, found: Iterable[Piece], dots: Collection[str]
) -> Iterator[Piece]:
    """Pieces as they are stored, of those that :func:`ended` made, row by row; ``dots`` are the
    kinds of dot product that the processor has, which tell how it narrows."""
    left, stage, dtype = list(found), epilogue.stage, tile.target.buffer.dtype
    kinds = [each for each in _NARROWED.get(dtype, ()) if each in dots]
    kind = kinds[0] if kinds and stage.rounded and not stage.far else ""
    while left:
        first = left[0]
        count = _at_once(kind, dtype, first.lanes, _neighbours(left)) if kind else 0
        if count:
            values = [each.value for each in left[:count]]
            value = _narrowed(values, epilogue, dtype, kind, first.lanes)
        else:
            count, value = 1, _stored(first.value, epilogue, dtype, first.lanes)
        yield Piece(value, first.row, first.column, count * first.lanes)
        del left[:count]


def _neighbours(found: Sequence[Piece]) -> int:
    """How many of the first are as wide as the first, and follow each other in one row."""
    first, count = found[0], 0
    for each in found:
        place = (first.row, first.column + count * first.lanes, first.lanes)
        if (each.row, each.column, each.lanes) != place:
            break
        count += 1
    return count


def _held(value: Any, low: float, high: float, lanes: int) -> Any:
    """float32 ``value``, not below ``low`` and not above ``high``."""
    if low > -_INFINITE:
        value = tirx.max(value, constant("float32", low, lanes))
    if high < _INFINITE:
        value = tirx.min(value, constant("float32", high, lanes))
    return value


def _stored(value: Any, epilogue: Epilogue, dtype: str, lanes: int) -> Any:
    """A piece by itself, on any processor."""
    stage, storage_offset = epilogue.stage, epilogue.storage_offset
    if not stage.rounded:
        return value
    value = _held(value, stage.low - stage.zero, stage.high - stage.zero, lanes)
    if dtype in ("float32", "int32"):
        name = "roundeven.f32" if lanes == 1 else f"roundeven.v{lanes}f32"
        whole = intrinsic(vector_type("float32", lanes), name, value)
        whole = whole + constant("float32", float(stage.zero), lanes) if stage.zero else whole
        return whole if dtype == "float32" else as_type(dtype, whole, lanes)
    # What is added with _ROUND is even, so that halves go the same way as without it.
    odd = (stage.zero - storage_offset) % 2
    shifted = value + constant("float32", _ROUND + stage.zero - storage_offset - odd, lanes)
    values = as_type(dtype, bits_as("int32", shifted, lanes), lanes)
    return values + literal(dtype, odd, lanes) if odd else values


# By instructions that hold what they narrow

_NEON = ("sdot", "smlal", "smull")
_NARROWED = {
    "int8": _NEON,
    "int16": (*_NEON, "pmaddwd"),
    "int32": ("vpdpbusd",),
    "uint8": ("vpdpbusd",),
}
"""By type, the kinds of ``Dot`` whose processors' instructions make values of it."""
_HELD = {"int8": (-128, 127), "uint8": (0, 255)}
"""What narrowing 16 bits holds numbers to."""


def _at_once(kind: str, dtype: str, lanes: int, count: int) -> int:
    """How many of ``count`` neighbouring vectors are narrowed at once; 0 where none can be."""
    if kind in _NEON and lanes == 4:
        return 4 if count >= 4 and dtype == "int8" else min(count, 2)
    if lanes == 8 and (kind, dtype) in (("pmaddwd", "int16"), ("vpdpbusd", "uint8")):
        return min(count, 2)
    return 1 if kind == "vpdpbusd" and lanes == 16 else 0


def _narrowed(values: Sequence[Any], epilogue: Epilogue, dtype: str, kind: str, width: int) -> Any:
    """Several float32 vectors of ``width`` lanes, as many as :func:`_at_once` says, as one."""
    stage, storage_offset = epilogue.stage, epilogue.storage_offset
    added = stage.zero - storage_offset
    low, high = int(stage.low - storage_offset), int(stage.high - storage_offset)
    if width == 16:
        return _avx512(values[0], dtype, added, low, high)
    lanes, neon = width * min(len(values), 2), kind in _NEON
    if neon and dtype == "int16" and added == low == 0:
        unsigned = bits_as("uint16", _int16_neon(values, signed=False)[0], lanes)
        return bits_as("int16", tirx.min(unsigned, literal("uint16", high, lanes)), lanes)
    held = _HELD.get(dtype) if not neon or lanes == 8 else None
    int16 = [
        _bounded(each, lanes, added, low, high, held)
        for each in (_int16_neon(values) if neon else _int16_avx2(values))
    ]
    if dtype == "int16":
        return int16[0]
    if dtype == "uint8":
        return _bytes_avx2(int16[0], lanes)
    if len(values) == 1:
        return as_type("int8", int16[0], 4)
    return _joined([intrinsic("int8x8", "aarch64.neon.sqxtn.v8i8", each) for each in int16], 8)


def _int16_neon(values: Sequence[Any], *, signed: bool = True) -> list[Any]:
    """int16 of float32, in pairs where there are some; unsigned ones hold what is negative to 0."""
    to_whole, to_int16 = ("fcvtns", "sqxtn") if signed else ("fcvtnu", "uqxtn")
    whole = [intrinsic("int32x4", f"aarch64.neon.{to_whole}.v4i32.v4f32", x) for x in values]
    int16 = [intrinsic("int16x4", f"aarch64.neon.{to_int16}.v4i16", each) for each in whole]
    if len(int16) == 1:
        return int16
    return [_joined(int16[first : first + 2], 4) for first in range(0, len(int16), 2)]


def _int16_avx2(values: Sequence[Any]) -> list[Any]:
    """The same; the instruction takes both vectors' first halves, then their second ones."""
    whole = [intrinsic("int32x8", "x86.avx.cvt.ps2dq.256", each) for each in values]
    if len(whole) == 1:
        halves = shuffle(range(4), *whole), shuffle(range(4, 8), *whole)
        return [intrinsic("int16x8", "x86.sse2.packssdw.128", *halves)]
    crossed = intrinsic("int16x16", "x86.avx2.packssdw", *whole)
    return [shuffle((*range(4), *range(8, 12), *range(4, 8), *range(12, 16)), crossed)]


def _bounded(
    int16: Any, lanes: int, added: int, low: int, high: int, held: tuple[int, int] | None
) -> Any:
    """int16 plus ``added``, held to its bounds, but for those that narrowing ``held`` it to."""
    if added:
        more = literal("int16", added, lanes)
        int16 = intrinsic(f"int16x{lanes}", f"sadd.sat.v{lanes}i16", int16, more)
    if held is None or low > held[0]:
        int16 = tirx.max(int16, literal("int16", low, lanes))
    if held is None or high < held[1]:
        int16 = tirx.min(int16, literal("int16", high, lanes))
    return int16


def _bytes_avx2(int16: Any, lanes: int) -> Any:
    """uint8 of 8 or 16 int16."""
    halves = (shuffle(range(first, first + 8), int16) for first in (0, lanes - 8))
    both = bits_as("uint8", intrinsic("int8x16", "x86.sse2.packuswb.128", *halves), 16)
    return both if lanes == 16 else shuffle(range(8), both)


_AS_SET = 4
"""Round as the processor's mode says: to the nearest, halves to even."""


def _avx512(value: Any, dtype: str, added: int, low: int, high: int) -> Any:
    """The same of 16 numbers: int32; or uint8, to which an instruction holds what is above 255."""
    nothing, every = literal("int32", 0, 16), tirx.IntImm("int16", -1)
    mode = number(_AS_SET)
    whole = intrinsic("int32x16", "x86.avx512.mask.cvtps2dq.512", value, nothing, every, mode)
    if added:
        whole = whole + literal("int32", added, 16)
    whole = tirx.max(whole, literal("int32", low, 16))
    if dtype == "int32" or high < _HELD["uint8"][1]:
        whole = tirx.min(whole, literal("int32", high, 16))
    if dtype == "int32":
        return whole
    none = literal("uint8", 0, 16)
    return intrinsic("uint8x16", "x86.avx512.mask.pmovus.db.512", whole, none, every)


def _joined(parts: Sequence[Any], lanes: int) -> Any:
    return parts[0] if len(parts) == 1 else shuffle(range(lanes * len(parts)), *parts)
