"""Dense convolution of half precision on tensor cores, as a product of warps' matrices.

Applies to what ``product`` takes where the maps are of half precision, the device multiplies
matrices, and channels come in eights; other shapes are left to that.

Nothing is staged. A lane loads 8 neighbouring channels of a pixel at once, which with its three
neighbours' are 64 bytes of the pixel, and its weights as they lie in memory, 512 bytes a warp:
which channel stands where in the depth of a matrix is free, as long as both sides agree. Likewise
outputs are dealt to the columns of neighbouring matrices so that a lane's are neighbours in memory.

A warp makes some 16 pixels by some 8 outputs. Warps of a block stand beside each other in pixels,
or share the depth of the same ones, and then add their sums in shared memory: where pixels are few
it is the depth that there is most of, and each turn waits for memory.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cuda import cost
from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.devices import Gpu
from shiftedge.export.compiler.backends.cuda.families.pixels import (
    BlockProduct,
    ProductInput,
    is_product,
    product_of,
)
from shiftedge.export.compiler.backends.cuda.families.threads import Body, up, where
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.fragments import (
    COLUMNS,
    ELEMENT,
    FRAGMENTS,
    ROWS,
    SUMS,
    WARP,
)
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var

_CHANNELS = 8
"""That a lane loads at once."""
_MEMBERS = 4
"""Lanes that share a pixel, or an output."""
_DEPTH = _CHANNELS * _MEMBERS
"""Input channels of a turn."""
_SHAPES: Mapping[str, str] = {"mma-f16-16": "m16n8k16", "mma-f16-8": "m16n8k8"}
"""By a device's instruction, the best first."""
_ROUND = 2
"""Turns whose loads are issued together."""
_REGISTERS = 200
_CANDIDATES = (1, 2, 4, 8)


@dataclass(frozen=True)
class WarpTiles:
    """How a product is cut."""

    shape: str
    """Of a matrix, one of ``fragments.FRAGMENTS``."""
    rows: int
    """Matrices of a warp in pixels."""
    columns: int
    """And in outputs."""
    beside: int = 1
    """Warps of a block beside each other in pixels."""
    shared: int = 1
    """Warps that share the depth."""

    @property
    def threads(self) -> int:
        return WARP * self.beside * self.shared

    @property
    def pixels(self) -> int:
        """Of a block."""
        return ROWS * self.rows * self.beside

    @property
    def outputs(self) -> int:
        return COLUMNS * self.columns

    @property
    def group(self) -> int:
        """Matrices beside each other whose columns are dealt together: a lane then has 16 bytes of
        outputs in a row."""
        return min(self.columns, 4)

    @property
    def sums(self) -> int:
        """Of a lane."""
        return SUMS * self.rows * self.columns

    @property
    def pitch(self) -> int:
        """Of a lane's sums in shared memory: an odd number of 16 bytes, so that 8 neighbours' fall
        into different banks."""
        return self.sums + (0 if self.sums % 8 else 4)

    def __str__(self) -> str:
        return f"{self.pixels}x{self.outputs}" + (f"s{self.shared}" if self.shared > 1 else "")


def instruction(gpu: Gpu) -> str | None:
    """The shape of matrices that a device multiplies."""
    return next((_SHAPES[each] for each in _SHAPES if each in gpu.instructions), None)


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    if not is_product(kernel, context) or not isinstance(kernel, ConvKernel):
        return False
    names = kernel.conv.inputs[0], kernel.out
    halves = all(context.dtype_of(each) == "float16" for each in names)
    source = kernel.join.inputs[-1] if kernel.join else names[0]
    eights = all(context.map_of(each)[2] % _CHANNELS == 0 for each in (source, *names))
    return halves and eights and instruction(context.target.device) is not None


def lower(kernel: ConvKernel, context: GpuContext) -> None:
    shape, arguments = product_of(kernel, context)
    tiles = choose(shape, context.target.device)
    name = context.name("tensor", tiles)
    arguments |= context.pack(name, pack(kernel.conv.weight, kernel.conv.bias, tiles))
    context.call((schedule(name, shape, tiles),), arguments, "tensor cores", kernel.name)


