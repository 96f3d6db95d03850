"""Dense convolution over a map as a packed matrix product, pointwise being the simplest.

Applies to any kernel, stride and padding, with a bias, an activation, at most one residual and at
most one shift: the first ``shift`` input channels are then read from the state.

A thread makes some rows (pixels) by some columns (outputs), a block as many of these as it has
threads. In turns of 8 input channels of a tap its threads bring both sides into shared memory,
pixels transposed; then each thread adds rows x columns products a channel: 96 multiply-adds for 5
loads of 16 bytes at most, since a Maxwell's shared memory binds before its multiply-adds do. What
the next turn needs is loaded before these products and stored into the other half of shared memory
behind them, so that its way from memory is hidden, and a turn takes one barrier.

A thread's rows, and its columns, are runs of 4, spread over the block, so that neighbouring threads
read neighbouring 16 bytes. A channel of transposed pixels is padded to 4 more than a multiple of 8:
then a warp's stores of 4 channels of 16 pixels fall into different banks.

Of half precision pairs of outputs are multiplied at once, in sums of half precision too: those of a
turn, 16 channels, are added to sums of float32 behind it. Pixels lie in shared memory as in memory,
channels in a row, and a thread loads 8 of them at once.

Which of the tilings a device takes is what ``cost`` says of counts in closed form, :func:`counts`;
to walk each would take minutes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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
from shiftedge.export.compiler.backends.cuda.families.threads import (
    Body,
    spread,
    up,
    where,
)
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var

_WIDE = 16
"""Bytes that a thread loads at once."""
_RUN = 4
"""Neighbouring rows, or columns, of a thread, of float32; 8 of float16."""
_THREADS = (32, 64, 96, 128, 192, 256)
"""Of a block, at most."""
_TILES = {
    "float32": ((4, 4), (4, 8), (8, 4), (8, 8), (8, 12), (4, 12)),
    "float16": ((2, 8), (4, 8), (7, 8), (8, 8), (10, 8)),
}
"""Rows and columns of a thread."""
_CHANNEL_THREADS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Threads beside each other in a block's outputs."""
_LEAST_USED = 0.9
"""Of the sectors that are stored to, the part that must be written at once, where that can be."""
_MOST_REGISTERS = 240
"""Of a thread, as ``counts`` guesses them: of 255 some are ptxas'."""
_MOST_CONFLICTS = 1.19
"""Wavefronts a phase, of the tilings that are looked at."""


@dataclass(frozen=True)
class ThreadTiles:
    """How a block is cut."""

    pixel_threads: int
    channel_threads: int
    rows: int = 8
    columns: int = 8

    @property
    def threads(self) -> int:
        return self.pixel_threads * self.channel_threads

    @property
    def pixels(self) -> int:
        return self.rows * self.pixel_threads

    @property
    def outputs(self) -> int:
        return self.columns * self.channel_threads

    @property
    def pitch(self) -> int:
        """Of a channel of transposed pixels in shared memory."""
        return self.pixels + (_RUN if self.pixels % 8 == 0 else 0)

    def shared(self, shape: BlockProduct) -> tuple[int, int]:
        """Elements in a half of shared memory: pixels, weights."""
        pixels = shape.depth * (self.pixels if shape.half else self.pitch)
        return pixels, shape.depth * self.outputs

    def brought(self, shape: BlockProduct) -> tuple[int, int]:
        """What a block brings in a turn, in vectors: pixels, weights."""
        pixels = self.pixels * shape.depth // shape.vector
        return pixels, self.outputs * shape.depth // shape.run

    def __str__(self) -> str:
        return f"{self.pixels}x{self.outputs}"


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    return is_product(kernel, context)


def lower(kernel: ConvKernel, context: GpuContext) -> None:
    shape, arguments = product_of(kernel, context)
    tiles = choose(shape, context.target.device)
    name = context.name("product", tiles)
    arguments |= context.pack(name, pack(kernel.conv.weight, kernel.conv.bias, shape, tiles))
    context.call((schedule(name, shape, tiles),), arguments, "product", kernel.name)


