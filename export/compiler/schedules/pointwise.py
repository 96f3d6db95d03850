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

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import Activation
from shiftedge.export.compiler.schedules import product
from shiftedge.export.compiler.schedules.product import CHANNEL, PIXEL, Product, Stretch
from shiftedge.export.compiler.schedules.tiles import Tiles, VectorUnit, default_tiles
from shiftedge.export.compiler.tir_index import Index, Var
from shiftedge.export.compiler.tir_kernel import UNIT, Buffer, Kernel, Step

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


def tiles_for(shape: Pointwise, unit: VectorUnit) -> Tiles:
    """The default tiles."""
    even = shape.shift % 2 == 0 and shape.inputs % 2 == 0
    return default_tiles(shape.pixels, shape.inputs, shape.outputs, unit, even=even)


def schedule(name: str, shape: Pointwise, tiles: Tiles, unit: VectorUnit) -> Kernel:
    """The kernel: parameters x, [state], weight, bias, [residual], out."""
    lanes = unit.lanes
    x = Buffer("x", shape.pixels * shape.inputs)
    state = Buffer("state", max(1, shape.pixels * shape.shift))
    size = product.packed_size(shape.outputs, shape.inputs, tiles, lanes)
    weight = Buffer("weight", size, "weight")
    bias = Buffer("bias", -(-shape.outputs // lanes) * lanes, "weight")
    residual = Buffer("residual", shape.pixels * shape.outputs)
    out = Buffer("out", shape.pixels * shape.outputs, "output")
    at = PIXEL * shape.outputs + CHANNEL
    work = Product(
        pixels=shape.pixels,
        inputs=shape.inputs,
        outputs=shape.outputs,
        stretches=stretches(x, state, shape.inputs, shape.shift, PIXEL),
        weight=weight,
        start=(bias.at(CHANNEL), *((residual.at(at),) if shape.residual else ())),
        target=out.at(at),
        activation=shape.activation,
        tiles=tiles,
        lanes=lanes,
        by_lane=unit.by_lane,
    )
    buffers = [x, weight, bias, out]
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
    x: Buffer, state: Buffer, inputs: int, shift: int, pixel: Index
) -> tuple[Stretch, ...]:
    """The inner loops over input channels: the state's, then those of the features."""
    k = Var("k")
    result = []
    if shift:
        result.append(Stretch((Step(k, shift),), state.at(pixel * shift + k), k))
    if inputs > shift:
        source = x.at(pixel * inputs + (k + shift))
        result.append(Stretch((Step(k, inputs - shift),), source, k + shift))
    return tuple(result)


def pack(weight: Array, bias: Array, tiles: Tiles, unit: VectorUnit) -> dict[str, Array]:
    """Weight (outputs, inputs) and bias (outputs,) as the kernel reads them."""
    return {
        "weight": product.pack_weights(weight, tiles, unit.lanes),
        "bias": product.pack_bias(bias, unit.lanes),
    }