@functools.lru_cache(maxsize=2048)
def choose(shape: BlockProduct, gpu: Gpu) -> WarpTiles:
    """The tiles that should be quickest on a device."""
    kind = instruction(gpu)
    if kind is None:
        raise ValueError(f"{gpu.arch} multiplies no matrices")
    turns, best = _turns(shape), None
    for rows in (1, 2):
        for columns in _CANDIDATES:
            for beside in _CANDIDATES:
                for shared in _CANDIDATES:
                    tiles = WarpTiles(kind, rows, columns, beside, shared)
                    if shared > turns or tiles.threads > 256 or min(beside, shared) > 1:
                        continue
                    if columns == 1 and shape.outputs > COLUMNS:
                        continue  # half of each sector that it stores to
                    made = counts(shape, tiles)
                    units = up(shape.pixels, tiles.pixels) * up(shape.outputs, tiles.outputs)
                    if made.registers > _REGISTERS or made.shared > gpu.shared_per_block:
                        continue
                    took = cost.predicted(made, units, tiles.threads, gpu)
                    rank = round(took.microseconds, 2), sum(took.parts.values())
                    if best is None or rank < best[0]:
                        best = rank, tiles
    if best is None:
        raise ValueError("no tiles to choose from")
    return best[1]


def _turns(shape: BlockProduct) -> int:
    return up(shape.inputs, _DEPTH) * shape.kernel[0] * shape.kernel[1]


def counts(shape: BlockProduct, tiles: WarpTiles) -> cost.LaunchCounts:
    """What a launch does, in closed form."""
    rows, columns, turns = tiles.rows, tiles.columns, up(_turns(shape), tiles.shared)
    blocks = up(shape.pixels, tiles.pixels) * up(shape.outputs, tiles.outputs)
    warps = blocks * tiles.beside * tiles.shared
    steps = _DEPTH // FRAGMENTS[tiles.shape].depth
    loads, products = 2 * rows + columns, rows * columns * steps
    ended = blocks * tiles.beside
    around = 12.0 + 2 * rows * (1 if shape.plain else 14)
    together = min(_ROUND, turns)
    multiplied = up(turns, together) * together  # turns that are no more are zeros
    if _turns(shape) % (tiles.shared * together):
        around += 4 * loads
    made = {
        "tensor": products * multiplied * warps,
        "global load": (loads * turns + columns / 2) * warps,
        "integer": (around * multiplied + 40) * warps + tiles.sums * 2.2 * ended,
        "conversion": tiles.sums * ended,
        "global store": tiles.sums / 2 / tiles.group * ended,
        "multiply-add": 0.0,
        "shared load": 0.0,
        "shared store": 0.0,
    }
    waves = 0.0
    if tiles.shared > 1:
        made["shared store"] = tiles.sums / 4 * warps
        made["shared load"] = tiles.sums / 4 * (tiles.shared - 1) * ended
        waves = 4 * (made["shared store"] + made["shared load"])
        made["integer"] += tiles.sums * (tiles.shared - 1) * ended
    real = shape.inputs / (up(shape.inputs, _DEPTH) * _DEPTH)
    stored = 2 * shape.pixels * up(shape.outputs, tiles.outputs) * tiles.outputs
    asked = 64 * turns * warps * (ROWS * rows * real + COLUMNS * columns)
    half = 0.5 if tiles.group == 1 else 1.0
    sectors = (asked + stored / half) / cost.SECTOR
    maps = shape.height * shape.width * shape.inputs + shape.pixels * shape.outputs
    constants = 2 * _turns(shape) * _DEPTH * up(shape.outputs, tiles.outputs) * tiles.outputs
    rounds = up(turns, _ROUND)
    way = rounds * cost.LATENCY + turns * (loads + cost.MATRICES * products + around)
    way += 2 * cost.LATENCY + 4 * tiles.sums + (cost.BARRIER if tiles.shared > 1 else 0)
    words = tiles.sums + min(_ROUND, turns) * 4 * loads
    memory = 4 * tiles.threads * tiles.pitch if tiles.shared > 1 else 0
    return cost.LaunchCounts(
        made, waves, waves, sectors, asked + stored, sectors / 4, 2 * maps + constants, constants,
        way, up(cost.WORDS + words, 8) * 8, memory,
    )  # fmt: skip


def schedule(name: str, shape: BlockProduct, tiles: WarpTiles) -> ir.Kernel:
    """The kernel: parameters x, [state], weight, bias, [residual], out."""
    return _TensorSchedule(shape, tiles).kernel(name)


