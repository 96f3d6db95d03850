"""How tiles of codes end: from sums to what is stored, vectors that are neighbours together.

A processor's narrowing instructions take two or four vectors at once, so the pieces of a tile are
brought up to where they are rounded one by one, and rounded in runs of neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from shiftedge.export.compiler.backends.cpu.llvm import int8 as tir_int8
from shiftedge.export.compiler.backends.cpu.llvm import nodes
from shiftedge.export.compiler.kernel_ir.kernel import Access, Epilogue, Part, Tile, pieces

__all__ = ["Piece", "ended", "finished", "valid"]


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
    """``sums`` of ``dtype`` up to where they are rounded: scale, offset, residual, activation.

    ``load`` reads as many elements of a place.
    """
    floats = nodes.vector_type("float32", lanes)
    value = tirx.Cast(floats, sums) if dtype == "int32" else sums
    scale = (
        tir_int8.const(epilogue.scale, lanes)
        if isinstance(epilogue.scale, float)
        else load(epilogue.scale)
    )
    if epilogue.offset is None:
        value = value * scale
    else:
        value = tir_int8.fma(value, scale, load(epilogue.offset), lanes)
    if epilogue.residual:
        steps = tirx.Cast(nodes.vector_type("int32", lanes), load(epilogue.residual))
        if epilogue.added.plus:
            steps = steps + nodes.splat(nodes.number(epilogue.added.plus), lanes)
        factor = tir_int8.const(epilogue.added.factor, lanes)
        value = tir_int8.fma(tirx.Cast(floats, steps), factor, value, lanes)
    return tir_int8.ended(value, epilogue.stage, lanes)


def finished(
    tile: Tile, epilogue: Epilogue, found: Iterable[Piece], dots: Collection[str]
) -> Iterator[Piece]:
    """Pieces as they are stored, of those that :func:`ended` made.

    Args:
        tile: that ends with ``codes``.
        codes: how it ends.
        found: its pieces, row by row.
        dots: kinds of dot product that the processor has, which tell how it narrows.
    """
    left, kind, dtype = list(found), _narrows(tile, epilogue, dots), tile.target.buffer.dtype
    while left:
        first, count = left[0], 0
        if kind:
            count = tir_int8.packable(kind, dtype, first.lanes, _neighbours(left))
        if count:
            values = [each.value for each in left[:count]]
            value = tir_int8.pack(
                values, epilogue.stage, dtype, epilogue.storage_offset, kind, first.lanes
            )
        else:
            count = 1
            value = tir_int8.stored(
                first.value, epilogue.stage, dtype, epilogue.storage_offset, first.lanes
            )
        yield Piece(value, first.row, first.column, count * first.lanes)
        del left[:count]


def _narrows(tile: Tile, epilogue: Epilogue, dots: Collection[str]) -> str:
    """The kind of dot product whose processor narrows a tile's numbers; empty if none does."""
    kinds = [each for each in tir_int8.PACKED.get(tile.target.buffer.dtype, ()) if each in dots]
    return kinds[0] if kinds and epilogue.stage.rounded and not epilogue.stage.far else ""


def _neighbours(found: Sequence[Piece]) -> int:
    """How many of the first are as wide as the first, and follow each other in one row."""
    first, count = found[0], 0
    for each in found:
        place = (first.row, first.column + count * first.lanes, first.lanes)
        if (each.row, each.column, each.lanes) != place:
            break
        count += 1
    return count
