"""Kernels of several convolutions that no family takes whole, as smaller ones."""

from __future__ import annotations

from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.graph.fusion import (
    ConvKernel,
    FusedKernel,
    InvertedResidualKernel,
    Linear,
    Single,
    Tail,
)
from shiftedge.export.compiler.graph.graph import Activate, Add, Join


def matches(kernel: FusedKernel, context: Context) -> bool:
    return isinstance(kernel, (InvertedResidualKernel, Tail))


def lower(kernel: InvertedResidualKernel | Tail, context: Context) -> None:
    if isinstance(kernel, Tail):
        context.lower(_alone(kernel, kernel.pointwise, kernel.join), context)
        context.lower(Single((kernel.mean,)), context)
        context.lower(Single((kernel.dense,)), context)
        return
    join = kernel.join
    for part in (kernel.stem or kernel.expand, kernel.depthwise):
        if part is not None:
            context.lower(_alone(kernel, part, join), context)
            join = None
    context.lower(_alone(kernel, kernel.project, None, kernel.residual), context)


def _alone(
    kernel: FusedKernel, part: Linear, join: Join | None, residual: str | None = None
) -> ConvKernel:
    """One convolution of a kernel, with the join before it, its activation, and the sum behind."""
    conv = part.conv
    own = tuple(
        each
        for each in kernel.operators
        if each in (conv, join)
        or (isinstance(each, Activate) and each.inputs == (conv.out,))
        or (residual is not None and isinstance(each, Add))
    )
    return ConvKernel(own, join, part, residual)
