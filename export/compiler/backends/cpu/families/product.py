"""The packed matrix product, shared by families: pixels x inputs times inputs x outputs.

Output channels are cut into blocks of ``tiles.columns``; the last may be narrower and is padded to
whole vectors in the packed weights, never in the features. Pixels are cut into tiles of
``tiles.rows`` and one shorter tile for what remains. So at most four tiles are generated, and none
tests a bound inside its loop.

Weights are packed in the order they are read: [block][input][column of the block].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants
from shiftedge.export.compiler.backends.cpu.families import pairs
from shiftedge.export.compiler.backends.cpu.families.arithmetic import Arithmetic, StageBuffers
from shiftedge.export.compiler.backends.cpu.families.tiles import Tiles, VectorUnit
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Const, Index, IndexLike, Var, index, minimum

Array = NDArray[np.float32]
PIXEL = Var("pixel")
"""Stands for the pixel in a product's addresses."""
BLOCK = Var("block of channels")
"""Stands for the block of output channels in a product's addresses."""
CHANNEL = Var("channel")
"""Stands for the output channel in a product's addresses."""
_CACHE_LINE = 64  # bytes a prefetch brings
_LANES_BY = 4
"""Numbers that are loaded at once where multiply-adds take them from lanes: a NEON register."""


@dataclass(frozen=True)
class Stretch:
    """Input channels that one buffer holds: a segment of the inner loop."""

    steps: tuple[ir.SegmentLoop, ...]
    source: ir.Access
    """Over PIXEL and the steps."""
    row: Index
    """Which row of the weights, over the steps."""
    plus: int = 0
    """Added to each packed value, see ``Segment``."""


