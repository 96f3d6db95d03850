"""Windows that treat each channel by itself: depthwise convolution and pooling.

Two kernels: ``padding`` makes the map with its border, unless there is none; then a work unit is
an output row, in tiles of some pixels by one vector of channels. Channels beyond the last whole
vector go in vectors of a half, a quarter, ... so nothing outside the map is touched.

The largest of int8 is found in vectors of int8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.families import padding
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32, Arithmetic
from shiftedge.export.compiler.backends.cpu.families.padding import Padding, Sliding
from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit, best_divisor
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var, index

_UNROLLED_TAPS = 25
"""Larger windows than 5 x 5 are loops."""
_SPARE_REGISTERS = 2
"""For a tap's weight, and a number on its way."""


@dataclass(frozen=True)
class Window(Sliding):
    channels: int
    dtype: str = "float32"
    """Of the map, and of the state."""
    storage_offset: int = 0
    """What was subtracted from values to store them, see ``Dot``."""
    zero: int = 0
    """What a state's values lack."""

    def border(self, fill: float, *, unpacked: bool = False) -> Padding:
        """The input with its border of ``fill``; ``unpacked``, if it has a border."""
        bordered = any(self.padding) or self.shift > 0
        return Padding(
            self.height,
            self.width,
            self.channels,
            self.padding,
            self.shift,
            fill=fill,
            dtype=self.dtype,
            storage_offset=self.storage_offset,
            zero=self.zero,
            unpacked=unpacked and bordered,
        )

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]


def window_of(name: str, kernel: tuple[int, int], context: Context) -> Window:
    """A window over a value, of stride 1 and without padding."""
    height, width, channels = context.map_of(name)
    quantized = name in context.graph.quantization
    return Window(
        height,
        width,
        channels,
        kernel=kernel,
        dtype=context.dtype_of(name),
        storage_offset=context.dot().storage_offset if quantized else 0,
        zero=context.zero_of(name),
    )


def tile_pixels(shape: Window, unit: VectorUnit) -> int:
    """Output pixels of a tile: a divisor of the row, if not too small."""
    most = min(16, unit.registers - _SPARE_REGISTERS)
    fit = best_divisor(shape.out_width, most)
    return fit if fit >= 4 else min(most, shape.out_width)


def schedule(
    name: str,
    shape: Window,
    unit: VectorUnit,
    *,
    arithmetic: Arithmetic | None = None,
    largest: bool = False,
    residual: bool = False,
    scale: float = 1.0,
    fill: float = 0.0,
    activation: Activation = Activation.NONE,
    plus: int = 0,
    made: str = "float32",
    note: str,
) -> tuple[ir.Kernel, ...]:
    """``name_padded`` where needed, then ``name``: padded (or x), [weight, bias,
    [scale, [offset]]], [residual], out.

    With an ``arithmetic`` each tap has a weight a channel, [tap][channel], and channels have a
    bias; otherwise the window is summed, or its largest number taken, and the result is of type
    ``made``. ``scale`` multiplies the sum; ``plus`` is added to each value that is read unpacked.
    """
    stage = arithmetic or FP32
    border = shape.border(fill, unpacked=stage.narrow)
    width, channels, lanes = shape.out_width, shape.channels, unit.lanes
    if largest and shape.dtype != ir.BF16:
        lanes *= 4 // np.dtype(shape.dtype).itemsize
    dtype = "float32" if border.unpacked else shape.dtype
    source = ir.Buffer("padded" if border.needed else "x", border.size, dtype=dtype)
    constants = stage.buffers(shape.taps * channels, channels, dtype="float32")
    size = shape.out_height * width * channels
    added = ir.Buffer("residual", size, dtype=stage.residual_dtype)
    out = ir.Buffer("out", size, "output", stage.output_dtype if arithmetic else made)
    pixels = tile_pixels(shape, unit)
    down, right = Var("down"), Var("right")
    unrolled = shape.taps <= _UNROLLED_TAPS

    def tile(number: Index, rows: int, first: Index, length: int) -> ir.Statement:
        channel = first + ir.COLUMN
        pixel = number * pixels + ir.ROW
        place = (ir.UNIT * shape.stride[0] + down) * border.line + channel
        place = place + (pixel * shape.stride[1] + right) * channels
        at = (ir.UNIT * width + pixel) * channels + channel
        tap = down * shape.kernel[1] + right
        segment = ir.Segment(
            steps=(
                ir.SegmentLoop(down, shape.kernel[0], unrolled),
                ir.SegmentLoop(right, shape.kernel[1], unrolled),
            ),
            source=source.at(place),
            weight=constants.weight.at(tap * channels + channel) if arithmetic else None,
            by_column=True,
            largest=largest,
            plus=plus if source.dtype == shape.dtype else 0,
        )
        more = added.at(at) if residual else None
        return ir.Tile(
            vectors=ir.grid(rows, length, length),
            columns=length,
            start=constants.start(channel, more) if arithmetic else (),
            epilogue=constants.epilogue(channel, more),
            segments=(segment,),
            target=out.at(at),
            activation=activation,
            scale=scale,
        )

    def all_channels(number: Index, rows: int) -> tuple[ir.Statement, ...]:
        return ir.in_vectors(
            channels, lanes, lambda first, length: tile(number, rows, first, length)
        )

    number = Var("tile")
    full, rest = divmod(width, pixels)
    body: tuple[ir.Statement, ...] = ()
    if full:
        body += (ir.Loop(number, Const(0), Const(full), all_channels(number, pixels)),)
    if rest:
        body += all_channels(index(full), rest)
    kernel = ir.Kernel(
        name=name,
        buffers=(
            source,
            *(constants.parameters if arithmetic else ()),
            *((added,) if residual else ()),
            out,
        ),
        units=shape.out_height,
        body=body,
        flops=2 * shape.taps * shape.out_height * width * channels if arithmetic else 0,
        note=f"{note}, tiles {pixels} x {lanes}",
    )
    return padding.before(kernel, border)
