"""What a kernel should take on a target: an analytic model that walks the kernel's own structure.

For each tile of accumulators, the cycles of one step of its innermost loop are the largest of

    multiply-adds / multiply-adds a cycle
    loads / loads a cycle                  weights, and what they are multiplied with
    instructions / instructions a cycle    where the target says how many
    latency of a multiply-add              where there are too few accumulators to hide it
    lines from the second-level cache      where pixels lie so far apart that they fall on one
                                           another in the first
    bytes / bytes a cycle                  weights, and rows of a depthwise stage, that do not stay
                                           in the first-level cache

and a tile pays once for its first values, its activation and its stores. Loops multiply. The sum is
compared with what the kernel's weights take to arrive from beyond the second-level cache, and with
the maps that it reads and writes. No constant is fitted to a model; ``docs/performance.md`` says
how far predictions are from measurements, kernel by kernel.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Var

_REQUANTIZE_OPERATIONS = 6
"""Of a vector of sums: to float32, times its scale, to int32, to 16 bits, bounds."""
_TILE_CYCLES = 6.0
"""To begin a tile: addresses, and the branch at the end of its loop that is mispredicted."""
_LOOP_INSTRUCTIONS = 4
"""Of a turn of an inner loop, beside its loads and products: addresses, comparison, branch."""
_FLOAT = 4  # bytes
_LINE_BYTES = 64
_PAGE_BYTES = 4096
_LOAD_CONTENTION = 0.02
"""Cycles a load costs the multiply-adds beside it. Between tiles that are equal otherwise it
decides for the one that loads less, which is the one that survives a cold cache."""


@dataclass(frozen=True)
class Cost:
    """Predicted cycles of all units of a kernel on one core, and what they are made of."""

    cycles: float
    arithmetic: float
    """In the tiles' inner loops."""
    edges: float
    """First values, activations, stores, copies and fills."""
    memory: float
    """What weights and maps take from beyond the second-level cache, in parallel to the rest."""
    bytes: int
    """Of weights and maps, each once."""

    @property
    def bound(self) -> str:
        """What to look at first."""
        if self.memory > self.arithmetic + self.edges:
            return "memory"
        return "arithmetic" if self.arithmetic > 4 * self.edges else "edges"


def kernel_cost(kernel: ir.Kernel, target: CpuVariant) -> Cost:
    """Predict a kernel on one core of a target."""
    walk = _Walk(kernel, target)
    arithmetic, edges = walk.units()
    sizes = [(each, each.size * np.dtype(each.dtype).itemsize) for each in kernel.buffers]
    size = sum(number for _, number in sizes)
    weights = sum(number for each, number in sizes if each.role == "weight")
    core = target.core
    # Maps were written just now, and mostly lie in the second-level cache.
    memory = weights / core.memory_bytes_per_cycle + (size - weights) / core.l2_bytes_per_cycle
    return Cost(max(arithmetic + edges, memory), arithmetic, edges, memory, size)


