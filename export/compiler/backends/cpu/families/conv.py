"""Convolution with a window, in groups or not, and the first convolution on a camera's bytes.

Applies to any kernel, stride and padding, and any number of groups that divides inputs and outputs,
with a bias, an activation and at most one residual and one shift. Two kernels: ``padding`` makes
the map with its border (joining the state's channels, or normalising the frame), unless it can be
read as it is; then a packed matrix product in which the window's row is the outer loop, and the
pixels of that row with their channels, which are contiguous, are the inner one. Work units of the
product are tiles of pixels times blocks of output channels, so that weights larger than the cache
are read once.

In groups (ResNeXt, ShuffleNet, depthwise multipliers) it is a product a group, and work units are
those times groups. Of one filter a channel ``depthwise`` is faster. A group's output channels are
padded to vectors no wider than they need: 4 channels a group take vectors of 4 on every target, so
NEON runs at full width and AVX-512 at a quarter, with no lane computed in vain.

int8 is multiplied packed. A lane holds as many neighbours of one group as fill it: ``padding`` lays
each group's channels by themselves, so that those of a window's line are one run, 3 lanes of 4
values for 3 x 3 over groups of 4, and what a run leaves of its last lane has a weight of 0. Without
a line of taps (1 x 1) lanes are read where they lie, and reach into the next group. Groups of one
or two channels are no exception: a line of 3 taps still takes one or two lanes of 4 rather than 3
or 6 products, and float32 would have to be made first. Only bfloat16 is unpacked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.choose import choose
from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants, constants_of
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import frame, padding, product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32, Arithmetic
from shiftedge.export.compiler.backends.cpu.families.join import operands
from shiftedge.export.compiler.backends.cpu.families.padding import Padding, Sliding
from shiftedge.export.compiler.backends.cpu.families.product import CHANNEL, PIXEL, Product, Stretch
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    WEIGHTS_IN_CACHE,
    Tiles,
    VectorUnit,
    default_tiles,
    in_order,
    tilings,
)
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.graph.graph import Conv
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var, maximum, minimum
from shiftedge.export.compiler.kernel_ir.kernel import UNIT, Buffer, Kernel, SegmentLoop

_FEWEST_LANES = 4
_FEW_PACKED = 12
"""Lanes of a window's line, to unroll: 8 channels in pairs."""


@dataclass(frozen=True)
class ConvShape(Sliding):
    inputs: int
    outputs: int
    groups: int = 1
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
        """The input with its border, packed by group; in bf16 groups are unpacked."""
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
            unpacked=self.groups > 1 and arithmetic.narrow and not arithmetic.packed,
            groups=self.groups if self.apart else 1,
        )

    @property
    def apart(self) -> bool:
        """Whether each group's channels lie by themselves, so that lanes hold several taps."""
        return self.arithmetic.dot is not None and self.groups > 1 and self.kernel[1] > 1

    @property
    def group_inputs(self) -> int:
        return self.inputs // self.groups

    @property
    def group_outputs(self) -> int:
        return self.outputs // self.groups

    @property
    def depth(self) -> int:
        """Products summed for one output."""
        return self.kernel[0] * self.kernel[1] * self.group_inputs

    @property
    def line(self) -> int:
        """Rows of the packed weights for one of the window's lines, which lanes do not cross."""
        return self.arithmetic.packed_rows(self.kernel[1] * self.group_inputs)

    @property
    def runs(self) -> tuple[int, ...]:
        """Rows of a group's packed weights, line by line."""
        return (self.line,) * self.kernel[0]

    @property
    def rows(self) -> int:
        """Of a group, all of them."""
        return self.kernel[0] * self.line

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


def _edges(shape: ConvShape, axis: int) -> tuple[int, int, int]:
    """Places along an axis, and how many of the first and the last look beyond the image."""
    size, places = (shape.height, shape.out_height) if axis == 0 else (shape.width, shape.out_width)
    before, stride, kernel = shape.padding[axis], shape.stride[axis], shape.kernel[axis]
    first = sum(place * stride < before for place in range(places))
    last = sum(place * stride - before + kernel > size for place in range(places))
    return places, first, last


