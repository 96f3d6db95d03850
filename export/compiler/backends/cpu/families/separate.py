"""Kernels of several convolutions that no family takes whole, as smaller ones."""

from __future__ import annotations

from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.graph.fusion import FusedKernel, InvertedResidualKernel, Tail, apart


def matches(kernel: FusedKernel, context: Context) -> bool:
    return isinstance(kernel, (InvertedResidualKernel, Tail))


def lower(kernel: InvertedResidualKernel | Tail, context: Context) -> None:
    for part in apart(kernel):
        context.lower(part, context)
