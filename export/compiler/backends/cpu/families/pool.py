"""Largest or mean value of a window. Padding never wins, and counts in no mean.

The border of a largest is the lowest float. A mean over a window without padding is its sum, scaled
once; the mean over a whole map is a window of its size. Along a border the divisors differ: then
each output pixel brings its own 1 / count, from a map that ``pack`` makes, and every number of the
window is multiplied by it (so a tile is one pixel by several vectors of channels). Windows that
hold nothing but padding are refused.

The largest of int8 is int8. The mean of int8 over a whole map is of the exact sum in int32.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.families import padding, window
from shiftedge.export.compiler.backends.cpu.families.keep import source_of
from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.backends.cpu.families.window import Window, window_of
from shiftedge.export.compiler.graph.fusion import FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Mean, Pool
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var, index
from shiftedge.export.compiler.numerics.requantize import mean_scale

Array = NDArray[np.float32]
_VECTORS = 8
"""Of channels in a tile of one pixel: hides the latency of a multiply-add (4 x 2 a cycle)."""


def matches(kernel: FusedKernel, context: Context) -> bool:
    return isinstance(kernel, Single) and isinstance(kernel.operators[0], (Mean, Pool))


def lower(kernel: Single, context: Context) -> None:
    (operator,), unit = kernel.operators, context.target.unit
    (x,) = operator.inputs
    height, width, _ = context.map_of(x)
    shape, largest = window_of(x, (height, width), context), False
    if isinstance(operator, Pool):
        largest = operator.largest
        shape = window_of(x, operator.kernel, context)
        shape = replace(shape, stride=operator.stride, padding=operator.padding)
    family = "pool_largest" if largest else "pool_mean"
    name = context.name(family, shape.dtype, f"{shape.kernel[0]}x{shape.kernel[1]}")
    arguments = {"x": source_of(context, x), "out": context.value(operator.out)}
    if isinstance(operator, Mean) and x in context.graph.quantization:
        count = height * width
        source = context.graph.quantization[x]
        zero, factor = context.zero_of(x), float(mean_scale(operator, source, count))
        note = f"mean of int8, {shape.kernel[0]} x {shape.kernel[1]}"
        kernels = window.schedule(name, shape, unit, scale=factor, plus=-zero, note=note)
    else:
        dtype = context.dtype_of(operator.out)
        kernels = schedule(name, shape, unit, largest=largest, made=dtype)
        arguments |= context.pack(name, pack(shape, largest=largest))
    context.call(kernels, arguments, "pool", operator.name)


def schedule(
    name: str, shape: Window, unit: VectorUnit, *, largest: bool, made: str | None = None
) -> tuple[ir.Kernel, ...]:
    """``name_padded`` where needed, then ``name``: padded (or x), [share], out.

    ``share`` is there for a mean with padding; ``pack`` makes it. ``made`` is the type of the
    result; by default the map's of the largest, and float32 of a mean.
    """
    top, left, bottom, right = shape.padding
    if max(top, bottom) >= shape.kernel[0] or max(left, right) >= shape.kernel[1]:
        raise ValueError(
            f"{name}: padding {shape.padding} reaches past a window of {shape.kernel}; "
            "expected less than its size"
        )
    note = f"pool {shape.kernel[0]} x {shape.kernel[1]}"
    if largest:
        fill = ir.LOWEST if shape.dtype in ("float32", ir.BF16) else float(-shape.storage_offset)
        made, note = made or shape.dtype, f"largest {note}"
        return window.schedule(name, shape, unit, largest=True, fill=fill, made=made, note=note)
    made = made or "float32"
    if any(shape.padding):
        return _mean_with_border(name, shape, unit, made, f"mean {note}")
    share = 1.0 / shape.taps
    return window.schedule(name, shape, unit, scale=share, made=made, note=f"mean {note}")


def pack(shape: Window, *, largest: bool) -> dict[str, Array]:
    """``share``, (out height, out width): 1 / how many numbers of each window are no padding.

    Empty where ``schedule`` has no such parameter.
    """
    if largest or not any(shape.padding):
        return {}
    top, left, _, _ = shape.padding
    rows = _counts(shape.height, shape.kernel[0], shape.stride[0], top, shape.out_height)
    columns = _counts(shape.width, shape.kernel[1], shape.stride[1], left, shape.out_width)
    return {"share": (1.0 / np.outer(rows, columns)).astype(np.float32)}


def _counts(length: int, kernel: int, stride: int, before: int, out: int) -> NDArray[np.int64]:
    """How many of the ``length`` rows (or columns) each of ``out`` windows holds."""
    first = np.arange(out) * stride - before
    counts: NDArray[np.int64] = np.minimum(first + kernel, length) - np.maximum(first, 0)
    return counts


def _mean_with_border(
    name: str, shape: Window, unit: VectorUnit, made: str, note: str
) -> tuple[ir.Kernel, ...]:
    """Sums of ``share`` times each number; a work unit is an output row."""
    border = shape.border(0.0)
    width, channels, lanes = shape.out_width, shape.channels, unit.lanes
    source = ir.Buffer("padded" if border.needed else "x", border.size, dtype=shape.dtype)
    share = ir.Buffer("share", shape.out_height * width, "weight")
    out = ir.Buffer("out", shape.out_height * width * channels, "output", made)
    down, right, pixel = Var("down"), Var("right"), Var("pixel")
    at = ir.UNIT * width + pixel

    def tile(first: Index, count: int, length: int) -> ir.Statement:
        place = (ir.UNIT * shape.stride[0] + down) * border.line + (first + ir.COLUMN)
        place = place + (pixel * shape.stride[1] + right) * channels
        # A segment multiplies one number for all columns by one of each column's: here the pixel's
        # share by the map, which stands where a matrix product has its weights.
        segment = ir.Segment(
            steps=(ir.SegmentLoop(down, shape.kernel[0]), ir.SegmentLoop(right, shape.kernel[1])),
            source=share.at(at),
            weight=source.at(place),
        )
        return ir.Tile(
            vectors=ir.grid(1, count, length),
            columns=count,
            start=(),
            segments=(segment,),
            target=out.at(at * channels + (first + ir.COLUMN)),
        )

    block, step = Var("block"), _VECTORS * lanes
    full = channels // step
    body: list[ir.Statement] = []
    if full:
        body.append(ir.Loop(block, Const(0), Const(full), (tile(block * step, step, lanes),)))
    whole = channels // lanes * lanes
    if whole > full * step:
        body.append(tile(index(full * step), whole - full * step, lanes))
    for first, length in ir.pieces(channels - whole, lanes):
        body.append(tile(index(whole + first), length, length))
    kernel = ir.Kernel(
        name=name,
        buffers=(source, share, out),
        units=shape.out_height,
        body=(ir.Loop(pixel, Const(0), Const(width), tuple(body)),),
        note=f"{note}, without its border",
    )
    return padding.before(kernel, border)
