"""The temporal shift as a map of its own, where what reads it cannot take it in place."""

from __future__ import annotations

from typing import cast

from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.families.threads import Body, flat, vector_of
from shiftedge.export.compiler.graph.fusion import FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Join
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Index


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    return isinstance(kernel, Single) and isinstance(kernel.operators[0], Join)


def lower(kernel: Single, context: GpuContext) -> None:
    join = cast(Join, kernel.operators[0])
    state, source = join.inputs
    height, width, channels = context.map_of(join.out)
    name = context.name("join")
    shape = (height * width, channels, context.map_of(state)[2], context.map_of(source)[2])
    made = schedule(name, *shape, join.begin, context.dtype_of(join.out))
    arguments = {"s": context.value(state), "x": context.value(source)}
    arguments["out"] = context.value(join.out)
    context.call((made,), arguments, "join", join.name)


def schedule(
    name: str, pixels: int, channels: int, kept: int, others: int, begin: int, dtype: str
) -> ir.Kernel:
    """The kernel: parameters s (the state), x, out; of x the channels from ``begin`` on."""
    vector = vector_of(channels, kept, others, begin)
    state = ir.Buffer("s", pixels * kept, dtype=dtype)
    x = ir.Buffer("x", pixels * others, dtype=dtype)
    out = ir.Buffer("out", pixels * channels, "output", dtype)

    def work(number: Index) -> Body:
        pixel, channel = number // (channels // vector), number % (channels // vector) * vector
        target = out.at(number * vector)
        before = ir.Copy(state.at(pixel * kept + channel), target, vector)
        own = ir.Copy(x.at(pixel * others + (channel + begin - kept)), target, vector)
        return (ir.If(channel.below(kept), (before,), (own,)),)

    return flat(name, (state, x, out), out.size // vector, work, "join")
