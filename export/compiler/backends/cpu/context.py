"""A step in the making, as families see it: names, arguments, constants and calls.

Nothing here knows a family: which of them takes a kernel is ``registry``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families.arithmetic import Arithmetic, precision_of
from shiftedge.export.compiler.graph.fusion import FusedKernel
from shiftedge.export.compiler.graph.graph import Conv, Graph, is_vector
from shiftedge.export.compiler.kernel_ir.calls import Argument, Call, Memory, Step
from shiftedge.export.compiler.kernel_ir.kernel import Dot, Kernel
from shiftedge.export.compiler.numerics.precision import PRECISIONS
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.spec import ModelSpec

FRAME_MAP = "frame as numbers"
"""The normalised frame as a map of its own, where something else than a first convolution reads
it. No ONNX name can be this one by accident and matter: the frame's own is ``frame``."""


@dataclass
class Context:
    """A step in the making."""

    graph: Graph
    spec: ModelSpec
    target: CpuVariant
    lower: Callable[[FusedKernel, Context], None]
    """Lowers a kernel by the family that takes it: for families that make several of one."""
    calls: list[Call] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    named: int = 0
    """Kernels so far."""

    def finish(self) -> Step:
        states = [f"state_{number}" for number in range(len(self.graph.states))]
        return Step(
            _shared(self.calls),
            self.constants,
            self.graph.states,
            tuple(self.graph.quantization.get(name) for name in states),
            tuple(self.dtype_of(name) for name in states),
            self.spec.classes,
        )

    # Names and arguments.

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

    def value(self, name: str) -> Argument:
        if name == self.graph.frame:
            name = FRAME_MAP
        elif name == self.graph.logits:
            return Argument(Memory.LOGITS)
        elif name.startswith("state_") and name[6:].isdigit():
            return Argument(Memory.STATE, name[6:])
        return Argument(Memory.WORKSPACE, name)

    def pack(self, owner: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Argument]:
        """Constants of a kernel, by name of its buffers: float32, or integers."""
        result = {}
        for name, array in arrays.items():
            key = f"{owner}.{name}"
            dtype = array.dtype if array.dtype.kind == "i" else np.float32
            self.constants[key] = np.ascontiguousarray(array, dtype).ravel()
            result[name] = Argument(Memory.WEIGHTS, key)
        return result

    def call(
        self, kernels: Sequence[Kernel], arguments: Mapping[str, Argument], family: str, source: str
    ) -> None:
        """Kernels of one family in turn, with arguments by name of their buffers; ``hidden`` and
        ``padded`` are what one leaves the next. ``source`` is the ONNX node that they end with."""
        own = {
            name: Argument(Memory.WORKSPACE, f"{kernels[-1].name}.{name}")
            for name in ("hidden", "padded")
        }
        for kernel in kernels:
            named = {each.name: {**own, **arguments}[each.name] for each in kernel.buffers}
            self.calls.append(Call(kernel.name, kernel, named, family, source))

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

    def map_of(self, name: str) -> tuple[int, int, int]:
        """Height, width, channels; a vector is 1 x 1."""
        shape = self.graph.shapes[name]
        height, width, channels = shape if len(shape) == 3 else (1, 1, shape[0])
        return height, width, channels

    def reads_frame(self, conv: Conv) -> bool:
        """Whether its kernel reads the camera's bytes: one of int8 does even where the frame is a
        map of numbers too."""
        if conv.inputs[0] != self.graph.frame:
            return False
        arguments = (each for call in self.calls for each in call.arguments.values())
        return conv.quantized_weight is not None or all(
            argument.name != FRAME_MAP for argument in arguments
        )


def _shared(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The same calls, with one kernel for all that differ in nothing but their names.

    Blocks of one shape then run the same code, which is still in the cache when the next begins:
    a step's code is some 100 KB and its weights are megabytes, so each kernel begins cold.
    """
    found: dict[Kernel, Kernel] = {}
    result = []
    for call in calls:
        same = replace(call.kernel, name="", note="")
        kernel = found.setdefault(same, call.kernel)
        result.append(replace(call, kernel=kernel))
    return tuple(result)