def _places(shape: ConvShape, axis: int) -> tuple[int, ...]:
    places, first, last = _edges(shape, axis)
    if first + last >= places:
        return tuple(range(places))
    return (*range(first + 1), *range(places - last, places))


def _class(shape: ConvShape, axis: int, place: Index) -> Index:
    places, first, last = _edges(shape, axis)
    if first + last >= places:
        return place
    return minimum(place, first) + maximum(place - (places - last - 1), 0)


def matches(kernel: FusedKernel, context: Context) -> bool:
    return isinstance(kernel, ConvKernel)


def lower(kernel: ConvKernel, context: Context) -> None:
    conv, unit = kernel.conv, context.target.unit
    # What is padded joins the state there, whatever channels the join drops.
    any_join = conv.groups == 1 and not conv.pointwise
    shift, arguments = operands(kernel, context, any_join=any_join)
    shape = replace(
        shape_of(conv, context),
        shift=shift,
        begin=kernel.join.begin if kernel.join and any_join else None,
        residual=kernel.residual is not None,
        activation=kernel.linear.activation,
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
    name = context.name("conv" if conv.groups == 1 else "grouped_conv", shape.arithmetic, tiles)
    arguments |= context.pack(name, pack(constants, shape, tiles, unit))
    arguments |= frame_arguments(shape, context)
    context.call(schedule(name, shape, tiles, unit), arguments, _label(shape), kernel.name)


def _label(shape: ConvShape) -> str:
    """For people."""
    kind = "convolution" if shape.groups == 1 else "grouped convolution"
    return f"{kind} {shape.kernel[0]} x {shape.kernel[1]}"


def shape_of(conv: Conv, context: Context) -> ConvShape:
    height, width, channels = context.map_of(conv.inputs[0])
    return ConvShape(
        height=height,
        width=width,
        inputs=channels,
        outputs=int(conv.weight.shape[0]),
        kernel=conv.kernel,
        stride=conv.stride,
        padding=conv.padding,
        groups=conv.groups,
        frame=conv.groups == 1 and context.reads_frame(conv),
    )


def frame_arguments(shape: ConvShape, context: Context) -> dict[str, Argument]:
    """What a convolution over the camera's bytes reads; empty of another."""
    if not shape.frame:
        return {}
    tables = frame.tables(shape.padded, context) if shape.padded.tables else {}
    return {"x": Argument(Memory.FRAME), **tables}


def tiles_for(shape: ConvShape, unit: VectorUnit) -> Tiles:
    """The default tiles, with rows that fit the image's, so that addresses are plain.

    In groups they are of one, for vectors as wide as it needs. ``blocks_outer``: all pixels for one
    group, then the next, so that weights larger than the cache are read once. Otherwise all groups
    for one tile of pixels: every cache line of features is then used while it is near.
    """
    pixels, unit = shape.out_height * shape.out_width, _fitted(shape, unit)
    tiles = default_tiles(pixels, shape.rows, shape.group_outputs, unit, line=shape.out_width)
    if shape.groups == 1:
        return tiles
    outer = 4 * shape.outputs * shape.rows > WEIGHTS_IN_CACHE
    # What follows a block is another group's, which the product's prefetch knows nothing of.
    return replace(tiles, blocks_outer=outer, prefetch=False)


def candidates(shape: ConvShape, target: CpuVariant) -> tuple[Tiles, ...]:
    """Tiles to choose from: whole lines, or divisors of one; in groups the default alone."""
    default = tiles_for(shape, target.unit)
    if shape.groups > 1:
        return (default,)
    maps = shape.padded.size + shape.out_height * shape.out_width * shape.outputs
    default = in_order(default, shape.depth, maps, target.core)
    return (default, *tilings(default, shape.out_width, shape.outputs, target.unit))


def schedule(name: str, shape: ConvShape, tiles: Tiles, unit: VectorUnit) -> tuple[Kernel, ...]:
    """``name_padded`` (parameters as in ``padding``) where needed, then ``name``.

    Parameters of the latter: padded, or x where nothing is padded; weight, bias,
    [scale, [offset]], [residual], out. ``scale`` in int8, whose bias is int32; of a frame there is
    an offset for each class of places. In groups ``tiles.columns`` is a multiple of a group's
    lanes, which may be fewer than the unit's, and folded tiles are refused.
    """
    groups, outputs, arithmetic = shape.groups, shape.group_outputs, shape.arithmetic
    _check(name, shape)
    if groups > 1:
        if tiles.folded:
            raise ValueError(f"{name}: grouped convolutions take no folded tiles")
        tiles = replace(tiles, prefetch=False)
    unit, border = _fitted(shape, unit), shape.padded
    pixels = shape.out_height * shape.out_width
    dtype = "float32" if border.unpacked else border.dtype
    source = Buffer("padded" if border.needed else "x", border.size, dtype=dtype)
    by_place = arithmetic.quantized and shape.frame
    pitch = -(-outputs // unit.lanes) * unit.lanes
    weights = product.packed_size(outputs, groups * shape.rows, tiles, unit.lanes)
    classes = shape.classes if by_place else 1
    constants = arithmetic.buffers(weights, groups * pitch, classes=classes)
    residual = Buffer("residual", pixels * shape.outputs, dtype=arithmetic.residual_dtype)
    out = Buffer("out", pixels * shape.outputs, "output", arithmetic.output_dtype)
    blocks, tile_count = -(-outputs // tiles.columns), -(-pixels // tiles.rows)
    group: Index = Const(0)
    stretch = _window(source, shape, PIXEL // shape.out_width, PIXEL % shape.out_width)
    if groups > 1:
        if tiles.blocks_outer:
            tile, block = UNIT % tile_count, UNIT // tile_count % blocks
            group = UNIT // (tile_count * blocks)
        else:
            block, group = UNIT % blocks, UNIT // blocks % groups
            tile = UNIT // (blocks * groups)
        stretch = _group_window(source, shape, group, unit)
    offset = None
    if by_place:
        place = shape.place_class(PIXEL // shape.out_width, PIXEL % shape.out_width)
        offset = place * pitch + CHANNEL
    at = PIXEL * shape.outputs + (group * outputs + CHANNEL)
    work = Product(
        pixels=pixels,
        inputs=groups * shape.rows,  # the rows of all groups; a unit reads one group's
        outputs=outputs,
        stretches=(stretch,),
        constants=constants,
        channel=group * pitch + CHANNEL,
        offset=offset,
        target=out.at(at),
        residual=residual.at(at) if shape.residual else None,
        activation=shape.activation,
        tiles=tiles,
        unit=unit,
    )
    of_groups = f", {groups} groups" if groups > 1 else ""
    kernel = Kernel(
        name=name,
        buffers=(source, *constants.parameters, *((residual,) if shape.residual else ()), out),
        units=groups * work.blocks * work.tile_count,
        body=work.work_unit(UNIT) if groups == 1 else work.one(block, tile),
        flops=2 * pixels * shape.depth * shape.outputs,
        note=f"{_label(shape)}{of_groups}, tiles {tiles.rows} x {tiles.columns}",
    )
    return padding.before(kernel, border)


def window_row(lines: Buffer, shape: ConvShape) -> Stretch:
    """The inner loops over the padded lines of one output row; PIXEL counts that row's pixels."""
    return _window(lines, shape, Const(0), PIXEL)


def _window(source: Buffer, shape: ConvShape, row: Index, column: Index) -> Stretch:
    """The inner loops over the window of an output pixel in the padded map."""
    down, k, terms, run = Var("down"), Var("k"), shape.arithmetic.terms, shape.line
    row = row * shape.stride[0]
    place = column * (shape.stride[1] * shape.inputs) + k * terms
    if shape.kernel[0] == 1:
        return Stretch((SegmentLoop(k, run),), source.at(row * shape.padded.line + place), k)
    steps = (SegmentLoop(down, shape.kernel[0]), SegmentLoop(k, run))
    return Stretch(steps, source.at((row + down) * shape.padded.line + place), down * run + k)


def _group_window(source: Buffer, shape: ConvShape, group: Index, unit: VectorUnit) -> Stretch:
    """The inner loops over a window of one group's channels."""
    down, right, k = Var("down"), Var("right"), Var("k")
    row = PIXEL // shape.out_width * shape.stride[0] + down
    column = PIXEL % shape.out_width * shape.stride[1]
    line, first = shape.padded.line, group * shape.rows
    if shape.arithmetic.dot is None:
        place = row * line + (column + right) * shape.inputs + (group * shape.group_inputs + k)
        weight_row = first + ((down * shape.kernel[1] + right) * shape.group_inputs + k)
        steps = (SegmentLoop(down, shape.kernel[0]), SegmentLoop(right, shape.kernel[1]))
        return Stretch((*steps, SegmentLoop(k, shape.group_inputs)), source.at(place), weight_row)
    run, lane = shape.line, k * shape.arithmetic.terms
    lines, each = _unrolled(shape, unit)
    if shape.apart:
        place = group * (shape.padded.rows * line) + column * shape.group_inputs
    else:
        place = column * shape.inputs + group * shape.group_inputs
    steps = (SegmentLoop(down, shape.kernel[0], lines), SegmentLoop(k, run, each))
    return Stretch(steps, source.at(row * line + place + lane), first + (down * run + k))


def _unrolled(shape: ConvShape, unit: VectorUnit) -> tuple[bool, bool]:
    """Whether a window's lines, and the packed lanes of one, are unrolled: short loops end before
    they are predicted. By lane a line's are one step; sums of pairs then need more registers than
    there are (A72, groups of 4: 1.13 times the instructions)."""
    few = shape.line <= _FEW_PACKED
    if unit.by_lane:
        return few and not (unit.dot is not None and unit.dot.pairs), False
    return False, few


def _fitted(shape: ConvShape, unit: VectorUnit) -> VectorUnit:
    """Of groups, the narrowest vectors that a group's outputs fill more than half; at most whole.

    Of packed values at least 4: dot products have no narrower vectors.
    """
    if shape.groups == 1:
        return unit
    lanes = 1 if shape.arithmetic.dot is None else _FEWEST_LANES
    while lanes < min(unit.lanes, shape.group_outputs):
        lanes *= 2
    return replace(unit, lanes=lanes)


def weight_rows(weight: NDArray[Any], shape: ConvShape) -> NDArray[Any]:
    """(outputs, inputs, kernel height, kernel width) to (outputs, rows), in the order of reading.

    For a frame the weights' inputs are R, G, B as in the model, and are turned to B, G, R.
    """
    if shape.frame:
        weight = weight[:, ::-1]
    lines = weight.transpose(0, 2, 3, 1).reshape(shape.outputs * shape.kernel[0], -1)
    rows: NDArray[Any] = shape.arithmetic.packed_inputs(lines).reshape(shape.outputs, shape.rows)
    return rows


def pack(
    constants: ConvConstants, shape: ConvShape, tiles: Tiles, unit: VectorUnit
) -> dict[str, NDArray[Any]]:
    """The constants as the kernel reads them, by name of its parameters.

    Weights as [block of a group's outputs][group][row][column][input][output of the block], of
    which packed lanes take neighbouring columns and inputs; each group's bias padded to whole
    vectors.
    """
    _check("pack", shape)
    lanes, outputs = _fitted(shape, unit).lanes, shape.group_outputs
    rows = weight_rows(constants.weight, shape).reshape(shape.groups, outputs, shape.rows)
    rows = rows.transpose(1, 0, 2).reshape(outputs, shape.groups * shape.rows)
    runs, dot = shape.runs * shape.groups, shape.arithmetic.dot
    return {
        "weight": product.pack_weights(rows, tiles, lanes, dot, runs),
        **constants.packed(lambda values: product.pack_bias(values.reshape(-1, outputs), lanes)),
    }


def _check(name: str, shape: ConvShape) -> None:
    if shape.inputs % shape.groups or shape.outputs % shape.groups:
        raise ValueError(
            f"{name}: {shape.groups} groups of {shape.inputs} inputs and {shape.outputs} outputs; "
            "expected a divisor of both"
        )
