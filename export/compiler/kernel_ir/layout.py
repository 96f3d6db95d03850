"""Where everything that a step reads and makes lies: workspace, states, weights, scratch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shiftedge.export.compiler.kernel_ir.calls import Argument, Call, Memory, Step

ALIGNMENT = 64
"""Bytes: a cache line, the widest vector."""


@dataclass(frozen=True)
class Life:
    """A value between two kernels."""

    name: str
    size_bytes: int
    first: int
    """Number of the kernel that makes it."""
    last: int
    """Number of the last kernel that reads it."""

    def meets(self, other: Life) -> bool:
        """Whether both are needed during some kernel. Made by the one that reads: both are."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class MemoryPlan:
    """Places in the workspace."""

    offsets: dict[str, int]
    """Bytes from the beginning, a multiple of :data:`ALIGNMENT`, by name of the value."""
    size_bytes: int
    """Of the workspace."""
    least_bytes: int
    """The most that is alive during one kernel; no plan could do with less."""


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
        if argument.memory is Memory.WEIGHTS:
            return self.constants[argument.name]
        if argument.memory is Memory.WORKSPACE:
            return self.workspace.offsets[argument.name]
        if argument.memory in (Memory.STATE, Memory.NEXT_STATE):
            return self.states[int(argument.name)]
        return 0


def layout(step: Step) -> MemoryLayout:
    """Lay out the workspace, the states, the weights and the scratch of ``step``."""
    lives: dict[str, Life] = {}
    for number, call in enumerate(step.calls):
        for buffer in call.kernel.buffers:
            argument, size = call.arguments[buffer.name], buffer.bytes
            if argument.memory is Memory.WORKSPACE:
                life = lives.get(argument.name, Life(argument.name, size, number, number))
                if life.size_bytes != size:
                    raise ValueError(f"{life.name} has {life.size_bytes} and {size} bytes")
                lives[life.name] = replace(life, last=number)
    states, state_bytes = _pack(
        step.state_buffer(number).bytes for number in range(len(step.states))
    )
    order = _order(step.calls)
    places, weights_bytes = _pack(step.constants[name].nbytes for name in order)
    return MemoryLayout(
        workspace=plan(list(lives.values())),
        states=states,
        state_bytes=state_bytes,
        constants=dict(zip(order, places, strict=True)),
        weights_bytes=weights_bytes,
        scratch_bytes=4 * max((call.kernel.scratch_size for call in step.calls), default=0),
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
        end += _aligned(size)
    return tuple(offsets), end


def plan(lives: Sequence[Life]) -> MemoryPlan:
    """Place every value in the one workspace, so that those that never live at the same time share
    their bytes.

    The values of a step come and go in an order that is known, so this is the packing of rectangles
    (lifetime by bytes) into a strip. Placed largest first, each at the lowest place that is free
    during its life: the greedy order that TensorFlow Lite's and TVM's planners found hard to beat
    ("Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288). For MobileNetV2
    it reaches the lower bound, the most bytes alive at one time.
    """
    placed: list[tuple[int, Life]] = []
    offsets: dict[str, int] = {}
    for life in sorted(lives, key=lambda each: (-each.size_bytes, each.first, each.name)):
        offset = 0
        for begin, other in sorted(placed, key=lambda pair: pair[0]):
            if life.meets(other) and offset < begin + other.size_bytes:
                if offset + life.size_bytes <= begin:
                    break
                offset = _aligned(begin + other.size_bytes)
        placed.append((offset, life))
        offsets[life.name] = offset
    size = max((_aligned(offset + life.size_bytes) for offset, life in placed), default=0)
    return MemoryPlan(offsets, size, _least(lives))


def _least(lives: Sequence[Life]) -> int:
    return max(
        (
            sum(_aligned(life.size_bytes) for life in lives if life.first <= kernel <= life.last)
            for kernel in {life.first for life in lives}
        ),
        default=0,
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
