"""A step in the making, as families see it: names, arguments, constants and calls.

Nothing here knows a family: which of them takes a kernel is ``registry``'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from shiftedge.export.compiler.backends.builder import FRAME_MAP, StepBuilder
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families.arithmetic import Arithmetic, precision_of
from shiftedge.export.compiler.graph.graph import Conv, is_vector
from shiftedge.export.compiler.kernel_ir.kernel import Dot
from shiftedge.export.compiler.numerics.precision import PRECISIONS
from shiftedge.runtime.errors import CompileError


@dataclass
class Context(StepBuilder[CpuVariant]):
    """A step in the making."""

    def name(self, family: str, arithmetic: Arithmetic | str, tiles: object = "") -> str:
        """Of a kernel: a C identifier, unique, in the order of the step, after its family, its
        precision, its tiles and the instructions it is made of. ``arithmetic`` is what it computes
        by, or the type of the elements that it moves."""
        unit, self.named = self.target.unit, self.named + 1
        if isinstance(arithmetic, str):
            precision, instruction = precision_of(arithmetic), unit.name
        else:
            precision = precision_of(arithmetic.input_dtype)
            instruction = arithmetic.dot.kind if arithmetic.dot else unit.name
        parts = (f"k{self.named - 1:03d}", family, precision, str(tiles), instruction)
        return "_".join(part for part in parts if part)

    # The graph, as kernels of this target see it.

    def dot(self) -> Dot:
        """How the target multiplies packed values.

        Raises:
            CompileError: not at all.
        """
        if self.target.unit.dot is None:
            raise CompileError(
                f"The model is quantised, and on {self.target.device.cpu} integers are no quicker "
                "than float32: compile the float32 model for this target."
            )
        return self.target.unit.dot

    def dtype_of(self, name: str) -> str:
        """Type of a value's elements in memory.

        A precision that rounds is of maps; vectors, which a mean leaves, are few and stay float32.
        """
        if name in self.graph.quantization:
            return self.dot().dtype
        precision = PRECISIONS[self.target.precision]
        rounds = precision.rounds and not is_vector(self.graph.shapes[name])
        return precision.buffer if rounds else "float32"

    def zero_of(self, name: str) -> int:
        """The zero point as it is stored; 0 for numbers."""
        quantization = self.graph.quantization.get(name)
        return 0 if quantization is None else quantization.zero_point - self.dot().storage_offset

    def reads_frame(self, conv: Conv) -> bool:
        """Whether its kernel reads the camera's bytes: one of int8 does even where the frame is a
        map of numbers too."""
        if conv.inputs[0] != self.graph.frame:
            return False
        arguments = (each for call in self.calls for each in call.arguments.values())
        return conv.quantized_weight is not None or all(
            argument.name != FRAME_MAP for argument in arguments
        )
