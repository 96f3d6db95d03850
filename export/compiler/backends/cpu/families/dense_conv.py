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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families import padding, product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import (
    Arithmetic,
    accumulator_dtype,
    begins,
    dot_of,
    ends,
    input_dtype,
    pack_inputs,
    packed_bias,
    packed_rows,
    residual_dtype,
    stage_buffers,
    terms_of,
    weight_dtype,
)
from shiftedge.export.compiler.backends.cpu.families.padding import Padding
from shiftedge.export.compiler.backends.cpu.families.product import CHANNEL, PIXEL, Product, Stretch
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    Tiles,
    VectorUnit,
    default_tiles,
)
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var, maximum, minimum
from shiftedge.export.compiler.kernel_ir.kernel import UNIT, Buffer, Kernel, Step

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
    arithmetic: Arithmetic | None = None
    """With codes the activation is part of its ending. Of a frame the offset depends on the place:
    see :meth:`place_class`."""

    @property
    def padded(self) -> Padding:
        """The input with its border."""
        arithmetic = self.arithmetic
        storage_offset = arithmetic.dot.storage_offset if arithmetic else 0
        zero = arithmetic.zero if arithmetic else 0
        # A frame's numbers are multiplied as they are, where bytes are not.
        numbers = self.frame and dot_of(arithmetic) is None
        return Padding(
            height=self.height,
            width=self.width,
            channels=self.inputs,
            border=self.padding,
            shift=self.shift,
            begin=self.begin,
            frame=self.frame,
            fill=-storage_offset if self.frame else zero,
            dtype="float32" if numbers else input_dtype(arithmetic),
            storage_offset=storage_offset,
            zero=zero,
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

    @property
    def rows(self) -> int:
        """Rows of the packed weights: products, or words, which do not cross the window's lines."""
        return sum(self.runs)

    @property
    def runs(self) -> tuple[int, ...]:
        """Of them, those of each of the window's lines."""
        line = packed_rows(self.kernel[1] * self.inputs, 0, terms_of(self.arithmetic))
        return (line,) * self.kernel[0]

    @property
    def places(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A row, and a column, of the output for each class of those at which the same taps lie
        inside the image."""
        return _places(self, 0), _places(self, 1)

    @property
    def classes(self) -> int:
        """Of places: classes of rows times those of columns."""
        rows, columns = self.places
        return len(rows) * len(columns)

    def place_class(self, row: Index, column: Index) -> Index:
        """The class of an output pixel, rows outermost."""
        across = len(self.places[1])
        return _class(self, 0, row) * across + _class(self, 1, column)


def _edges(shape: DenseConv, axis: int) -> tuple[int, int, int]:
    """Places along an axis, and how many of the first and the last look beyond the image."""
    size, places = (shape.height, shape.out_height) if axis == 0 else (shape.width, shape.out_width)
    before, stride, kernel = shape.padding[axis], shape.stride[axis], shape.kernel[axis]
    first = sum(place * stride < before for place in range(places))
    last = sum(place * stride - before + kernel > size for place in range(places))
    return places, first, last


def _places(shape: DenseConv, axis: int) -> tuple[int, ...]:
    places, first, last = _edges(shape, axis)
    if first + last >= places:
        return tuple(range(places))
    return (*range(first + 1), *range(places - last, places))


def _class(shape: DenseConv, axis: int, place: Index) -> Index:
    places, first, last = _edges(shape, axis)
    if first + last >= places:
        return place
    return minimum(place, first) + maximum(place - (places - last - 1), 0)


def tiles_for(shape: DenseConv, unit: VectorUnit) -> Tiles:
    """The default tiles, with rows that fit the image's, so that addresses are plain."""
    pixels = shape.out_height * shape.out_width
    return default_tiles(pixels, shape.rows, shape.outputs, unit, line=shape.out_width)


def schedule(name: str, shape: DenseConv, tiles: Tiles, unit: VectorUnit) -> tuple[Kernel, ...]:
    """``name_padded`` (parameters as in ``padding``) where needed, then ``name``.

    Parameters of the latter: padded, or x where nothing is padded; weight, bias,
    [scale, [offset]], [residual], out. ``scale`` with codes, whose bias is int32; of a frame there
    is an offset for each class of places.
    """
    lanes, border, arithmetic = unit.lanes, shape.padded, shape.arithmetic
    pixels = shape.out_height * shape.out_width
    source = Buffer("padded" if border.needed else "x", border.size, dtype=border.dtype)
    size = product.packed_size(shape.outputs, shape.rows, tiles, lanes)
    weight = Buffer("weight", size, "weight", weight_dtype(arithmetic))
    columns = -(-shape.outputs // lanes) * lanes
    by_place = arithmetic is not None and arithmetic.quantized and shape.frame
    bias = Buffer("bias", columns, "weight", accumulator_dtype(arithmetic))
    scale = Buffer("scale", columns, "weight")
    offset = Buffer("offset", columns * (shape.classes if by_place else 1), "weight")
    residual = Buffer("residual", pixels * shape.outputs, dtype=residual_dtype(arithmetic))
    out = Buffer(
        "out", pixels * shape.outputs, "output", arithmetic.out if arithmetic else "float32"
    )
    at = PIXEL * shape.outputs + CHANNEL
    added = residual.at(at) if shape.residual else None
    in_steps = offset.at(CHANNEL)
    if by_place:
        place = shape.place_class(PIXEL // shape.out_width, PIXEL % shape.out_width)
        in_steps = offset.at(place * columns + CHANNEL)
    work = Product(
        pixels=pixels,
        inputs=shape.rows,
        outputs=shape.outputs,
        stretches=(_image_window(source, shape),),
        weight=weight,
        start=begins(arithmetic, bias.at(CHANNEL), added),
        target=out.at(at),
        activation=shape.activation,
        tiles=tiles,
        lanes=lanes,
        by_lane=unit.by_lane,
        dot=dot_of(arithmetic),
        ends=ends(arithmetic, scale.at(CHANNEL), in_steps, added),
    )
    kernel = Kernel(
        name=name,
        buffers=(
            source,
            *stage_buffers(arithmetic, weight, bias, scale, offset),
            *((residual,) if shape.residual else ()),
            out,
        ),
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
    down, k, terms = Var("down"), Var("k"), terms_of(shape.arithmetic)
    run = packed_rows(shape.kernel[1] * shape.inputs, 0, terms)
    row = row * shape.stride[0]
    place = column * (shape.stride[1] * shape.inputs) + k * terms
    if shape.kernel[0] == 1:
        return Stretch((Step(k, run),), source.at(row * shape.padded.line + place), k)
    steps = (Step(down, shape.kernel[0]), Step(k, run))
    return Stretch(steps, source.at((row + down) * shape.padded.line + place), down * run + k)


def weight_rows(weight: NDArray[Any], shape: DenseConv) -> NDArray[Any]:
    """(outputs, inputs, kernel height, kernel width) to (outputs, depth), in the order of reading.

    For a frame the weights' inputs are R, G, B as in the model, and are turned to B, G, R. With
    codes the weight is int8, and (outputs, rows) words are made of it.
    """
    if shape.frame:
        weight = weight[:, ::-1]
    lines = weight.transpose(0, 2, 3, 1).reshape(shape.outputs * shape.kernel[0], -1)
    rows: NDArray[Any] = pack_inputs(lines, 0, shape.arithmetic).reshape(shape.outputs, shape.rows)
    return rows


def pack(
    weight: NDArray[Any],
    bias: NDArray[Any],
    shape: DenseConv,
    tiles: Tiles,
    unit: VectorUnit,
    scale: Array | None = None,
    offset: Array | None = None,
) -> dict[str, NDArray[Any]]:
    """Weight (outputs, inputs, kernel height, kernel width) and bias as the kernel reads them.

    For a frame the weights' inputs are R, G, B, as in the model. With codes the bias is int32
    and there is a ``scale``, (outputs,), and where the bias does not hold it an ``offset``, of a
    frame (row classes, column classes, outputs).
    """
    rows = weight_rows(weight, shape)
    dot = dot_of(shape.arithmetic)
    packed = {
        "weight": product.pack_weights(rows, tiles, unit.lanes, dot, shape.runs),
        "bias": product.pack_bias(packed_bias(bias, weight, shape.arithmetic), unit.lanes),
    }
    for name, values in (("scale", scale), ("offset", offset)):
        if values is not None:
            packed[name] = product.pack_bias(values, unit.lanes)
    return packed
