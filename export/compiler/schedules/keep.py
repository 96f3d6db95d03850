"""The next state: some channels of a map, copied to where the state stands.

A kernel of its own, to run when nothing of this step reads the old state any more: then states are
kept in place, with any number of threads. All ten of MobileNetV2 together are 108 KB. Work units
are rows.
"""

from __future__ import annotations

from shiftedge.export.compiler.tir_index import Const, Var
from shiftedge.export.compiler.tir_kernel import UNIT, Buffer, Copy, Kernel, Loop

__all__ = ["schedule"]


def schedule(name: str, shape: tuple[int, int, int], begin: int, end: int) -> Kernel:
    """Channels ``begin`` to ``end`` - 1 of x, (height, width, channels): parameters x, state."""
    height, width, channels = shape
    count, column = end - begin, Var("column of image")
    x = Buffer("x", height * width * channels)
    state = Buffer("state", height * width * count, "output")
    pixel = UNIT * width + column
    copy = Copy(x.at(pixel * channels + begin), state.at(pixel * count), count)
    body = Loop(column, Const(0), Const(width), (copy,))
    return Kernel(name=name, buffers=(x, state), units=height, body=(body,), note="keep state")
