"""The camera's bytes as codes: B, G, R turned to R, G, B, each colour with a scale and an offset.

Applies where codes of the frame are a map of their own: a state of the previous frame, a first
convolution that sees both. A convolution that reads the frame alone takes its bytes as they are.
Tiles are as many pixels as a vector has lanes, so three vectors of colours; what is left of a row
goes pixel by pixel. Work units are rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import (
    COLUMN,
    UNIT,
    Buffer,
    Dot,
    Epilogue,
    Kernel,
    Loop,
    Segment,
    Statement,
    Tile,
    grid,
)
from shiftedge.export.compiler.numerics.requantize import OutputStage

__all__ = ["pack", "schedule"]

Array = NDArray[np.float32]
_COLOURS = 3


def schedule(
    name: str, height: int, width: int, unit: VectorUnit, dot: Dot, stage: OutputStage
) -> Kernel:
    """The kernel: parameters x (bytes of the frame), scale, offset, out (codes)."""
    size = height * width * _COLOURS
    x, out = Buffer("x", size, dtype="uint8"), Buffer("out", size, "output", dot.dtype)
    scale, offset = (
        Buffer(name, unit.lanes * _COLOURS, "weight") for name in ("scale", "offset")
    )  # fmt: skip
    whole = width // unit.lanes

    def tile(pixel: Index, pixels: int) -> Statement:
        count = pixels * _COLOURS
        at = (UNIT * width + pixel) * _COLOURS + COLUMN
        return Tile(
            vectors=grid(1, count, count),
            columns=count,
            start=(),
            segments=(Segment((), x.at(at), None, by_column=True, reverse=_COLOURS),),
            target=out.at(at),
            epilogue=Epilogue(
                scale.at(COLUMN), offset.at(COLUMN), stage, storage_offset=dot.storage_offset
            ),
        )

    number = Var("tile")
    body: tuple[Statement, ...] = ()
    if whole:
        wide = tile(number * unit.lanes, unit.lanes)
        body += (Loop(number, Const(0), Const(whole), (wide,)),)
    if width % unit.lanes:
        one = tile(number, 1)
        body += (Loop(number, Const(whole * unit.lanes), Const(width), (one,)),)
    return Kernel(name, (x, scale, offset, out), height, body, note="codes of the frame")


def pack(scale: Array, offset: Array, unit: VectorUnit) -> dict[str, Array]:
    """Scale and offset of R, G, B, for a tile."""
    return {"scale": np.tile(scale, unit.lanes), "offset": np.tile(offset, unit.lanes)}
