"""The temporal shift: a state's channels before those of a map.

It is read in place by the kernels that can. A join that drops other channels than it brings, or
that another operator reads, is made as a map of its own by ``padding``, without a border.
"""

from __future__ import annotations

from typing import cast

from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.families import padding
from shiftedge.export.compiler.backends.cpu.families.keep import source_of
from shiftedge.export.compiler.backends.cpu.families.padding import Padding
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Join
from shiftedge.export.compiler.kernel_ir.calls import Argument


def matches(kernel: FusedKernel, context: Context) -> bool:
    return isinstance(kernel, Single) and isinstance(kernel.operators[0], Join)


def lower(kernel: Single, context: Context) -> None:
    """A join as a map of its own."""
    join = cast(Join, kernel.operators[0])
    state, features = join.inputs
    height, width, channels = context.map_of(join.out)
    dtype = context.dtype_of(join.out)
    shape = Padding(
        height,
        width,
        channels,
        (0, 0, 0, 0),
        shift=context.map_of(state)[2],
        begin=join.begin,
        dtype=dtype,
        zero=context.zero_of(join.out),
    )
    arguments = {
        "x": source_of(context, features),
        "state": context.value(state),
        "padded": context.value(join.out),
    }
    made = padding.schedule(context.name("join", dtype), shape)
    context.call((made,), arguments, "join", join.name)


def operands(
    kernel: ConvKernel, context: Context, *, any_join: bool = False
) -> tuple[int, dict[str, Argument]]:
    """Of a convolution: how many channels it reads from a state, and its arguments."""
    shift, arguments = joined(context, kernel.join, kernel.conv.inputs[0], any_join=any_join)
    if kernel.residual is not None:
        arguments["residual"] = source_of(context, kernel.residual)
    return shift, {**arguments, "out": context.value(kernel.out)}


def joined(
    context: Context, join: Join | None, source: str, *, any_join: bool = False
) -> tuple[int, dict[str, Argument]]:
    """How many channels a kernel reads from a state, and the arguments x and, if any, state.

    A join that drops other channels than it brings is made as a map first, but for who takes
    ``any_join``.
    """
    if join is None:
        return 0, {"x": source_of(context, source)}
    state, features = join.inputs
    channels = context.map_of(state)[2]
    if join.begin != channels and not any_join:
        context.lower(Single((join,)), context)
        return 0, {"x": context.value(join.out)}
    return channels, {"x": source_of(context, features), "state": context.value(state)}
