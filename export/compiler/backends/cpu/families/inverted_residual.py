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

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.choose import choose
from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.conv_constants import (
    ConvConstants,
    constants_of,
    float_arithmetic,
)
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import conv, padding, product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32, Arithmetic
from shiftedge.export.compiler.backends.cpu.families.conv import (
    ConvShape,
    frame_arguments,
    weight_rows,
    window_row,
)
from shiftedge.export.compiler.backends.cpu.families.join import joined
from shiftedge.export.compiler.backends.cpu.families.keep import source_of
from shiftedge.export.compiler.backends.cpu.families.pointwise import stretches
from shiftedge.export.compiler.backends.cpu.families.product import (
    CHANNEL,
    PIXEL,
    Product,
    Stretch,
    blocked_stretches,
)
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    Tiles,
    VectorUnit,
    best_divisor,
    default_tiles,
    most_rows,
    tilings,
    window_pixels,
)
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import FusedKernel, InvertedResidualKernel, Linear
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Const, Index, IndexLike, Var, index, minimum
from shiftedge.export.compiler.numerics.bf16 import in_pairs
from shiftedge.export.compiler.numerics.requantize import exact_in_float32

_STAGES = ("expand", "depthwise", "project")
_GATHERED = 4
"""Values in a lane that is put together: bytes of 32 bits."""
_PHASED_PIXELS = 14 * 14  # with 32 hidden channels and borders 32 KiB, within any L1
_BAND_BYTES = 192 * 1024  # expanded and depthwise rows of a band, within any L2


@dataclass(frozen=True)
class BlockArithmetic:
    """Of each convolution of a block.

    The expanded map is kept unpacked. In int8 as float32 (AVX2) a filter of k x k of it sums up to
    255 * 127 * k^2, exact in float32 up to 22 x 22, so that the depthwise takes multiply-adds of
    float32, one each, where packed values would first have to be widened. In bf16 too it is
    float32.
    """

    expand: Arithmetic = FP32
    """Unused without an expand."""
    depthwise: Arithmetic = FP32
    """Its ``zero`` is the expanded map's border."""
    project: Arithmetic = FP32


