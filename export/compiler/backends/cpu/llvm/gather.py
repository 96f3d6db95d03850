"""Words of a window's row, one a channel: how a depthwise stage uses dot products of bytes.

A dot product sums neighbours in a 32-bit lane, and a depthwise convolution has its neighbours in
other pixels. Where each code has a lane of 32 bits for itself, a word is made of the one before by
a shift over two registers, which drops the oldest code and takes the newest in:

    word[p] = codes p - 3, p - 2, p - 1, p  =  (code[p] : word[p - 1]) >> 8

One such shift a pixel (``vpshrdd``, AVX512_VBMI2) and one dot product a row of the window take the
place of a multiply-add a tap. On processors without that instruction LLVM makes it of three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import tirx

from shiftedge.export.compiler.backends.cpu.llvm import nodes
from shiftedge.export.compiler.kernel_ir.kernel import COLUMN, ROW, TERM, Gather, Part, Segment

__all__ = ["step"]

_ELEMENT_BITS = 8


def step(
    segment: Segment,
    parts: Sequence[Part],
    sums: Sequence[Any],
    env: Mapping[Any, Any],
    load: Callable[..., Any],
    multiply_add: Callable[..., Any],
) -> list[Any]:
    """One row of the window, for every pixel of a tile.

    Args:
        segment: with a ``gather``.
        parts: of the tile.
        sums: their accumulators.
        env: of the steps' variables.
        load: elements of an access, ``load(access, env, lanes)``.
        multiply_add: the sum after a word, ``multiply_add(sum, word, weights, lanes, dot)``.
    """
    gather, dot = segment.gather, segment.dot
    if gather is None or dot is None or segment.weight is None:
        raise ValueError("words are gathered for dot products with weights")
    result: list[Any] = []
    for column in sorted({part.column for part in parts}):
        here = {**env, ROW: 0, COLUMN: column}
        of_row = {
            p.row: (p.lanes, s) for p, s in zip(parts, sums, strict=True) if p.column == column
        }
        lanes = of_row[0][0]
        vector = nodes.vector_type("int32", lanes)
        shift = "llvm.fshr.i32" if lanes == 1 else f"llvm.fshr.v{lanes}i32"
        bits = nodes.splat(nodes.number(_ELEMENT_BITS), lanes)
        register = tirx.decl_buffer((lanes,), "int32", "word")
        result.append(tirx.AllocBuffer(register))
        packed: Any = nodes.splat(nodes.number(0), lanes)
        ends = _ends(gather, segment.terms, dot.terms, len(of_row))
        for place in range(max(ends) + 1):
            element = load(segment.source, {**here, TERM: place}, lanes)
            packed = tirx.call_llvm_pure_intrin(vector, shift, element, packed, bits)
            result.append(nodes.put(register, 0, lanes, packed))
            packed = nodes.get(register, 0, lanes)
            for row, term in ends.get(place, ()):
                weights = load(segment.weight, {**here, TERM: term}, lanes)
                total = of_row[row][1]
                new = multiply_add(nodes.get(total, 0, lanes), packed, weights, lanes, dot)
                result.append(nodes.put(total, 0, lanes, new))
    return result


def _ends(gather: Gather, packed: int, size: int, rows: int) -> dict[int, list[tuple[int, int]]]:
    """The code that ends a word -> the rows that want the word, and which of theirs it is."""
    ends: dict[int, list[tuple[int, int]]] = {}
    for row in range(rows):
        for number in range(packed):
            last = gather.taps - 1 - size * (packed - 1 - number)
            ends.setdefault(row * gather.stride + last, []).append((row, number))
    return ends
