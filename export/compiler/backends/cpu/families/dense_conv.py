"""Dense convolution with a window, and the first convolution on a camera's bytes.

Applies to a convolution of one group, any kernel, stride and padding, with a bias, an activation
and at most one residual and one shift. Two kernels: ``padding`` makes the map with its border
(joining the state's channels, or normalising the frame), unless it can be read as it is; then a
packed matrix product in which the window's row is the outer loop, and the pixels of that row with
their channels, which are contiguous, are the inner one. Work units of the product are tiles of
pixels times blocks of output channels, so that weights larger than the cache are read once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.choose import choose
from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants, constants_of
from shiftedge.export.compiler.backends.cpu.families import frame, padding, product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32, Arithmetic
from shiftedge.export.compiler.backends.cpu.families.join import joined
from shiftedge.export.compiler.backends.cpu.families.keep import source_of
from shiftedge.export.compiler.backends.cpu.families.padding import Padding
from shiftedge.export.compiler.backends.cpu.families.product import CHANNEL, PIXEL, Product, Stretch
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    Tiles,
    VectorUnit,
    default_tiles,
    in_order,
    tilings,
)
from shiftedge.export.compiler.backends.cpu.targets import Target
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.graph.graph import Activation, Conv
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var, maximum, minimum
from shiftedge.export.compiler.kernel_ir.kernel import UNIT, Buffer, Kernel, Step

__all__ = [
    "DenseConv",
    "candidates",
    "lower",
    "matches",
    "pack",
    "schedule",
    "shape_of",
    "tiles_for",
    "weight_rows",
    "window_row",
]


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
    arithmetic: Arithmetic = FP32
    """In int8 the activation is part of its output stage. Of a frame the offset depends on the
    place: see :meth:`place_class`."""

    @property
    def narrow(self) -> bool:
        return self.arithmetic.narrow

    @property
    def padded(self) -> Padding:
        """The input with its border."""
        arithmetic = self.arithmetic
        storage_offset = arithmetic.instruction.storage_offset
        # A frame's numbers are multiplied as they are, where bytes are not.
        numbers = self.frame and arithmetic.dot is None
        return Padding(
            height=self.height,
            width=self.width,
            channels=self.inputs,
            border=self.padding,
            shift=self.shift,
            begin=self.begin,
            frame=self.frame,
            fill=-storage_offset if self.frame else arithmetic.zero,
            dtype="float32" if numbers else arithmetic.input_dtype,
            storage_offset=storage_offset,
            zero=arithmetic.zero,
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
        """Rows of the packed weights, whose lanes do not cross the window's lines."""
        return sum(self.runs)

    @property
    def runs(self) -> tuple[int, ...]:
        """Of them, those of each of the window's lines."""
        line = self.arithmetic.packed_rows(self.kernel[1] * self.inputs)
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


def matches(kernel: FusedKernel, context: Context) -> bool:
    return isinstance(kernel, ConvKernel) and kernel.conv.groups == 1


def lower(kernel: ConvKernel, context: Context) -> None:
    conv, unit = kernel.conv, context.target.unit
    # A pointwise one over the frame's bytes has no padding that could join the state.
    shift, arguments = joined(context, kernel.join, conv.inputs[0], any_join=not conv.pointwise)
    if kernel.residual is not None:
        arguments["residual"] = source_of(context, kernel.residual)
    shape = replace(
        shape_of(conv, context),
        shift=shift,
        begin=kernel.join.begin if kernel.join else None,
        residual=kernel.residual is not None,
        activation=kernel.activation,
    )
    constants = constants_of(
        context,
        kernel.linear,
        kernel.out,
        residual=kernel.residual,
        frame=shape if shape.frame else None,
    )
    shape = replace(shape, arithmetic=constants.arithmetic)
    tiles = choose(shape, context.target, candidates, schedule)
    name = context.name("dense_conv", shape.arithmetic, tiles)
    arguments |= context.pack(name, pack(constants, shape, tiles, unit))
    arguments["out"] = context.value(kernel.out)
    arguments |= frame_arguments(shape, context)
    family = f"convolution {shape.kernel[0]} x {shape.kernel[1]}"
    context.call(schedule(name, shape, tiles, unit), arguments, family, kernel.name)


def shape_of(conv: Conv, context: Context) -> DenseConv:
    """Of a convolution, without what is done to its result."""
    height, width, channels = context.map_of(conv.inputs[0])
    return DenseConv(
        height=height,
        width=width,
        inputs=channels,
        outputs=int(conv.weight.shape[0]),
        kernel=conv.kernel,
        stride=conv.stride,
        padding=conv.padding,
        frame=context.reads_frame(conv),
    )


def frame_arguments(shape: DenseConv, context: Context) -> dict[str, Argument]:
    """What a convolution over the camera's bytes reads; empty of another."""
    if not shape.frame:
        return {}
    tables = frame.tables(shape.padded, context) if shape.padded.tables else {}
    return {"x": Argument(Memory.FRAME), **tables}


