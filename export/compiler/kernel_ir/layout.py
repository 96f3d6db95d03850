"""Where everything that a step reads and makes lies: workspace, states, weights, scratch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shiftedge.export.compiler.kernel_ir.calls import Argument, Call, Memory, Step
from shiftedge.export.compiler.kernel_ir.memory import ALIGNMENT, Life, MemoryPlan, plan

__all__ = ["MemoryLayout", "layout", "weights"]

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class MemoryLayout:
    """Where everything lies, in bytes."""

    workspace: MemoryPlan
    states: tuple[int, ...]
    """Offset of each state in the block, without the block's header."""
    state_bytes: int
    constants: Mapping[str, int]
    """Offset of each constant among the weights, in the order in which a step reads them."""
    weights_bytes: int
    scratch_bytes: int
    """Of one thread."""

    def offset(self, argument: Argument) -> int:
        """Where an argument lies in its memory."""
        if argument.memory is Memory.WEIGHTS:
            return self.constants[argument.name]
        if argument.memory is Memory.WORKSPACE:
            return self.workspace.offsets[argument.name]
        if argument.memory in (Memory.STATE, Memory.NEXT_STATE):
            return self.states[int(argument.name)]
        return 0


def layout(step: Step) -> MemoryLayout:
    """Lay out the workspace, the states, the weights and the scratch of ``step``."""
    lives = [
        Life(name, size, first, last)
        for name, (size, first, last) in step.reads_and_writes().items()
    ]
    states, state_bytes = _pack(
        step.state_buffer(number).bytes for number in range(len(step.states))
    )
    order = _order(step.calls)
    places, weights_bytes = _pack(step.constants[name].nbytes for name in order)
    return MemoryLayout(
        workspace=plan(lives),
        states=states,
        state_bytes=state_bytes,
        constants=dict(zip(order, places, strict=True)),
        weights_bytes=weights_bytes,
        scratch_bytes=_FLOAT * max((call.kernel.scratch_size for call in step.calls), default=0),
    )


def weights(step: Step, places: MemoryLayout) -> bytes:
    """All constants as the kernels read them."""
    block = bytearray(places.weights_bytes)
    for name, offset in places.constants.items():
        data = step.constants[name].tobytes()
        block[offset : offset + len(data)] = data
    return bytes(block)


def _order(calls: Sequence[Call]) -> list[str]:
    """The constants in the order of their first use, each once."""
    names = (
        call.arguments[buffer.name].name
        for call in calls
        for buffer in call.kernel.buffers
        if call.arguments[buffer.name].memory is Memory.WEIGHTS
    )
    return list(dict.fromkeys(names))


def _pack(sizes: Iterator[int]) -> tuple[tuple[int, ...], int]:
    """Offsets of blocks one after the other, and the end of the last."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return tuple(offsets), end
