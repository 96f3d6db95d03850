"""The next state: some channels of a map, copied to where the state stands.

States are read from one block and written to another, so the order does not matter. ``along`` adds
the copy to a kernel that reads the map anyway, each work unit a share of its rows: no call and no
barrier of its own, and the map is in the cache. All ten of MobileNetV2 together are 108 KB.
``schedule`` is a kernel of its own, for a map that no kernel reads. Work units are rows.
"""

from __future__ import annotations

from dataclasses import replace

from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import UNIT, Buffer, Copy, Kernel, Loop

__all__ = ["along", "schedule"]


def schedule(
    name: str,
    shape: tuple[int, int, int],
    begin: int,
    end: int,
    dtype: str = "float32",
    zero: int = 0,
) -> Kernel:
    """Channels ``begin`` to ``end`` - 1 of x, (height, width, channels): parameters x, state.

    ``dtype`` is that of both. Codes are kept less ``zero``, the one that stands for 0, so that a
    block of zeros is a fresh stream.
    """
    height, width, channels = shape
    count, column = end - begin, Var("column of image")
    x = Buffer("x", height * width * channels, dtype=dtype)
    state = Buffer("state", height * width * count, "output", dtype)
    pixel = UNIT * width + column
    copy = Copy(x.at(pixel * channels + begin), state.at(pixel * count), count, plus=-zero)
    body = Loop(column, Const(0), Const(width), (copy,))
    return Kernel(name=name, buffers=(x, state), units=height, body=(body,), note="keep state")


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
    height, width, channels = shape
    count, row, column = end - begin, Var("kept row"), Var("kept column")
    (x,) = (buffer for buffer in kernel.buffers if buffer.name == source)
    state = Buffer(name, height * width * count, "output", x.dtype)
    pixel = row * width + column
    copy = Copy(x.at(pixel * channels + begin), state.at(pixel * count), count, plus=-zero)
    first: Index = UNIT * height // kernel.units
    after: Index = (UNIT + 1) * height // kernel.units
    loop = Loop(row, first, after, (Loop(column, Const(0), Const(width), (copy,)),))
    return replace(kernel, buffers=(*kernel.buffers, state), body=(*kernel.body, loop))
