"""The first convolution, on the camera's bytes; and those bytes as a map.

A thread makes 4 neighbouring pixels of 8 outputs. It turns the bytes that they read into normalised
numbers as it takes them, x * scale + offset by colour, once for all its products; the border is 0,
which is no byte. As a map the frame is made where something else than a first convolution reads
it: a state of the frame before, a join.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.builder import FRAME_MAP
from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.families.threads import (
    Body,
    flat,
    rows_of_window,
    up,
    where,
)
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var

_COLOURS = 3
_OUTPUTS, _RUN = 8, 4
_MOST_COLUMNS = 15
"""Of a row of bytes that a thread holds: 45 registers."""


@dataclass(frozen=True)
class First:
    """Shape of a convolution over the frame."""

    height: int
    width: int
    out_height: int
    out_width: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    residual: bool = False
    activation: Activation = Activation.NONE
    made: str = "float32"

    @property
    def pixels(self) -> int:
        """Of a thread: a divisor of a row's."""
        fits = (count for count in (4, 2) if self.columns(count) <= _MOST_COLUMNS)
        return next((count for count in fits if self.out_width % count == 0), 1)

    def columns(self, pixels: int) -> int:
        """Of the frame, that neighbouring pixels read."""
        return (pixels - 1) * self.stride[1] + self.kernel[1]


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    return reads_bytes(kernel, context.graph.frame) and not frame_is_made(context)


def reads_bytes(kernel: FusedKernel, frame: str) -> bool:
    """Whether a kernel could read the camera's bytes themselves."""
    return (
        isinstance(kernel, ConvKernel)
        and kernel.join is None
        and kernel.conv.groups == 1
        and kernel.conv.inputs == (frame,)
        and kernel.residual != frame
    )


def frame_is_made(context: GpuContext) -> bool:
    """Whether the frame is a map already."""
    made = Argument(Memory.WORKSPACE, FRAME_MAP)
    return any(made in call.arguments.values() for call in context.calls)


def lower(kernel: ConvKernel, context: GpuContext) -> None:
    conv = kernel.conv
    height, width, _ = context.map_of(context.graph.frame)
    out_height, out_width, outputs = context.map_of(kernel.out)
    shape = First(
        height, width, out_height, out_width, outputs, conv.kernel, conv.stride, conv.padding,
        kernel.residual is not None, kernel.linear.activation, context.dtype_of(kernel.out),
    )  # fmt: skip
    name = context.name("first", "x".join(map(str, conv.kernel)))
    arguments = {"x": Argument(Memory.FRAME), **context.ends(kernel)}
    arguments |= context.pack(name, pack(conv.weight, conv.bias))
    arguments |= context.pack(name, normalisation(context))
    context.call((schedule(name, shape),), arguments, "first convolution", kernel.name)


def normalize(context: GpuContext) -> None:
    """The frame as a map of numbers, R, G, B, as the model's states and joins see it."""
    height, width, _ = context.map_of(context.graph.frame)
    x = ir.Buffer("x", height * width * _COLOURS, dtype="uint8")
    scale, offset = _tables()
    out = ir.Buffer("out", x.size, "output", context.dtype_of(context.graph.frame))

    def work(pixel: Index) -> Body:
        return tuple(
            ir.Copy(
                x.at(pixel * _COLOURS + each), out.at(pixel * _COLOURS + (_COLOURS - 1 - each)), 1,
                scale.at(each), offset.at(each),
            )
            for each in range(_COLOURS)
        )  # fmt: skip

    name = context.name("frame")
    kernel = flat(name, (x, scale, offset, out), height * width, work, "frame as numbers")
    arguments = {"x": Argument(Memory.FRAME), "out": Argument(Memory.WORKSPACE, FRAME_MAP)}
    arguments |= context.pack(name, normalisation(context))
    context.call((kernel,), arguments, "normalise", context.graph.frame)


def _tables() -> tuple[ir.Buffer, ir.Buffer]:
    return ir.Buffer("scale", _COLOURS, "weight"), ir.Buffer("offset", _COLOURS, "weight")


def normalisation(context: GpuContext) -> dict[str, NDArray[np.float32]]:
    """What makes numbers of the bytes B, G, R: byte * scale + offset."""
    mean, std = (np.array(each[::-1], np.float64) for each in (context.spec.mean, context.spec.std))
    scale, offset = 1 / (255 * std), -mean / std
    return {"scale": scale.astype(np.float32), "offset": offset.astype(np.float32)}


