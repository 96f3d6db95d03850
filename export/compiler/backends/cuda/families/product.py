"""Dense convolution over a map as a packed matrix product, pointwise being the simplest.

Applies to any kernel, stride and padding, with a bias, an activation, at most one residual and at
most one shift: the first ``shift`` input channels are then read from the state.

A block makes ``8 * pixel_threads`` pixels by ``8 * channel_threads`` outputs. In turns of 8 input
channels of a tap its threads bring both sides into shared memory, pixels transposed; then each
thread adds 8 x 8 products a channel: 64 multiply-adds for 4 loads of 16 bytes, since a Maxwell's
shared memory binds before its multiply-adds do. A thread's pixels, and its outputs, are two
runs of 4, half a block apart, so that neighbouring threads read neighbouring 16 bytes. A column of
transposed pixels is padded to 4 more than a multiple of 8: then a warp's stores of 4 channels of 16
pixels fall into different banks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.devices import Gpu
from shiftedge.export.compiler.backends.cuda.families.threads import (
    Body,
    spread,
    up,
    vector_of,
    where,
    within,
)
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.graph.graph import is_vector
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var, minimum

SIDE = 8
"""Pixels, and outputs, of a thread."""
DEPTH = 8
"""Input channels of a turn: 32 bytes of a pixel, a sector."""
_RUN = 4
_REGISTERS = 128
"""Of a thread, about: 64 sums, 32 operands, addresses. ptxas takes 96 to 168."""
_CANDIDATES = (64, 96, 128, 192, 256)
"""Threads of a block, at most."""
_SIDES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Threads beside each other in a block's outputs: of others 8 neighbours, whose loads shared memory
answers together, meet in a bank (9: 1.38 wavefronts a phase, 13: 1.25; of these at most 1.17)."""


@dataclass(frozen=True)
class BlockProduct:
    """Shape of a dense convolution."""

    height: int
    width: int
    inputs: int
    out_height: int
    out_width: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    shift: int = 0
    residual: bool = False
    activation: Activation = Activation.NONE
    source: str = "float32"
    """Type of the maps that it reads, state and residual too."""
    made: str = "float32"

    @property
    def pixels(self) -> int:
        return self.out_height * self.out_width

    @property
    def plain(self) -> bool:
        """An output pixel reads the input pixel of its own number."""
        sides = self.kernel == (1, 1) and self.stride == (1, 1)
        return sides and not any(self.padding)


@dataclass(frozen=True)
class ThreadTiles:
    """How a block is cut."""

    pixel_threads: int
    channel_threads: int

    @property
    def threads(self) -> int:
        return self.pixel_threads * self.channel_threads

    @property
    def pixels(self) -> int:
        return SIDE * self.pixel_threads

    @property
    def outputs(self) -> int:
        return SIDE * self.channel_threads

    @property
    def pitch(self) -> int:
        """Of a channel of transposed pixels in shared memory."""
        return self.pixels + _RUN

    def __str__(self) -> str:
        return f"{self.pixels}x{self.outputs}"


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    if not isinstance(kernel, ConvKernel) or kernel.conv.groups > 1:
        return False
    return not is_vector(context.graph.shapes[kernel.conv.inputs[0]])


def lower(kernel: ConvKernel, context: GpuContext) -> None:
    conv, join, shift, arguments = kernel.conv, kernel.join, 0, {}
    source = conv.inputs[0]
    if join is not None and join.begin == context.map_of(join.inputs[0])[2]:
        state, source = join.inputs
        shift = join.begin
        arguments["state"] = context.value(state)
    elif join is not None:
        source = context.whole(kernel)
    height, width, channels = context.map_of(source)
    out_height, out_width, outputs = context.map_of(kernel.out)
    shape = BlockProduct(
        height, width, channels, out_height, out_width, outputs, conv.kernel, conv.stride,
        conv.padding, shift, kernel.residual is not None, kernel.linear.activation,
        context.dtype_of(source), context.dtype_of(kernel.out),
    )  # fmt: skip
    tiles = choose(shape, context.target.device)
    name = context.name("product", tiles)
    arguments |= {"x": context.value(source), **context.ends(kernel)}
    arguments |= context.pack(name, pack(conv.weight, conv.bias, tiles))
    context.call((schedule(name, shape, tiles),), arguments, "product", kernel.name)


