"""A step in the making, as families of GPU kernels see it."""

from __future__ import annotations

from dataclasses import dataclass

from shiftedge.export.compiler.backends.builder import StepBuilder
from shiftedge.export.compiler.backends.cuda.devices import GpuVariant
from shiftedge.export.compiler.graph.fusion import ConvKernel, Single
from shiftedge.export.compiler.graph.graph import is_vector
from shiftedge.export.compiler.kernel_ir.calls import Argument
from shiftedge.export.compiler.numerics.precision import PRECISIONS
from shiftedge.runtime.errors import CompileError


@dataclass
class GpuContext(StepBuilder[GpuVariant]):
    """A step in the making."""

    def name(self, family: str, detail: object = "") -> str:
        """Of a kernel: a C identifier, unique, in the order of the step."""
        self.named += 1
        parts = (f"k{self.named - 1:03d}", family, self.target.precision, str(detail))
        return "_".join(part for part in parts if part)

    def dtype_of(self, name: str) -> str:
        """Maps are stored in the precision; vectors, which are few, as float32.

        Raises:
            CompileError: the value is quantised.
        """
        if name in self.graph.quantization:
            raise CompileError(
                "The model is quantised, and there is no code of integers for GPUs yet: compile "
                "the float32 model for them."
            )
        narrow = PRECISIONS[self.target.precision].rounds
        narrow = narrow and not is_vector(self.graph.shapes[name])
        return PRECISIONS[self.target.precision].buffer if narrow else "float32"

    def whole(self, kernel: ConvKernel) -> str:
        """The map that a convolution reads; where it reads a join, that is made first."""
        if kernel.join is not None:
            self.lower(Single((kernel.join,)), self)
        return kernel.conv.inputs[0]

    def ends(self, kernel: ConvKernel) -> dict[str, Argument]:
        """The arguments of a convolution's end: the residual, if any, and the result."""
        residual = {} if kernel.residual is None else {"residual": self.value(kernel.residual)}
        return {**residual, "out": self.value(kernel.out)}
