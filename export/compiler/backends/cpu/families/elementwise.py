"""Sums, products and activations of maps, where no kernel before could take them in.

``y`` of a sum or product is a map of x's shape, or for ``by_channel`` one number a channel (a
squeeze-and-excite gate). Work units are runs of ``RUN`` vectors, or pixels for ``by_channel``.

:class:`Stepwise` goes between numbers and codes, and sums codes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var, index
from shiftedge.export.compiler.kernel_ir.kernel import (
    COLUMN,
    NOT_ADDED,
    UNIT,
    Access,
    Added,
    Buffer,
    Epilogue,
    If,
    Kernel,
    Loop,
    Segment,
    Statement,
    Tile,
    grid,
    pieces,
)
from shiftedge.export.compiler.numerics.requantize import OutputStage

__all__ = ["RUN", "Elementwise", "Operation", "Rescale", "schedule"]

RUN = 64
"""Vectors of a work unit, large enough to outweigh handing it to a thread."""


class Operation(enum.Enum):
    """What is done before the activation."""

    NOTHING = "nothing"
    ADD = "add"
    MULTIPLY = "multiply"


@dataclass(frozen=True)
class Rescale:
    """What is done to x, or to x and y, where codes are read or made.

    Of x: y = (x + plus) * scale, then ``stage``; of a sum fma(code of y, factor, y) between.
    Without an ending, numbers.
    """

    stage: OutputStage | None
    scale: float
    added: Added = NOT_ADDED
    """How y's codes are added."""
    plus: int = 0
    """Added to x's codes as they are stored."""
    storage_offset: int = 0
    """Of the result's codes, see ``Dot``."""
    source: str = "float32"
    """Type of x, and of y."""
    made: str = "float32"
    """Type of the result."""


@dataclass(frozen=True)
class Elementwise:
    """Shape of the operation."""

    pixels: int
    channels: int
    operation: Operation = Operation.NOTHING
    by_channel: bool = False
    activation: Activation = Activation.NONE
    rescale: Rescale | None = None
    """With codes, of a sum or of x alone."""
    dtype: str = "float32"
    """Type of x, of a map y and of the result, where there are no ``steps``."""


def schedule(name: str, shape: Elementwise, unit: VectorUnit) -> Kernel:
    """The kernel: parameters x, [y], out."""
    size, lanes = shape.pixels * shape.channels, unit.lanes
    paired = shape.operation is not Operation.NOTHING
    rescale = shape.rescale or Rescale(None, 1.0, source=shape.dtype, made=shape.dtype)
    kind = "float32" if shape.by_channel else rescale.source
    x, out = Buffer("x", size, dtype=rescale.source), Buffer("out", size, "output", rescale.made)
    y = Buffer("y", shape.channels if shape.by_channel else size, dtype=kind)

    def tile(start: Index, first: Index, length: int) -> Statement:
        """``length`` elements, ``first`` after ``start``; at most one vector."""
        here = start + first + COLUMN
        other = y.at((first if shape.by_channel else start + first) + COLUMN)
        if shape.rescale:
            return _rescaled(
                shape.rescale, x.at(here), other if paired else None, out.at(here), length
            )
        values = [x.at(here), *([other] if shape.operation is Operation.ADD else [])]
        product = Segment((), x.at(here), other, by_column=True)
        multiply = shape.operation is Operation.MULTIPLY
        return Tile(
            vectors=grid(1, length, length),
            columns=length,
            start=() if multiply else tuple(values),
            segments=(product,) if multiply else (),
            target=out.at(here),
            activation=shape.activation,
        )

    def run(start: Index, count: int) -> tuple[Statement, ...]:
        """``count`` elements from ``start`` on."""
        vector, full = Var("vector"), count // lanes
        result: list[Statement] = []
        if full:
            body = tile(start, vector * lanes, lanes)
            result.append(Loop(vector, Const(0), Const(full), (body,)))
        for first, length in pieces(count - full * lanes, lanes):
            result.append(tile(start, index(full * lanes + first), length))
        return tuple(result)

    if shape.by_channel:
        units, body = shape.pixels, run(UNIT * shape.channels, shape.channels)
    else:
        step = RUN * lanes
        full, rest = divmod(size, step)
        units = full + (rest > 0)
        body = run(UNIT * step, step) if full else ()
        if rest:
            last = run(index(full * step), rest)
            body = (If(UNIT.below(full), body, last),) if full else last
    return Kernel(
        name=name,
        buffers=(x, *((y,) if paired else ()), out),
        units=units,
        body=body,
        note=f"elementwise {shape.operation.value}, {shape.activation.value}",
    )


def _rescaled(rescale: Rescale, x: Access, y: Access | None, out: Access, length: int) -> Statement:
    epilogue = None
    if rescale.stage is not None:
        epilogue = Epilogue(
            rescale.scale, None, rescale.stage, y, rescale.added, rescale.storage_offset
        )
    return Tile(
        vectors=grid(1, length, length),
        columns=length,
        start=(),
        segments=(Segment((), x, None, by_column=True, plus=rescale.plus),),
        target=out,
        scale=rescale.scale,
        epilogue=epilogue,
    )
