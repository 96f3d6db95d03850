"""Tiles by prediction: every tiling that a family offers is scheduled and the cheapest is taken.

What is tried is little, since the shape of a good tile is known: as many accumulators as registers
allow beside the weights of one step, rows of pixels that leave no sliver at the end. What decides
between them, the channels' division into vectors, the edges of short sums, rows that outgrow the
first-level cache, is what ``cost`` predicts. The same model, target and version give the same
tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from shiftedge.export.compiler.backends.cpu.cost import kernel_cost
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.kernel_ir.kernel import Kernel

_SIGNIFICANT = 0.002
"""Of the cycles: what the model can tell apart."""


class _Shape(Hashable, Protocol):
    @property
    def narrow(self) -> bool:
        """Whether it computes with less than float32."""


S = TypeVar("S", bound=_Shape)
T = TypeVar("T")
Candidates = Callable[[S, CpuVariant], Sequence[T]]
Schedule = Callable[[str, S, T, VectorUnit], tuple[Kernel, ...]]


def choose(
    shape: S, target: CpuVariant, candidates: Candidates[S, T], schedule: Schedule[S, T]
) -> T:
    """The tiles of a kernel of a shape, from its family's tilings, the default first, and its
    kernels for a shape and tiles."""
    found: T = _chosen(shape, target, candidates, schedule)
    return found


@lru_cache(maxsize=2048)
def _chosen(shape: Any, target: CpuVariant, candidates: Any, schedule: Any) -> Any:
    if shape.narrow:
        target = _for_dot(target)
    tilings = candidates(shape, target)
    if len(tilings) == 1:
        return tilings[0]
    best: tuple[float, Any] | None = None
    for tiles in tilings:
        cycles = sum(
            kernel_cost(kernel, target).cycles * _waiting(kernel.units, target.target.cores)
            for kernel in schedule("k", shape, tiles, target.unit)
        )
        # A tie within what the model can tell apart goes to the default, which comes first.
        if best is None or cycles < best[0] * (1 - _SIGNIFICANT):
            best = (cycles, tiles)
    if best is None:
        raise ValueError("no tiles to choose from")
    return best[1]


def _for_dot(target: CpuVariant) -> CpuVariant:
    """The target as kernels of packed values see it."""
    # Server processors and Zen 5 make two dot products of 512 bits a cycle, others one: tiles that
    # load little enough for two are as good for one.
    core = target.core
    if target.unit.lanes > 8:
        core = replace(core, fmas=max(core.fmas, 2))
    return target.using(unit=target.unit.for_dot(), core=core)


def _waiting(units: int, cores: int) -> float:
    """What a kernel takes, relative to its work, since its units cannot be cut: the mean over one,
    two and four threads, as far as the target has cores."""
    threads = [count for count in (1, 2, 4) if count <= cores]
    return sum(-(-units // count) * count / units for count in threads) / len(threads)
