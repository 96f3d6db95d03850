"""Times of single kernels on this machine, in the order and with the caches of a real step.

For ``shiftedge compile --explain`` and for work on schedules. A benchmark of engines is another
thing: it times whole steps of finished bundles, in processes of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.calls import Argument, Memory, Step
from shiftedge.export.compiler.schedules.pointwise import Pointwise, schedule, tiles_for
from shiftedge.export.compiler.targets import Target
from shiftedge.export.compiler.tir import compile_kernels
from shiftedge.export.compiler.tir_index import Const, Var
from shiftedge.export.compiler.tir_kernel import Buffer, Loop
from shiftedge.export.compiler.tir_run import Library, aligned

__all__ = ["kernel_seconds", "peak_flops"]


def kernel_seconds(step: Step, target: Target, *, steps: int = 60) -> list[float]:
    """The least time of each call of ``step`` over some steps, one thread, seconds.

    The least, since whatever disturbs a kernel only adds to it; calls' own cost, some
    microseconds through ctypes, is measured with a range of no units and taken off.
    """
    library = Library(compile_kernels(step.kernels, target.llvm(), target.unit.lanes))
    memory = _Memory(step)
    runs: list[Callable[[int, int], None]] = []
    for call in step.calls:
        arrays = {b.name: memory.of(call.arguments[b.name], b) for b in call.kernel.buffers}
        runs.append(library.prepare(call.kernel, arrays))
    best = [float("inf")] * len(runs)
    empty = min(_timed(runs[-1], 0, 0) for _ in range(200))
    for _ in range(steps):
        for number, (run, call) in enumerate(zip(runs, step.calls, strict=True)):
            best[number] = min(best[number], _timed(run, 0, call.kernel.units))
    return [max(seconds - empty, 0.0) for seconds in best]


def peak_flops(target: Target, *, rounds: int = 30) -> float:
    """Operations a second of one core in multiply-adds, the most over some rounds.

    A product whose features and weights lie in the first-level cache, over and over: what a
    kernel's share of the peak refers to.
    """
    shape = Pointwise(14, 128, 2 * target.unit.lanes)
    tiles = tiles_for(shape, target.unit)
    once = schedule("peak", shape, tiles, target.unit)
    loop = Loop(Var("again"), Const(0), Const(_PEAK_TURNS), once.body)
    kernel = replace(once, body=(loop,))
    library = Library(compile_kernels([kernel], target.llvm(), target.unit.lanes))
    arrays = {buffer.name: aligned(buffer.size) for buffer in kernel.buffers}
    run = library.prepare(kernel, arrays)
    seconds = min(_timed(run, 0, kernel.units) for _ in range(rounds))
    return shape.pixels * shape.inputs * shape.outputs * 2 * _PEAK_TURNS / seconds


_PEAK_TURNS = 500


def _timed(run: Callable[[int, int], None], begin: int, end: int) -> float:
    start = time.perf_counter()
    run(begin, end)
    return time.perf_counter() - start


class _Memory:
    """Arrays for the arguments of a step; the frame is noise, as numbers must not be all zero."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._arrays: dict[tuple[Memory, str], NDArray[Any]] = {}
        self._random = np.random.default_rng(0)

    def of(self, argument: Argument, buffer: Buffer) -> NDArray[Any]:
        key = (argument.memory, argument.name)
        if argument.memory is Memory.WEIGHTS and key not in self._arrays:
            constant = self._step.constants[argument.name]
            self._arrays[key] = aligned(constant.size)
            self._arrays[key][:] = constant
        if key not in self._arrays:
            if buffer.dtype == "uint8":
                noise = self._random.integers(0, 256, buffer.size, np.uint8)
                self._arrays[key] = noise
            else:
                self._arrays[key] = aligned(buffer.size)
        return self._arrays[key]
