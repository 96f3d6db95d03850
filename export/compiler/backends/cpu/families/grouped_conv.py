"""Grouped convolution, neither dense nor one filter a channel: ResNeXt, ShuffleNet, multipliers.

Applies to any number of groups that divides inputs and outputs, any kernel (1 x 1 too), stride and
padding, with a bias, an activation and at most one residual and one shift. Depthwise convolutions
with a multiplier are the case of one input channel a group; of one filter a channel ``depthwise``
is faster. Two kernels, as for ``dense_conv``: ``padding`` where there is a border or a shift, then
a packed product a group.

A group's output channels are padded to vectors no wider than they need: 4 channels a group take
vectors of 4 on every target, so NEON runs at full width and AVX-512 at a quarter, with no lane
computed in vain. Work units are tiles of pixels, times groups, times blocks of a group's channels.

Codes are multiplied in words. A word holds as many neighbours of one group as fill it: ``padding``
lays each group's channels by themselves, so that those of a window's line are one run, 3 words of 4
codes for 3 x 3 over groups of 4, and what a run leaves of its last word has a weight of 0. Without
a line of taps (1 x 1) words are read where they lie, and reach into the next group. Groups of one
or two channels are no exception: a line of 3 taps still takes one or two words of 4 rather than 3
or 6 products, and whole numbers of float32 would have to be made first. Only bfloat16 is widened.

int8 against float32 for 3 x 3 over 28 x 28: guest instructions on a Cortex-A76 (sdot) and A72
(smlal), of convolution and padding, and time by AVX2 on a shared Zen 3, the middle of interleaved
turns in two runs:

    groups     A76    A72    AVX2
    32 of 4    0.41   0.78   0.75, 0.76
    32 of 8    0.35   0.84   0.56, 0.64
    32 of 32   0.32   0.69   0.43, 0.53
    2 of 64    0.31   0.70   0.64, 0.66

Reached in float32 with 3 x 3 on a Zen 4 core, of 118 GFLOP/s: 116 with 2 groups of 64 channels, 91
with 32 of 32, 77 with 32 of 8, 37 with 32 of 4; with a multiplier of 2, 9.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families import padding, product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import (
    Arithmetic,
    begins,
    dot_of,
    ends,
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
from shiftedge.export.compiler.backends.cpu.families.tiles import Tiles, VectorUnit, default_tiles
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.index import Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import UNIT, Buffer, Kernel, Step

__all__ = ["GroupedConv", "pack", "schedule", "tiles_for"]

Array = NDArray[np.float32]
_WEIGHTS_IN_CACHE = 256 * 1024  # bytes; as in ``tiles``: half of the smallest L2 among the targets
_FEWEST_LANES = 4
_FEW_PACKED = 12
"""Of a window's line, to unroll: 8 channels in pairs."""


