"""Which schedule makes which kernel, and what each of its buffers is.

One method a family. What a family's schedule does not take (a depthwise window with an uneven
border inside an inverted residual, a join that is no shift) is made of smaller kernels here, so
that every graph the frontend reads can be lowered.
"""

from __future__ import annotations

from collections.abc import Sequence

from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.rules_blocks import Blocks
from shiftedge.export.compiler.graph.fusion import ConvKernel, InvertedResidual, Kernel, Tail, fuse
from shiftedge.export.compiler.graph.graph import Graph, KeepState, Quantize
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.runtime.spec import ModelSpec

__all__ = ["lower"]


def lower(graph: Graph, spec: ModelSpec, target: CpuVariant) -> Step:
    """Choose a schedule, tiles and buffers for every kernel of ``graph``.

    Raises:
        CompileError: an operator has no rule; the message names its node.
    """
    return _Lowering(graph, spec, target).step()


class _Lowering(Blocks):
    def step(self) -> Step:
        kernels, kept = fuse(self.graph)
        if self._frame_is_a_map(kernels, kept):
            self.normalise()
        for kernel in kernels:
            self._kernel(kernel)
        for state in kept:
            self.keep(state)
        return self.finish()

    # The frame.

    def _frame_is_a_map(self, kernels: Sequence[Kernel], kept: Sequence[KeepState]) -> bool:
        """Whether anything but one first convolution reads the frame."""
        frame = self.graph.frame
        first = [kernel for kernel in kernels if frame in kernel.reads]
        kept_of_frame = any(frame in state.inputs for state in kept)
        return kept_of_frame or not all(self._reads_bytes(kernel) for kernel in first)

    def _reads_bytes(self, kernel: Kernel) -> bool:
        if isinstance(kernel, InvertedResidual):
            return kernel.stem is not None and kernel.residual != self.graph.frame
        if isinstance(kernel.operators[0], Quantize):
            return True
        return (
            isinstance(kernel, ConvKernel)
            and kernel.join is None
            and kernel.conv.groups == 1
            and kernel.residual != self.graph.frame
        )

    # Families.

    def _kernel(self, kernel: Kernel) -> None:
        if isinstance(kernel, InvertedResidual):
            self.inverted_residual(kernel)
        elif isinstance(kernel, Tail):
            self.tail(kernel)
        elif isinstance(kernel, ConvKernel):
            self.convolution(kernel)
        else:
            self.single(kernel)
