"""The camera's bytes as a map of its own: B, G, R turned to R, G, B, as numbers or quantised.

Applies where something else than a first convolution reads the frame: a state of the previous
frame, a first convolution that sees both. A convolution that reads the frame alone takes its bytes
as they are. As numbers it is ``padding`` without a border. Quantised, each colour has a scale and
an offset: tiles are as many pixels as a vector has lanes, so three vectors of colours; what is left
of a row goes pixel by pixel. Work units are rows.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.builder import FRAME_MAP
from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.families import padding
from shiftedge.export.compiler.backends.cpu.families.padding import Padding
from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.graph.fusion import FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Quantize
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var
from shiftedge.export.compiler.numerics.requantize import (
    OutputStage,
    quantize_frame_constants,
    stage_of,
)

Array = NDArray[np.float32]
_COLOURS = 3


def matches(kernel: FusedKernel, context: Context) -> bool:
    (operator, *_) = kernel.operators
    return isinstance(operator, Quantize) and operator.inputs == (context.graph.frame,)


def lower(kernel: Single, context: Context) -> None:
    """The frame as a quantised map."""
    operator, unit, spec = cast(Quantize, kernel.operators[0]), context.target.unit, context.spec
    height, width, _ = context.map_of(operator.out)
    constants = quantize_frame_constants(spec.mean, spec.std, operator.quantization)
    name = context.name("quantize_frame", context.dtype_of(operator.out))
    arguments = {
        "x": Argument(Memory.FRAME),
        **context.pack(name, pack(*constants, unit)),
        "out": context.value(operator.out),
    }
    stage = stage_of(operator.quantization)
    scheduled = schedule(name, height, width, unit, context.dot(), stage)
    context.call((scheduled,), arguments, "quantise", operator.name)


def normalize(context: Context) -> None:
    """The frame as a map of numbers, as the model's states and joins see it."""
    frame = context.graph.frame
    height, width, _ = context.graph.shapes[frame]
    dtype = context.dtype_of(frame)
    shape = Padding(height, width, 3, (0, 0, 0, 0), frame=True, reverse=True, dtype=dtype)
    arguments = {
        "x": Argument(Memory.FRAME),
        **tables(shape, context),
        "padded": Argument(Memory.WORKSPACE, FRAME_MAP),
    }
    made = padding.schedule(context.name("frame", dtype), shape)
    context.call((made,), arguments, "normalise", frame)


def tables(shape: Padding, context: Context) -> dict[str, Argument]:
    """Scale and offset of the frame's B, G, R."""
    mean, std = context.spec.mean[::-1], context.spec.std[::-1]
    return context.pack("frame", padding.normalisation(mean, std, shape.width))


def schedule(
    name: str, height: int, width: int, unit: VectorUnit, dot: ir.Dot, stage: OutputStage
) -> ir.Kernel:
    """The kernel: parameters x (bytes of the frame), scale, offset, out."""
    size = height * width * _COLOURS
    x, out = ir.Buffer("x", size, dtype="uint8"), ir.Buffer("out", size, "output", dot.dtype)
    scale, offset = (
        ir.Buffer(each, unit.lanes * _COLOURS, "weight") for each in ("scale", "offset")
    )  # fmt: skip
    whole = width // unit.lanes

    def tile(pixel: Index, pixels: int) -> ir.Statement:
        count = pixels * _COLOURS
        at = (ir.UNIT * width + pixel) * _COLOURS + ir.COLUMN
        return ir.Tile(
            vectors=ir.grid(1, count, count),
            columns=count,
            start=(),
            segments=(ir.Segment((), x.at(at), None, by_column=True, reverse=_COLOURS),),
            target=out.at(at),
            epilogue=ir.Epilogue(
                scale.at(ir.COLUMN), offset.at(ir.COLUMN), stage, storage_offset=dot.storage_offset
            ),
        )

    number = Var("tile")
    body: tuple[ir.Statement, ...] = ()
    if whole:
        wide = tile(number * unit.lanes, unit.lanes)
        body += (ir.Loop(number, Const(0), Const(whole), (wide,)),)
    if width % unit.lanes:
        one = tile(number, 1)
        body += (ir.Loop(number, Const(whole * unit.lanes), Const(width), (one,)),)
    return ir.Kernel(name, (x, scale, offset, out), height, body, note="quantised frame")


def pack(scale: Array, offset: Array, unit: VectorUnit) -> dict[str, Array]:
    """Scale and offset of R, G, B, for a tile."""
    return {"scale": np.tile(scale, unit.lanes), "offset": np.tile(offset, unit.lanes)}