@dataclass(frozen=True)
class GroupedConv:
    """Shape of a grouped convolution."""

    height: int
    width: int
    inputs: int
    outputs: int
    groups: int
    kernel: tuple[int, int]
    """Height, width."""
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Rows above, columns left, rows below, columns right; zeros."""
    shift: int = 0
    """Channels that come from the state; 0 for no shift."""
    residual: bool = False
    activation: Activation = Activation.NONE
    arithmetic: Arithmetic | None = None
    """With codes the activation is part of its ending; its ``zero`` is a code."""

    @property
    def padded(self) -> Padding:
        """The input with its border: of codes as whole numbers, or words by group."""
        arithmetic = self.arithmetic
        plain = Padding(self.height, self.width, self.inputs, self.padding, self.shift)
        if arithmetic is None:
            return plain
        storage_offset, zero, dtype = (
            arithmetic.dot.storage_offset,
            arithmetic.zero,
            arithmetic.dot.dtype,
        )
        if arithmetic.packed:
            groups = self.groups if self.apart else 1
            return replace(plain, fill=zero, dtype=dtype, zero=zero, groups=groups)
        return replace(
            plain,
            fill=zero + storage_offset,
            dtype=dtype,
            storage_offset=storage_offset,
            zero=zero,
            unpacked=True,
        )

    @property
    def apart(self) -> bool:
        """Whether each group's channels lie by themselves, so that words hold several taps."""
        return dot_of(self.arithmetic) is not None and self.groups > 1 and self.kernel[1] > 1

    @property
    def out_height(self) -> int:
        return (self.padded.rows - self.kernel[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        padded = self.width + self.padding[1] + self.padding[3]
        return (padded - self.kernel[1]) // self.stride[1] + 1

    @property
    def group_inputs(self) -> int:
        """Input channels of a group."""
        return self.inputs // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.outputs // self.groups

    @property
    def depth(self) -> int:
        """Products summed for one output."""
        return self.kernel[0] * self.kernel[1] * self.group_inputs

    @property
    def rows(self) -> int:
        """Rows of the packed weights of a group: products, or words."""
        return sum(self.runs)

    @property
    def runs(self) -> tuple[int, ...]:
        """Of them, those of each innermost loop."""
        if dot_of(self.arithmetic) is None:
            return (self.group_inputs,) * (self.kernel[0] * self.kernel[1])
        # Words hold no taps of two lines of the window, which are ``kernel[1] == 1`` or apart.
        line = self.kernel[1] * self.group_inputs
        return (packed_rows(line, 0, terms_of(self.arithmetic)),) * self.kernel[0]


def tiles_for(shape: GroupedConv, unit: VectorUnit) -> Tiles:
    """The default tiles of one group, for vectors as wide as a group needs.

    ``blocks_outer``: all pixels for one group, then the next, so that weights larger than the cache
    are read once. Otherwise all groups for one tile of pixels: every cache line of features is
    then used while it is near.
    """
    packed = dot_of(shape.arithmetic) is not None
    narrow = replace(
        unit.for_dot() if packed else replace(unit, dot=None), lanes=_lanes(shape, unit)
    )
    pixels = shape.out_height * shape.out_width
    tiles = default_tiles(pixels, shape.rows, shape.group_outputs, narrow, line=shape.out_width)
    outer = 4 * shape.outputs * shape.rows > _WEIGHTS_IN_CACHE
    # What follows a block is another group's, which the product's prefetch knows nothing of.
    return replace(tiles, blocks_outer=outer, prefetch=False)


def schedule(name: str, shape: GroupedConv, tiles: Tiles, unit: VectorUnit) -> tuple[Kernel, ...]:
    """``name_padded`` (x, [state], padded) where needed, then ``name``.

    Parameters of the latter: padded, or x where nothing is padded; weight, bias,
    [scale, [offset]], [residual], out. ``scale`` with codes, whose bias is in whole numbers, int32
    where words are multiplied.
    ``tiles.columns`` is a multiple of a group's lanes, which may be fewer than the unit's. Folded
    tiles are refused.
    """
    _check(name, shape)
    if tiles.folded:
        raise ValueError(f"{name}: grouped convolutions take no folded tiles")
    lanes, border = _lanes(shape, unit), shape.padded
    tiles = replace(tiles, prefetch=False)
    pixels, outputs = shape.out_height * shape.out_width, shape.group_outputs
    arithmetic, dot = shape.arithmetic, dot_of(shape.arithmetic)
    made = "float32" if dot is None else border.dtype
    source = Buffer("padded" if border.needed else "x", border.size, dtype=made)
    size = product.packed_size(outputs, shape.groups * shape.rows, tiles, lanes)
    weight = Buffer("weight", size, "weight", weight_dtype(arithmetic))
    bias_pitch = -(-outputs // lanes) * lanes
    sums = "float32" if dot is None else dot.accumulator_dtype
    bias = Buffer("bias", shape.groups * bias_pitch, "weight", sums)
    scale, offset = (
        Buffer(each, shape.groups * bias_pitch, "weight") for each in ("scale", "offset")
    )
    residual = Buffer("residual", pixels * shape.outputs, dtype=residual_dtype(arithmetic))
    out = Buffer(
        "out", pixels * shape.outputs, "output", arithmetic.out if arithmetic else "float32"
    )
    blocks, tile_count = -(-outputs // tiles.columns), -(-pixels // tiles.rows)
    group: Index
    if tiles.blocks_outer:
        tile, block = UNIT % tile_count, UNIT // tile_count % blocks
        group = UNIT // (tile_count * blocks)
    else:
        block, group = UNIT % blocks, UNIT // blocks % shape.groups
        tile = UNIT // (blocks * shape.groups)
    at = PIXEL * shape.outputs + (group * outputs + CHANNEL)
    channel = group * bias_pitch + CHANNEL
    added = residual.at(at) if shape.residual else None
    work = Product(
        pixels=pixels,
        inputs=shape.groups * shape.rows,  # the rows of all groups; a unit reads one group's
        outputs=outputs,
        stretches=(_window(source, shape, group, unit),),
        weight=weight,
        start=begins(arithmetic, bias.at(channel), added),
        ends=ends(arithmetic, scale.at(channel), offset.at(channel), added),
        target=out.at(at),
        activation=shape.activation,
        tiles=tiles,
        lanes=lanes,
        by_lane=unit.by_lane,
        dot=dot,
    )
    kernel = Kernel(
        name=name,
        buffers=(
            source,
            *stage_buffers(arithmetic, weight, bias, scale, offset),
            *((residual,) if shape.residual else ()),
            out,
        ),
        units=shape.groups * work.blocks * work.tile_count,
        body=work.one(block, tile),
        flops=2 * pixels * shape.depth * shape.outputs,
        note=f"grouped convolution {shape.kernel[0]} x {shape.kernel[1]}, "
        f"{shape.groups} groups, tiles {tiles.rows} x {tiles.columns}",
    )
    return (padding.schedule(f"{name}_padded", border), kernel) if border.needed else (kernel,)


def pack(
    weight: NDArray[Any],
    bias: NDArray[Any],
    shape: GroupedConv,
    tiles: Tiles,
    unit: VectorUnit,
    scale: Array | None = None,
    offset: Array | None = None,
) -> dict[str, NDArray[Any]]:
    """Weight (outputs, group inputs, kernel height, kernel width) and bias as the kernel reads it.

    Weights as [block of a group's outputs][group][row][column][input][output of the block], of
    which words take neighbouring columns and inputs; each group's bias padded to whole vectors.
    With codes the weight is int8, the bias in whole numbers, and there are ``scale`` and, where
    the bias does not hold it, ``offset``, (outputs,).
    """
    _check("pack", shape)
    lanes, dot = _lanes(shape, unit), dot_of(shape.arithmetic)
    if dot is None:
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    else:
        bias = packed_bias(bias, weight, shape.arithmetic)
    lines = weight.transpose(0, 2, 3, 1).reshape(shape.outputs * shape.kernel[0], -1)
    inputs = pack_inputs(lines, 0, shape.arithmetic)
    rows = inputs.reshape(shape.groups, shape.group_outputs, shape.rows).transpose(1, 0, 2)
    rows = rows.reshape(shape.group_outputs, shape.groups * shape.rows)
    packed = {"weight": product.pack_weights(rows, tiles, lanes, dot, shape.runs * shape.groups)}
    for name, values in (("bias", bias), ("scale", scale), ("offset", offset)):
        if values is not None:
            by_group = values.reshape(shape.groups, shape.group_outputs)
            packed[name] = product.pack_bias(by_group, lanes)
    return packed


def _window(source: Buffer, shape: GroupedConv, group: Index, unit: VectorUnit) -> Stretch:
    """The inner loops over a window of one group's channels."""
    down, right, k = Var("down"), Var("right"), Var("k")
    row = PIXEL // shape.out_width * shape.stride[0] + down
    column = PIXEL % shape.out_width * shape.stride[1]
    line, first = shape.padded.line, group * shape.rows
    if dot_of(shape.arithmetic) is None:
        place = row * line + (column + right) * shape.inputs + (group * shape.group_inputs + k)
        weight_row = first + ((down * shape.kernel[1] + right) * shape.group_inputs + k)
        steps = (Step(down, shape.kernel[0]), Step(right, shape.kernel[1]))
        return Stretch((*steps, Step(k, shape.group_inputs)), source.at(place), weight_row)
    run, lane = shape.runs[0], k * terms_of(shape.arithmetic)
    lines, each = _unrolled(shape, unit)
    if shape.apart:
        place = group * (shape.padded.rows * line) + column * shape.group_inputs
    else:
        place = column * shape.inputs + group * shape.group_inputs
    steps = (Step(down, shape.kernel[0], lines), Step(k, run, each))
    return Stretch(steps, source.at(row * line + place + lane), first + (down * run + k))


def _unrolled(shape: GroupedConv, unit: VectorUnit) -> tuple[bool, bool]:
    """Whether a window's lines, and the words of one, are unrolled: short loops end before they
    are predicted. By lane a line's words are one step; sums of pairs then need more registers than
    there are (A72, groups of 4: 1.13 times the instructions)."""
    few = shape.runs[0] <= _FEW_PACKED
    if unit.by_lane:
        return few and not (unit.dot is not None and unit.dot.pairs), False
    return False, few


def _lanes(shape: GroupedConv, unit: VectorUnit) -> int:
    """Lanes of the narrowest vector that a group's outputs fill more than half; at most all.

    Of sums of words at least 4: dot products have no narrower vectors.
    """
    lanes = 1 if dot_of(shape.arithmetic) is None else _FEWEST_LANES
    while lanes < min(unit.lanes, shape.group_outputs):
        lanes *= 2
    return lanes


def _check(name: str, shape: GroupedConv) -> None:
    if shape.inputs % shape.groups or shape.outputs % shape.groups:
        raise ValueError(
            f"{name}: {shape.groups} groups of {shape.inputs} inputs and {shape.outputs} outputs; "
            "expected a divisor of both"
        )
