"""Which family makes which kernel.

A family is a module: whether it takes a kernel of ``fusion``, and how that becomes calls. What a
family does not take (a depthwise window with an uneven border inside an inverted residual, a join
that is no shift) is made of smaller kernels, so that every graph the frontend reads can be lowered.
"""

from __future__ import annotations

from collections.abc import Sequence

from shiftedge.export.compiler.backends.builder import KernelFamily, lower_by
from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import (
    conv,
    dense,
    depthwise,
    elementwise,
    frame,
    inverted_residual,
    join,
    keep,
    pointwise,
    pool,
    separate,
    tail,
)
from shiftedge.export.compiler.graph.fusion import (
    ConvKernel,
    FusedKernel,
    InvertedResidualKernel,
    fuse,
)
from shiftedge.export.compiler.graph.graph import Graph, KeepState, Quantize
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.runtime.spec import ModelSpec

FAMILIES: tuple[KernelFamily[Context], ...] = (
    inverted_residual,
    tail,
    separate,
    pointwise,
    depthwise,
    conv,
    dense,
    frame,
    elementwise,
    pool,
    join,
)
"""In the order in which they are asked."""


def lower(graph: Graph, spec: ModelSpec, target: CpuVariant) -> Step:
    """Choose a schedule, tiles and buffers for every kernel of ``graph``.

    Raises:
        CompileError: an operator has no family; the message names its node.
    """
    context = Context(graph, spec, target, _lower)
    kernels, kept = fuse(graph)
    if _frame_is_a_map(graph, kernels, kept):
        frame.normalize(context)
    for kernel in kernels:
        _lower(kernel, context)
    for state in kept:
        keep.lower(state, context)
    return context.finish()


def _lower(kernel: FusedKernel, context: Context) -> None:
    refusal = (
        "was read and has no schedule, which is a fault of shiftedge; please report it with the "
        "model."
    )
    lower_by(FAMILIES, kernel, context, refusal)


def _frame_is_a_map(
    graph: Graph, kernels: Sequence[FusedKernel], kept: Sequence[KeepState]
) -> bool:
    """Whether anything but one first convolution reads the frame."""
    if any(graph.frame in state.inputs for state in kept):
        return True
    readers = (kernel for kernel in kernels if graph.frame in kernel.reads)
    return not all(_reads_bytes(kernel, graph.frame) for kernel in readers)


def _reads_bytes(kernel: FusedKernel, frame_name: str) -> bool:
    if isinstance(kernel, InvertedResidualKernel):
        return kernel.stem is not None and kernel.residual != frame_name
    if isinstance(kernel.operators[0], Quantize):
        return True
    return (
        isinstance(kernel, ConvKernel)
        and kernel.join is None
        and kernel.conv.groups == 1
        and kernel.residual != frame_name
    )
