"""The end of the network: pointwise + activation + mean over the image, before the dense layer.

The widest map of the network is never written: each work unit makes one block of its channels for
all pixels in scratch, which stays in the first-level cache, and sums it. The dense layer behind is
``dense``. In int8 the result is kept unpacked, its zero point is 0, and the sum over the image must
be exact in float32; where it is not, the kernel is made of smaller ones (``separate``).

Reached on 7 x 7 x 320 -> 1280: 98% of a Zen 4 core's peak (116 of 118 GFLOP/s).
"""

from __future__ import annotations

from dataclasses import replace

from shiftedge.export.compiler.backends.cpu.choose import choose
from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.conv_constants import constants_of
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import dense, pointwise, product
from shiftedge.export.compiler.backends.cpu.families.join import joined
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise, stretches
from shiftedge.export.compiler.backends.cpu.families.product import PIXEL, Product
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    Tiles,
    VectorUnit,
    default_tiles,
    tilings,
)
from shiftedge.export.compiler.graph.fusion import FusedKernel, Tail
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.index import Index, Var
from shiftedge.export.compiler.numerics.requantize import mean_scale

_EXACT = 1 << 24
"""Whole numbers below are exact in float32."""


def matches(kernel: FusedKernel, context: Context) -> bool:
    if not isinstance(kernel, Tail):
        return False
    height, width, _ = context.map_of(kernel.pointwise.conv.out)
    quantization = kernel.pointwise.quantization
    return quantization is None or (quantization.zero_point == 0 and 255 * height * width < _EXACT)


def lower(kernel: Tail, context: Context) -> None:
    conv, unit = kernel.pointwise.conv, context.target.unit
    height, width, _ = context.map_of(conv.out)
    shift, arguments = joined(context, kernel.join, conv.inputs[0])
    constants = constants_of(context, kernel.pointwise, conv.out, unpacked=True)
    factor = None
    if kernel.pointwise.quantization is not None:
        factor = float(mean_scale(kernel.mean, kernel.pointwise.quantization, height * width))
    shape = Pointwise(
        height * width,
        int(conv.weight.shape[1]),
        int(conv.weight.shape[0]),
        shift=shift,
        activation=kernel.pointwise.activation,
        arithmetic=constants.arithmetic,
    )
    tiles = choose(shape, context.target, candidates, schedule)
    name = context.name("tail", shape.arithmetic, tiles)
    mean = Argument(Memory.WORKSPACE, f"{name}.mean")
    arguments |= context.pack(name, pointwise.pack(constants, shape, tiles, unit))
    arguments["out"] = mean
    kernels = schedule(name, shape, tiles, unit, factor=factor)
    context.call(kernels, arguments, "tail", conv.name)
    dense.layer(kernel.dense, context, mean)


def tiles_for(shape: Pointwise, unit: VectorUnit) -> Tiles:
    tiles = default_tiles(shape.pixels, shape.rows, shape.outputs, unit)
    return replace(tiles, blocks_outer=True)


def candidates(shape: Pointwise, target: CpuVariant) -> tuple[Tiles, ...]:
    default = tiles_for(shape, target.unit)
    return (default, *tilings(default, shape.pixels, shape.outputs, target.unit))


def schedule(
    name: str, shape: Pointwise, tiles: Tiles, unit: VectorUnit, *, factor: float | None = None
) -> tuple[ir.Kernel, ...]:
    """The kernel: parameters x, [state], weight, bias, [scale, [offset]], out.

    ``out`` is the mean, (outputs,). Of int8 values, which are kept unpacked and of which 0 stands
    for 0, ``factor`` makes their sum the mean.

    Weights are packed by ``pointwise.pack``. A residual is refused, and so are folded tiles.
    """
    if shape.residual or tiles.folded:
        raise ValueError(f"{name}: the tail takes no residual and no folded tiles")
    lanes, columns, arithmetic = unit.lanes, tiles.columns, shape.arithmetic
    x, state = pointwise.sources(shape)
    constants = product.buffers(arithmetic, shape.outputs, shape.rows, tiles, lanes)
    out = ir.Buffer("out", shape.outputs, "output")
    features = ir.Buffer("features", shape.pixels * columns, "scratch", arithmetic.output_dtype)
    work = Product(
        pixels=shape.pixels,
        inputs=shape.rows,
        outputs=shape.outputs,
        stretches=stretches(x, state, shape.inputs, shape.shift, PIXEL, arithmetic),
        constants=constants,
        target=features.at(PIXEL * columns + ir.COLUMN),
        activation=shape.activation,
        tiles=tiles,
        unit=unit,
    )
    scale = 1.0 / shape.pixels if factor is None else factor
    pixel = Var("pixel")

    def mean(block: Index, valid: int) -> tuple[ir.Statement, ...]:
        """Of a block's first ``valid`` columns."""
        source = features.at(pixel * columns + ir.COLUMN)
        return (
            ir.Tile(
                vectors=ir.grid(1, valid, lanes),
                columns=valid,
                start=(),
                segments=(
                    ir.Segment(
                        (ir.SegmentLoop(pixel, shape.pixels),), source, None, by_column=True
                    ),
                ),
                target=out.at(block * columns + ir.COLUMN),
                scale=scale,
            ),
        )

    kernel = ir.Kernel(
        name=name,
        buffers=(x, *((state,) if shape.shift else ()), *constants.parameters, out),
        units=work.blocks,
        body=work.chosen_block(ir.UNIT, mean),
        scratch=(features,),
        flops=2 * shape.pixels * shape.inputs * shape.outputs,
        note=f"pointwise and mean, tiles {tiles.rows} x {tiles.columns}",
    )
    return (kernel,)