def pack(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Weights (outputs, R G B, rows, columns) as [row][column][B, G, R][output], padded."""
    more = -len(bias) % _OUTPUTS
    taps = weight[:, ::-1].transpose(2, 3, 1, 0)
    return {"weight": np.pad(taps, [(0, 0)] * 3 + [(0, more)]), "bias": np.pad(bias, (0, more))}


def schedule(name: str, shape: First) -> ir.Kernel:
    """The kernel: parameters x (bytes), weight, bias, scale, offset, [residual], out."""
    kernel_height, kernel_width = shape.kernel
    pixels, groups = shape.pixels, up(shape.outputs, _OUTPUTS)
    columns, padded = shape.columns(pixels), groups * _OUTPUTS
    depth = kernel_height * kernel_width * _COLOURS
    size = shape.out_height * shape.out_width * shape.outputs
    x = ir.Buffer("x", shape.height * shape.width * _COLOURS, dtype="uint8")
    weight, bias = (
        ir.Buffer("weight", depth * padded, "weight"),
        ir.Buffer("bias", padded, "weight"),
    )
    scale, offset = _tables()
    residual = ir.Buffer("residual", size, dtype=shape.made)
    out = ir.Buffer("out", size, "output", shape.made)
    line = ir.Buffer("line", columns * _COLOURS, "register")
    sums = ir.Buffer("sums", pixels * _OUTPUTS, "register")
    held = sums.at(ir.ROW * _OUTPUTS + ir.COLUMN)
    grid, tiles = ir.grid(pixels, _OUTPUTS, _RUN), shape.out_width // pixels

    def output(column: Index) -> Index:
        """Two runs, so far apart that neighbouring threads have neighbouring ones."""
        return column // _RUN * (_RUN * groups) + column % _RUN

    def add(tap: int, first: Index) -> ir.Tile:
        step, colour = Var("step"), Var("colour")
        taken = line.at((ir.ROW * shape.stride[1] + step) * _COLOURS + colour)
        rank = ((tap * kernel_width + step) * _COLOURS + colour) * padded
        steps = (
            ir.SegmentLoop(step, kernel_width, unrolled=True),
            ir.SegmentLoop(colour, _COLOURS, unrolled=True),
        )
        segment = ir.Segment(steps, taken, weight.at(rank + first + output(ir.COLUMN)))
        return ir.Tile(grid, _OUTPUTS, (held,), (segment,), held)

    def work(number: Index) -> Body:
        first, rest = number % groups * _RUN, number // groups
        tile, row = rest % tiles, rest // tiles
        begin = ir.Tile(grid, _OUTPUTS, (bias.at(first + output(ir.COLUMN)),), (), held)
        rows = rows_of_window(
            shape, row, tile,
            lambda pixel, column: ir.Copy(
                x.at(pixel * _COLOURS), line.at(column * _COLOURS), _COLOURS, scale.at(0),
                offset.at(0),
            ),
            lambda tap: add(tap, first),
        )  # fmt: skip
        body: list[ir.Statement] = [begin, *rows]
        pixel = row * shape.out_width + tile * pixels + ir.ROW
        to = pixel * shape.outputs + first + output(ir.COLUMN)
        start = (held, residual.at(to)) if shape.residual else (held,)
        if shape.outputs == padded:
            body.append(ir.Tile(grid, _OUTPUTS, start, (), out.at(to), shape.activation))
            return tuple(body)
        for each in range(_OUTPUTS):  # one column at a time
            only = {ir.COLUMN: Const(each)}
            moved = tuple(ir.Access(one.buffer, one.position.replace(only)) for one in start)
            place_of = out.at(to.replace(only))
            one = ir.Tile(ir.grid(pixels, 1, 1), 1, moved, (), place_of, shape.activation)
            body += where([(first + output(Const(each))).below(shape.outputs)], (one,))
        return tuple(body)

    count = groups * tiles * shape.out_height
    buffers = (x, weight, bias, scale, offset, *((residual,) if shape.residual else ()), out)
    note = f"first convolution, {pixels} pixels of {_OUTPUTS} outputs"
    return flat(name, buffers, count, work, note, (line, sums), 2 * depth * size)
