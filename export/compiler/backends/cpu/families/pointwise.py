"""Pointwise convolution: a packed matrix product, with the temporal shift as a first segment.

Applies to a 1 x 1 convolution of stride 1 over NHWC features, with a bias, an activation and at
most one residual of the output's shape, and at most one shift: the first ``shift`` input channels
are then read from the state, the others from the features, both in place. Work units are tiles
times blocks of output channels.

Reached as the project of an inverted residual at 14 x 14 and 7 x 7 (384 to 960 inputs): 97 to 99%
of a Zen 4 core's peak. One pixel (a dense layer, 1280 -> 27): 14%, but 4 us. 1024 channels: pixels
are 4 KiB apart and fall on one another in the cache, so tiles of 6 pixels (95%), not 14 (76%).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families import product
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
    packed_runs,
    residual_dtype,
    stage_buffers,
    terms_of,
    weight_dtype,
)
from shiftedge.export.compiler.backends.cpu.families.product import CHANNEL, PIXEL, Product, Stretch
from shiftedge.export.compiler.backends.cpu.families.tiles import Tiles, VectorUnit, default_tiles
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.index import Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import UNIT, Buffer, Kernel, Step

__all__ = ["Pointwise", "pack", "schedule", "stretches", "tiles_for"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Pointwise:
    """Shape of a pointwise convolution."""

    pixels: int
    inputs: int
    outputs: int
    shift: int = 0
    """Channels that come from the state; 0 for no shift."""
    residual: bool = False
    activation: Activation = Activation.NONE
    arithmetic: Arithmetic | None = None
    """With codes the activation is part of its ending."""

    @property
    def rows(self) -> int:
        """Rows of the packed weights: words of codes, or inputs."""
        return packed_rows(self.inputs, self.shift, terms_of(self.arithmetic))

    @property
    def runs(self) -> tuple[int, ...]:
        """Of them, the state's and the map's."""
        return packed_runs(self.inputs, self.shift, terms_of(self.arithmetic))


def tiles_for(shape: Pointwise, unit: VectorUnit) -> Tiles:
    """The default tiles."""
    even = shape.shift % 2 == 0 and shape.inputs % 2 == 0 and shape.arithmetic is None
    return default_tiles(shape.pixels, shape.rows, shape.outputs, unit, even=even)


def schedule(name: str, shape: Pointwise, tiles: Tiles, unit: VectorUnit) -> Kernel:
    """The kernel: parameters x, [state], weight, bias, [scale, [offset]], [residual], out.

    ``scale`` with codes, whose ``bias`` is int32.
    """
    lanes, arithmetic = unit.lanes, shape.arithmetic
    dtype = input_dtype(arithmetic)
    x = Buffer("x", shape.pixels * shape.inputs, dtype=dtype)
    state = Buffer("state", max(1, shape.pixels * shape.shift), dtype=dtype)
    size = product.packed_size(shape.outputs, shape.rows, tiles, lanes)
    weight = Buffer("weight", size, "weight", weight_dtype(arithmetic))
    columns = -(-shape.outputs // lanes) * lanes
    bias = Buffer("bias", columns, "weight", accumulator_dtype(arithmetic))
    scale, offset = (Buffer(each, columns, "weight") for each in ("scale", "offset"))
    residual = Buffer("residual", shape.pixels * shape.outputs, dtype=residual_dtype(arithmetic))
    out_dtype = arithmetic.out if arithmetic else "float32"
    out = Buffer("out", shape.pixels * shape.outputs, "output", out_dtype)
    at = PIXEL * shape.outputs + CHANNEL
    added = residual.at(at) if shape.residual else None
    work = Product(
        pixels=shape.pixels,
        inputs=shape.rows,
        outputs=shape.outputs,
        stretches=stretches(x, state, shape.inputs, shape.shift, PIXEL, arithmetic),
        weight=weight,
        start=begins(arithmetic, bias.at(CHANNEL), added),
        target=out.at(at),
        activation=shape.activation,
        tiles=tiles,
        lanes=lanes,
        by_lane=unit.by_lane,
        dot=dot_of(arithmetic),
        ends=ends(arithmetic, scale.at(CHANNEL), offset.at(CHANNEL), added),
    )
    buffers = [x, *stage_buffers(arithmetic, weight, bias, scale, offset), out]
    if shape.shift:
        buffers.insert(1, state)
    if shape.residual:
        buffers.insert(-1, residual)
    return Kernel(
        name=name,
        buffers=tuple(buffers),
        units=work.blocks * work.tile_count,
        body=work.unit(UNIT),
        flops=2 * shape.pixels * shape.inputs * shape.outputs,
        note=f"pointwise, tiles {tiles.rows} x {tiles.columns}",
    )


def stretches(
    x: Buffer,
    state: Buffer,
    inputs: int,
    shift: int,
    pixel: Index,
    arithmetic: Arithmetic | None = None,
) -> tuple[Stretch, ...]:
    """The inner loops over input channels, or words of them: the state's, then the features'."""
    k, terms = Var("k"), terms_of(arithmetic)
    before, first = -(-shift // terms), shift // terms
    result = []
    if shift:
        source = state.at(pixel * shift + k * terms)
        zero = arithmetic.zero if arithmetic else 0
        result.append(Stretch((Step(k, before),), source, k, zero))
    if inputs > shift:
        source = x.at(pixel * inputs + (k + first) * terms)
        result.append(Stretch((Step(k, -(-inputs // terms) - first),), source, k + before))
    return tuple(result)


def pack(
    weight: NDArray[Any],
    bias: NDArray[Any],
    tiles: Tiles,
    unit: VectorUnit,
    *,
    shift: int = 0,
    arithmetic: Arithmetic | None = None,
    scale: Array | None = None,
    offset: Array | None = None,
) -> dict[str, NDArray[Any]]:
    """Weight (outputs, inputs) and bias (outputs,) as the kernel reads them.

    With codes the weight is int8, the bias int32, and there are ``scale`` and, where the bias does
    not hold it, ``offset``, (outputs,).
    """
    inputs = pack_inputs(weight, shift, arithmetic)
    runs = packed_runs(weight.shape[1], shift, terms_of(arithmetic))
    packed = {
        "weight": product.pack_weights(inputs, tiles, unit.lanes, dot_of(arithmetic), runs),
        "bias": product.pack_bias(packed_bias(bias, weight, arithmetic), unit.lanes),
    }
    for name, values in (("scale", scale), ("offset", offset)):
        if values is not None:
            packed[name] = product.pack_bias(values, unit.lanes)
    return packed
