"""The inverted residual: shift, expand, depthwise, project and residual, hidden channels in cache.

Applies to [shift +] pointwise + activation, depthwise k x k (k odd) of any stride with padding
k // 2 + activation, pointwise [+ a residual], over NHWC. Without an expand the depthwise reads the
input itself; with a stem, the network's first convolution stands in the expand's place and reads
the frame's bytes line by line, so that neither its padded input nor its output is ever written.
Hidden channels are cut into blocks of ``tiles.expand.columns``; the last is padded with channels
that nothing reads.

Two forms:

banded  One kernel; a work unit is a band of output rows. Expanded rows live in a ring in scratch,
        [block][row of the ring][column][channel], with zero columns at both sides; rows above and
        below the image are zeros too, so that the depthwise tests no bound. A band keeps the rows
        that it shares with the band before; the first band of a call makes them itself.
phased  Two kernels, for small images. First a work unit is a block of hidden channels: expanded
        into a zero-bordered image that stays in the first-level cache, then depthwise into the
        buffer ``hidden``. Then the project, as a product. Bands would repeat too many rows here.

The depthwise result is [block of channels][pixel][channel], which the project reads in order.

Reached in MobileNetV2 (Zen 4): phased 95 to 99% of a core's peak, banded 93 to 96%, with the stem
86%. Large images want blocks of one vector over single rows: the ring stays in the first cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families import padding, product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import (
    accumulator_dtype,
    begins,
    dot_of,
    ends,
    input_dtype,
    residual_dtype,
    stage_buffers,
    terms_of,
    unpacked_dtype,
    weight_dtype,
)
from shiftedge.export.compiler.backends.cpu.families.dense_conv import DenseConv, window_row
from shiftedge.export.compiler.backends.cpu.families.inverted_residual_shape import (
    BlockArithmetic,
    BlockTiles,
    InvertedResidual,
    pack,
    tiles_for,
)
from shiftedge.export.compiler.backends.cpu.families.pointwise import stretches
from shiftedge.export.compiler.backends.cpu.families.product import (
    CHANNEL,
    PIXEL,
    Product,
    Stretch,
    blocked_stretches,
)
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    VectorUnit,
)
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.index import Const, Index, IndexLike, Var, index, minimum
from shiftedge.export.compiler.kernel_ir.kernel import (
    BEGIN,
    COLUMN,
    ROW,
    TERM,
    UNIT,
    Buffer,
    Copy,
    Fill,
    If,
    Kernel,
    Loop,
    Segment,
    Statement,
    Step,
    Tile,
    grid,
)

__all__ = ["BlockArithmetic", "BlockTiles", "InvertedResidual", "pack", "schedule", "tiles_for"]

Array = NDArray[np.float32]


def schedule(
    name: str, shape: InvertedResidual, tiles: BlockTiles, unit: VectorUnit
) -> tuple[Kernel, ...]:
    """One kernel, or two in turn when phased: ``name_hidden`` and ``name``.

    Parameters, each where the shape calls for it: x, state, scale and offset (of a stem's frame),
    expand_weight, expand_bias, depthwise_weight, depthwise_bias, project_weight, project_bias,
    residual, out. With codes each stage has a scale after its bias, and may have an offset behind.
    Phased: the first takes x to the depthwise's and writes hidden; the second takes hidden and the
    others.
    """
    return _Block(name, shape, tiles, unit).kernels()


class _Block:
    """Builds the kernels of one block."""

    def __init__(
        self, name: str, shape: InvertedResidual, tiles: BlockTiles, unit: VectorUnit
    ) -> None:
        if tiles.expand.columns % unit.lanes:
            raise ValueError(f"{name}: hidden channels go in whole vectors of {unit.lanes}")
        if tiles.band and shape.out_height % tiles.band:
            raise ValueError(f"{name}: bands of {tiles.band} do not divide {shape.out_height} rows")
        if shape.kernel % 2 == 0 or shape.kernel < 3:
            raise ValueError(f"{name}: a depthwise kernel is 3, 5, ..., got {shape.kernel}")
        stem = shape.stem
        if stem and (
            (stem.out_height, stem.out_width, stem.outputs, stem.inputs)
            != (shape.height, shape.width, shape.hidden, shape.inputs)
            or not (shape.expand and tiles.band)
            or shape.shift
        ):
            raise ValueError(f"{name}: the first convolution does not fit the block behind it")
        if not shape.expand and (shape.shift or shape.hidden != shape.inputs or not tiles.band):
            raise ValueError(f"{name}: without an expand there is no shift, no phase, no widening")
        self.name, self.shape, self.tiles = name, shape, tiles
        self.lanes, self.by_lane = unit.lanes, unit.by_lane
        self.block = tiles.expand.columns
        self.blocks = -(-shape.hidden // self.block)
        padded = self.blocks * self.block
        taps = shape.kernel * shape.kernel
        pixels = shape.height * shape.width
        self.out_pixels = shape.out_height * shape.out_width
        self.band_rows = tiles.band or shape.out_height
        self.band_pixels = self.band_rows * shape.out_width
        # Rows of expanded features kept at a time, and the width of one with its zero borders.
        self.ring = (self.band_rows - 1) * shape.stride + shape.kernel
        self.line = (shape.width + 2 * shape.pad) * self.block
        self.arithmetic = arithmetic = shape.arithmetic
        self.dtype = input_dtype(arithmetic.project if arithmetic else None)
        self.quantized = arithmetic is not None and arithmetic.quantized
        sums = accumulator_dtype(arithmetic.project if arithmetic else None)
        self.x = Buffer("x", pixels * shape.inputs, dtype=self.dtype)
        self.state = Buffer("state", pixels * max(1, shape.shift), dtype=self.dtype)
        lines = shape.stem.kernel[0] * shape.stem.padded.line if shape.stem else 0
        kind = shape.stem.padded.dtype if shape.stem else self.dtype
        self.lines = Buffer("lines", lines, "scratch", kind)
        size = shape.expand_rows * padded
        packed_dtype = weight_dtype(arithmetic.expand if arithmetic else None)
        self.expand_weight = Buffer("expand_weight", size, "weight", packed_dtype)
        self.expand_bias = Buffer("expand_bias", padded, "weight", sums)
        self.expand_scale = Buffer("expand_scale", padded, "weight")
        classes = shape.stem.classes if shape.stem and self.quantized else 1
        self.expand_offset = Buffer("expand_offset", classes * padded, "weight")
        # Codes that are kept whole take weights of their own type, and sums of whole numbers.
        self.unpacked_dtype = unpacked_dtype(arithmetic.depthwise if arithmetic else None)
        self.gather = shape.gather
        if self.gather:
            taps = shape.kernel * shape.packed_taps
        self.depthwise_weight = Buffer(
            "depthwise_weight", taps * padded, "weight", self.unpacked_dtype
        )
        kind = "float32" if self.unpacked_dtype == "float32" else "int32"
        self.depthwise_bias = Buffer("depthwise_bias", padded, "weight", kind)
        self.depthwise_scale, self.depthwise_offset = (
            Buffer(f"depthwise_{each}", padded, "weight") for each in ("scale", "offset")
        )
        # 16 bits a channel: twice as many are loaded at once.
        wide = unit.lanes * (4 // np.dtype(self.unpacked_dtype).itemsize)
        self.columns = wide if self.block % wide == 0 else unit.lanes
        size = product.packed_size(shape.outputs, shape.project_rows, tiles.project, self.lanes)
        packed_dtype = weight_dtype(arithmetic.project if arithmetic else None)
        self.project_weight = Buffer("project_weight", size, "weight", packed_dtype)
        kind = residual_dtype(arithmetic.project if arithmetic else None)
        self.residual = Buffer("residual", self.out_pixels * shape.outputs, dtype=kind)
        bias_size = -(-shape.outputs // self.lanes) * self.lanes
        self.project_bias = Buffer("project_bias", bias_size, "weight", sums)
        self.project_scale, self.project_offset = (
            Buffer(f"project_{each}", bias_size, "weight") for each in ("scale", "offset")
        )
        out = arithmetic.project.out if arithmetic else "float32"
        self.out = Buffer("out", self.out_pixels * shape.outputs, "output", out)

    def kernels(self) -> tuple[Kernel, ...]:
        return (self._banded(),) if self.tiles.band else self._phased()

    def _inputs(self) -> list[Buffer]:
        """Parameters of everything up to the depthwise."""
        if self.shape.stem:
            buffers = list(padding.inputs(self.shape.stem.padded))
        else:
            buffers = [self.x, *([self.state] if self.shape.shift else [])]
        if self.shape.expand:
            arithmetic = self.arithmetic.expand if self.arithmetic else None
            buffers += stage_buffers(
                arithmetic,
                self.expand_weight,
                self.expand_bias,
                self.expand_scale,
                self.expand_offset,
            )
        depthwise = stage_buffers(
            self.arithmetic.depthwise if self.arithmetic else None,
            self.depthwise_weight,
            self.depthwise_bias,
            self.depthwise_scale,
            self.depthwise_offset,
        )
        return [*buffers, *depthwise]

    def _outputs(self) -> list[Buffer]:
        """Parameters of the project."""
        residual = [self.residual] if self.shape.residual else []
        weights = stage_buffers(
            self.arithmetic.project if self.arithmetic else None,
            self.project_weight,
            self.project_bias,
            self.project_scale,
            self.project_offset,
        )
        return [*weights, *residual, self.out]

    @property
    def _border(self) -> float:
        """What stands for 0 in the expanded map."""
        return float(self.arithmetic.depthwise.zero) if self.arithmetic else 0.0

    # Banded

    def _banded(self) -> Kernel:
        shape, stride, kernel = self.shape, self.shape.stride, self.shape.kernel
        expanded = Buffer(
            "expanded", self.blocks * self.ring * self.line, "scratch", self.unpacked_dtype
        )
        size = self.blocks * self.band_pixels * self.block
        hidden = Buffer("hidden", size, "scratch", self.dtype)
        block, row = Var("hidden block"), Var("padded row")
        first = UNIT * (self.band_rows * stride)
        # Rows shared with the band before are in the ring already, but in a call's first band.
        shared = minimum(UNIT - BEGIN, 1) * max(0, kernel - stride)
        start = (block * self.ring + row % self.ring) * self.line
        zero = self._border
        empty = Fill(expanded.at(start + shape.pad * self.block), shape.width * self.block, zero)
        made = self._row(expanded, block, row - shape.pad, start)

        def make_row(image: tuple[Statement, ...], outside: Statement) -> Statement:
            inside = If(row.below(shape.height + shape.pad), image, (outside,))
            return If(row.below(shape.pad), (outside,), (inside,))

        def rows(statement: Statement) -> Statement:
            return Loop(row, first + shared, first + self.ring, (statement,))

        depthwise = self._depthwise(expanded, block, first, hidden)
        stages: tuple[Statement, ...]
        if shape.stem:
            # The frame's lines once for all blocks.
            every = (
                *self._stem_lines(shape.stem, row - shape.pad),
                _loop(block, self.blocks, *made),
            )
            stages = (
                rows(make_row(every, _loop(block, self.blocks, empty))),
                _loop(block, self.blocks, *depthwise),
            )
        else:
            stages = (_loop(block, self.blocks, rows(make_row(made, empty)), *depthwise),)
        side = shape.pad * self.block
        slot = Var("slot")
        line = (block * self.ring + slot) * self.line
        borders = (
            Fill(expanded.at(line), side, zero),
            Fill(expanded.at(line + (self.line - side)), side, zero),
        )
        work = self._project(hidden, self.band_pixels, UNIT * self.band_pixels)
        return Kernel(
            name=self.name,
            buffers=(*self._inputs(), *self._outputs()),
            units=shape.out_height // self.band_rows,
            neighbours=True,
            prologue=(_loop(block, self.blocks, _loop(slot, self.ring, *borders)),),
            body=(*stages, *work.all(" of project")),
            scratch=(expanded, hidden, *((self.lines,) if shape.stem else ())),
            flops=shape.flops,
            single_flops=shape.single_flops,
            note=self._note(f"bands of {self.band_rows} rows"),
        )

    def _row(
        self, expanded: Buffer, block: Index, row: Index, start: Index
    ) -> tuple[Statement, ...]:
        """Makes one image row of expanded features, from ``start`` (its left border) on; of a stem
        its lines are made before."""
        shape, column = self.shape, Var("x")
        if shape.expand:
            place = start + (PIXEL + shape.pad) * self.block + COLUMN
            sources, offset = self._pointwise(row * shape.width), CHANNEL + Const(0)
            if shape.stem:
                sources = (window_row(self.lines, shape.stem),)
                if self.quantized:
                    padded = self.blocks * self.block
                    offset = shape.stem.place_class(row, PIXEL) * padded + CHANNEL
            return self._expand(expanded, place, shape.width, sources, offset).block(block)

        def copy(count: int) -> Statement:
            source = self.x.at((row * shape.width + column) * shape.inputs + block * self.block)
            target = expanded.at(start + (column + shape.pad) * self.block)
            storage_offset = self.arithmetic.depthwise.dot.storage_offset if self.arithmetic else 0
            return _loop(column, shape.width, Copy(source, target, count, plus=storage_offset))

        full, rest = divmod(shape.hidden, self.block)
        if not rest:
            return (copy(self.block),)
        return (If(block.below(full), (copy(self.block),), (copy(rest),)),)

    def _stem_lines(self, stem: DenseConv, row: Index) -> tuple[Statement, ...]:
        """Makes the padded lines of the input that row ``row`` of the stem reads."""
        down = Var("line")
        number = row * stem.stride[0] + down
        line = padding.row(stem.padded, number, self.lines, down * stem.padded.line)
        return (_loop(down, stem.kernel[0], *line),)

    # Phased

    def _phased(self) -> tuple[Kernel, Kernel]:
        shape = self.shape
        rows = shape.height + 2 * shape.pad
        expanded = Buffer("expanded", rows * self.line, "scratch", self.unpacked_dtype)
        size = self.blocks * self.out_pixels * self.block
        written = Buffer("hidden", size, "output", self.dtype)
        read = Buffer("hidden", size, dtype=self.dtype)
        place = (
            (PIXEL // shape.width + shape.pad) * self.line
            + (PIXEL % shape.width + shape.pad) * self.block
            + COLUMN
        )
        pixels = shape.height * shape.width
        expand = self._expand(expanded, place, pixels, self._pointwise(0), CHANNEL + Const(0))
        work = self._project(read, self.out_pixels, 0)
        project_flops = 2 * self.out_pixels * shape.hidden * shape.outputs
        first = Kernel(
            name=f"{self.name}_hidden",
            buffers=(*self._inputs(), written),
            units=self.blocks,
            prologue=(Fill(expanded.at(0), expanded.size, self._border),),
            body=(
                *expand.block(UNIT),
                *self._depthwise(expanded, UNIT, Const(0), written),
            ),
            scratch=(expanded,),
            flops=shape.flops - project_flops,
            single_flops=shape.single_flops,
            note=self._note("phased"),
        )
        second = Kernel(
            name=self.name,
            buffers=(read, *self._outputs()),
            units=work.blocks * work.tile_count,
            body=work.unit(UNIT),
            flops=project_flops,
            note=self._note("phased"),
        )
        return first, second

    # Stages

    def _pointwise(self, first: IndexLike) -> tuple[Stretch, ...]:
        """The expand's inner loops, for pixels from ``first`` on."""
        shape = self.shape
        arithmetic = self.arithmetic.expand if self.arithmetic else None
        return stretches(self.x, self.state, shape.inputs, shape.shift, first + PIXEL, arithmetic)

    def _expand(
        self,
        expanded: Buffer,
        place: Index,
        pixels: int,
        sources: tuple[Stretch, ...],
        offset: Index,
    ) -> Product:
        """[Shift and] expand of ``pixels`` into ``place``; its offset in steps is at ``offset``."""
        shape = self.shape
        arithmetic = self.arithmetic.expand if self.arithmetic else None
        return Product(
            pixels=pixels,
            inputs=shape.expand_rows,
            outputs=self.blocks * self.block,
            stretches=sources,
            weight=self.expand_weight,
            start=begins(arithmetic, self.expand_bias.at(CHANNEL)),
            dot=dot_of(arithmetic),
            ends=ends(arithmetic, self.expand_scale.at(CHANNEL), self.expand_offset.at(offset)),
            target=expanded.at(place),
            activation=shape.expand_activation,
            tiles=self.tiles.expand,
            lanes=self.lanes,
            by_lane=self.by_lane,
        )

    def _depthwise(
        self, expanded: Buffer, block: Index, first: Index, hidden: Buffer
    ) -> tuple[Statement, ...]:
        """All output rows of a band, one block of channels; ``first`` is its first padded row."""
        shape, lanes, size = self.shape, self.columns, self.block
        y, tile, vector = Var("y"), Var("window"), Var("vector")
        down, right = Var("down"), Var("right")
        own = 0 if not self.tiles.band else block * (self.ring * self.line)
        width = shape.out_width
        arithmetic = self.arithmetic.depthwise if self.arithmetic else None

        def window(number: Index, pixels: int) -> Statement:
            pixel = number * self.tiles.window + ROW
            row = first + y * shape.stride + down
            line = row % self.ring if self.tiles.band else row
            channel = vector * lanes + COLUMN
            # Taps, or words of them.
            across = shape.packed_taps if self.gather else shape.kernel
            along = TERM if self.gather else right
            source = own + line * self.line + (pixel * shape.stride + along) * size + channel
            weight = ((block * shape.kernel + down) * across + along) * size + channel
            target = (block * self.band_pixels + y * width + pixel) * size + channel
            place = block * size + channel
            steps = (down,) if self.gather else (down, right)
            taps = tuple(Step(each, shape.kernel, True) for each in steps)
            return Tile(
                vectors=grid(pixels, lanes, lanes),
                columns=lanes,
                start=begins(arithmetic, self.depthwise_bias.at(place)),
                epilogue=ends(
                    arithmetic, self.depthwise_scale.at(place), self.depthwise_offset.at(place)
                ),
                segments=(
                    Segment(
                        taps,
                        expanded.at(source),
                        self.depthwise_weight.at(weight),
                        by_column=True,
                        terms=across if self.gather else 1,
                        dot=arithmetic.dot if arithmetic and self.gather else None,
                        gather=self.gather,
                    ),
                ),
                target=hidden.at(target),
                activation=shape.depthwise_activation,
            )

        full, rest = divmod(width, self.tiles.window)
        tiles: list[Statement] = []
        if full:
            tiles.append(_loop(tile, full, window(tile, self.tiles.window)))
        if rest:
            tiles.append(window(index(full), rest))
        if self.tiles.channels_outer:
            return (_loop(vector, size // lanes, _loop(y, self.band_rows, *tiles)),)
        return (_loop(y, self.band_rows, _loop(vector, size // lanes, *tiles)),)

    def _project(self, hidden: Buffer, pixels: int, first: IndexLike) -> Product:
        """Project of ``pixels``, which are the image's from pixel ``first`` on."""
        shape = self.shape
        at = (first + PIXEL) * shape.outputs + CHANNEL
        arithmetic = self.arithmetic.project if self.arithmetic else None
        terms = terms_of(arithmetic)
        residual = self.residual.at(at) if shape.residual else None
        return Product(
            pixels=pixels,
            inputs=shape.project_rows,
            outputs=shape.outputs,
            stretches=blocked_stretches(hidden, pixels, shape.hidden, self.block, terms),
            weight=self.project_weight,
            start=begins(arithmetic, self.project_bias.at(CHANNEL), residual),
            dot=dot_of(arithmetic),
            ends=ends(
                arithmetic,
                self.project_scale.at(CHANNEL),
                self.project_offset.at(CHANNEL),
                residual,
            ),
            target=self.out.at(at),
            activation=Activation.NONE,
            tiles=self.tiles.project,
            lanes=self.lanes,
            by_lane=self.by_lane,
        )

    def _note(self, form: str) -> str:
        expand, project = self.tiles.expand, self.tiles.project
        return (
            f"inverted residual, {form}, expand {expand.rows} x {expand.columns}, "
            f"depthwise {self.tiles.window} x {self.columns}, project {project.rows} x "
            f"{project.columns}"
        )


def _loop(variable: Var, extent: int, *body: Statement) -> Statement:
    return Loop(variable, Const(0), Const(extent), body)
