"""How work is cut over the threads of a block, and over blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
