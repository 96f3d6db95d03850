"""Depthwise convolution: one filter a channel, any kernel, stride and padding, with a bias, an
activation and at most one residual.

A thread makes up to 7 neighbouring pixels of 4 channels: of each row of the window it holds the
part of the input's row that they read, so that it loads (pixels - 1) * stride + width instead of
pixels * width columns. Neighbouring threads have neighbouring channels. Rows that several threads
read come from the caches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.families.threads import (
    Body,
    flat,
    rows_of_window,
    vector_of,
)
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Index, Var

_COLUMNS = 15
"""Of an input row that a thread holds, at most, where there is a choice: 60 registers."""


@dataclass(frozen=True)
class Depthwise:
    """Shape of a depthwise convolution."""

    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    residual: bool = False
    activation: Activation = Activation.NONE
    source: str = "float32"
    made: str = "float32"

    @property
    def pixels(self) -> int:
        """Of a thread: a divisor of a row's."""
        fits = (count for count in (7, 4, 2) if self.columns(count) <= _COLUMNS)
        return next((count for count in fits if self.out_width % count == 0), 1)

    def columns(self, pixels: int) -> int:
        """Of an input row, that neighbouring pixels read."""
        return (pixels - 1) * self.stride[1] + self.kernel[1]


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    return isinstance(kernel, ConvKernel) and kernel.conv.depthwise


def lower(kernel: ConvKernel, context: GpuContext) -> None:
    conv, source = kernel.conv, context.whole(kernel)
    height, width, channels = context.map_of(source)
    out_height, out_width, _ = context.map_of(kernel.out)
    shape = Depthwise(
        height, width, channels, out_height, out_width, conv.kernel, conv.stride, conv.padding,
        kernel.residual is not None, kernel.linear.activation, context.dtype_of(source),
        context.dtype_of(kernel.out),
    )  # fmt: skip
    name = context.name("depthwise", "x".join(map(str, conv.kernel)))
    arguments = {"x": context.value(source), **context.ends(kernel)}
    arguments |= context.pack(name, pack(conv.weight, conv.bias))
    family = f"depthwise {conv.kernel[0]} x {conv.kernel[1]}"
    context.call((schedule(name, shape),), arguments, family, kernel.name)


def pack(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Weights as [tap][channel]."""
    return {"weight": weight.reshape(len(weight), -1).T, "bias": bias}


def schedule(name: str, shape: Depthwise) -> ir.Kernel:
    """The kernel: parameters x, weight, bias, [residual], out."""
    kernel_height, kernel_width = shape.kernel
    channels, vector, pixels = shape.channels, vector_of(shape.channels), shape.pixels
    columns, taps = shape.columns(pixels), kernel_height * kernel_width
    size = shape.out_height * shape.out_width * channels
    x = ir.Buffer("x", shape.height * shape.width * channels, dtype=shape.source)
    weight = ir.Buffer("weight", taps * channels, "weight")
    bias = ir.Buffer("bias", channels, "weight")
    residual = ir.Buffer("residual", size, dtype=shape.source)
    out = ir.Buffer("out", size, "output", shape.made)
    line = ir.Buffer("line", columns * vector, "register")
    sums = ir.Buffer("sums", pixels * vector, "register")
    held = sums.at(ir.ROW * vector + ir.COLUMN)
    grid = ir.grid(pixels, vector, vector)
    tiles = shape.out_width // pixels

    def add(tap: int, channel: Index) -> ir.Tile:
        step = Var("step")
        taken = line.at((ir.ROW * shape.stride[1] + step) * vector + ir.COLUMN)
        factor = weight.at((tap * kernel_width + step) * channels + channel + ir.COLUMN)
        steps = (ir.SegmentLoop(step, kernel_width, unrolled=True),)
        segment = ir.Segment(steps, taken, factor, by_column=True)
        return ir.Tile(grid, vector, (held,), (segment,), held)

    def work(number: Index) -> Body:
        channel, rest = number % (channels // vector) * vector, number // (channels // vector)
        tile, row = rest % tiles, rest // tiles
        begin = ir.Tile(grid, vector, (bias.at(channel + ir.COLUMN),), (), held)
        rows = rows_of_window(
            shape, row, tile,
            lambda pixel, column: ir.Copy(
                x.at(pixel * channels + channel), line.at(column * vector), vector
            ),
            lambda tap: add(tap, channel),
        )  # fmt: skip
        pixel = row * shape.out_width + tile * pixels + ir.ROW
        to = pixel * channels + channel + ir.COLUMN
        start = (held, residual.at(to)) if shape.residual else (held,)
        return begin, *rows, ir.Tile(grid, vector, start, (), out.at(to), shape.activation)

    count = channels // vector * tiles * shape.out_height
    buffers = (x, weight, bias, *((residual,) if shape.residual else ()), out)
    note = f"depthwise {kernel_height} x {kernel_width}, {pixels} pixels of {vector} channels"
    return flat(name, buffers, count, work, note, (line, sums), 2 * taps * size)