@dataclass(frozen=True)
class Product:
    """A product and its tiling; makes tiles for any of its blocks."""

    pixels: int
    inputs: int
    """Rows of the weights: the sum of all stretches."""
    outputs: int
    stretches: tuple[Stretch, ...]
    constants: StageBuffers
    """Where values are packed, stretches and ``inputs`` are of packed lanes."""
    target: ir.Access
    """Over PIXEL and CHANNEL."""
    tiles: Tiles
    unit: VectorUnit
    """Of the vectors that are used, which may be narrower than the target's."""
    activation: Activation = Activation.NONE
    """Of int8 it is in the epilogue instead."""
    residual: ir.Access | None = None
    """What is added, over PIXEL and CHANNEL."""
    channel: Index = CHANNEL
    """Where a channel's constants are, over CHANNEL."""
    offset: Index | None = None
    """Where its offset is, over PIXEL and CHANNEL, if that is not ``channel``."""

    @property
    def lanes(self) -> int:
        """Of a vector."""
        return self.unit.lanes

    @property
    def dot(self) -> ir.Dot | None:
        """How packed values are multiplied."""
        return self.constants.arithmetic.dot

    def __post_init__(self) -> None:
        tiles = self.tiles
        rest = self.lanes // 2 if tiles.folded else 0
        if tiles.columns % self.lanes != rest or (tiles.folded and self.outputs % tiles.columns):
            raise ValueError(
                f"{self.outputs} channels in blocks of {tiles.columns}: blocks are multiples of "
                f"{self.lanes}{' and a half, and divide the channels' if tiles.folded else ''}"
            )
        if (
            self.dot is not None
            and self.dot.pairs
            and not (self.unit.by_lane and self.lanes == pairs.LANES)
        ):
            raise ValueError("sums of pairs take a register of packed lanes at once")
        if tiles.folded and not even(self.stretches):
            raise ValueError("folded tiles take inputs in even numbers from each buffer")

    @property
    def blocks(self) -> int:
        """Blocks of output channels, a narrower last one included."""
        return -(-self.outputs // self.tiles.columns)

    @property
    def tile_count(self) -> int:
        """Tiles of pixels, a shorter last one included."""
        return -(-self.pixels // self.tiles.rows)

    def one(self, block: Index, tile: Index) -> tuple[ir.Statement, ...]:
        """The tile at a position of the grid, chosen by the numbers."""
        rows = self.pixels // self.tiles.rows

        def row_of_tiles(at: Index, whole: bool) -> tuple[ir.Statement, ...]:
            return _either(
                tile, rows, self.tile_count, lambda number, all_rows: (
                    self._tile(at, number, whole, all_rows),
                )
            )  # fmt: skip

        return _either(block, self.outputs // self.tiles.columns, self.blocks, row_of_tiles)

    def work_unit(self, number: Index) -> tuple[ir.Statement, ...]:
        """The tile that work unit ``number`` does, of ``blocks * tile_count``."""
        if self.tiles.blocks_outer:
            return self.one(number // self.tile_count, number % self.tile_count)
        return self.one(number % self.blocks, number // self.blocks)

    def all(self, suffix: str = "") -> tuple[ir.Statement, ...]:
        """Loops over all of it; ``suffix`` sets the variables' names apart."""
        full = self.outputs // self.tiles.columns
        return _each(
            Var("block" + suffix),
            full,
            self.blocks,
            lambda block, whole: self.block(block, suffix, whole),
        )

    def block(self, block: Index, suffix: str = "", whole: bool = True) -> tuple[ir.Statement, ...]:
        """A loop over all pixels for one block of channels, by default one of full width."""
        return _each(
            Var("tile" + suffix),
            self.pixels // self.tiles.rows,
            self.tile_count,
            lambda tile, rows: (self._tile(block, tile, whole, rows),),
        )

    def chosen_block(
        self, number: Index, after: Callable[[Index, int], tuple[ir.Statement, ...]]
    ) -> tuple[ir.Statement, ...]:
        """All pixels for block ``number``, then ``after(block, its valid columns)``."""
        columns = self.tiles.columns
        return _either(
            number,
            self.outputs // columns,
            self.blocks,
            lambda at, whole: (
                *self.block(at, whole=whole),
                *after(at, columns if whole else self.outputs % columns),
            ),
        )

    def _tile(self, block: Index, tile: Index, whole: bool, all_rows: bool) -> ir.Tile:
        """``whole``: a block of the full width; ``all_rows``: a tile of the full height."""
        rows = self.tiles.rows if all_rows else self.pixels % self.tiles.rows
        columns = self.tiles.columns if whole else self.outputs % self.tiles.columns
        first = block * self.tiles.columns
        constants = self.constants
        epilogue = constants.epilogue(self.channel, self.residual, self.offset)
        here: dict[Var, IndexLike] = {
            PIXEL: tile * self.tiles.rows + ir.ROW,
            CHANNEL: first + ir.COLUMN,
            BLOCK: block,
        }
        return ir.Tile(
            vectors=(ir.folded_grid if self.tiles.folded else ir.grid)(rows, columns, self.lanes),
            columns=columns,
            start=tuple(
                _replace(access, here) for access in constants.start(self.channel, self.residual)
            ),
            segments=tuple(
                segment
                for stretch in self.stretches
                for segment in self._segments(stretch, block, tile, columns, here)
            ),
            target=_replace(self.target, here),
            activation=self.activation,
            epilogue=None if epilogue is None else _placed(epilogue, here),
        )

    @property
    def _block_size(self) -> int:
        return self.inputs * _width(self.tiles.columns, self.tiles, self.lanes)

    def _segments(
        self, stretch: Stretch, block: Index, tile: Index, columns: int, here: dict[Var, IndexLike]
    ) -> tuple[ir.Segment, ...]:
        if self.tiles.folded:
            return (self._folded_segment(stretch, block, columns, here),)

        def made(part: Stretch, terms: int) -> ir.Segment:
            return self._segment(part, block, tile, columns, here, terms)

        inner = stretch.steps[-1]
        quads, rest = divmod(inner.extent, _LANES_BY)
        if not self.unit.by_lane or (quads == 0 and self.dot is None):
            return (made(stretch, 1),)
        result, done = [], quads * _LANES_BY
        if quads:
            # Whole vectors of numbers first, what is left one by one.
            number = Var("quad")
            whole = _with_inner(stretch, number, quads, number * _LANES_BY + ir.TERM)
            result.append(made(whole, _LANES_BY))
        if rest and self.dot is not None:
            # Packed lanes that are less than a vector, from one.
            result.append(made(_with_inner(stretch, Var("few"), 1, ir.TERM + done), rest))
        elif rest:
            left = _with_inner(stretch, inner.variable, rest, inner.variable + done)
            result.append(made(left, 1))
        return tuple(result)

    def _segment(
        self,
        stretch: Stretch,
        block: Index,
        tile: Index,
        columns: int,
        here: dict[Var, IndexLike],
        terms: int,
    ) -> ir.Segment:
        width = _width(columns, self.tiles, self.lanes)
        weight = self.constants.weight.at(
            block * self._block_size + stretch.row * width + ir.COLUMN
        )
        ahead = None
        if self.tiles.prefetch and self.blocks > 1 and self.tiles.blocks_outer:
            row = stretch.row.replace({ir.TERM: 0})
            numbers = _CACHE_LINE // np.dtype(self.constants.weight.dtype).itemsize
            line = (tile * self.inputs + row) * numbers
            last = self.constants.weight.size - numbers
            ahead = self.constants.weight.at(minimum((block + 1) * self._block_size + line, last))
        source = _replace(stretch.source, here)
        return ir.Segment(
            stretch.steps,
            source,
            weight,
            terms=terms,
            by_lane=terms > 1 or (self.unit.by_lane and self.dot is not None),
            prefetch=ahead,
            dot=self.dot,
            plus=stretch.plus,
        )

    def _folded_segment(
        self, stretch: Stretch, block: Index, columns: int, here: dict[Var, IndexLike]
    ) -> ir.Segment:
        inner = stretch.steps[-1]
        two = Var("two")
        halved = _with_inner(stretch, two, inner.extent // 2, two * 2 + ir.TERM)
        first = halved.row.replace({ir.TERM: 0})
        # Both terms' whole vectors, then the half vectors of both in turn.
        whole = columns - self.lanes // 2
        size = self.inputs * self.tiles.columns
        place = block * size + first * columns + ir.TERM * whole + ir.COLUMN
        source = _replace(halved.source, here)
        return ir.Segment(halved.steps, source, self.constants.weight.at(place), terms=2)


def _with_inner(stretch: Stretch, variable: Var, extent: int, value: Index) -> Stretch:
    """The stretch with another innermost loop, whose variable gives the old one's ``value``."""
    *outer, inner = stretch.steps
    here: dict[Var, IndexLike] = {inner.variable: value}
    return Stretch(
        (*outer, ir.SegmentLoop(variable, extent)),
        _replace(stretch.source, here),
        stretch.row.replace(here),
        stretch.plus,
    )


def blocked_stretches(
    source: ir.Buffer, pixels: int, inputs: int, block: int, terms: int = 1
) -> tuple[Stretch, ...]:
    """Input channels stored as [block of channels][pixel][channel of the block].

    A depthwise stage leaves them like that; what is read in the inner loop is then contiguous.
    ``terms`` are the channels of a lane; what fills a block beyond the last may be anything.
    """
    outer, k = Var("kb"), Var("k")
    full, rest = divmod(inputs, block)
    stretches = []
    if full:
        packed = block // terms
        steps = (
            (ir.SegmentLoop(outer, full), ir.SegmentLoop(k, packed))
            if full > 1
            else (ir.SegmentLoop(k, packed),)
        )
        number: IndexLike = outer if full > 1 else 0
        place = source.at((number * index(pixels) + PIXEL) * block + k * terms)
        stretches.append(Stretch(steps, place, number * index(packed) + k))
    if rest:
        place = source.at((PIXEL + full * pixels) * block + k * terms)
        stretches.append(
            Stretch((ir.SegmentLoop(k, -(-rest // terms)),), place, k + full * block // terms)
        )
    return tuple(stretches)


def blocked_runs(inputs: int, block: int, terms: int) -> tuple[int, ...]:
    """Packed lanes of the innermost loops of :func:`blocked_stretches`."""
    full, rest = divmod(inputs, block)
    return (*(block // terms for _ in range(full)), -(-rest // terms))


def buffers(
    arithmetic: Arithmetic, outputs: int, inputs: int, tiles: Tiles, lanes: int, *, prefix: str = ""
) -> StageBuffers:
    """A product's constants as parameters."""
    channels = -(-outputs // lanes) * lanes
    size = packed_size(outputs, inputs, tiles, lanes)
    return arithmetic.buffers(size, channels, prefix=prefix)


def pack(
    constants: ConvConstants, rows: NDArray[Any], tiles: Tiles, lanes: int, runs: Sequence[int]
) -> dict[str, NDArray[Any]]:
    """The constants of a convolution as a product reads them, by name of the parameters: ``rows``
    are its weights, (outputs, inputs) in the order of reading, inputs packed, and ``runs`` the
    inputs of each stretch's innermost loops."""
    weight = pack_weights(rows, tiles, lanes, constants.arithmetic.dot, runs)
    return {"weight": weight, **constants.packed(lambda values: pack_bias(values, lanes))}


def pack_weights(
    weight: NDArray[Any],
    tiles: Tiles,
    lanes: int,
    dot: ir.Dot | None = None,
    runs: Sequence[int] = (),
) -> NDArray[Any]:
    """(outputs, inputs) to [block][input][column], columns padded with zeros to whole vectors.

    float32, or packed lanes in the order that ``dot`` wants them in; ``runs`` are the lanes of each
    stretch's innermost loops.
    """
    packed = []
    for first in range(0, len(weight), tiles.columns):
        block = weight[first : first + tiles.columns].T
        if tiles.folded:
            packed.append(_fold(block, tiles.columns - lanes // 2).ravel())
        else:
            width = _width(block.shape[1], tiles, lanes)
            block = np.pad(block, ((0, 0), (0, width - block.shape[1])))
            if dot is not None and dot.pairs:
                block = pairs.arranged(block, runs)
            packed.append(block.ravel())
    return np.ascontiguousarray(np.concatenate(packed), dtype=_kept(weight))


def pack_bias(bias: NDArray[Any], lanes: int) -> NDArray[Any]:
    """(..., outputs), padded with zeros to whole vectors."""
    more = [(0, 0)] * (bias.ndim - 1) + [(0, -bias.shape[-1] % lanes)]
    return np.pad(bias, more).astype(_kept(bias)).ravel()


def _kept(values: NDArray[Any]) -> np.dtype[Any]:
    """Whole numbers are kept as they are; all others become float32."""
    return values.dtype if values.dtype.kind == "i" else np.dtype(np.float32)


def packed_size(outputs: int, inputs: int, tiles: Tiles, lanes: int) -> int:
    full, rest = divmod(outputs, tiles.columns)
    width = full * _width(tiles.columns, tiles, lanes)
    return inputs * (width + (_width(rest, tiles, lanes) if rest else 0))


def _width(columns: int, tiles: Tiles, lanes: int) -> int:
    """Numbers a step's weights take in a block of ``columns``."""
    return columns if tiles.folded else -(-columns // lanes) * lanes


def _fold(block: NDArray[Any], whole: int) -> NDArray[Any]:
    """(inputs, columns) as [two inputs][their whole columns; the others, the two in turn]."""
    even, odd = block[0::2], block[1::2]
    halved = np.stack([even[:, whole:], odd[:, whole:]], axis=2).reshape(len(even), -1)
    return np.concatenate([even[:, :whole], odd[:, :whole], halved], axis=1)


def even(parts: Sequence[Stretch]) -> bool:
    """Whether each stretch's innermost loop takes inputs in even numbers, from an even one on."""
    return all(
        stretch.steps[-1].extent % 2 == 0
        and stretch.row.evaluate({step.variable: 0 for step in stretch.steps}) % 2 == 0
        for stretch in parts
    )


def _placed(epilogue: ir.Epilogue, values: dict[Var, IndexLike]) -> ir.Epilogue:
    scale = (
        _replace(epilogue.scale, values)
        if isinstance(epilogue.scale, ir.Access)
        else epilogue.scale
    )
    offset, residual = (
        None if each is None else _replace(each, values)
        for each in (epilogue.offset, epilogue.residual)
    )
    return replace(epilogue, scale=scale, offset=offset, residual=residual)


def _replace(access: ir.Access, values: dict[Var, IndexLike]) -> ir.Access:
    return ir.Access(access.buffer, access.position.replace(values))


_Body = Callable[[Index, bool], tuple[ir.Statement, ...]]


def _either(number: Index, full: int, count: int, body: _Body) -> tuple[ir.Statement, ...]:
    """The body for number ``number`` of ``count``, of which the first ``full`` are whole."""
    if full == count:
        return body(number, True)
    if full == 0:
        return body(Const(0), False)
    return (ir.If(number.below(full), body(number, True), body(index(full), False)),)


def _each(variable: Var, full: int, count: int, body: _Body) -> tuple[ir.Statement, ...]:
    """The body for all of ``count``, of which the first ``full`` are whole."""
    result: tuple[ir.Statement, ...] = ()
    if full == 1:
        result = body(Const(0), True)
    elif full:
        result = (ir.Loop(variable, Const(0), index(full), body(variable, True)),)
    return result + (body(index(full), False) if full < count else ())