@functools.lru_cache(maxsize=2048)
def choose(shape: BlockProduct, gpu: Gpu) -> ThreadTiles:
    """The tiles that should be quickest on a device."""
    found: dict[ThreadTiles, cost.LaunchPrediction] = {}
    for rows, columns in _TILES[shape.source]:
        most_pixels, most_outputs = up(shape.pixels, rows), up(shape.outputs, columns)
        for channel_threads in _CHANNEL_THREADS:
            if channel_threads > max(1, most_outputs):
                continue
            for threads in _THREADS:
                pixel_threads = min(most_pixels, _staging(threads // channel_threads))
                if pixel_threads:
                    tiles = ThreadTiles(pixel_threads, channel_threads, rows, columns)
                    if tiles not in found and _conflicts(tiles) <= _MOST_CONFLICTS:
                        units = up(shape.pixels, tiles.pixels) * up(shape.outputs, tiles.outputs)
                        made = counts(shape, tiles)
                        if made.shared > gpu.shared_per_block or made.registers > _MOST_REGISTERS:
                            continue
                        found[tiles] = cost.predicted(made, units, tiles.threads, gpu)
    whole = [each for each in found if _stored(each) >= _LEAST_USED] or list(found)

    def rank(tiles: ThreadTiles) -> tuple[float, ...]:
        """Where something else binds, what takes less of the rest."""
        prediction = found[tiles]
        return round(prediction.microseconds, 1), sum(prediction.parts.values()), tiles.threads

    return min(whole, key=rank)


def _staging(pixel_threads: int) -> int:
    """As many threads or one fewer: a pixel is staged by 2 neighbouring ones, and where a block's
    threads are odd in number every second turn begins between them, with two lanes in one bank."""
    return pixel_threads - pixel_threads % 2 if pixel_threads > 1 else pixel_threads


def _stored(tiles: ThreadTiles) -> float:
    """Of the sectors that a warp's store touches, the part that it writes: a pixel's neighbouring
    runs of 16 bytes."""
    return tiles.channel_threads / (2 * up(tiles.channel_threads, 2))


@functools.cache
def _conflicts(tiles: ThreadTiles) -> float:
    """Wavefronts a phase of the loads of a warp's operands. Pixels of float16 lie so that they meet
    as those of float32 do."""
    thread = np.arange(32 * up(tiles.threads, 32))
    mask = thread < tiles.threads
    sides = thread // tiles.channel_threads, thread % tiles.channel_threads
    phases = wavefronts = 0
    for side, loads in zip(sides, (tiles.rows, tiles.columns), strict=True):
        met = cost.banks(side * _WIDE, mask, _WIDE)
        phases, wavefronts = phases + loads * met[0], wavefronts + loads * met[1]
    return wavefronts / phases


def counts(shape: BlockProduct, tiles: ThreadTiles) -> cost.LaunchCounts:
    """What a launch does, in closed form."""
    rows, columns, threads = tiles.rows, tiles.columns, tiles.threads
    warps, size, depth = up(threads, 32), 2 if shape.half else 4, shape.depth
    turns = up(shape.inputs, depth) * shape.kernel[0] * shape.kernel[1]
    blocks = up(shape.pixels, tiles.pixels) * up(shape.outputs, tiles.outputs)
    launched, sums = blocks * warps, rows * columns
    brought = tiles.brought(shape)
    # Of a warp, on the average: in the last turn some have nothing to bring.
    pixels, weights = (
        (count // threads * warps + up(count % threads, 32)) / warps for count in brought
    )
    around = 4 * (brought[0] % threads > 0) + 32 + pixels * (0 if shape.plain else 12)
    turn = {
        "multiply-add": depth * sums * size / 4,
        "shared load": depth * (rows + columns) * size / _WIDE,
        "shared store": pixels * (1 if shape.half else shape.vector) + weights,
        "global load": pixels + weights,
        "integer": around,
        "barrier": 1.0,
        "conversion": 0.0,
        "float": 0.0,
        "tensor": 0.0,
    }
    if shape.half:
        turn["conversion"] = turn["float"] = sums
    made = {kind: number * turns * launched for kind, number in turn.items()}
    made["global load"] += columns // _RUN * launched
    made["global store"] = sums // shape.run * launched
    made["barrier"] += launched
    made["integer"] += (60 + (0.2 + shape.activation.value.operations) * sums) * launched
    made["conversion"] += sums * launched * shape.half
    stored = shape.pixels * up(shape.outputs, tiles.outputs) * tiles.outputs * size
    asked = blocks * turns * depth * (tiles.pixels + tiles.outputs) * size
    sectors = asked / cost.SECTOR + stored / cost.SECTOR / _stored(tiles)
    phases = turns * blocks * up(threads, 8) * turn["shared load"]
    phases += turns * launched * (pixels * (4 if shape.half else shape.vector) + 4 * weights)
    maps = shape.height * shape.width * shape.inputs + shape.pixels * shape.outputs
    constants = turns * depth * up(shape.outputs, tiles.outputs) * tiles.outputs
    multiplied = sum(turn[each] for each in ("multiply-add", "shared load", "conversion", "float"))
    beside = sum(turn[each] for each in ("shared store", "global load", "integer"))
    way = turns * (max(multiplied, cost.LATENCY) + beside + cost.BARRIER) + 2 * cost.LATENCY
    held = (up(brought[0], threads) * shape.vector + up(brought[1], threads) * shape.run) * size
    if shape.vector == 1:  # one by one, each with a place of its own
        held += 12 * up(brought[0], threads)
    words = sums + rows + columns + held // 4 + (sums // 2 + 3 * rows if shape.half else 0)
    return cost.LaunchCounts(
        made, phases * _conflicts(tiles), phases, sectors, asked + stored, sectors / 4,
        (maps + constants) * size, constants * size, way + 4 * sums, up(cost.WORDS + words, 8) * 8,
        2 * size * sum(tiles.shared(shape)),
    )  # fmt: skip


def schedule(name: str, shape: BlockProduct, tiles: ThreadTiles) -> ir.Kernel:
    """The kernel: parameters x, [state], weight, bias, [residual], out."""
    return _Schedule(shape, tiles).kernel(name)


def pack(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    shape: BlockProduct,
    tiles: ThreadTiles,
) -> dict[str, NDArray[Any]]:
    """Weights (outputs, inputs, rows, columns) as [block][tap][turn][channel][output of the block],
    of the maps' type, what is not there being 0; and the bias, padded."""
    outputs, inputs, *sides = weight.shape
    blocks, turns = up(outputs, tiles.outputs), up(inputs, shape.depth)
    whole = np.zeros((blocks * tiles.outputs, turns * shape.depth, *sides), shape.source)
    whole[:outputs, :inputs] = weight
    whole = whole.reshape(blocks, tiles.outputs, turns, shape.depth, -1).transpose(0, 4, 2, 3, 1)
    padded = np.pad(bias, (0, blocks * tiles.outputs - outputs))
    return {"weight": whole, "bias": padded}


class _Schedule:
    """One kernel in the making."""

    def __init__(self, shape: BlockProduct, tiles: ThreadTiles) -> None:
        self.shape, self.tiles = shape, tiles
        self.blocks = up(shape.outputs, tiles.outputs)
        self.turns = up(shape.inputs, shape.depth)
        taps, columns = shape.kernel[0] * shape.kernel[1], self.blocks * tiles.outputs
        self.input = ProductInput(shape, up(shape.inputs, shape.depth) * shape.depth)
        self.weight = ir.Buffer(
            "weight", taps * self.turns * shape.depth * columns, "weight", shape.source
        )
        self.bias = ir.Buffer("bias", columns, "weight")
        size = shape.pixels * shape.outputs
        self.residual = ir.Buffer("residual", size, dtype=shape.source)
        self.out = ir.Buffer("out", size, "output", shape.made)
        self.halves = tiles.shared(shape)
        self.pixels, self.weights = (
            ir.Buffer(name, 2 * size, "shared", shape.source)
            for name, size in zip(("pixels", "weights"), self.halves, strict=True)
        )
        self.sums = ir.Buffer("sums", tiles.rows * tiles.columns, "register")
        self.turns_sums = ir.Buffer("turns_sums", self.sums.size, "register", "float16")
        self.vector = shape.vector
        self.pixels_held, self.weights_held = (
            ir.Buffer(name, up(count, tiles.threads) * vector, "register", shape.source)
            for name, count, vector in zip(
                ("pixels_held", "weights_held"),
                tiles.brought(shape),
                (shape.vector, shape.run),
                strict=True,
            )
        )
        self.first_pixel = ir.UNIT // self.blocks * tiles.pixels
        self.first_output = ir.UNIT % self.blocks * tiles.outputs
        self.pixel_thread = ir.THREAD // tiles.channel_threads
        self.channel_thread = ir.THREAD % tiles.channel_threads
        self.grid = ir.grid(tiles.rows, tiles.columns, _RUN)
        self.held = self.sums.at(ir.ROW * tiles.columns + ir.COLUMN)

    def kernel(self, name: str) -> ir.Kernel:
        shape, tiles = self.shape, self.tiles
        begin = ir.Tile(
            self.grid, tiles.columns, (self.bias.at(self._output(ir.COLUMN)),), (), self.held
        )
        turn, turns = Var("turn"), self.turns * shape.kernel[0] * shape.kernel[1]
        following = (turn + 1).below(turns)
        body: Body = (
            *where([following], self._load(turn + 1)),
            *self._multiply(turn % 2),
            *where([following], self._store((turn + 1) % 2)),
            ir.Barrier(),
        )
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
            body=(
                begin,
                *self._load(Const(0)),
                *self._store(Const(0)),
                ir.Barrier(),
                ir.Loop(turn, Const(0), Const(turns), body),
                *self._finish(),
            ),
            threads=tiles.threads,
            block=(
                self.pixels,
                self.weights,
                self.sums,
                *((self.turns_sums,) if shape.half else ()),
                self.pixels_held,
                self.weights_held,
            ),
            flops=2 * turns * shape.depth * shape.pixels * shape.outputs,
            note=f"product, blocks of {tiles}, threads of {tiles.rows}x{tiles.columns}",
        )  # fmt: skip

    def _output(self, column: Index) -> Index:
        return self.first_output + self._column(column)

    def _column(self, column: Index) -> Index:
        """Of a thread's columns, in the block."""
        return self._spread(column, self.shape.run, self.channel_thread, self.tiles.channel_threads)

    def _pixel(self, row: Index) -> Index:
        """Of a thread's rows, in the block."""
        run = 1 if self.shape.half else _RUN
        return self._spread(row, run, self.pixel_thread, self.tiles.pixel_threads)

    def _spread(self, number: Index, run: int, thread: Index, threads: int) -> Index:
        """Runs of a thread over a block."""
        return number // run * (run * threads) + (thread * run + number % run)

    def _load(self, turn: Index) -> Body:
        """What a turn multiplies, into registers."""
        return (
            *self._staged(self.pixels_held, self.vector, self.tiles.pixels, self._pixels_of(turn)),
            *self._staged(
                self.weights_held, self.shape.run, self.tiles.outputs, self._weights_of(turn)
            ),
        )

    def _staged(
        self, held: ir.Buffer, vector: int, side: int, body: Callable[[Index, int], Body]
    ) -> Body:
        """``body``, of a number and a place in registers, for all that a block brings."""
        places = iter(range(0, held.size, vector))
        count, threads = side * self.shape.depth // vector, self.tiles.threads
        return spread(count, threads, lambda number: body(number, next(places)))

    def _pixels_of(self, turn: Index) -> Callable[[Index, int], Body]:
        """A turn's channels of the block's pixels at a tap."""
        shape, vector = self.shape, self.vector
        tap, first_channel = turn // self.turns, turn % self.turns * shape.depth

        def load(number: Index, held: int) -> Body:
            groups = shape.depth // vector
            pixel, channel = number // groups, first_channel + number % groups * vector
            to = self.pixels_held.at(held)
            return self.input.read(self.first_pixel + pixel, tap, channel, to, vector)

        return load

    def _weights_of(self, turn: Index) -> Callable[[Index, int], Body]:
        run, count = self.shape.run, self.halves[1]
        turns = self.turns * self.shape.kernel[0] * self.shape.kernel[1]
        first = (ir.UNIT % self.blocks * turns + turn) * count

        def load(number: Index, held: int) -> Body:
            source = self.weight.at(first + number * run)
            return (ir.Copy(source, self.weights_held.at(held), run),)

        return load

    def _store(self, half: Index) -> Body:
        """What was loaded into a half of shared memory, pixels of float32 transposed."""
        shape, vector, pitch = self.shape, self.vector, self.tiles.pitch
        groups = shape.depth // vector

        def pixels(number: Index, held: int) -> Body:
            pixel, channel = number // groups, number % groups * vector
            if shape.half:
                to = half * self.halves[0] + self._halves_of(pixel, channel)
                return (ir.Copy(self.pixels_held.at(held), self.pixels.at(to), vector),)
            first = half * self.halves[0] + channel * pitch + pixel
            return tuple(
                ir.Copy(self.pixels_held.at(held + each), self.pixels.at(first + each * pitch), 1)
                for each in range(vector)
            )

        def weights(number: Index, held: int) -> Body:
            to = self.weights.at(half * self.halves[1] + number * shape.run)
            return (ir.Copy(self.weights_held.at(held), to, shape.run),)

        return (
            *self._staged(self.pixels_held, vector, self.tiles.pixels, pixels),
            *self._staged(self.weights_held, shape.run, self.tiles.outputs, weights),
        )

    def _halves_of(self, pixel: Index, channel: Index) -> Index:
        """Where a pixel's channels of float16 lie in shared memory: its 2 times 8 the other way
        round in every second 4 pixels, so that 8 pixels' halves, and 4 whole pixels, fall into
        different banks."""
        run = self.shape.run
        half = (channel // run + pixel // 4) % 2
        return pixel * self.shape.depth + half * run + channel % run

    def _multiply(self, half: Index) -> Body:
        shape, tiles, k = self.shape, self.tiles, Var("k")
        if not shape.half:
            begin = half * shape.depth + k
            source = self.pixels.at(begin * tiles.pitch + self._pixel(ir.ROW))
            weight = self.weights.at(begin * tiles.outputs + self._column(ir.COLUMN))
            segment = ir.Segment((ir.SegmentLoop(k, shape.depth, unrolled=True),), source, weight)
            return (ir.Tile(self.grid, tiles.columns, (self.held,), (segment,), self.held),)
        channel = k * shape.run + ir.TERM
        pixel = self._halves_of(self._pixel(ir.ROW), k * shape.run) + ir.TERM
        source = self.pixels.at(half * self.halves[0] + pixel)
        place = (half * shape.depth + channel) * tiles.outputs + self._column(ir.COLUMN)
        steps = (ir.SegmentLoop(k, shape.depth // shape.run, unrolled=True),)
        segment = ir.Segment(steps, source, self.weights.at(place), terms=shape.run, by_lane=True)
        grid = ir.grid(tiles.rows, tiles.columns, shape.run)
        own = self.turns_sums.at(self.held.position)
        return (
            ir.Tile(grid, tiles.columns, (), (segment,), own, half=True),
            ir.Tile(self.grid, tiles.columns, (self.held, own), (), self.held),
        )

    def _finish(self) -> Body:
        """Residual, activation and store, of what there is."""
        shape, tiles = self.shape, self.tiles
        if shape.pixels % tiles.pixels == 0 and shape.outputs % tiles.outputs == 0:
            at = (self.first_pixel + self._pixel(ir.ROW)) * shape.outputs
            at = at + self._output(ir.COLUMN)
            return (self._stored(self.held, at, tiles.rows, tiles.columns),)
        result: list[ir.Statement] = []
        for row in range(tiles.rows):
            pixel = self.first_pixel + self._pixel(Const(row))
            runs: list[ir.Statement] = []
            for column in range(0, tiles.columns, shape.run):
                runs += self._run_of(row, column, pixel)
            conditions = [pixel.below(shape.pixels)] if shape.pixels % tiles.pixels else []
            result += where(conditions, tuple(runs))
        return tuple(result)

    def _run_of(self, row: int, column: int, pixel: Index) -> Body:
        """A run of columns of a row, or those of them that there are."""
        outputs, first, run = self.shape.outputs, self._output(Const(column)), self.shape.run

        def stored(begin: int, count: int) -> Body:
            sums = self.sums.at(row * self.tiles.columns + column + begin + ir.COLUMN)
            at = pixel * outputs + first + begin + ir.COLUMN
            return (self._stored(sums, at, 1, count),)

        whole = stored(0, run)
        if outputs % self.tiles.outputs == 0:
            return whole
        if outputs % run == 0:
            return (ir.If(first.below(outputs), whole),)
        ones = (ir.If((first + each).below(outputs), stored(each, 1)) for each in range(run))
        return tuple(ones)

    def _stored(self, sums: ir.Access, at: Index, rows: int, columns: int) -> ir.Tile:
        start = (sums, self.residual.at(at)) if self.shape.residual else (sums,)
        grid = ir.grid(rows, columns, min(columns, self.shape.run))
        return ir.Tile(grid, columns, start, (), self.out.at(at), self.shape.activation)
