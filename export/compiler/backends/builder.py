"""A step in the making, as every backend's families see it: arguments, constants and calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.base import TargetVariant
from shiftedge.export.compiler.graph.fusion import FusedKernel
from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Argument, Call, Memory, Step
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.spec import ModelSpec

FRAME_MAP = "frame as numbers"
"""The normalised frame as a map of its own, where something else than a first convolution reads
it. No ONNX name can be this one by accident and matter: the frame's own is ``frame``."""

T = TypeVar("T", bound=TargetVariant)
C = TypeVar("C", contravariant=True)


class KernelFamily(Protocol[C]):
    """Kernels of one kind: a module of a backend's ``families``."""

    def matches(self, kernel: FusedKernel, context: C) -> bool:
        """Whether it takes ``kernel``."""

    def lower(self, kernel: Any, context: C) -> None:
        """Schedule a kernel that it takes, and add its calls to the step."""


def lower_by(
    families: Sequence[KernelFamily[C]], kernel: FusedKernel, context: C, refusal: str
) -> None:
    """Lower a kernel by the first family that takes it.

    Raises:
        CompileError: none does; the message names its node and ends with ``refusal``.
    """
    for family in families:
        if family.matches(kernel, context):
            family.lower(kernel, context)
            return
    kind = type(kernel.operators[-1]).__name__
    raise CompileError(f"{kind} (node {kernel.name!r}) {refusal}")


@dataclass
class StepBuilder(ABC, Generic[T]):
    """A step in the making. Nothing here knows a family: which of them takes a kernel is a
    registry's."""

    graph: Graph
    spec: ModelSpec
    target: T
    lower: Callable[[FusedKernel, Any], None]
    """Lowers a kernel by the family that takes it: for families that make several of one."""
    calls: list[Call] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    named: int = 0
    """Kernels so far."""

    @abstractmethod
    def dtype_of(self, name: str) -> str:
        """Type of a value's elements in memory."""

    def finish(self) -> Step:
        """All that was built."""
        states = [f"state_{number}" for number in range(len(self.graph.states))]
        return Step(
            _shared(self.calls),
            self.constants,
            self.graph.states,
            tuple(self.graph.quantization.get(name) for name in states),
            tuple(self.dtype_of(name) for name in states),
            self.spec.classes,
        )

    def value(self, name: str) -> Argument:
        """A value that a kernel reads or makes."""
        if name == self.graph.frame:
            name = FRAME_MAP
        elif name == self.graph.logits:
            return Argument(Memory.LOGITS)
        elif name.startswith("state_") and name[6:].isdigit():
            return Argument(Memory.STATE, name[6:])
        return Argument(Memory.WORKSPACE, name)

    def pack(self, owner: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Argument]:
        """Constants of a kernel, by name of its buffers: float32 or float16, or integers."""
        result = {}
        for name, array in arrays.items():
            key = f"{owner}.{name}"
            own = array.dtype.kind == "i" or array.dtype == np.float16
            dtype = array.dtype if own else np.float32
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

    def map_of(self, name: str) -> tuple[int, int, int]:
        """Height, width, channels; a vector is 1 x 1."""
        shape = self.graph.shapes[name]
        height, width, channels = shape if len(shape) == 3 else (1, 1, shape[0])
        return height, width, channels


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
