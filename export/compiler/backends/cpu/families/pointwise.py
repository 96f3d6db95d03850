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

from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.choose import choose
from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants, constants_of
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32, Arithmetic
from shiftedge.export.compiler.backends.cpu.families.join import operands
from shiftedge.export.compiler.backends.cpu.families.product import CHANNEL, PIXEL, Product, Stretch
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    Tiles,
    VectorUnit,
    default_tiles,
    in_order,
    tilings,
)
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.kernel_ir.index import Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import UNIT, Buffer, Kernel, SegmentLoop


@dataclass(frozen=True)
class Pointwise:
    pixels: int
    inputs: int
    outputs: int
    shift: int = 0
    """Channels that come from the state; 0 for no shift."""
    residual: bool = False
    activation: Activation = Activation.NONE
    arithmetic: Arithmetic = FP32
    """In int8 the activation is part of its output stage."""

    @property
    def narrow(self) -> bool:
        return self.arithmetic.narrow

    @property
    def rows(self) -> int:
        """Rows of the packed weights."""
        return self.arithmetic.packed_rows(self.inputs, self.shift)


def matches(kernel: FusedKernel, context: Context) -> bool:
    return (
        isinstance(kernel, ConvKernel)
        and kernel.conv.pointwise
        and not context.reads_frame(kernel.conv)
    )


def lower(kernel: ConvKernel, context: Context) -> None:
    conv, unit = kernel.conv, context.target.unit
    shift, arguments = operands(kernel, context)
    constants = constants_of(context, kernel.linear, kernel.out, residual=kernel.residual)
    height, width, channels = context.map_of(conv.inputs[0])
    shape = Pointwise(
        height * width,
        channels,
        int(conv.weight.shape[0]),
        shift,
        kernel.residual is not None,
        kernel.linear.activation,
        constants.arithmetic,
    )
    tiles = choose(shape, context.target, candidates, schedule)
    name = context.name("pointwise", shape.arithmetic, tiles)
    arguments |= context.pack(name, pack(constants, shape, tiles, unit))
    context.call(schedule(name, shape, tiles, unit), arguments, "pointwise", kernel.name)


def tiles_for(shape: Pointwise, unit: VectorUnit) -> Tiles:
    even = shape.shift % 2 == 0 and shape.inputs % 2 == 0 and not shape.narrow
    return default_tiles(shape.pixels, shape.rows, shape.outputs, unit, even=even)


def candidates(shape: Pointwise, target: CpuVariant) -> tuple[Tiles, ...]:
    maps = shape.pixels * (shape.inputs + shape.outputs * (2 if shape.residual else 1))
    default = in_order(tiles_for(shape, target.unit), shape.inputs, maps, target.core)
    return (default, *tilings(default, shape.pixels, shape.outputs, target.unit))


def schedule(name: str, shape: Pointwise, tiles: Tiles, unit: VectorUnit) -> tuple[Kernel, ...]:
    """The kernel: parameters x, [state], weight, bias, [scale, [offset]], [residual], out.

    ``scale`` in int8, whose ``bias`` is int32.
    """
    arithmetic = shape.arithmetic
    x, state = sources(shape)
    constants = product.buffers(arithmetic, shape.outputs, shape.rows, tiles, unit.lanes)
    size = shape.pixels * shape.outputs
    residual = Buffer("residual", size, dtype=arithmetic.residual_dtype)
    out = Buffer("out", size, "output", arithmetic.output_dtype)
    at = PIXEL * shape.outputs + CHANNEL
    work = Product(
        pixels=shape.pixels,
        inputs=shape.rows,
        outputs=shape.outputs,
        stretches=stretches(x, state, shape.inputs, shape.shift, PIXEL, arithmetic),
        constants=constants,
        target=out.at(at),
        residual=residual.at(at) if shape.residual else None,
        activation=shape.activation,
        tiles=tiles,
        unit=unit,
    )
    kernel = Kernel(
        name=name,
        buffers=(
            x,
            *((state,) if shape.shift else ()),
            *constants.parameters,
            *((residual,) if shape.residual else ()),
            out,
        ),
        units=work.blocks * work.tile_count,
        body=work.work_unit(UNIT),
        flops=2 * shape.pixels * shape.inputs * shape.outputs,
        note=f"pointwise, tiles {tiles.rows} x {tiles.columns}",
    )
    return (kernel,)


def sources(shape: Pointwise) -> tuple[Buffer, Buffer]:
    """x, and the state, which is a parameter where there is a shift."""
    dtype = shape.arithmetic.input_dtype
    x = Buffer("x", shape.pixels * shape.inputs, dtype=dtype)
    return x, Buffer("state", max(1, shape.pixels * shape.shift), dtype=dtype)


def stretches(
    x: Buffer, state: Buffer, inputs: int, shift: int, pixel: Index, arithmetic: Arithmetic
) -> tuple[Stretch, ...]:
    """The inner loops over input channels, or lanes of them: the state's, then the features'."""
    k, terms = Var("k"), arithmetic.terms
    before, first = -(-shift // terms), shift // terms
    result = []
    if shift:
        source = state.at(pixel * shift + k * terms)
        result.append(Stretch((SegmentLoop(k, before),), source, k, arithmetic.zero))
    if inputs > shift:
        source = x.at(pixel * inputs + (k + first) * terms)
        result.append(Stretch((SegmentLoop(k, -(-inputs // terms) - first),), source, k + before))
    return tuple(result)


def pack(
    constants: ConvConstants, shape: Pointwise, tiles: Tiles, unit: VectorUnit
) -> dict[str, NDArray[Any]]:
    """The constants as the kernel reads them, by name of its parameters."""
    arithmetic = shape.arithmetic
    rows = arithmetic.packed_inputs(constants.weight.reshape(shape.outputs, -1), shape.shift)
    runs = arithmetic.packed_runs(shape.inputs, shape.shift)
    return product.pack(constants, rows, tiles, unit.lanes, runs)
