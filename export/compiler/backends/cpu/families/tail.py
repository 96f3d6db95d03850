"""The end of the network: pointwise + activation + mean over the image, before the dense layer.

The widest map of the network is never written: each work unit makes one block of its channels for
all pixels in scratch, which stays in the first-level cache, and sums it. The dense layer behind is
``pointwise`` on one pixel.

Reached on 7 x 7 x 320 -> 1280: 98% of a Zen 4 core's peak (116 of 118 GFLOP/s).
"""

from __future__ import annotations

from dataclasses import replace

from shiftedge.export.compiler.backends.cpu.families import product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import (
    accumulator_dtype,
    begins,
    dot_of,
    ends,
    input_dtype,
    stage_buffers,
    weight_dtype,
)
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise, stretches
from shiftedge.export.compiler.backends.cpu.families.product import CHANNEL, PIXEL, Product
from shiftedge.export.compiler.backends.cpu.families.tiles import Tiles, VectorUnit, default_tiles
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.index import Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import (
    COLUMN,
    UNIT,
    Buffer,
    Kernel,
    Segment,
    Statement,
    Step,
    Tile,
    grid,
)

__all__ = ["schedule", "tiles_for"]


def tiles_for(shape: Pointwise, unit: VectorUnit) -> Tiles:
    """The default tiles."""
    tiles = default_tiles(shape.pixels, shape.rows, shape.outputs, unit)
    return replace(tiles, blocks_outer=True)


def schedule(
    name: str,
    shape: Pointwise,
    tiles: Tiles,
    unit: VectorUnit,
    *,
    factor: float | None = None,
) -> Kernel:
    """The kernel: parameters x, [state], weight, bias, [scale, [offset]], out.

    ``out`` is the mean, (outputs,).

    Of codes, which ``shape.counting`` keeps whole and of which 0 stands for 0, ``factor`` makes
    their sum the mean; the sum is exact.

    Weights are packed by ``pointwise.pack``. A residual is refused, and so are folded tiles.
    """
    if shape.residual or tiles.folded:
        raise ValueError(f"{name}: the tail takes no residual and no folded tiles")
    lanes, columns = unit.lanes, tiles.columns
    arithmetic, dtype = shape.arithmetic, input_dtype(shape.arithmetic)
    x = Buffer("x", shape.pixels * shape.inputs, dtype=dtype)
    state = Buffer("state", shape.pixels * max(1, shape.shift), dtype=dtype)
    size = product.packed_size(shape.outputs, shape.rows, tiles, lanes)
    weight = Buffer("weight", size, "weight", weight_dtype(arithmetic))
    padded = -(-shape.outputs // lanes) * lanes
    bias = Buffer("bias", padded, "weight", accumulator_dtype(arithmetic))
    scale, offset = (Buffer(each, padded, "weight") for each in ("scale", "offset"))
    out = Buffer("out", shape.outputs, "output")
    kept = arithmetic.out if arithmetic else "float32"
    features = Buffer("features", shape.pixels * columns, "scratch", kept)
    work = Product(
        pixels=shape.pixels,
        inputs=shape.rows,
        outputs=shape.outputs,
        stretches=stretches(x, state, shape.inputs, shape.shift, PIXEL, arithmetic),
        weight=weight,
        start=begins(arithmetic, bias.at(CHANNEL)),
        target=features.at(PIXEL * columns + COLUMN),
        activation=shape.activation,
        tiles=tiles,
        lanes=lanes,
        by_lane=unit.by_lane,
        dot=dot_of(arithmetic),
        ends=ends(arithmetic, scale.at(CHANNEL), offset.at(CHANNEL)),
    )
    factor = 1.0 / shape.pixels if factor is None else factor
    body = work.chosen_block(
        UNIT,
        lambda block, valid: (
            _mean(features, columns, shape.pixels, out, block * columns, valid, lanes, factor),
        ),
    )
    return Kernel(
        name=name,
        buffers=(
            x,
            *((state,) if shape.shift else ()),
            *stage_buffers(arithmetic, weight, bias, scale, offset),
            out,
        ),
        units=work.blocks,
        body=body,
        scratch=(features,),
        flops=2 * shape.pixels * shape.inputs * shape.outputs,
        note=f"pointwise and mean, tiles {tiles.rows} x {tiles.columns}",
    )


def _mean(
    source: Buffer,
    pitch: int,
    pixels: int,
    out: Buffer,
    first: Index,
    columns: int,
    lanes: int,
    factor: float,
) -> Statement:
    """Sum, times ``factor``, over ``pixels``, ``pitch`` apart, of ``columns`` channels; to ``out``
    from ``first`` on."""
    pixel = Var("pixel")
    return Tile(
        vectors=grid(1, columns, lanes),
        columns=columns,
        start=(),
        segments=(
            Segment(
                (Step(pixel, pixels),), source.at(pixel * pitch + COLUMN), None, by_column=True
            ),
        ),
        target=out.at(first + COLUMN),
        activation=Activation.NONE,
        scale=factor,
    )
