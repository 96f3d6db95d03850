"""How work is cut over the threads of a block, and over blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Const, Index

THREADS = 128
"""Of a block, where nothing is shared: four warps, one for each scheduler of a multiprocessor."""

Body = tuple[ir.Statement, ...]


def vector_of(*counts: int) -> int:
    """Neighbouring elements that a thread takes at once: 4 where that divides all of them."""
    return 4 if all(count % 4 == 0 for count in counts) else 1


def up(count: int, step: int) -> int:
    """Steps that cover a count."""
    return -(-count // step)


def flat(
    name: str,
    buffers: Sequence[ir.Buffer],
    count: int,
    body: Callable[[Index], Body],
    note: str,
    registers: Sequence[ir.Buffer] = (),
    flops: int = 0,
) -> ir.Kernel:
    """A kernel whose threads do one of ``count`` things each, which share nothing."""
    units = up(count, THREADS)
    number = ir.UNIT * THREADS + ir.THREAD
    work = body(number)
    if count % THREADS:
        work = (ir.If(number.below(count), work),)
    return ir.Kernel(
        name, tuple(buffers), units, work, threads=THREADS, block=tuple(registers), flops=flops,
        note=note,
    )  # fmt: skip


def spread(count: int, threads: int, body: Callable[[Index], Body]) -> Body:
    """``count`` things over the threads of a block, in turns."""
    result: list[ir.Statement] = []
    for first in range(0, count, threads):
        number = ir.THREAD + first
        work = body(number)
        result += work if first + threads <= count else (ir.If(number.below(count), work),)
    return tuple(result)


def where(conditions: Sequence[Index], work: Body) -> Body:
    """``work`` where all of the conditions hold."""
    for each in reversed(conditions):
        work = (ir.If(each, work),)
    return work


def within(place: Index, first: int, size: int, last: int) -> list[Index]:
    """What says that ``place``, counted in a map with a border of ``first`` in front, is in the map
    of ``size``; the lowest place is 0, the highest ``last``."""
    result = [Const(first - 1).below(place)] if first else []
    if last >= first + size:
        result.append(place.below(first + size))
    return result


class Windowed(Protocol):
    """Shape of a convolution some of whose pixels a thread makes, neighbours in a row."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def out_height(self) -> int: ...
    @property
    def out_width(self) -> int: ...
    @property
    def kernel(self) -> tuple[int, int]: ...
    @property
    def stride(self) -> tuple[int, int]: ...
    @property
    def padding(self) -> tuple[int, int, int, int]: ...
    @property
    def pixels(self) -> int:
        """Of a thread."""

    def columns(self, pixels: int) -> int:
        """Of an input row, that so many pixels read."""


def rows_of_window(
    shape: Windowed,
    row: Index,
    tile: Index,
    load: Callable[[Index, int], ir.Copy],
    add: Callable[[int], ir.Tile],
) -> Body:
    """The rows of the windows of a thread's pixels, ``tile`` of those of output ``row``, one after
    the other: what ``load`` copies of an input pixel for a column, 0 in the border, and then what
    ``add`` does with a row's."""
    (down, right), (top, left, _, _) = shape.stride, shape.padding
    pixels, tiles = shape.pixels, shape.out_width // shape.pixels
    body: Body = ()
    for tap in range(shape.kernel[0]):
        at, reach = row * down + tap, (shape.out_height - 1) * down + tap
        above = top if tap < top else 0
        read: list[ir.Statement] = []
        for column in range(shape.columns(pixels)):
            place = tile * (pixels * right) + column
            furthest = (tiles - 1) * pixels * right + column
            before = left if column < left else 0
            conditions = within(place, before, shape.width + left - before, furthest)
            copy = load((at - top) * shape.width + (place - left), column)
            if conditions:
                read.append(ir.Fill(copy.target, copy.count))
            read += where(conditions, (copy,))
        inside = within(at, above, shape.height + top - above, reach)
        body += where(inside, (*read, add(tap)))
    return body
