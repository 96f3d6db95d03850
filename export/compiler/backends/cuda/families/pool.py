"""Largest and mean values of windows, and the mean of a map.

A thread makes one channel of the mean, so that a warp's loads are neighbours; of windows, 4
channels of a pixel. Taps in the border take no part: the lowest number, or 0 and a smaller count.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.families.threads import (
    Body,
    flat,
    vector_of,
    where,
    within,
)
from shiftedge.export.compiler.graph.fusion import FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Mean, Pool
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Index, Var


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    return isinstance(kernel, Single) and isinstance(kernel.operators[0], (Mean, Pool))


def lower(kernel: Single, context: GpuContext) -> None:
    (operator,) = kernel.operators
    (source,) = operator.inputs
    arguments = {"x": context.value(source), "out": context.value(operator.out)}
    kinds = context.dtype_of(source), context.dtype_of(operator.out)
    shape = context.map_of(source)
    if isinstance(operator, Mean):
        made = mean(context.name("mean"), shape[0] * shape[1], shape[2], *kinds)
    else:
        pool, (height, width, _) = cast(Pool, operator), context.map_of(operator.out)
        name = context.name("largest" if pool.largest else "means")
        made = windows(name, shape, (height, width), pool, *kinds)
        if not pool.largest:
            arguments |= context.pack(name, {"share": _shares(shape, (height, width), pool)})
    context.call((made,), arguments, "pool", operator.name)


def mean(name: str, pixels: int, channels: int, source: str, made: str) -> ir.Kernel:
    """The kernel: parameters x, out."""
    x = ir.Buffer("x", pixels * channels, dtype=source)
    out, pixel = ir.Buffer("out", channels, "output", made), Var("pixel")

    def work(channel: Index) -> Body:
        read = x.at(pixel * channels + channel + ir.COLUMN)
        segment = ir.Segment((ir.SegmentLoop(pixel, pixels),), read, None, by_column=True)
        target = out.at(channel + ir.COLUMN)
        return (ir.Tile(ir.grid(1, 1, 1), 1, (), (segment,), target, scale=1.0 / pixels),)

    return flat(name, (x, out), channels, work, "mean over the image")


def _shares(shape: tuple[int, int, int], made: tuple[int, int], pool: Pool) -> np.ndarray:
    """1 / the taps that are in the map, by pixel and lane of a vector."""
    counts = []
    for axis in (0, 1):
        first = np.arange(made[axis]) * pool.stride[axis] - pool.padding[axis]
        last = np.minimum(first + pool.kernel[axis], shape[axis])
        counts.append(last - np.maximum(first, 0))
    taps = np.multiply.outer(*counts).reshape(-1)
    return np.repeat((1 / taps).astype(np.float32), vector_of(shape[2]))


def windows(
    name: str,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    pool: Pool,
    source: str = "float32",
    made: str = "float32",
) -> ir.Kernel:
    """The kernel: parameters x, [share], out."""
    height, width, channels = shape
    (down, right), (top, left, _, _) = pool.stride, pool.padding
    vector, taps = vector_of(channels), pool.kernel[0] * pool.kernel[1]
    x = ir.Buffer("x", height * width * channels, dtype=source)
    share = ir.Buffer("share", size[0] * size[1] * vector, "weight")
    out = ir.Buffer("out", size[0] * size[1] * channels, "output", made)
    held = ir.Buffer("held", taps * vector, "register")
    total = ir.Buffer("total", vector, "register")
    grid, groups = ir.grid(1, vector, vector), channels // vector

    def work(number: Index) -> Body:
        channel, pixel = number % groups * vector, number // groups
        row, column = pixel // size[1], pixel % size[1]
        body: list[ir.Statement] = [
            ir.Fill(held.at(0), taps * vector, ir.LOWEST if pool.largest else 0.0)
        ]
        for tap in range(taps):
            at, place = row * down + tap // pool.kernel[1], column * right + tap % pool.kernel[1]
            conditions = within(at, top, height, (size[0] - 1) * down + pool.kernel[0] - 1)
            conditions += within(place, left, width, (size[1] - 1) * right + pool.kernel[1] - 1)
            read = x.at(((at - top) * width + (place - left)) * channels + channel)
            body += where(conditions, (ir.Copy(read, held.at(tap * vector), vector),))
        step = Var("step")
        steps = (ir.SegmentLoop(step, taps, unrolled=True),)
        taken = held.at(step * vector + ir.COLUMN)
        segment = ir.Segment(steps, taken, None, by_column=True, largest=pool.largest)
        target = out.at(pixel * channels + channel + ir.COLUMN)
        if pool.largest:
            return (*body, ir.Tile(grid, vector, (), (segment,), target))
        body.append(ir.Tile(grid, vector, (), (segment,), total.at(ir.COLUMN)))
        shares = share.at(pixel * vector + ir.COLUMN)
        ended = ir.Segment((), total.at(ir.COLUMN), shares, by_column=True)
        return (*body, ir.Tile(grid, vector, (), (ended,), target))

    parameters = (x, out) if pool.largest else (x, share, out)
    note = f"{'largest' if pool.largest else 'mean'} of {pool.kernel[0]} x {pool.kernel[1]}"
    return flat(name, parameters, size[0] * size[1] * groups, work, note, (held, total))
