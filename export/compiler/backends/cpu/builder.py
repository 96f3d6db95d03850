"""What rules build a step with: names, buffers, constants, calls; the frame and the next states.

Next states are copied by a kernel that reads the map anyway, each of its work units a share of the
rows: no kernel, no barrier, no cold cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import keep, padding
from shiftedge.export.compiler.backends.cpu.families.padding import Padding
from shiftedge.export.compiler.graph.graph import Graph, KeepState, is_vector
from shiftedge.export.compiler.kernel_ir.calls import Argument, Call, Memory, Step
from shiftedge.export.compiler.kernel_ir.kernel import BF16, Dot, Kernel
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.spec import ModelSpec

__all__ = ["FRAME_MAP", "Builder"]

Array = NDArray[np.float32]
FRAME_MAP = "frame as numbers"
"""The normalised frame as a map of its own, where something else than a first convolution reads
it. No ONNX name can be this one by accident and matter: the frame's own is ``frame``."""
_BUFFERS_MOST = 24
"""Arguments of a kernel, its scratch included: SHIFTEDGE_BUFFERS_MOST of cpu/kernels.h."""


@dataclass
class Builder:
    """A step in the making."""

    graph: Graph
    spec: ModelSpec
    target: CpuVariant
    calls: list[Call] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    number: int = 0
    """Of the next kernel."""

    def finish(self) -> Step:
        """All that was built."""
        quantization = tuple(
            self.graph.quantization.get(f"state_{number}")
            for number in range(len(self.graph.states))
        )
        return Step(
            _shared(self.calls),
            self.constants,
            self.graph.states,
            quantization,
            tuple(self.dtype_of(f"state_{number}") for number in range(len(self.graph.states))),
            self.spec.classes,
        )

    # The frame.

    def normalise(self) -> None:
        """The frame as a map of float32 R, G, B, as the model's states and joins see it."""
        height, width, _ = self.graph.shapes[self.graph.frame]
        kind = self.dtype_of(self.graph.frame)
        shape = Padding(height, width, 3, (0, 0, 0, 0), frame=True, reverse=True, dtype=kind)
        name = self.name("frame")
        self.call(
            padding.schedule(name, shape),
            {
                "x": Argument(Memory.FRAME),
                **self.normalisation(shape),
                "padded": Argument(Memory.WORKSPACE, FRAME_MAP),
            },
            "normalise",
            self.graph.frame,
        )

    def normalisation(self, shape: Padding) -> dict[str, Argument]:
        """Scale and offset of the frame's B, G, R."""
        mean, std = self.spec.mean[::-1], self.spec.std[::-1]
        return self.pack("frame", padding.normalisation(mean, std, shape.width))

    def has_frame_map(self) -> bool:
        """Whether :meth:`normalise` made one."""
        return any(
            argument.name == FRAME_MAP
            for call in self.calls
            for argument in call.arguments.values()
        )

    # Names and arguments.

    def name(self, kind: str) -> str:
        """Of a kernel: a C identifier, unique, in the order of the step."""
        self.number += 1
        return f"k{self.number - 1:03d}_{kind}"

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
        """Constants of a kernel, by name of its buffers: float32, or whole numbers."""
        result = {}
        for name, array in arrays.items():
            key = f"{owner}.{name}"
            dtype = array.dtype if array.dtype.kind == "i" else np.float32
            self.constants[key] = np.ascontiguousarray(array, dtype).ravel()
            result[name] = Argument(Memory.WEIGHTS, key)
        return result

    def call(
        self, kernel: Kernel, arguments: Mapping[str, Argument], family: str, source: str
    ) -> None:
        named = {buffer.name: arguments[buffer.name] for buffer in kernel.buffers}
        self.calls.append(Call(kernel.name, kernel, named, family, source))

    def call_all(
        self,
        kernels: Sequence[Kernel],
        arguments: Mapping[str, Argument],
        family: str,
        source: str,
    ) -> None:
        """Several kernels in turn; ``hidden`` and ``padded`` are what one leaves the next."""
        own = {
            name: Argument(Memory.WORKSPACE, f"{kernels[-1].name}.{name}")
            for name in ("hidden", "padded")
        }
        for kernel in kernels:
            self.call(kernel, {**own, **arguments}, family, source)

    def dot(self) -> Dot:
        """How the target multiplies words.

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

        In bf16 those of maps; vectors, which a mean leaves, are few and stay float32.
        """
        if name in self.graph.quantization:
            return self.dot().dtype
        if self.target.precision == "bf16" and not is_vector(self.graph.shapes[name]):
            return BF16
        return "float32"

    def zero_of(self, name: str) -> int:
        """The code of 0 as it is stored; 0 for numbers."""
        quantization = self.graph.quantization.get(name)
        return 0 if quantization is None else quantization.zero_point - self.dot().storage_offset

    def map_of(self, name: str) -> tuple[int, int, int]:
        """Height, width, channels; a vector is 1 x 1."""
        shape = self.graph.shapes[name]
        height, width, channels = shape if len(shape) == 3 else (1, 1, shape[0])
        return height, width, channels

    # Next states.

    def keep(self, state: KeepState) -> None:
        """Give a share of the copy to each work unit of a kernel that reads the map."""
        (source,) = state.inputs
        height, width, channels = self.map_of(source)
        value = self.value(source)
        shape = (height, width, channels)
        target = Argument(Memory.NEXT_STATE, str(state.state))
        # A state that becomes another is less its code of 0 already.
        zero = 0 if value.memory is Memory.STATE else self.zero_of(source)
        dtype = self.dtype_of(source)
        best: tuple[int, str] | None = None
        for number, call in enumerate(self.calls):
            if len(call.kernel.buffers) + 1 == _BUFFERS_MOST:
                continue  # a map of many states; another kernel, or one of its own, keeps the rest
            for buffer in call.kernel.buffers:
                readable = buffer.role == "input" and call.arguments[buffer.name] == value
                if readable and buffer.size == height * width * channels:
                    best = best or (number, buffer.name)
        if best is None:
            name = self.name("keep")
            scheduled = keep.schedule(name, shape, state.begin, state.end, dtype, zero)
            self.call(scheduled, {"x": value, "state": target}, "state", state.name)
            return
        number, buffer_name = best
        call = self.calls[number]
        name = "next_state"
        while any(each.name == name for each in call.kernel.buffers):
            name += "_too"
        kernel = keep.along(call.kernel, buffer_name, name, shape, state.begin, state.end, zero)
        self.calls[number] = replace(
            call, kernel=kernel, arguments={**call.arguments, name: target}
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