def tiles_for(shape: DenseConv, unit: VectorUnit) -> Tiles:
    """The default tiles, with rows that fit the image's, so that addresses are plain."""
    pixels = shape.out_height * shape.out_width
    return default_tiles(pixels, shape.rows, shape.outputs, unit, line=shape.out_width)


def candidates(shape: DenseConv, target: Target) -> tuple[Tiles, ...]:
    """Tiles to choose from: whole lines, or divisors of one."""
    maps = shape.padded.size + shape.out_height * shape.out_width * shape.outputs
    default = in_order(tiles_for(shape, target.unit), shape.depth, maps, target.core)
    return (default, *tilings(default, shape.out_width, shape.outputs, target.unit))


def schedule(name: str, shape: DenseConv, tiles: Tiles, unit: VectorUnit) -> tuple[Kernel, ...]:
    """``name_padded`` (parameters as in ``padding``) where needed, then ``name``.

    Parameters of the latter: padded, or x where nothing is padded; weight, bias,
    [scale, [offset]], [residual], out. ``scale`` in int8, whose bias is int32; of a frame there is
    an offset for each class of places.
    """
    border, arithmetic = shape.padded, shape.arithmetic
    pixels = shape.out_height * shape.out_width
    source = Buffer("padded" if border.needed else "x", border.size, dtype=border.dtype)
    by_place = arithmetic.quantized and shape.frame
    classes = shape.classes if by_place else 1
    constants = product.buffers(
        arithmetic, shape.outputs, shape.rows, tiles, unit.lanes, classes=classes
    )
    size = pixels * shape.outputs
    residual = Buffer("residual", size, dtype=arithmetic.residual_dtype)
    out = Buffer("out", size, "output", arithmetic.output_dtype)
    at = PIXEL * shape.outputs + CHANNEL
    offset = None
    if by_place:
        place = shape.place_class(PIXEL // shape.out_width, PIXEL % shape.out_width)
        offset = place * constants.bias.size + CHANNEL
    work = Product(
        pixels=pixels,
        inputs=shape.rows,
        outputs=shape.outputs,
        stretches=(_image_window(source, shape),),
        constants=constants,
        target=out.at(at),
        residual=residual.at(at) if shape.residual else None,
        offset=offset,
        activation=shape.activation,
        tiles=tiles,
        unit=unit,
    )
    kernel = Kernel(
        name=name,
        buffers=(
            source,
            *constants.parameters,
            *((residual,) if shape.residual else ()),
            out,
        ),
        units=work.blocks * work.tile_count,
        body=work.work_unit(UNIT),
        flops=2 * pixels * shape.depth * shape.outputs,
        note=f"convolution {shape.kernel[0]} x {shape.kernel[1]}, "
        f"tiles {tiles.rows} x {tiles.columns}",
    )
    return padding.before(kernel, border)


def window_row(lines: Buffer, shape: DenseConv) -> Stretch:
    """The inner loops over the padded lines of one output row; PIXEL counts that row's pixels."""
    return _window(lines, shape, Const(0), PIXEL)


def _image_window(source: Buffer, shape: DenseConv) -> Stretch:
    """The inner loops over a window of the padded map; PIXEL counts output pixels."""
    return _window(source, shape, PIXEL // shape.out_width, PIXEL % shape.out_width)


def _window(source: Buffer, shape: DenseConv, row: Index, column: Index) -> Stretch:
    down, k, terms = Var("down"), Var("k"), shape.arithmetic.terms
    run = shape.runs[0]
    row = row * shape.stride[0]
    place = column * (shape.stride[1] * shape.inputs) + k * terms
    if shape.kernel[0] == 1:
        return Stretch((Step(k, run),), source.at(row * shape.padded.line + place), k)
    steps = (Step(down, shape.kernel[0]), Step(k, run))
    return Stretch(steps, source.at((row + down) * shape.padded.line + place), down * run + k)


def weight_rows(weight: NDArray[Any], shape: DenseConv) -> NDArray[Any]:
    """(outputs, inputs, kernel height, kernel width) to (outputs, rows), in the order of reading.

    For a frame the weights' inputs are R, G, B as in the model, and are turned to B, G, R.
    """
    if shape.frame:
        weight = weight[:, ::-1]
    lines = weight.transpose(0, 2, 3, 1).reshape(shape.outputs * shape.kernel[0], -1)
    rows: NDArray[Any] = shape.arithmetic.packed_inputs(lines).reshape(shape.outputs, shape.rows)
    return rows


def pack(
    constants: ConvConstants, shape: DenseConv, tiles: Tiles, unit: VectorUnit
) -> dict[str, NDArray[Any]]:
    """The constants as the kernel reads them, by name of its parameters."""
    rows = weight_rows(constants.weight, shape)
    return product.pack(constants, rows, tiles, unit.lanes, shape.runs)