def choose(shape: BlockProduct, gpu: Gpu) -> ThreadTiles:
    """The tiles that should be quickest on a device."""
    most_pixels, most_outputs = up(shape.pixels, SIDE), up(shape.outputs, SIDE)
    found = {
        ThreadTiles(pixel_threads, channel_threads)
        for channel_threads in _SIDES
        if channel_threads == 1 or channel_threads <= most_outputs
        for threads in _CANDIDATES
        if (pixel_threads := min(most_pixels, _staging(threads // channel_threads)))
    }
    return min(
        found, key=lambda each: (cycles(shape, each, gpu), each.threads, each.channel_threads)
    )


def _staging(pixel_threads: int) -> int:
    """As many threads or one fewer: each pixel is staged by DEPTH / 4 neighbouring ones, and where
    a block's threads are odd in number every second turn begins between them, with two lanes in
    one bank."""
    return pixel_threads - pixel_threads % (DEPTH // _RUN) if pixel_threads > 1 else pixel_threads


def cycles(shape: BlockProduct, tiles: ThreadTiles, gpu: Gpu) -> float:
    """Of a launch: its turns over the multiprocessors, each as long as instructions are issued or
    shared memory is busy. A multiprocessor issues as many warps a cycle as it has 32 lanes; its
    shared memory moves 128 bytes a cycle, so a warp's load of 16 bytes a lane takes 4."""
    warps = up(tiles.threads, 32)
    depth = up(shape.inputs, DEPTH) * DEPTH * shape.kernel[0] * shape.kernel[1]
    loads = 4.0
    staged = (tiles.pixels + tiles.outputs) * DEPTH / tiles.threads
    issued = warps * (depth * (SIDE * SIDE + loads) + depth / DEPTH * (3 * staged + 20) + 300)
    moved = warps * depth * (4 * loads + 1.5 * staged / DEPTH)
    blocks = up(shape.pixels, tiles.pixels) * up(shape.outputs, tiles.outputs)
    shared = 4 * DEPTH * (tiles.pitch + tiles.outputs)
    fitting = min(
        gpu.registers // (_REGISTERS * 32 * warps),
        gpu.shared_per_sm // shared,
        gpu.threads // (32 * warps),
    )
    at_once = max(1, min(fitting, up(blocks, gpu.multiprocessors)))
    each = max(issued / (gpu.fmas / 32), moved)
    # With few warps nothing hides the latency of a multiply-add, some 6 cycles.
    hidden = min(1.0, at_once * warps / (gpu.fmas / 32) / 2)
    return up(blocks, gpu.multiprocessors * at_once) * at_once * each / hidden


def schedule(name: str, shape: BlockProduct, tiles: ThreadTiles) -> ir.Kernel:
    """The kernel: parameters x, [state], weight, bias, [residual], out."""
    return _Schedule(shape, tiles).kernel(name)


def pack(
    weight: NDArray[np.float32], bias: NDArray[np.float32], tiles: ThreadTiles
) -> dict[str, NDArray[np.float32]]:
    """Weights (outputs, inputs, rows, columns) as [block][tap][turn][channel][output of the block],
    what is not there being 0; and the bias, padded."""
    outputs, inputs, *sides = weight.shape
    blocks, turns = up(outputs, tiles.outputs), up(inputs, DEPTH)
    whole = np.zeros((blocks * tiles.outputs, turns * DEPTH, *sides), np.float32)
    whole[:outputs, :inputs] = weight
    whole = whole.reshape(blocks, tiles.outputs, turns, DEPTH, -1).transpose(0, 4, 2, 3, 1)
    padded = np.pad(bias, (0, blocks * tiles.outputs - outputs))
    return {"weight": whole, "bias": padded}


class _Schedule:
    """One kernel in the making."""

    def __init__(self, shape: BlockProduct, tiles: ThreadTiles) -> None:
        self.shape, self.tiles = shape, tiles
        self.blocks = up(shape.outputs, tiles.outputs)
        self.turns = up(shape.inputs, DEPTH)
        taps, columns = shape.kernel[0] * shape.kernel[1], self.blocks * tiles.outputs
        self.x = ir.Buffer("x", shape.height * shape.width * shape.inputs, dtype=shape.source)
        state = shape.height * shape.width * shape.shift
        self.state = ir.Buffer("state", max(1, state), dtype=shape.source)
        self.weight = ir.Buffer("weight", taps * self.turns * DEPTH * columns, "weight")
        self.bias = ir.Buffer("bias", columns, "weight")
        size = shape.pixels * shape.outputs
        self.residual = ir.Buffer("residual", size, dtype=shape.source)
        self.out = ir.Buffer("out", size, "output", shape.made)
        self.pixels = ir.Buffer("pixels", DEPTH * tiles.pitch, "shared")
        self.weights = ir.Buffer("weights", DEPTH * tiles.outputs, "shared")
        self.sums = ir.Buffer("sums", SIDE * SIDE, "register")
        self.vector = vector_of(shape.inputs)
        self.held = ir.Buffer("held", self.vector, "register")
        self.first_pixel = ir.UNIT // self.blocks * tiles.pixels
        self.first_output = ir.UNIT % self.blocks * tiles.outputs
        self.pixel_thread = ir.THREAD // tiles.channel_threads
        self.channel_thread = ir.THREAD % tiles.channel_threads

    def kernel(self, name: str) -> ir.Kernel:
        shape, tiles = self.shape, self.tiles
        sums = self.sums.at(ir.ROW * SIDE + ir.COLUMN)
        begin = ir.Tile(_GRID, SIDE, (self.bias.at(self._output(ir.COLUMN)),), (), sums)
        down, right, turn = Var("down"), Var("right"), Var("turn")
        body: Body = (
            *self._bring_pixels(down, right, turn),
            *self._bring_weights((down * shape.kernel[1] + right) * self.turns + turn),
            ir.Barrier(),
            self._multiply(),
            ir.Barrier(),
        )
        counts = (self.turns, shape.kernel[1], shape.kernel[0])
        for variable, count in zip((turn, right, down), counts, strict=True):
            body = (ir.Loop(variable, Const(0), Const(count), body),)
        return ir.Kernel(
            name=name,
            buffers=(
                self.x,
                *((self.state,) if shape.shift else ()),
                self.weight,
                self.bias,
                *((self.residual,) if shape.residual else ()),
                self.out,
            ),
            units=up(shape.pixels, tiles.pixels) * self.blocks,
            body=(begin, *body, *self._finish()),
            threads=tiles.threads,
            block=(self.pixels, self.weights, self.sums, self.held),
            flops=2 * self.weight.size // self.blocks // tiles.outputs
            * shape.pixels * shape.outputs,
            note=f"product, blocks of {tiles}",
        )  # fmt: skip

    def _output(self, column: Index) -> Index:
        return self.first_output + self._column(column)

    def _column(self, column: Index) -> Index:
        """Of a thread's columns, in the block."""
        half = column // _RUN * (self.tiles.outputs // 2)
        return half + (self.channel_thread * _RUN + column % _RUN)

    def _pixel(self, row: Index) -> Index:
        """Of a thread's rows, in the block."""
        half = row // _RUN * (self.tiles.pixels // 2)
        return half + (self.pixel_thread * _RUN + row % _RUN)

    def _bring_pixels(self, down: Index, right: Index, turn: Index) -> Body:
        """A turn's channels of the block's pixels at a tap, transposed."""
        shape, vector = self.shape, self.vector
        groups = DEPTH // vector

        def bring(number: Index) -> Body:
            pixel, first = number // groups, number % groups * vector
            channel = turn * DEPTH + first
            place = minimum(self.first_pixel + pixel, shape.pixels - 1)
            conditions: list[Index] = []
            if not shape.plain:
                row = place // shape.out_width * shape.stride[0] + down
                at = place % shape.out_width * shape.stride[1] + right
                top, left, bottom, behind = shape.padding
                conditions = within(row, top, shape.height, shape.height + top + bottom - 1)
                conditions += within(at, left, shape.width, shape.width + left + behind - 1)
                place = (row - top) * shape.width + (at - left)
            if shape.inputs % DEPTH:
                conditions.append(channel.below(shape.inputs))
            read = where(conditions, self._read(place, channel))
            if conditions:
                read = (ir.Fill(self.held.at(0), vector), *read)
            to = first * self.tiles.pitch + pixel
            stores = (
                ir.Copy(self.held.at(each), self.pixels.at(to + each * self.tiles.pitch), 1)
                for each in range(vector)
            )
            return (*read, *stores)

        return spread(self.tiles.pixels * groups, self.tiles.threads, bring)

    def _read(self, place: Index, channel: Index) -> Body:
        """Neighbouring channels of a pixel, of the state where they are its."""
        shape, vector = self.shape, self.vector
        own = ir.Copy(self.x.at(place * shape.inputs + channel), self.held.at(0), vector)
        if not shape.shift:
            return (own,)
        kept = self.state.at(place * shape.shift + channel)
        if shape.shift % vector == 0:
            before = ir.Copy(kept, self.held.at(0), vector)
            return (ir.If(channel.below(shape.shift), (before,), (own,)),)
        ones = (
            ir.If(
                (channel + each).below(shape.shift),
                (ir.Copy(self.state.at(kept.position + each), self.held.at(each), 1),),
            )
            for each in range(vector)
        )
        return (own, *ones)

    def _bring_weights(self, turn: Index) -> Body:
        count = self.weights.size
        turns = self.turns * self.shape.kernel[0] * self.shape.kernel[1]
        first = (ir.UNIT % self.blocks * turns + turn) * count

        def bring(number: Index) -> Body:
            at = number * _RUN
            return (ir.Copy(self.weight.at(first + at), self.weights.at(at), _RUN),)

        return spread(count // _RUN, self.tiles.threads, bring)

    def _multiply(self) -> ir.Tile:
        k, sums = Var("k"), self.sums.at(ir.ROW * SIDE + ir.COLUMN)
        source = self.pixels.at(k * self.tiles.pitch + self._pixel(ir.ROW))
        weight = self.weights.at(k * self.tiles.outputs + self._column(ir.COLUMN))
        segment = ir.Segment((ir.SegmentLoop(k, DEPTH, unrolled=True),), source, weight)
        return ir.Tile(_GRID, SIDE, (sums,), (segment,), sums)

    def _finish(self) -> Body:
        """Residual, activation and store, of what there is."""
        shape, tiles = self.shape, self.tiles
        if shape.pixels % tiles.pixels == 0 and shape.outputs % tiles.outputs == 0:
            at = (self.first_pixel + self._pixel(ir.ROW)) * shape.outputs
            sums = self.sums.at(ir.ROW * SIDE + ir.COLUMN)
            return (self._stored(sums, at + self._output(ir.COLUMN), SIDE, SIDE),)
        result: list[ir.Statement] = []
        for row in range(SIDE):
            pixel = self.first_pixel + self._pixel(Const(row))
            runs: list[ir.Statement] = []
            for column in (0, _RUN):
                runs += self._run_of(row, column, pixel)
            conditions = [pixel.below(shape.pixels)] if shape.pixels % tiles.pixels else []
            result += where(conditions, tuple(runs))
        return tuple(result)

    def _run_of(self, row: int, column: int, pixel: Index) -> Body:
        """Four columns of a row, or those of them that there are."""
        outputs, first = self.shape.outputs, self._output(Const(column))

        def stored(begin: int, count: int) -> Body:
            sums = self.sums.at(row * SIDE + column + begin + ir.COLUMN)
            at = pixel * outputs + first + begin + ir.COLUMN
            return (self._stored(sums, at, 1, count),)

        whole = stored(0, _RUN)
        if outputs % self.tiles.outputs == 0:
            return whole
        if outputs % _RUN == 0:
            return (ir.If(first.below(outputs), whole),)
        ones = (ir.If((first + each).below(outputs), stored(each, 1)) for each in range(_RUN))
        return tuple(ones)

    def _stored(self, sums: ir.Access, at: Index, rows: int, columns: int) -> ir.Tile:
        start = (sums, self.residual.at(at)) if self.shape.residual else (sums,)
        grid = ir.grid(rows, columns, min(columns, _RUN))
        return ir.Tile(grid, columns, start, (), self.out.at(at), self.shape.activation)


_GRID = ir.grid(SIDE, SIDE, _RUN)
