"""States: the next one, copied from a map, and one that is read as a map.

The next state is some channels of a map, copied to where the state stands. States are read from one
block and written to another, so the order does not matter. ``along`` adds the copy to a kernel that
reads the map anyway, each work unit a share of its rows: no call and no barrier of its own, and the
map is in the cache. All ten of MobileNetV2 together are 108 KB. ``schedule`` is a kernel of its
own, for a map that no kernel reads. Work units are rows.

Quantised states are kept less their zero point, so that a block of zeros is a fresh stream. A
kernel that reads a state as a map, not in a join, is given a copy as maps are stored.
"""

from __future__ import annotations

import math
from dataclasses import replace

from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.graph.graph import KeepState
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import UNIT, Buffer, Copy, Kernel, Loop

_BUFFERS_MOST = 24
"""Arguments of a kernel, its scratch included: SHIFTEDGE_BUFFERS_MOST of cpu/kernels.h."""


def lower(state: KeepState, context: Context) -> None:
    """Give a share of the copy to each work unit of a kernel that reads the map."""
    (source,) = state.inputs
    shape = height, width, channels = context.map_of(source)
    value, target = context.value(source), Argument(Memory.NEXT_STATE, str(state.state))
    # A state that becomes another is less its zero point already.
    zero = 0 if value.memory is Memory.STATE else context.zero_of(source)
    found = _reader(value, height * width * channels, context)
    if found is None:
        dtype = context.dtype_of(source)
        name = context.name("keep", dtype)
        kernel = schedule(name, shape, state.begin, state.end, dtype, zero)
        context.call((kernel,), {"x": value, "state": target}, "state", state.name)
        return
    number, buffer = found
    call = context.calls[number]
    name = "next_state"
    while any(each.name == name for each in call.kernel.buffers):
        name += "_too"
    kernel = along(call.kernel, buffer, name, shape, state.begin, state.end, zero)
    context.calls[number] = replace(call, kernel=kernel, arguments={**call.arguments, name: target})


def _reader(value: Argument, size: int, context: Context) -> tuple[int, str] | None:
    """The first call that reads all of a map, and the name of its buffer."""
    for number, call in enumerate(context.calls):
        if len(call.kernel.buffers) + 1 == _BUFFERS_MOST:
            continue  # a map of many states; another kernel, or one of its own, keeps the rest
        for buffer in call.kernel.buffers:
            readable = buffer.role == "input" and call.arguments[buffer.name] == value
            if readable and buffer.size == size:
                return number, buffer.name
    return None


def source_of(context: Context, name: str) -> Argument:
    """A value as a kernel reads it, a quantised state as maps are stored."""
    value, zero = context.value(name), context.zero_of(name)
    if value.memory is not Memory.STATE or not zero:
        return value
    copy = Argument(Memory.WORKSPACE, f"{name} as a map")
    if all(copy not in call.arguments.values() for call in context.calls):
        shape, dtype = context.map_of(name), context.dtype_of(name)
        kernel = schedule(context.name("state", dtype), shape, 0, shape[2], dtype, -zero)
        context.call((kernel,), {"x": value, "state": copy}, "state", name)
    return copy


def schedule(
    name: str,
    shape: tuple[int, int, int],
    begin: int,
    end: int,
    dtype: str = "float32",
    zero: int = 0,
) -> Kernel:
    """Channels ``begin`` to ``end`` - 1 of x, (height, width, channels): parameters x, state.

    ``dtype`` is that of both; they are kept less ``zero``.
    """
    x = Buffer("x", math.prod(shape), dtype=dtype)
    state, row = _row(x, "state", shape, begin, end, zero, UNIT, "column of image")
    return Kernel(name=name, buffers=(x, state), units=shape[0], body=(row,), note="keep state")


def along(
    kernel: Kernel,
    source: str,
    name: str,
    shape: tuple[int, int, int],
    begin: int,
    end: int,
    zero: int = 0,
) -> Kernel:
    """``kernel`` with the copy of ``source``'s channels to a new last parameter ``name``."""
    height, row = shape[0], Var("kept row")
    (x,) = (buffer for buffer in kernel.buffers if buffer.name == source)
    state, kept = _row(x, name, shape, begin, end, zero, row, "kept column")
    first, after = (number * height // kernel.units for number in (UNIT, UNIT + 1))
    body = (*kernel.body, Loop(row, first, after, (kept,)))
    return replace(kernel, buffers=(*kernel.buffers, state), body=body)


def _row(
    x: Buffer,
    name: str,
    shape: tuple[int, int, int],
    begin: int,
    end: int,
    zero: int,
    row: Index,
    column_name: str,
) -> tuple[Buffer, Loop]:
    """A state's buffer, and the copy of one row of a map's channels to it."""
    height, width, channels = shape
    count, column = end - begin, Var(column_name)
    state = Buffer(name, height * width * count, "output", x.dtype)
    pixel = row * width + column
    copy = Copy(x.at(pixel * channels + begin), state.at(pixel * count), count, plus=-zero)
    return state, Loop(column, Const(0), Const(width), (copy,))