@dataclass(frozen=True)
class BlockShape:
    height: int
    width: int
    inputs: int
    hidden: int
    outputs: int
    stride: int = 1
    kernel: int = 3
    """Odd; padded with kernel // 2 zeros at each side."""
    expand: bool = True
    """False: the depthwise reads the input; hidden must equal inputs."""
    stem: ConvShape | None = None
    """The network's first convolution in the place of the expand: its outputs are this block's
    hidden channels, its output's size this block's, its inputs these inputs."""
    shift: int = 0
    """Channels that the expand reads from the state; 0 for no shift."""
    residual: bool = False
    """Add a map of the output's shape, usually the block's input."""
    expand_activation: Activation = Activation.RELU6
    depthwise_activation: Activation = Activation.RELU6
    arithmetic: BlockArithmetic = BlockArithmetic()
    """In int8 activations are part of its output stages."""

    @property
    def narrow(self) -> bool:
        return self.arithmetic.depthwise.narrow

    @property
    def pad(self) -> int:
        return self.kernel // 2

    @property
    def out_height(self) -> int:
        return (self.height + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def out_width(self) -> int:
        return (self.width + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def expand_rows(self) -> int:
        """Rows of the expand's packed weights."""
        return sum(self.expand_runs)

    @property
    def expand_runs(self) -> tuple[int, ...]:
        """Of them, those of each of its innermost loops."""
        if self.stem:
            return self.stem.runs
        return self.arithmetic.expand.packed_runs(self.inputs, self.shift)

    @property
    def gather(self) -> ir.Gather | None:
        """How the depthwise puts packed lanes together, where it multiplies those."""
        gathers = self.arithmetic.depthwise.unpacked_dtype == "int32"
        return ir.Gather(self.kernel, self.stride) if gathers else None

    @property
    def packed_taps(self) -> int:
        """Then the lanes of a row of its window."""
        return -(-self.kernel // _GATHERED)

    @property
    def project_rows(self) -> int:
        """Rows of the project's packed weights."""
        return self.arithmetic.project.packed_rows(self.hidden)

    @property
    def flops(self) -> int:
        pixels, out_pixels = self.height * self.width, self.out_height * self.out_width
        depth = self.stem.depth if self.stem else self.inputs
        expand = 2 * pixels * depth * self.hidden if self.expand else 0
        taps = self.kernel * self.kernel
        return expand + 2 * out_pixels * self.hidden * (taps + self.outputs)

    @property
    def single_flops(self) -> int:
        """Of them, those of stages that multiply single numbers, or lanes that they gather: the
        depthwise, and an expand whose values are not packed."""
        single = self.expand and self.arithmetic.expand.dot is None
        return replace(self, outputs=0, expand=single).flops


@dataclass(frozen=True)
class BlockTiles:
    """Tiling of a block. ``expand.columns`` is the block of hidden channels of all stages."""

    band: int
    """Output rows of a work unit, a divisor of all; 0 for the phased form."""
    expand: Tiles
    window: int
    """Output pixels of a depthwise tile, of one vector of channels each."""
    project: Tiles
    channels_outer: bool = False
    """The depthwise takes one vector of channels over all rows of the band, with its weights in
    registers, rather than all vectors row by row."""

    def __str__(self) -> str:
        form = f"band{self.band}" if self.band else "phased"
        return f"{form}_{self.expand}_{self.project}"


def matches(kernel: FusedKernel, context: Context) -> bool:
    if not isinstance(kernel, InvertedResidualKernel):
        return False
    conv = kernel.depthwise.conv
    size, pad = conv.kernel[0], conv.kernel[0] // 2
    return (
        conv.kernel == (size, size)
        and size % 2 == 1
        and size >= 3
        and conv.stride[0] == conv.stride[1]
        and conv.padding == (pad,) * 4
        and exact_in_float32(conv)
    )


def lower(kernel: InvertedResidualKernel, context: Context) -> None:
    depthwise, project, unit = kernel.depthwise, kernel.project.conv, context.target.unit
    head = kernel.stem or kernel.expand
    first = (head or depthwise).conv
    shift, arguments = joined(context, kernel.join, first.inputs[0])
    stem = None if kernel.stem is None else conv.shape_of(kernel.stem.conv, context)
    stages = _constants(kernel, head, stem, context)
    arithmetic = {name: each.arithmetic for name, each in stages.items()}
    if stem is not None:
        stem = replace(stem, arithmetic=arithmetic["expand"])
        arguments |= frame_arguments(stem, context)
    height, width, _ = context.map_of(depthwise.conv.inputs[0])
    shape = BlockShape(
        height=height,
        width=width,
        inputs=context.map_of(first.inputs[0])[2],
        hidden=int(depthwise.conv.weight.shape[0]),
        outputs=int(project.weight.shape[0]),
        stride=depthwise.conv.stride[0],
        kernel=depthwise.conv.kernel[0],
        expand=head is not None,
        stem=stem,
        shift=shift,
        residual=kernel.residual is not None,
        expand_activation=Activation.NONE if head is None else head.activation,
        depthwise_activation=depthwise.activation,
        arithmetic=BlockArithmetic(**arithmetic),
    )
    tiles = choose(shape, context.target, candidates, schedule)
    kind = "first_block" if stem else "inverted_residual"
    name = context.name(kind, shape.arithmetic.project, tiles)
    arguments |= context.pack(name, pack(stages, shape, tiles, unit))
    arguments["out"] = context.value(kernel.out)
    if kernel.residual is not None:
        arguments["residual"] = source_of(context, kernel.residual)
    family = "first convolution and block" if stem else "inverted residual"
    context.call(schedule(name, shape, tiles, unit), arguments, family, kernel.name)


def _constants(
    kernel: InvertedResidualKernel, head: Linear | None, stem: ConvShape | None, context: Context
) -> dict[str, ConvConstants]:
    """Of each convolution, by name of its stage."""
    depthwise, project = kernel.depthwise, kernel.project
    if depthwise.conv.quantized_weight is None:
        # Numbers are rounded to bf16 for the project alone, which reads them so whatever their
        # size.
        first = float_arithmetic(context, (head or depthwise).conv, kernel.out, unpacked=True)
        unpacked = context.dtype_of(kernel.out) == "float32"
        packed = in_pairs(project.conv, context.graph)
        convs = (None if head is None else head.conv, depthwise.conv, project.conv)
        arithmetics = (
            first,
            replace(first, unpacked=False, packed=False),
            replace(first, unpacked=unpacked, packed=packed),
        )
        return {
            stage: ConvConstants(arithmetic, conv.weight, conv.bias)
            for stage, arithmetic, conv in zip(_STAGES, arithmetics, convs, strict=True)
            if conv is not None
        }
    stages = {}
    if head is not None:
        frame = stem if stem is not None and stem.frame else None
        out = depthwise.conv.inputs[0]
        stages["expand"] = constants_of(context, head, out, frame=frame, unpacked=True)
    out = project.conv.inputs[0]
    stages["depthwise"] = constants_of(context, depthwise, out, unpacked_source=True)
    residual = kernel.residual
    stages["project"] = constants_of(context, project, kernel.out, residual=residual)
    return stages


def tiles_for(shape: BlockShape, unit: VectorUnit) -> BlockTiles:
    out_pixels = shape.out_height * shape.out_width
    phased = shape.expand and not shape.stem and shape.height * shape.width <= _PHASED_PIXELS
    pixels = shape.height * shape.width if phased else shape.width
    expand = default_tiles(pixels, shape.expand_rows, shape.hidden, unit, line=shape.width)
    expand = Tiles(expand.rows, expand.columns, prefetch=phased and expand.prefetch)
    band = 0
    if not phased:
        row_bytes = 4 * shape.hidden * (shape.stride * shape.width + shape.out_width)
        band = best_divisor(shape.out_height, max(1, min(4, _BAND_BYTES // row_bytes)))
    project_pixels = out_pixels if phased else band * shape.out_width
    even = shape.hidden % 2 == 0 and not shape.narrow
    project = default_tiles(project_pixels, shape.project_rows, shape.outputs, unit, even=even)
    window = best_divisor(shape.out_width, window_pixels(unit))
    if window < 4:
        window = min(shape.out_width, window_pixels(unit))
    return BlockTiles(band, expand, window, project)


def candidates(shape: BlockShape, target: CpuVariant) -> list[BlockTiles]:
    unit = target.unit
    default = tiles_for(shape, unit)
    line = shape.width if default.band else shape.height * shape.width
    bands = {default.band}
    if default.band:
        bands |= {band for band in (1, 2, 4) if shape.out_height % band == 0}
    windows = {default.window, best_divisor(shape.out_width, window_pixels(unit))}
    widest = -(-shape.hidden // unit.lanes) * unit.lanes
    every = [default]
    for expand in tilings(default.expand, line, shape.hidden, unit):
        if expand.columns > widest:
            continue
        for band in sorted(bands):
            for window in sorted(windows):
                outer = bool(band)
                every.append(
                    replace(default, band=band, expand=expand, window=window, channels_outer=outer)
                )
    return [tiles for tiles in every if not _crowded(tiles, shape, unit)] or every


def _crowded(tiles: BlockTiles, shape: BlockShape, unit: VectorUnit) -> bool:
    """Whether LLVM puts a sum on the stack: seen on NEON where a tile that fills the registers is
    part of an image's line, whose places in the bordered image then take registers too."""
    rows = tiles.expand.rows
    if unit.dot is not None and unit.dot.pairs:
        return False  # more registers are left free than that
    full = rows >= most_rows(unit, tiles.expand.columns // unit.lanes)
    return unit.by_lane and not tiles.band and full and rows < shape.width


def pack(
    stages: dict[str, ConvConstants], shape: BlockShape, tiles: BlockTiles, unit: VectorUnit
) -> dict[str, NDArray[Any]]:
    """The constants as the kernels read them, by name of their parameters.

    ``stages``: of "expand" (hidden, inputs), or a stem's (hidden, inputs, kernel height, kernel
    width); "depthwise" (hidden, kernel, kernel); "project" (outputs, hidden).
    """
    block = tiles.expand.columns
    more = -shape.hidden % block
    packed = {"depthwise": _packed_depthwise(stages["depthwise"], shape, block)}
    project = stages["project"]
    arithmetic = project.arithmetic
    packed["project"] = product.pack(
        project,
        arithmetic.packed_inputs(project.weight.reshape(shape.outputs, -1)),
        tiles.project,
        unit.lanes,
        product.blocked_runs(shape.hidden, block, arithmetic.terms),
    )
    if shape.expand:
        expand = stages["expand"]
        if shape.stem:
            rows = weight_rows(expand.weight, shape.stem)
        else:
            inputs = expand.weight.reshape(shape.hidden, -1)
            rows = expand.arithmetic.packed_inputs(inputs, shape.shift)
        rows = np.pad(rows, ((0, more), (0, 0)))
        packed["expand"] = {
            "weight": product.pack_weights(
                rows, tiles.expand, unit.lanes, expand.arithmetic.dot, shape.expand_runs
            ),
            **expand.packed(lambda values: _widened(values, more)),
        }
    return {
        f"{stage}_{name}": values
        for stage, constants in packed.items()
        for name, values in constants.items()
    }


def _packed_depthwise(
    constants: ConvConstants, shape: BlockShape, block: int
) -> dict[str, NDArray[Any]]:
    """Weights as [block][tap][channel], of the type that the expanded map has."""
    dtype, taps = constants.arithmetic.unpacked_dtype, shape.kernel * shape.kernel
    more = -shape.hidden % block
    weight = np.pad(constants.weight.reshape(shape.hidden, taps), ((0, more), (0, 0)))
    if shape.gather:
        packed = _gathered(weight, shape, block)
    else:
        packed = weight.reshape(-1, block, taps).transpose(0, 2, 1).ravel().astype(dtype)

    def vector(values: NDArray[Any]) -> NDArray[Any]:
        return _widened(values.astype(np.float32) if dtype == "float32" else values, more)

    return {"weight": packed, **constants.packed(vector)}


def _widened(values: NDArray[Any], more: int) -> NDArray[Any]:
    """(..., channels) with so many channels more, of which nothing is read."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, more)]).ravel()


def _gathered(weight: NDArray[Any], shape: BlockShape, block: int) -> NDArray[Any]:
    """(channels, taps), int8, as [block][row of the window][lane][channel]; see ``Gather``."""
    rows = weight.reshape(-1, shape.kernel, shape.kernel)
    more = _GATHERED * shape.packed_taps - shape.kernel
    values = np.ascontiguousarray(np.pad(rows, ((0, 0), (0, 0), (more, 0))))
    lanes = values.view(np.int32).reshape(-1, block, shape.kernel * shape.packed_taps)
    packed: NDArray[Any] = lanes.transpose(0, 2, 1).ravel()
    return packed


def schedule(
    name: str, shape: BlockShape, tiles: BlockTiles, unit: VectorUnit
) -> tuple[ir.Kernel, ...]:
    """One kernel, or two in turn when phased: ``name_hidden`` and ``name``.

    Parameters, each where the shape calls for it: x, state, scale and offset (of a stem's frame),
    expand_weight, expand_bias, depthwise_weight, depthwise_bias, project_weight, project_bias,
    residual, out. In int8 each stage has a scale after its bias, and may have an offset behind.
    Phased: the first takes x to the depthwise's and writes hidden; the second takes hidden and the
    others.
    """
    block = _Block(name, shape, tiles, unit)
    return (block.banded(),) if tiles.band else block.phased()


class _Block:
    """Builds the kernels of one block."""

    def __init__(self, name: str, shape: BlockShape, tiles: BlockTiles, unit: VectorUnit) -> None:
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
        self.unit, self.arithmetic = unit, shape.arithmetic
        expand, depthwise, project = (getattr(shape.arithmetic, each) for each in _STAGES)
        self.dtype = project.input_dtype
        self.border = float(depthwise.zero)  # what stands for 0 in the expanded map
        self.x = ir.Buffer("x", pixels * shape.inputs, dtype=self.dtype)
        self.state = ir.Buffer("state", pixels * max(1, shape.shift), dtype=self.dtype)
        lines = shape.stem.kernel[0] * shape.stem.padded.line if shape.stem else 0
        kind = shape.stem.padded.dtype if shape.stem else self.dtype
        self.lines = ir.Buffer("lines", lines, "scratch", kind)
        classes = shape.stem.classes if shape.stem and expand.quantized else 1
        self.expand = expand.buffers(
            shape.expand_rows * padded, padded, prefix="expand_", classes=classes
        )
        self.gather = shape.gather
        if self.gather:
            taps = shape.kernel * shape.packed_taps
        self.unpacked_dtype = depthwise.unpacked_dtype
        self.depthwise = depthwise.buffers(
            taps * padded, padded, prefix="depthwise_", dtype=self.unpacked_dtype
        )
        # 16 bits a channel: twice as many are loaded at once.
        wide = unit.lanes * (4 // np.dtype(self.unpacked_dtype).itemsize)
        self.columns = wide if self.block % wide == 0 else unit.lanes
        self.project = product.buffers(
            project, shape.outputs, shape.project_rows, tiles.project, unit.lanes, prefix="project_"
        )
        size = self.out_pixels * shape.outputs
        self.residual = ir.Buffer("residual", size, dtype=project.residual_dtype)
        self.out = ir.Buffer("out", size, "output", project.output_dtype)

    def _inputs(self) -> list[ir.Buffer]:
        """Parameters of everything up to the depthwise."""
        if self.shape.stem:
            buffers = list(padding.inputs(self.shape.stem.padded))
        else:
            buffers = [self.x, *([self.state] if self.shape.shift else [])]
        if self.shape.expand:
            buffers += self.expand.parameters
        return [*buffers, *self.depthwise.parameters]

    def _outputs(self) -> list[ir.Buffer]:
        """Parameters of the project."""
        residual = [self.residual] if self.shape.residual else []
        return [*self.project.parameters, *residual, self.out]

    # Banded

    def banded(self) -> ir.Kernel:
        shape, stride, kernel = self.shape, self.shape.stride, self.shape.kernel
        expanded = ir.Buffer(
            "expanded", self.blocks * self.ring * self.line, "scratch", self.unpacked_dtype
        )
        size = self.blocks * self.band_pixels * self.block
        hidden = ir.Buffer("hidden", size, "scratch", self.dtype)
        block, row = Var("hidden block"), Var("padded row")
        first = ir.UNIT * (self.band_rows * stride)
        # Rows shared with the band before are in the ring already, but in a call's first band.
        shared = minimum(ir.UNIT - ir.BEGIN, 1) * max(0, kernel - stride)
        start = (block * self.ring + row % self.ring) * self.line
        zero = self.border
        empty = ir.Fill(expanded.at(start + shape.pad * self.block), shape.width * self.block, zero)
        made = self._row(expanded, block, row - shape.pad, start)

        def make_row(image: tuple[ir.Statement, ...], outside: ir.Statement) -> ir.Statement:
            inside = ir.If(row.below(shape.height + shape.pad), image, (outside,))
            return ir.If(row.below(shape.pad), (outside,), (inside,))

        def rows(statement: ir.Statement) -> ir.Statement:
            return ir.Loop(row, first + shared, first + self.ring, (statement,))

        depthwise = self._depthwise(expanded, block, first, hidden)
        stages: tuple[ir.Statement, ...]
        if shape.stem:
            # The frame's lines once for all blocks.
            # The padded lines of the input that the row reads.
            stem, down = shape.stem, Var("line")
            number = (row - shape.pad) * stem.stride[0] + down
            lines = padding.row(stem.padded, number, self.lines, down * stem.padded.line)
            every = (_loop(down, stem.kernel[0], *lines), _loop(block, self.blocks, *made))
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
            ir.Fill(expanded.at(line), side, zero),
            ir.Fill(expanded.at(line + (self.line - side)), side, zero),
        )
        work = self._project(hidden, self.band_pixels, ir.UNIT * self.band_pixels)
        return ir.Kernel(
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
        self, expanded: ir.Buffer, block: Index, row: Index, start: Index
    ) -> tuple[ir.Statement, ...]:
        """Makes one image row of expanded features, from ``start`` (its left border) on; of a stem
        its lines are made before."""
        shape, column = self.shape, Var("x")
        if shape.expand:
            place = start + (PIXEL + shape.pad) * self.block + ir.COLUMN
            sources, offset = self._pointwise(row * shape.width), None
            if shape.stem:
                sources = (window_row(self.lines, shape.stem),)
                if self.arithmetic.expand.quantized:
                    padded = self.blocks * self.block
                    offset = shape.stem.place_class(row, PIXEL) * padded + CHANNEL
            return self._expand(expanded, place, shape.width, sources, offset).block(block)

        def copy(count: int) -> ir.Statement:
            source = self.x.at((row * shape.width + column) * shape.inputs + block * self.block)
            target = expanded.at(start + (column + shape.pad) * self.block)
            plus = self.arithmetic.depthwise.instruction.storage_offset
            return _loop(column, shape.width, ir.Copy(source, target, count, plus=plus))

        full, rest = divmod(shape.hidden, self.block)
        if not rest:
            return (copy(self.block),)
        return (ir.If(block.below(full), (copy(self.block),), (copy(rest),)),)

    # Phased

    def phased(self) -> tuple[ir.Kernel, ir.Kernel]:
        shape = self.shape
        rows = shape.height + 2 * shape.pad
        expanded = ir.Buffer("expanded", rows * self.line, "scratch", self.unpacked_dtype)
        size = self.blocks * self.out_pixels * self.block
        written = ir.Buffer("hidden", size, "output", self.dtype)
        read = ir.Buffer("hidden", size, dtype=self.dtype)
        place = (
            (PIXEL // shape.width + shape.pad) * self.line
            + (PIXEL % shape.width + shape.pad) * self.block
            + ir.COLUMN
        )
        pixels = shape.height * shape.width
        expand = self._expand(expanded, place, pixels, self._pointwise(0))
        work = self._project(read, self.out_pixels, 0)
        project_flops = 2 * self.out_pixels * shape.hidden * shape.outputs
        first = ir.Kernel(
            name=f"{self.name}_hidden",
            buffers=(*self._inputs(), written),
            units=self.blocks,
            prologue=(ir.Fill(expanded.at(0), expanded.size, self.border),),
            body=(*expand.block(ir.UNIT), *self._depthwise(expanded, ir.UNIT, Const(0), written)),
            scratch=(expanded,),
            flops=shape.flops - project_flops,
            single_flops=shape.single_flops,
            note=self._note("phased"),
        )
        second = ir.Kernel(
            name=self.name,
            buffers=(read, *self._outputs()),
            units=work.blocks * work.tile_count,
            body=work.work_unit(ir.UNIT),
            flops=project_flops,
            note=self._note("phased"),
        )
        return first, second

    # Stages

    def _pointwise(self, first: IndexLike) -> tuple[Stretch, ...]:
        """The expand's inner loops, for pixels from ``first`` on."""
        shape = self.shape
        pixel = first + PIXEL
        arithmetic = self.arithmetic.expand
        return stretches(self.x, self.state, shape.inputs, shape.shift, pixel, arithmetic)

    def _expand(
        self,
        expanded: ir.Buffer,
        place: Index,
        pixels: int,
        sources: tuple[Stretch, ...],
        offset: Index | None = None,
    ) -> Product:
        """[Shift and] expand of ``pixels`` into ``place``; see ``Product`` for ``offset``."""
        return Product(
            pixels=pixels,
            inputs=self.shape.expand_rows,
            outputs=self.blocks * self.block,
            stretches=sources,
            constants=self.expand,
            offset=offset,
            target=expanded.at(place),
            activation=self.shape.expand_activation,
            tiles=self.tiles.expand,
            unit=self.unit,
        )

    def _depthwise(
        self, expanded: ir.Buffer, block: Index, first: Index, hidden: ir.Buffer
    ) -> tuple[ir.Statement, ...]:
        """All output rows of a band, one block of channels; ``first`` is its first padded row."""
        shape, lanes, size = self.shape, self.columns, self.block
        y, tile, vector = Var("y"), Var("window"), Var("vector")
        down, right = Var("down"), Var("right")
        own = 0 if not self.tiles.band else block * (self.ring * self.line)
        width = shape.out_width
        dot = self.arithmetic.depthwise.instruction if self.gather else None

        def window(number: Index, pixels: int) -> ir.Statement:
            pixel = number * self.tiles.window + ir.ROW
            row = first + y * shape.stride + down
            line = row % self.ring if self.tiles.band else row
            channel = vector * lanes + ir.COLUMN
            # Taps, or packed lanes of them.
            across = shape.packed_taps if self.gather else shape.kernel
            along = ir.TERM if self.gather else right
            source = own + line * self.line + (pixel * shape.stride + along) * size + channel
            weight = ((block * shape.kernel + down) * across + along) * size + channel
            target = (block * self.band_pixels + y * width + pixel) * size + channel
            place = block * size + channel
            steps = (down,) if self.gather else (down, right)
            taps = tuple(ir.SegmentLoop(each, shape.kernel, True) for each in steps)
            return ir.Tile(
                vectors=ir.grid(pixels, lanes, lanes),
                columns=lanes,
                start=self.depthwise.start(place),
                epilogue=self.depthwise.epilogue(place),
                segments=(
                    ir.Segment(
                        taps,
                        expanded.at(source),
                        self.depthwise.weight.at(weight),
                        by_column=True,
                        terms=across if self.gather else 1,
                        dot=dot,
                        gather=self.gather,
                    ),
                ),
                target=hidden.at(target),
                activation=shape.depthwise_activation,
            )

        full, rest = divmod(width, self.tiles.window)
        tiles: list[ir.Statement] = []
        if full:
            tiles.append(_loop(tile, full, window(tile, self.tiles.window)))
        if rest:
            tiles.append(window(index(full), rest))
        if self.tiles.channels_outer:
            return (_loop(vector, size // lanes, _loop(y, self.band_rows, *tiles)),)
        return (_loop(y, self.band_rows, _loop(vector, size // lanes, *tiles)),)

    def _project(self, hidden: ir.Buffer, pixels: int, first: IndexLike) -> Product:
        """Project of ``pixels``, which are the image's from pixel ``first`` on."""
        shape = self.shape
        at = (first + PIXEL) * shape.outputs + CHANNEL
        terms = self.arithmetic.project.terms
        return Product(
            pixels=pixels,
            inputs=shape.project_rows,
            outputs=shape.outputs,
            stretches=blocked_stretches(hidden, pixels, shape.hidden, self.block, terms),
            constants=self.project,
            target=self.out.at(at),
            residual=self.residual.at(at) if shape.residual else None,
            tiles=self.tiles.project,
            unit=self.unit,
        )

    def _note(self, form: str) -> str:
        expand, project = self.tiles.expand, self.tiles.project
        return (
            f"inverted residual, {form}, expand {expand.rows} x {expand.columns}, "
            f"depthwise {self.tiles.window} x {self.columns}, project {project.rows} x "
            f"{project.columns}"
        )


def _loop(variable: Var, extent: int, *body: ir.Statement) -> ir.Statement:
    return ir.Loop(variable, Const(0), Const(extent), body)
