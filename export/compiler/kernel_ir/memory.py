"""Memory plan: where in the one workspace each value lives, so that those that never live at the
same time share their bytes.

The values of a step come and go in an order that is known, so this is the packing of rectangles
(lifetime by bytes) into a strip. Placed largest first, each at the lowest place that is free
during its life: the greedy order that TensorFlow Lite's and TVM's planners found hard to beat
("Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288). For MobileNetV2 it
reaches the lower bound, the most bytes alive at one time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ALIGNMENT", "Life", "MemoryPlan", "plan"]

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


def plan(lives: Sequence[Life]) -> MemoryPlan:
    """Place every value; no two that meet overlap."""
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
