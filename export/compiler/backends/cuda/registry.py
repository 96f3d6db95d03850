"""Which family makes which kernel; see ``families``."""

from __future__ import annotations

from shiftedge.export.compiler.backends.builder import KernelFamily, lower_by
from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.devices import GpuVariant
from shiftedge.export.compiler.backends.cuda.families import (
    dense,
    depthwise,
    elementwise,
    first,
    join,
    keep,
    pool,
    product,
    tensor,
)
from shiftedge.export.compiler.graph.fusion import FusedKernel, apart, fuse
from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.runtime.spec import ModelSpec

FAMILIES: tuple[KernelFamily[GpuContext], ...] = (
    first,
    depthwise,
    dense,
    tensor,
    product,
    elementwise,
    pool,
    join,
)
"""In the order in which they are asked."""


def lower(graph: Graph, spec: ModelSpec, target: GpuVariant) -> Step:
    """Choose a schedule and tiles for every kernel of ``graph``: one convolution a kernel.

    Raises:
        CompileError: an operator has no family; the message names its node.
    """
    context = GpuContext(graph, spec, target, _lower)
    fused, kept = fuse(graph)
    kernels = [part for kernel in fused for part in apart(kernel)]
    readers = [kernel for kernel in kernels if graph.frame in kernel.reads]
    kept_frame = any(graph.frame in state.inputs for state in kept)
    if kept_frame or not all(first.reads_bytes(each, graph.frame) for each in readers):
        first.normalize(context)
    for kernel in kernels:
        _lower(kernel, context)
    for state in kept:
        keep.lower(state, context)
    return context.finish()


def _lower(kernel: FusedKernel, context: GpuContext) -> None:
    refusal = "has no code for GPUs yet; compile the model for a processor."
    lower_by(FAMILIES, kernel, context, refusal)
