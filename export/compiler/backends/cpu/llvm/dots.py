"""Dot products of int8 as TIR: several values of a lane times as many weights, summed in 32 bits.

The same sums are made on every processor: by its own instruction where it has one, otherwise by
plain vector arithmetic, which is slow and serves to verify kernels for another processor here.

**A depthwise stage** has its neighbours in other pixels. Where each value has a lane of 32 bits for
itself, a lane's four values are made of those before by a shift over two registers, which drops the
oldest and takes the newest in:

    packed[p] = values p - 3, p - 2, p - 1, p  =  (value[p] : packed[p - 1]) >> 8

One such shift a pixel (``vpshrdd``, AVX512_VBMI2) and one dot product a row of the window take the
place of a multiply-add a tap. On processors without that instruction LLVM makes it of three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import tirx

from shiftedge.export.compiler.backends.cpu.families.pairs import LANES
from shiftedge.export.compiler.backends.tir.nodes import (
    as_type,
    bits_as,
    get,
    intrinsic,
    literal,
    put,
    shuffle,
    vector_type,
)
from shiftedge.export.compiler.kernel_ir.kernel import COLUMN, ROW, TERM, Dot, Gather, Part, Segment

_INTRINSICS = {
    ("pmaddwd", 4): "x86.sse2.pmadd.wd",
    ("pmaddwd", 8): "x86.avx2.pmadd.wd",
    ("pmaddwd", 16): "x86.avx512.pmaddw.d.512",
    ("vpdpbusd", 4): "x86.avx512.vpdpbusd.128",
    ("vpdpbusd", 8): "x86.avx512.vpdpbusd.256",
    ("vpdpbusd", 16): "x86.avx512.vpdpbusd.512",
    ("sdot", 4): "aarch64.neon.sdot.v4i32.v16i8",
}


def plus(packed: Any, lanes: int, dot: Dot, number: int) -> Any:
    """``packed``, int32, with ``number`` added to each of their values."""
    if not number:
        return packed
    narrow, count = _narrow(dot), dot.terms * lanes
    total = bits_as(narrow, packed, count) + literal(narrow, number, count)
    return bits_as("int32", total, lanes)


def multiply_add(total: Any, values: Any, weights: Any, lanes: int, dot: Dot, *, own: bool) -> Any:
    """int32 ``total`` plus, lane by lane, the products of a lane's values and weights.

    Values are packed into int32, for ``dot.pairs`` from :func:`pair_factors`; weights are of 8 bits
    each. ``own``: the processor has the instruction.
    """
    if dot.pairs:
        return _add_pairs(total, values, weights, dot, own=own)
    name = _INTRINSICS.get((dot.kind, lanes)) if own else None
    if name is None:
        return total + _plain_sum(values, weights, lanes, dot)
    count, result = dot.terms * lanes, f"int32x{lanes}"
    weights = bits_as("int8", weights, count)
    if dot.terms == 2:
        weights = as_type(_narrow(dot), weights, count)
    operands = [bits_as(_narrow(dot), values, count), weights]
    if dot.kind == "sdot":
        operands.reverse()  # both are signed, and LLVM takes a lane of the last alone
    if dot.kind == "pmaddwd":
        return total + intrinsic(result, name, *operands)
    return intrinsic(result, name, total, *operands)


def _narrow(dot: Dot) -> str:
    return f"int{32 // dot.terms}"


def _plain_sum(values: Any, weights: Any, lanes: int, dot: Dot) -> Any:
    """Elements are taken out of whole vectors by shifts: LLVM takes many times as long over code
    that takes every second or fourth lane of longer vectors."""
    bits = 8 * dot.terms
    weights = bits_as(f"int{bits}", weights, lanes)
    total = None
    for term in range(dot.terms):
        weight = as_type("int32", _element(weights, term, bits, "int8", lanes), lanes)
        product = _element(values, term, 32, dot.dtype, lanes) * weight
        total = product if total is None else total + product
    return total


def _element(packed: Any, place: int, bits: int, dtype: str, lanes: int) -> Any:
    """The element ``place``, from the lowest bits on, of each lane of so many bits, as one."""
    size, kind = int(dtype[-2:].lstrip("t")), f"int{bits}"
    if dtype.startswith("u"):
        shifted = packed >> literal(kind, size * place, lanes)
        return shifted & literal(kind, (1 << size) - 1, lanes)
    # Up to the sign, and back with it.
    top = packed << literal(kind, bits - size * (place + 1), lanes)
    return top >> literal(kind, bits - size, lanes)


# Sums of pairs of products, for NEON without a dot product; see ``families.pairs``.

_PAIRS, _BYTES = 2 * LANES, 4 * LANES


def pair_factors(packed: Any, term: int, terms: int) -> tuple[Any, Any]:
    """What the weights of a step's term are multiplied with, made of ``packed``, int32x4: int8x8
    for each half. A step's ``terms`` are fewer than lanes where the last ones are not used."""
    pairs = bits_as("int16", packed, _PAIRS)
    if terms < LANES:
        order = [2 * term + lane // LANES for lane in range(_PAIRS)]
    else:
        order = [(lane + term) % _PAIRS for lane in range(_PAIRS)]
    if order != list(range(_PAIRS)):
        pairs = shuffle(order, pairs)
    return _halves(bits_as("int8", pairs, _BYTES))


def _add_pairs(total: Any, values: tuple[Any, Any], weights: Any, dot: Dot, *, own: bool) -> Any:
    """By NEON's instructions; otherwise by plain arithmetic, which makes the same sums in as many
    bits."""
    both = zip(values, _halves(bits_as("int8", weights, _BYTES)), strict=True)
    low, high = (_products(*each, own=own) for each in both)
    if dot.kind == "smlal":
        return total + _by_two(low + high, own=own)
    return total + _by_two(low, own=own) + _by_two(high, own=own)


def _halves(value: Any) -> tuple[Any, Any]:
    return shuffle(range(_PAIRS), value), shuffle(range(_PAIRS, _BYTES), value)


def _products(values: Any, weights: Any, *, own: bool) -> Any:
    if not own:
        return as_type("int16", values, _PAIRS) * as_type("int16", weights, _PAIRS)
    return intrinsic(f"int16x{_PAIRS}", "aarch64.neon.smull.v8i16", weights, values)


def _by_two(products: Any, *, own: bool) -> Any:
    """Neighbours' sums, of 32 bits."""
    if own:
        return intrinsic(f"int32x{LANES}", "aarch64.neon.saddlp.v4i32.v8i16", products)
    wide = as_type("int32", products, _PAIRS)
    return shuffle(range(0, _PAIRS, 2), wide) + shuffle(range(1, _PAIRS, 2), wide)


# A depthwise stage, as the module's docstring says.

_ELEMENT_BITS = 8


def gathered(
    segment: Segment,
    parts: Sequence[Part],
    sums: Sequence[Any],
    env: Mapping[Any, Any],
    load: Callable[..., Any],
    add: Callable[..., Any],
) -> list[Any]:
    """One row of the window of a segment with a ``gather``, for every pixel of a tile, whose parts
    have the accumulators ``sums``. ``load(access, env, lanes)`` gives elements, and ``add(sum,
    packed, weights, lanes, dot)`` the sum after a product."""
    gather, dot = segment.gather, segment.dot
    if gather is None or dot is None or segment.weight is None:
        raise ValueError("values are gathered for dot products with weights")
    result: list[Any] = []
    for column in sorted({part.column for part in parts}):
        here = {**env, ROW: 0, COLUMN: column}
        of_row = {
            p.row: (p.lanes, s) for p, s in zip(parts, sums, strict=True) if p.column == column
        }
        lanes = of_row[0][0]
        shift = "fshr.i32" if lanes == 1 else f"fshr.v{lanes}i32"
        register = tirx.decl_buffer((lanes,), "int32", "word")
        result.append(tirx.AllocBuffer(register))
        packed = literal("int32", 0, lanes)
        ends = _ends(gather, segment.terms, dot.terms, len(of_row))
        for place in range(max(ends) + 1):
            value = load(segment.source, {**here, TERM: place}, lanes)
            bits = literal("int32", _ELEMENT_BITS, lanes)
            packed = intrinsic(vector_type("int32", lanes), shift, value, packed, bits)
            result.append(put(register, 0, lanes, packed))
            packed = get(register, 0, lanes)
            for row, term in ends.get(place, ()):
                weights = load(segment.weight, {**here, TERM: term}, lanes)
                total = of_row[row][1]
                new = add(get(total, 0, lanes), packed, weights, lanes, dot)
                result.append(put(total, 0, lanes, new))
    return result


def _ends(gather: Gather, terms: int, size: int, rows: int) -> dict[int, list[tuple[int, int]]]:
    """The value that completes a lane -> the rows that want it, and which of their terms it is."""
    ends: dict[int, list[tuple[int, int]]] = {}
    for row in range(rows):
        for number in range(terms):
            last = gather.taps - 1 - size * (terms - 1 - number)
            ends.setdefault(row * gather.stride + last, []).append((row, number))
    return ends
