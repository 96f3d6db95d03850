"""What a step is made of once schedules are chosen: calls of kernels, with what they are given."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from shiftedge.export.compiler.graph.graph import Quantization
from shiftedge.export.compiler.kernel_ir.kernel import Buffer, Kernel


class Memory(enum.Enum):
    """Where an argument lies; the names of ``runtime/native/buffers.h``."""

    FRAME = "FRAME"
    WEIGHTS = "WEIGHTS"
    STATE = "STATE"
    NEXT_STATE = "NEXT_STATE"
    WORKSPACE = "WORKSPACE"
    LOGITS = "LOGITS"


@dataclass(frozen=True)
class Argument:
    memory: Memory
    name: str = ""
    """Of the constant, the value or the state (its index); empty for frame and logits."""


@dataclass(frozen=True)
class Call:
    name: str
    """Of this call; several calls may share a kernel."""
    kernel: Kernel
    arguments: Mapping[str, Argument]
    """By name of the kernel's buffer."""
    family: str
    """For people: inverted residual, convolution, tail ..."""
    source: str
    """Name of the ONNX node that it ends with."""

    def described(self) -> dict[str, Any]:
        """What an explanation says of it on any device, as plain JSON types."""
        kernel = self.kernel
        return {
            "name": self.name,
            "family": self.family,
            "node": self.source,
            "tiles": kernel.note,
            "units": kernel.units,
            "flops": kernel.flops,
        }


@dataclass(frozen=True)
class Step:
    """All calls of one frame, in order, and the constants that they read."""

    calls: tuple[Call, ...]
    constants: Mapping[str, NDArray[Any]]
    """Packed weights and biases, by name: float32, or integers of one or several weights."""
    states: tuple[tuple[int, ...], ...]
    """(height, width, channels) of each."""
    quantization: tuple[Quantization | None, ...]
    """Of each state; None where it is not quantised."""
    stored: tuple[str, ...]
    """Type of each state's elements."""
    classes: int

    def state_buffer(self, number: int) -> Buffer:
        """A state as it lies in a stream's block."""
        height, width, channels = self.states[number]
        size = height * width * channels
        return Buffer(f"state_{number}", size, dtype=self.stored[number])

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Each kernel once, in the order of its first call."""
        return tuple({call.kernel.name: call.kernel for call in self.calls}.values())