def pack(
    weight: NDArray[np.float32], bias: NDArray[np.float32], tiles: WarpTiles
) -> dict[str, NDArray[Any]]:
    """Weights (outputs, inputs, rows, columns) as [block][tap][turn][matrix][lane][8 channels], and
    the bias, padded."""
    outputs, inputs, *sides = weight.shape
    blocks, turns = up(outputs, tiles.outputs), up(inputs, _DEPTH)
    whole = np.zeros((blocks * tiles.outputs, turns * _DEPTH, *sides), np.float16)
    whole[:outputs, :inputs] = weight
    group = tiles.group
    # Outputs of a group are [member][matrix][2] in memory, and [matrix][member][2] as columns.
    whole = whole.reshape(blocks, -1, _MEMBERS, group, 2, turns, _MEMBERS, _CHANNELS, *sides)
    whole = whole.transpose(0, 1, 3, 2, 4, *range(5, whole.ndim))
    whole = whole.reshape(blocks, tiles.columns, COLUMNS, turns, _MEMBERS, _CHANNELS, -1)
    padded = np.pad(bias, (0, blocks * tiles.outputs - outputs))
    return {"weight": whole.transpose(0, 6, 3, 1, 2, 4, 5), "bias": padded}


class _TensorSchedule:
    """One kernel in the making."""

    def __init__(self, shape: BlockProduct, tiles: WarpTiles) -> None:
        self.shape, self.tiles = shape, tiles
        self.kind = FRAGMENTS[tiles.shape]
        self.blocks = up(shape.outputs, tiles.outputs)
        self.channel_turns = up(shape.inputs, _DEPTH)
        self.turns = _turns(shape)
        self.input = ProductInput(shape, self.channel_turns * _DEPTH)
        self.fragment = WARP * _CHANNELS
        size = self.blocks * self.turns * tiles.columns * self.fragment
        self.weight = ir.Buffer("weight", size, "weight", "float16")
        self.bias = ir.Buffer("bias", self.blocks * tiles.outputs, "weight")
        self.residual = ir.Buffer("residual", shape.pixels * shape.outputs, dtype=shape.source)
        self.out = ir.Buffer("out", shape.pixels * shape.outputs, "output", shape.made)
        self.sums = ir.Buffer("sums", tiles.sums, "register")
        self.together = min(_ROUND, up(self.turns, tiles.shared))
        self.a, self.b = (
            ir.Buffer(name, count * _CHANNELS * self.together, "register", "float16")
            for name, count in (("a", 2 * tiles.rows), ("b", tiles.columns))
        )
        self.partial = ir.Buffer("partial", tiles.threads * tiles.pitch, "shared")
        lane, warp = ir.THREAD % WARP, ir.THREAD // WARP
        self.lane, self.quad, self.member = lane, lane // _MEMBERS, lane % _MEMBERS
        self.share = warp % tiles.shared
        beside = warp // tiles.shared
        self.first_pixel = ir.UNIT // self.blocks * tiles.pixels + beside * (ROWS * tiles.rows)
        self.first_output = ir.UNIT % self.blocks * tiles.outputs

    def kernel(self, name: str) -> ir.Kernel:
        shape, tiles = self.shape, self.tiles
        rounds = up(self.turns, tiles.shared * self.together)
        number = Var("round")
        turns = [
            (number * self.together + each) * tiles.shared + self.share
            for each in range(self.together)
        ]
        body: list[ir.Statement] = []
        for place, turn in enumerate(turns):
            body += self._load(turn, place)
        for place in range(self.together):
            body += self._multiply(place)
        loop = ir.Loop(number, Const(0), Const(rounds), tuple(body))
        return ir.Kernel(
            name=name,
            buffers=(
                *self.input.buffers,
                self.weight,
                self.bias,
                *((self.residual,) if shape.residual else ()),
                self.out,
            ),
            units=up(shape.pixels, tiles.pixels) * self.blocks,
            body=(ir.Fill(self.sums.at(0), tiles.sums), loop, *self._finish()),
            threads=tiles.threads,
            block=(
                *((self.partial,) if tiles.shared > 1 else ()),
                self.sums,
                self.a,
                self.b,
            ),
            flops=2 * self.turns * _DEPTH * shape.pixels * shape.outputs,
            note=f"tensor cores, blocks of {tiles}, warps of {tiles.rows}x{tiles.columns} "
            f"{tiles.shape}" + (f", depth in {tiles.shared}" if tiles.shared > 1 else ""),
        )  # fmt: skip

    def _pixel(self, row: int, half: int) -> Index:
        """That a lane has of the upper or lower half of a matrix."""
        return self.first_pixel + (row * ROWS + half * (ROWS // 2)) + self.quad

    def _load(self, turn: Index, place: int) -> Body:
        """A turn's fragments; zeros where the depth has no more turns."""
        tiles = self.tiles
        tap, channel = turn // self.channel_turns, turn % self.channel_turns * _DEPTH
        result: list[ir.Statement] = []
        for row in range(tiles.rows):
            for half in (0, 1):
                to = self.a.at(((place * tiles.rows + row) * 2 + half) * _CHANNELS)
                first = channel + self.member * _CHANNELS
                result += self.input.read(self._pixel(row, half), tap, first, to, _CHANNELS)
        first = (ir.UNIT % self.blocks * self.turns + turn) * (tiles.columns * self.fragment)
        for column in range(tiles.columns):
            source = first + column * self.fragment + self.lane * _CHANNELS
            to = self.b.at((place * tiles.columns + column) * _CHANNELS)
            result.append(ir.Copy(self.weight.at(source), to, _CHANNELS))
        if self.turns % (tiles.shared * self.together) == 0:
            return tuple(result)
        begin = place * tiles.rows * 2 * _CHANNELS
        fills = (
            ir.Fill(self.a.at(begin), 2 * tiles.rows * _CHANNELS),
            ir.Fill(self.b.at(place * tiles.columns * _CHANNELS), tiles.columns * _CHANNELS),
        )
        return (*fills, *where([turn.below(self.turns)], tuple(result)))

    def _multiply(self, place: int) -> Body:
        """Every step of a turn: of a lane's 8 channels some are of each."""
        tiles, depth = self.tiles, self.kind.depth
        own = depth // _MEMBERS
        """Channels of a lane in a step."""
        half, channel = _half_and_channel(depth)
        result: list[ir.Statement] = []
        for step in range(_DEPTH // depth):
            for row in range(tiles.rows):
                for column in range(tiles.columns):
                    first = ((place * tiles.rows + row) * 2 + half) * _CHANNELS
                    a = self.a.at(first + step * own + channel)
                    first_of_b = (place * tiles.columns + column) * _CHANNELS + step * own
                    sums = self._sum(row, ELEMENT // 2, column, ELEMENT % 2)
                    result.append(
                        ir.MatrixProduct(
                            tiles.shape, self.sums.at(sums), a, self.b.at(first_of_b + ELEMENT)
                        )
                    )
        return tuple(result)

    def _sum(self, row: int, half: Index | int, column: int, second: Index | int) -> Index:
        """Of a lane's sums: those of a pixel whose outputs are neighbours lie together."""
        group = self.tiles.group
        run = (row * 2 + half) * (self.tiles.columns // group) + column // group
        return (Const(0) + run) * (2 * group) + column % group * 2 + second

    def _finish(self) -> Body:
        """The shares' sums together, bias, residual, activation and store."""
        tiles, shape = self.tiles, self.shape
        result: list[ir.Statement] = []
        stride = tiles.pitch
        grid = ir.grid(1, tiles.sums, 4)
        sums = self.sums.at(ir.COLUMN)
        if tiles.shared > 1:
            own = ir.Copy(self.sums.at(0), self.partial.at(ir.THREAD * stride), tiles.sums)
            result += [own, ir.Barrier()]
        ends: list[ir.Statement] = []
        for other in range(1, tiles.shared):
            place = (ir.THREAD + other * WARP) * stride + ir.COLUMN
            both = sums, self.partial.at(place)
            ends.append(ir.Tile(grid, tiles.sums, both, (), sums))
        run = 2 * tiles.group
        for row in range(tiles.rows):
            for half in (0, 1):
                pixel, stores = self._pixel(row, half), list[ir.Statement]()
                for group in range(tiles.columns // tiles.group):
                    stores += self._stored(row, half, group, pixel, run)
                conditions = [pixel.below(shape.pixels)] if shape.pixels % tiles.pixels else []
                ends += where(conditions, tuple(stores))
        conditions = [self.share.below(1)] if tiles.shared > 1 else []
        return (*result, *where(conditions, tuple(ends)))

    def _stored(self, row: int, half: int, group: int, pixel: Index, run: int) -> Body:
        shape, tiles = self.shape, self.tiles
        own = group * (COLUMNS * tiles.group) + self.member * run
        output = self.first_output + own
        at = pixel * shape.outputs + output + ir.COLUMN
        sums = self.sums.at(self._sum(row, half, group * tiles.group, 0) + ir.COLUMN)
        start = [self.bias.at(output + ir.COLUMN), sums]
        if shape.residual:
            start.append(self.residual.at(at))
        tile = ir.Tile(
            ir.grid(1, run, run), run, tuple(start), (), self.out.at(at), shape.activation
        )
        conditions = [output.below(shape.outputs)] if shape.outputs % tiles.outputs else []
        return where(conditions, (tile,))


def _half_and_channel(depth: int) -> tuple[Index, Index]:
    """Of an element of a: whether it is of the lower 8 rows, and which of a lane's channels in a
    step; those of b are in order."""
    if depth == 16:
        return ELEMENT // 2 % 2, ELEMENT % 2 + ELEMENT // 4 * 2
    return ELEMENT // 2, ELEMENT % 2
