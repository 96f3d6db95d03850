"""Matrices that lie in the registers of a warp: which element each lane has.

A product of a warp, d = a * b + c, takes a of 16 x ``depth`` numbers of half precision, b of
``depth`` x 8, and sums of 16 x 8 in float32. Source: NVIDIA, PTX ISA, "Matrix Fragments for
mma.m16n8k8" and "... m16n8k16".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shiftedge.export.compiler.kernel_ir.index import Index, Var

LANE = Var("lane")
"""Of a warp."""
ELEMENT = Var("element")
"""Of those that a lane has of a matrix."""
WARP = 32
ROWS, COLUMNS = 16, 8
SUMS = 4
"""That a lane has."""


@dataclass(frozen=True)
class Fragments:
    """Places over LANE and ELEMENT."""

    depth: int
    a: tuple[Index, Index]
    """Row, and place in the depth."""
    b: tuple[Index, Index]
    """Place in the depth, and column."""
    sums: tuple[Index, Index]
    """Row and column."""

    @property
    def elements(self) -> tuple[int, int]:
        """That a lane has of a and of b."""
        return ROWS * self.depth // WARP, self.depth * COLUMNS // WARP


_GROUP, _MEMBER = LANE // 4, LANE % 4 * 2
_PAIR, _SECOND = _MEMBER + ELEMENT % 2, ELEMENT // 2
FRAGMENTS: Mapping[str, Fragments] = {
    "m16n8k16": Fragments(
        16,
        (_GROUP + _SECOND % 2 * 8, _PAIR + ELEMENT // 4 * 8),
        (_PAIR + _SECOND * 8, _GROUP),
        (_GROUP + _SECOND * 8, _PAIR),
    ),
    "m16n8k8": Fragments(
        8, (_GROUP + _SECOND * 8, _PAIR), (_PAIR, _GROUP), (_GROUP + _SECOND * 8, _PAIR)
    ),
}
"""By the name of the instruction's shape."""
