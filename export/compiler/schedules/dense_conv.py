"""Dense convolution with a window, and the first convolution on a camera's bytes.

Applies to a convolution of one group, any kernel, stride and padding, with a bias, an activation
and at most one residual and one shift. Two kernels: ``padding`` makes the map with its border
(joining the state's channels, or normalising the frame), unless it can be read as it is; then a
packed matrix product in which the window's row is the outer loop, and the pixels of that row with
their channels, which are contiguous, are the inner one. Work units of the product are tiles of
pixels times blocks of output channels, so that weights larger than the cache are read once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import Activation
from shiftedge.export.compiler.schedules import padding, product
from shiftedge.export.compiler.schedules.padding import Padding
from shiftedge.export.compiler.schedules.product import CHANNEL, PIXEL, Product, Stretch
from shiftedge.export.compiler.schedules.tiles import (
    Tiles,
    VectorUnit,
    default_tiles,
)
from shiftedge.export.compiler.tir_index import Const, Index, Var
from shiftedge.export.compiler.tir_kernel import UNIT, Buffer, Kernel, Step

__all__ = ["DenseConv", "pack", "schedule", "tiles_for", "weight_rows", "window_row"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class DenseConv:
    """Shape of a convolution."""

    height: int
    width: int
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    """Height, width."""
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Rows above, columns left, rows below, columns right; zeros."""
    shift: int = 0
    """Channels that come from the state; 0 for no shift."""
    begin: int | None = None
    """First channel of the map that is taken; by default ``shift``, those before are replaced."""
    frame: bool = False
    """The input is a camera frame: uint8, normalised on the way."""
    residual: bool = False
    activation: Activation = Activation.NONE

    @property
    def padded(self) -> Padding:
        """The input with its border."""
        return Padding(
            height=self.height,
            width=self.width,
            channels=self.inputs,
            border=self.padding,
            shift=self.shift,
            begin=self.begin,
            frame=self.frame,
        )

    @property
    def out_height(self) -> int:
        return (self.padded.rows - self.kernel[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        padded = self.width + self.padding[1] + self.padding[3]
        return (padded - self.kernel[1]) // self.stride[1] + 1

    @property
    def depth(self) -> int:
        """Products summed for one output."""
        return self.kernel[0] * self.kernel[1] * self.inputs


def tiles_for(shape: DenseConv, unit: VectorUnit) -> Tiles:
    """The default tiles, with rows that fit the image's, so that addresses are plain."""
    pixels = shape.out_height * shape.out_width
    return default_tiles(pixels, shape.depth, shape.outputs, unit, line=shape.out_width)


def schedule(name: str, shape: DenseConv, tiles: Tiles, unit: VectorUnit) -> tuple[Kernel, ...]:
    """``name_padded`` (parameters as in ``padding``) where needed, then ``name``.

    Parameters of the latter: padded, or x where nothing is padded; weight, bias, [residual], out.
    """
    lanes, border = unit.lanes, shape.padded
    pixels = shape.out_height * shape.out_width
    source = Buffer("padded" if border.needed else "x", border.size)
    size = product.packed_size(shape.outputs, shape.depth, tiles, lanes)
    weight = Buffer("weight", size, "weight")
    bias = Buffer("bias", -(-shape.outputs // lanes) * lanes, "weight")
    residual = Buffer("residual", pixels * shape.outputs)
    out = Buffer("out", pixels * shape.outputs, "output")
    at = PIXEL * shape.outputs + CHANNEL
    work = Product(
        pixels=pixels,
        inputs=shape.depth,
        outputs=shape.outputs,
        stretches=(_image_window(source, shape),),
        weight=weight,
        start=(bias.at(CHANNEL), *((residual.at(at),) if shape.residual else ())),
        target=out.at(at),
        activation=shape.activation,
        tiles=tiles,
        lanes=lanes,
        by_lane=unit.by_lane,
    )
    kernel = Kernel(
        name=name,
        buffers=(source, weight, bias, *((residual,) if shape.residual else ()), out),
        units=work.blocks * work.tile_count,
        body=work.unit(UNIT),
        flops=2 * pixels * shape.depth * shape.outputs,
        note=f"convolution {shape.kernel[0]} x {shape.kernel[1]}, "
        f"tiles {tiles.rows} x {tiles.columns}",
    )
    return (padding.schedule(f"{name}_padded", border), kernel) if border.needed else (kernel,)


def window_row(lines: Buffer, shape: DenseConv) -> Stretch:
    """The inner loops over the padded lines of one output row; PIXEL counts that row's pixels."""
    return _window(lines, shape, Const(0), PIXEL)


def _image_window(source: Buffer, shape: DenseConv) -> Stretch:
    """The inner loops over a window of the padded map; PIXEL counts output pixels."""
    return _window(source, shape, PIXEL // shape.out_width, PIXEL % shape.out_width)


def _window(source: Buffer, shape: DenseConv, row: Index, column: Index) -> Stretch:
    down, k = Var("down"), Var("k")
    run = shape.kernel[1] * shape.inputs
    row = row * shape.stride[0]
    place = column * (shape.stride[1] * shape.inputs) + k
    if shape.kernel[0] == 1:
        return Stretch((Step(k, run),), source.at(row * shape.padded.line + place), k)
    steps = (Step(down, shape.kernel[0]), Step(k, run))
    return Stretch(steps, source.at((row + down) * shape.padded.line + place), down * run + k)


def weight_rows(weight: Array, shape: DenseConv) -> Array:
    """(outputs, inputs, kernel height, kernel width) to (outputs, depth), in the order of reading.

    For a frame the weights' inputs are R, G, B as in the model, and are turned to B, G, R.
    """
    if shape.frame:
        weight = weight[:, ::-1]
    rows: Array = weight.transpose(0, 2, 3, 1).reshape(shape.outputs, shape.depth)
    return rows


def pack(
    weight: Array, bias: Array, shape: DenseConv, tiles: Tiles, unit: VectorUnit
) -> dict[str, Array]:
    """Weight (outputs, inputs, kernel height, kernel width) and bias as the kernel reads them.

    For a frame the weights' inputs are R, G, B, as in the model.
    """
    rows = weight_rows(weight, shape)
    return {
        "weight": product.pack_weights(rows, tiles, unit.lanes),
        "bias": product.pack_bias(bias, unit.lanes),
    }