class _Walk:
    """Adds up one kernel. Values are pairs: arithmetic, edges."""

    def __init__(self, kernel: ir.Kernel, target: CpuVariant) -> None:
        self._kernel = kernel
        self._core = target.core
        self._lanes = target.unit.lanes
        self._registers = target.unit.registers
        self._tiles: dict[int, tuple[float, float]] = {}
        self._around: list[tuple[Var, int]] = []
        """Loops around the statement at hand, outermost first, and how often they run."""

    def units(self) -> tuple[float, float]:
        kernel = self._kernel
        env = {ir.BEGIN: 0, ir.END: kernel.units}
        before = self._all(kernel.prologue, env)
        return self._turns(ir.UNIT, (0, kernel.units), kernel.body, env, before)

    def _all(
        self, statements: Sequence[ir.Statement], env: Mapping[Var, int]
    ) -> tuple[float, float]:
        total = (0.0, 0.0)
        for statement in statements:
            total = _sum(total, self._one(statement, env))
        return total

    def _one(self, statement: ir.Statement, env: Mapping[Var, int]) -> tuple[float, float]:
        if isinstance(statement, ir.Tile):
            if id(statement) not in self._tiles:
                self._tiles[id(statement)] = self._tile(statement)
            return self._tiles[id(statement)]
        if isinstance(statement, ir.If):
            chosen = statement.then if statement.condition.evaluate(env) else statement.otherwise
            return self._all(chosen, env)
        if isinstance(statement, ir.Loop):
            return self._loop(statement, env)
        if isinstance(statement, ir.Fill):
            return 0.0, math.ceil(statement.count / self._lanes)
        if isinstance(statement, ir.Copy):
            return 0.0, 2 * math.ceil(statement.count / self._lanes)
        return 0.0, 0.0  # processors have no barriers

    def _loop(self, loop: ir.Loop, env: Mapping[Var, int]) -> tuple[float, float]:
        begin, end = loop.begin.evaluate(env), loop.end.evaluate(env)
        self._around.append((loop.variable, max(1, end - begin)))
        try:
            return self._turns(loop.variable, (begin, end), loop.body, env)
        finally:
            self._around.pop()

    def _turns(
        self,
        variable: Var,
        span: tuple[int, int],
        body: Sequence[ir.Statement],
        env: Mapping[Var, int],
        total: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[float, float]:
        """``total`` and all turns of a loop: where they are alike, one times their number."""
        begin, end = span
        if _alike(body, variable):
            turn = self._all(body, {**env, variable: begin})
            count = max(0, end - begin)
            return _sum(total, (turn[0] * count, turn[1] * count))
        for number in range(begin, end):
            total = _sum(total, self._all(body, {**env, variable: number}))
        return total

    # Tiles

    def _tile(self, tile: ir.Tile) -> tuple[float, float]:
        vectors = self._vectors(tile)
        arithmetic = sum(self._segment(tile, segment) for segment in tile.segments)
        core = self._core
        operations = vectors * tile.activation.value.operations / 2
        if tile.epilogue:
            more = (1 if tile.epilogue.offset else 0) + (3 if tile.epilogue.residual else 0)
            operations += vectors * (_REQUANTIZE_OPERATIONS + more) / 2
        moves = vectors * (len(tile.start) + 1) / core.loads
        # Half of it hides behind the arithmetic of the tiles before and after.
        return arithmetic, (operations + moves) / 2 + _TILE_CYCLES

    def _segment(self, tile: ir.Tile, segment: ir.Segment) -> float:
        core, vectors = self._core, self._vectors(tile)
        trips = math.prod(step.extent for step in segment.steps if not step.unrolled)
        unrolled = math.prod(step.extent for step in segment.steps if step.unrolled)
        # Vectors of weights in a step: one for each column where an accumulator begins.
        columns = {part.column for part in tile.vectors}
        weights = len(columns) if segment.weight is not None else 0
        terms = segment.terms
        fmas = unrolled * sum(
            (1 if part.folded else terms) * self._registers_of(part) for part in tile.vectors
        )
        sources = self._sources(tile, segment, terms)
        loads = sources + terms * weights * unrolled
        issued = 0.0
        if segment.gather:
            fmas += sources  # shifts, in the unit that multiplies on some processors
        elif segment.dot is not None:
            # Multiply-adds of float32 leave room for as many instructions again: not so these.
            turning = any(not step.unrolled for step in segment.steps)
            issued = loads + fmas * segment.dot.instructions
            issued += _LOOP_INSTRUCTIONS if turning else 0
            fmas *= segment.dot.slots
            if segment.dot.pairs:
                loads += tile.rows * terms  # turns
        beside = 0 if segment.by_column else weights
        beside += tile.rows if segment.by_lane else 1
        spilled = max(0, vectors + beside - self._registers)
        cycles = max(
            fmas / core.fmas,
            (loads + 2 * spilled) / core.loads,
            (issued + 2 * spilled) / core.issue,
            float(core.fma_latency * unrolled * terms),
        )
        if self._collide(tile, segment):
            lines = tile.rows * terms * unrolled * _LINE_BYTES
            cycles = max(cycles, lines / core.l2_bytes_per_cycle)
        cycles += _LOAD_CONTENTION * loads
        if segment.weight is not None and not segment.by_column:
            # A lane of weights has 8 bits a value, less than a float32 where it has two.
            width = np.dtype(segment.weight.buffer.dtype).itemsize
            step_bytes = terms * unrolled * weights * self._lanes * width
            if trips * step_bytes > core.l1_bytes / 2:
                cycles = max(cycles, step_bytes / core.l2_bytes_per_cycle)
        if segment.by_column and self._rows_bytes(segment) > core.l1_bytes:
            cycles = max(cycles, loads * self._lanes * _FLOAT / core.l2_bytes_per_cycle)
        # The sums end one latency after the last step.
        return trips * cycles + core.fma_latency

    def _vectors(self, tile: ir.Tile) -> float:
        """Registers of a tile's accumulators."""
        return sum(self._registers_of(part) for part in tile.vectors)

    def _registers_of(self, part: ir.Part) -> float:
        """Of one accumulator: of int16 it may be wider than a register."""
        return max(1.0, part.lanes / self._lanes)

    def _collide(self, tile: ir.Tile, segment: ir.Segment) -> bool:
        """Whether the pixels of a tile fall into too few sets of the first-level cache.

        1,024 channels of float32 are 4 KiB, the distance at which addresses share a set in every
        cache that is looked up while the address is translated.
        """
        if segment.by_column:
            return False
        first, second = (_place(segment, {ir.ROW: row}) for row in (0, 1))
        apart = abs(second - first) * np.dtype(segment.source.buffer.dtype).itemsize
        if apart < _LINE_BYTES:
            return False
        sets = _PAGE_BYTES // math.gcd(apart, _PAGE_BYTES)
        ways = self._core.l1_bytes // _PAGE_BYTES
        return tile.rows > sets * ways

    def _rows_bytes(self, segment: ir.Segment) -> float:
        """Of a buffer private to the call, what one turn of the outermost loop over it reads."""
        buffer, position = segment.source.buffer, segment.source.position
        if buffer.role != "scratch":
            return 0.0
        turns = next((n for variable, n in self._around if variable in position.variables), 1)
        return buffer.size * np.dtype(buffer.dtype).itemsize / turns

    def _sources(self, tile: ir.Tile, segment: ir.Segment, terms: int) -> int:
        """Loads of one trip: each number, or vector, once."""
        unrolled = [step for step in segment.steps if step.unrolled]
        if not unrolled:
            if segment.by_column:
                return len(tile.vectors)
            if segment.by_lane:
                return tile.rows
            if self._core.broadcast_operands and segment.dot is None:
                return sum(1 if part.folded else terms for part in tile.vectors)
            return tile.rows * terms + sum(part.folded for part in tile.vectors)
        places = set()
        for values in itertools.product(*(range(step.extent) for step in unrolled)):
            env = {step.variable: value for step, value in zip(unrolled, values, strict=True)}
            for part in tile.vectors:
                places.add(_place(segment, {**env, ir.ROW: part.row, ir.COLUMN: part.column}))
        return len(places)


def _place(segment: ir.Segment, values: Mapping[Var, int]) -> int:
    """Of its source, where all other variables are 0: places relative to each other."""
    found: int = segment.source.position.evaluate(defaultdict(int, values))
    return found


def _alike(body: Sequence[ir.Statement], variable: Var) -> bool:
    """Whether each turn of a loop takes as long: nothing in it is chosen, and how often an inner
    loop runs does not depend on the variable."""
    return not any(
        isinstance(each, ir.If)
        or (isinstance(each, ir.Loop) and variable in each.begin.variables | each.end.variables)
        for each in ir.walk(body)
    )


def _sum(left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
    return left[0] + right[0], left[1] + right[1]
