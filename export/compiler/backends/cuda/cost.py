"""What a kernel does on a GPU, and what it should take: a model that walks the kernel's own
structure.

Counts are of the same things as the emulated GPU's (``verify/gpu``), and are held against them
kernel by kernel: instructions of warps by class, wavefronts of shared memory with their bank
conflicts, sectors and lines of global memory. Places are evaluated for every thread of a block, so
what depends on them is counted and not estimated; blocks, and turns of loops, are those of the
beginning, of the middle and of the end. Instructions that make places are an estimate: each
distinct part of them once.

A multiprocessor takes the largest of

    instructions / schedulers              one each a cycle
    multiply-adds / their lanes            conversions of half precision likewise
    wavefronts of shared memory            one a cycle
    sectors of global memory               so many bytes a cycle through its first-level cache
    the way of a block                     what one warp waits for, one thing after the other, over
                                           the blocks that a multiprocessor holds at once

of as many blocks as the busiest one has, and the whole device what its memory takes for weights,
and for maps that do not stay in the second-level cache. To that comes the launch. What it cannot
see: hits in the first-level cache, the order in which warps run, and how ptxas orders instructions.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cuda.devices import Gpu
from shiftedge.export.compiler.backends.cuda.vectors import is_next, runs
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Binary, Const, Index, Var

WARP, SECTOR, LINE = 32, 32, 128
_SCHEDULERS = 4
"""Of a multiprocessor, since Maxwell; each issues an instruction a cycle."""
_CONVERSIONS = 32
"""Lanes of a multiprocessor that convert half precision (Programming Guide, "Throughput of Native
Arithmetic Instructions", devices of 5.3 and 6.2)."""
LATENCY = 350
"""Cycles that a load takes from the second-level cache or beyond. Jia et al., "Dissecting the
NVIDIA Volta GPU Architecture via Microbenchmarking", 2018: about 200 from that cache, 350 to 500
from memory, on Maxwell to Volta."""
MATRICES = 8
"""Cycles between two products of matrices of one warp, about."""
_SHARED_LATENCY, BARRIER = 24, 30
_MEMORY = 0.75
"""Of a memory's bandwidth that is reached."""
_STAYS = 0.5
"""Of the second-level cache, that a map may take and still be there for the next kernel."""
WORDS = 40
"""Registers of a thread for addresses, and what is loaded ahead."""
_TOGETHER = 4
"""Turns of a tile's inner loop whose loads LLVM and ptxas bring together."""
_ADDRESS = 2
"""Instructions that make an address of a place: bytes, and the buffer's begin."""
_BEGIN = 12
"""Instructions of a kernel before its first: parameters, and who a thread is."""

Lanes = NDArray[Any]
Env = Mapping[Var, Any]

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "//": np.floor_divide, "%": np.remainder,
    "min": np.minimum, "max": np.maximum, "<": np.less, "==": np.equal,
}  # fmt: skip


@dataclass(frozen=True)
class LaunchCounts:
    """What a launch does."""

    instructions: Mapping[str, float]
    """Of warps, by class: the names of ``verify.gpu.machine.CLASSES``."""
    wavefronts: float
    """Of shared memory, loads and stores."""
    phases: float
    """What they would be without bank conflicts."""
    sectors: float
    """Of global memory, loads and stores."""
    asked: float
    """Bytes of them that were asked for."""
    lines: float
    bytes: int
    """Of all buffers, each once."""
    weights: int
    """Of these, constants."""
    way: float
    """Cycles of one block alone, of what its warps wait for."""
    registers: int
    """Of a thread, about."""
    shared: int
    """Bytes of a block."""

    @property
    def issued(self) -> float:
        """Instructions of warps."""
        return sum(self.instructions.values())

    @property
    def used(self) -> float:
        """The part of the sectors that was asked for."""
        return self.asked / (SECTOR * self.sectors) if self.sectors else 1.0

    @property
    def conflicts(self) -> float:
        """Wavefronts a phase; 1 without bank conflicts."""
        return self.wavefronts / self.phases if self.phases else 1.0


@dataclass(frozen=True)
class LaunchPrediction:
    """What a launch should take, in microseconds, and what of it is what."""

    counts: LaunchCounts
    parts: Mapping[str, float]
    """issue, multiply-adds, shared memory, global memory, waiting (on the busiest multiprocessor),
    DRAM."""
    launch: float
    at_once: int
    """Blocks that a multiprocessor holds."""
    turns: int
    """Times that all multiprocessors are filled."""

    @property
    def microseconds(self) -> float:
        return max(self.parts.values()) + self.launch

    @property
    def bound(self) -> str:
        """What to look at first."""
        return max(self.parts, key=lambda each: self.parts[each])


def predict(kernel: ir.Kernel, gpu: Gpu) -> LaunchPrediction:
    """A kernel's counts, and the time it should take on a device."""
    return predicted(count(kernel), kernel.units, kernel.threads, gpu)


def predicted(counts: LaunchCounts, units: int, threads: int, gpu: Gpu) -> LaunchPrediction:
    """The time that a launch of so many blocks should take."""
    warps = -(-threads // WARP)
    at_once = max(1, min(
        gpu.registers // (counts.registers * WARP * warps),
        gpu.shared_per_sm // counts.shared if counts.shared else gpu.threads,
        gpu.threads // (WARP * warps),
    ))  # fmt: skip
    share = -(-units // gpu.multiprocessors)
    busiest = share / units
    """Of all blocks, those of one multiprocessor."""
    made = counts.instructions
    cycles = {
        "issue": counts.issued * busiest / _SCHEDULERS,
        "conversions": made["conversion"] * busiest / (_CONVERSIONS / WARP),
        "multiply-adds": made["multiply-add"] * busiest / (gpu.fmas / WARP),
        "shared memory": counts.wavefronts * busiest,
        "global memory": counts.sectors * SECTOR * busiest / gpu.l1_bytes_per_cycle,
        "waiting": counts.way * share / min(at_once, share),
    }
    if made["tensor"]:
        cycles["tensor cores"] = made["tensor"] * busiest * gpu.cycles_per_mma
    parts = {name: number / gpu.mhz for name, number in cycles.items()}
    maps = counts.bytes - counts.weights
    moved = counts.weights + (maps if maps > _STAYS * gpu.l2_bytes else 0)
    parts["DRAM"] = moved / (_MEMORY * gpu.gb_per_s * 1000)
    turns = -(-units // (gpu.multiprocessors * at_once))
    return LaunchPrediction(counts, parts, gpu.launch_us, at_once, turns)


@functools.lru_cache(maxsize=4096)
def count(kernel: ir.Kernel) -> LaunchCounts:
    """What a launch of a kernel does, whatever the device."""
    return _LaunchWalk(kernel).counts()


def itemsize(buffer: ir.Buffer) -> int:
    """Bytes of an element."""
    return np.dtype(buffer.dtype).itemsize


def _samples(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Of a loop's turns some, and how many are like each."""
    count = end - begin
    if count <= 3:
        yield from ((turn, 1) for turn in range(begin, end))
    else:
        yield from ((begin, 1), (begin + count // 2, count - 2), (end - 1, 1))


class _LaunchWalk:
    """Adds up one kernel."""

    def __init__(self, kernel: ir.Kernel) -> None:
        self._kernel = kernel
        warps = -(-kernel.threads // WARP)
        self._threads = np.arange(warps * WARP)
        self._made: dict[str, float] = defaultdict(float)
        self._wavefronts = self._phases = 0.0
        self._sectors = self._asked = self._lines = 0.0
        self._clock = self._way = 0.0
        self._ready: dict[str, float] = {}
        """By register, when what it was loaded with is there."""
        self._known: list[_Scope] = []
        """Outermost first."""
        self._met: dict[tuple[bytes, bytes, int], tuple[int, ...]] = {}
        """What warps' accesses touch, by their places relative to each other."""
        self._operands = 0

    def counts(self) -> LaunchCounts:
        kernel = self._kernel
        every = self._threads < kernel.threads
        for unit, like in _samples(0, kernel.units):
            self._clock, self._known = 0.0, [_Scope(None, like)]
            self._ready.clear()
            self._add("integer", _BEGIN, every, like)
            self._all(kernel.body, {ir.UNIT: unit, ir.THREAD: self._threads}, every, like)
            self._way = max(self._way, self._clock)
        sizes = [(each, each.size * itemsize(each)) for each in kernel.buffers]
        shared = sum(each.size * itemsize(each) for each in kernel.block if each.role == "shared")
        held = sum(each.size * itemsize(each) for each in kernel.block if each.role == "register")
        registers = min(255, WORDS + self._operands + held // 4)
        return LaunchCounts(
            self._made, self._wavefronts, self._phases, self._sectors, self._asked, self._lines,
            sum(size for _, size in sizes),
            sum(size for each, size in sizes if each.role == "weight"),
            self._way, -(-registers // 8) * 8, shared,
        )  # fmt: skip

    def _add(self, kind: str, number: float, mask: Lanes, times: float) -> None:
        self._beside(kind, number, mask, times)
        self._clock += number

    def _beside(self, kind: str, number: float, mask: Lanes, times: float) -> None:
        """Instructions that nothing waits for."""
        if number:
            warps = int(mask.reshape(-1, WARP).any(axis=1).sum())
            self._made[kind] += number * warps * times

    # Control.

    def _all(self, body: Sequence[ir.Statement], env: Env, mask: Lanes, times: float) -> None:
        for each in body:
            if isinstance(each, ir.Loop):
                self._loop(each, env, mask, times)
            elif isinstance(each, ir.If):
                self._if(each, env, mask, times)
            elif isinstance(each, ir.Barrier):
                self._add("barrier", 1, mask, times)
                self._clock += BARRIER
            elif isinstance(each, ir.Fill):
                if each.target.buffer.role == "register":
                    words = -(-each.count * itemsize(each.target.buffer) // 4)
                    self._add("integer", words, mask, times)
                else:
                    self._memory(each.target, env, each.count, mask, times, store=True)
            elif isinstance(each, ir.Copy):
                self._copy(each, env, mask, times)
            elif isinstance(each, ir.Tile):
                self._tile(each, env, mask, times)
            else:
                for access in (each.a, each.b):
                    self._wait(access)
                self._add("tensor", 1, mask, times)
                self._clock += MATRICES - 1

    def _loop(self, loop: ir.Loop, env: Env, mask: Lanes, times: float) -> None:
        begin, end = (int(np.max(_value(at, env))) for at in (loop.begin, loop.end))
        for turn, like in _samples(begin, end):
            before = self._clock
            self._known.append(_Scope(loop.variable, times * like))
            self._all(loop.body, {**env, loop.variable: turn}, mask, times * like)
            self._add("integer", 1, mask, times * like)
            self._add("compare", 1, mask, times * like)
            self._add("branch", 1, mask, times * like)
            self._known.pop()
            more = (self._clock - before) * (like - 1)
            self._clock += more
            self._ready = {name: at + more for name, at in self._ready.items()}

    def _if(self, choice: ir.If, env: Env, mask: Lanes, times: float) -> None:
        condition = np.broadcast_to(_value(choice.condition, env), mask.shape).astype(bool)
        unknown = {name for name in choice.condition.variables if name in env}
        if unknown:
            self._parts(choice.condition, mask)
            self._add("branch", 1, mask, times)
        for chosen, body in ((condition, choice.then), (~condition, choice.otherwise)):
            if (mask & chosen).any():
                self._known.append(_Scope(None, times))
                self._all(body, env, mask & chosen, times)
                self._known.pop()

    # Runs of elements.

    def _copy(self, copy: ir.Copy, env: Env, mask: Lanes, times: float) -> None:
        source, target = copy.source, copy.target
        memory = [each for each in (source, target) if each.buffer.role != "register"]
        pieces = max((runs(each.position, copy.count, itemsize(each.buffer)) for each in memory),
                     key=len, default=[(0, copy.count)])  # fmt: skip
        self._read(source, env, pieces, mask, times, to=target)
        if source.buffer.dtype != target.buffer.dtype:
            self._convert(source.buffer, target.buffer, copy.count, mask, times)
        for each in (copy.scale, copy.shift):
            if each is not None:
                self._memory(each, env, copy.count, mask, times)
        if copy.scale:
            self._add("multiply-add", copy.count, mask, times)
        if target.buffer.role != "register":
            self._pieces(target, env, pieces, mask, times, store=True)

    def _convert(
        self, source: ir.Buffer, target: ir.Buffer, number: float, mask: Lanes, times: float
    ) -> None:
        half = "float16" in (source.dtype, target.dtype)
        self._add("conversion" if half else "integer", number, mask, times)

    def _read(
        self, access: ir.Access, env: Env, pieces: list[tuple[int, int]], mask: Lanes, times: float,
        to: ir.Access | None = None,
    ) -> None:  # fmt: skip
        """A load; when what is loaded is needed at once its latency is waited for."""
        role = access.buffer.role
        if role == "register":
            self._wait(access)
            return
        self._pieces(access, env, pieces, mask, times)
        latency = _SHARED_LATENCY if role == "shared" else LATENCY
        if to is not None and to.buffer.role == "register":
            self._ready[to.buffer.name] = self._clock + latency
        else:
            self._clock += latency

    def _wait(self, access: ir.Access) -> None:
        self._clock = max(self._clock, self._ready.pop(access.buffer.name, 0.0))

    # Tiles.

    def _tile(self, tile: ir.Tile, env: Env, mask: Lanes, times: float) -> None:
        numbers = sum(min(part.lanes, tile.columns - part.column) for part in tile.vectors)
        waits = 0
        for place, access in enumerate(tile.start):
            waits = max(waits, self._operand(tile, access, env, mask, times, rows=True))
            if access.buffer.role == "register":
                self._from_half(access.buffer, numbers, tile, mask, times)
            if place:
                self._add("float", numbers, mask, times)
        self._clock += waits
        for segment in tile.segments:
            self._segment(tile, segment, env, mask, times)
        row = tile.activation.value
        bounds = row.bounds is not None
        self._add("integer" if bounds else "float", row.operations * numbers, mask, times)
        if tile.scale != 1.0:
            self._add("float", numbers, mask, times)
        target = tile.target
        if target.buffer.dtype != tile.accumulator_dtype and target.buffer.role != "register":
            self._add("conversion", numbers, mask, times)
        if target.buffer.role == "register":
            return
        for part in tile.vectors:
            at = target.position.replace({ir.ROW: part.row, ir.COLUMN: part.column})
            valid = max(0, min(part.lanes, tile.columns - part.column))
            self._memory(target.buffer.at(at), env, valid, mask, times, store=True)

    def _operand(
        self, tile: ir.Tile, access: ir.Access, env: Env, mask: Lanes, times: float, *, rows: bool
    ) -> int:
        """Loads of what an accumulator begins with, or of weights, each once; its latency."""
        if access.buffer.role == "register":
            self._wait(access)
            return 0
        seen = set()
        for part in tile.vectors:
            names = {ir.ROW: part.row if rows else 0, ir.COLUMN: part.column}
            at = access.position.replace(names)
            valid = max(0, min(part.lanes, tile.columns - part.column))
            if (at, valid) not in seen:
                seen.add((at, valid))
                self._memory(access.buffer.at(at), env, valid, mask, times)
                self._from_half(access.buffer, valid, tile, mask, times)
        return _SHARED_LATENCY if access.buffer.role == "shared" else LATENCY

    def _from_half(
        self, buffer: ir.Buffer, number: float, tile: ir.Tile, mask: Lanes, times: float
    ) -> None:
        if buffer.dtype == "float16" and tile.accumulator_dtype != "float16":
            self._add("conversion", number, mask, times)

    def _segment(
        self, tile: ir.Tile, segment: ir.Segment, env: Env, mask: Lanes, times: float
    ) -> None:
        rolled = math.prod(step.extent for step in segment.steps if not step.unrolled)
        flat = math.prod(step.extent for step in segment.steps if step.unrolled) * segment.terms
        first: dict[Var, Any] = dict.fromkeys((step.variable for step in segment.steps), 0)
        first[ir.TERM] = 0
        here = {**env, **first}
        source = ir.Access(segment.source.buffer, segment.source.position.replace(first))
        turns = times * rolled * flat
        for each in (segment.source, segment.weight):
            if each is not None:
                self._wait(each)
        before = self._clock
        waits = 0
        if segment.by_column:
            waits = self._operand(tile, source, here, mask, turns, rows=True)
        elif segment.by_lane:
            for row in range(tile.rows):
                read = source.buffer.at(source.position.replace({ir.ROW: row}))
                self._memory(read, here, segment.terms, mask, turns / segment.terms)
            self._clock = before + (self._clock - before) / segment.terms
            waits = _SHARED_LATENCY
        elif source.buffer.role != "register":
            waits = self._rows(tile, source, here, mask, turns)
        if segment.weight is not None:
            weight = ir.Access(segment.weight.buffer, segment.weight.position.replace(first))
            waits = max(waits, self._operand(tile, weight, here, mask, turns, rows=False))
        numbers = sum(part.lanes for part in tile.vectors)
        if tile.accumulator_dtype == "float16":
            numbers //= 2
        product = segment.weight is not None
        self._add("multiply-add" if product else "float", numbers, mask, turns)
        self._clock += (self._clock - before) * (rolled * flat - 1) + waits * -(
            -rolled // _TOGETHER
        )
        if rolled > 1:
            for kind in ("integer", "compare", "branch"):
                self._add(kind, 1, mask, times * -(-rolled // _TOGETHER))
        held = segment.terms * itemsize(segment.source.buffer) // 4 if segment.by_lane else 1
        columns = sum(part.lanes for part in tile.vectors if part.row == 0)
        words = tile.rows * held + columns
        self._operands = max(self._operands, words)

    def _rows(self, tile: ir.Tile, source: ir.Access, env: Env, mask: Lanes, times: float) -> int:
        """One number of each row; neighbours are loaded together."""
        at = [source.position.replace({ir.ROW: row}) for row in range(tile.rows)]
        row = 0
        while row < tile.rows:
            count = 1
            while row + count < tile.rows and is_next(at[row], at[row + count], count):
                count += 1
            self._memory(source.buffer.at(at[row]), env, count, mask, times)
            row += count
        self._from_half(source.buffer, tile.rows, tile, mask, times)
        return _SHARED_LATENCY if source.buffer.role == "shared" else LATENCY

    # Memory.

    def _memory(
        self, access: ir.Access, env: Env, number: int, mask: Lanes, times: float, *,
        store: bool = False,
    ) -> None:  # fmt: skip
        if number and access.buffer.role != "register":
            pieces = runs(access.position, number, itemsize(access.buffer))
            self._pieces(access, env, pieces, mask, times, store=store)

    def _pieces(
        self, access: ir.Access, env: Env, pieces: list[tuple[int, int]], mask: Lanes, times: float,
        *, store: bool = False,
    ) -> None:  # fmt: skip
        """Loads or stores of a run: each of its vectors an instruction."""
        self._places(access.position, mask)
        size, place = itemsize(access.buffer), _value(access.position, env)
        place = np.broadcast_to(np.asarray(place, np.int64), mask.shape)
        shared = access.buffer.role == "shared"
        kind = f"{'shared' if shared else 'global'} {'store' if store else 'load'}"
        for first, length in pieces:
            self._add(kind, 1, mask, times)
            at = (place + first) * size
            # Banks and sectors recur every line.
            at = at - int(at[mask].min()) // LINE * LINE
            key = at.tobytes(), mask.tobytes(), length * size * (-1 if shared else 1)
            if key not in self._met:
                self._met[key] = (banks if shared else _touched)(at, mask, length * size)
            if shared:
                phases, wavefronts = self._met[key]
                self._phases += phases * times
                self._wavefronts += wavefronts * times
            else:
                sectors, lines, asked = self._met[key]
                self._sectors += sectors * times
                self._lines += lines * times
                self._asked += asked * times

    def _places(self, position: Index, mask: Lanes) -> None:
        """Instructions for a place, but for those parts that are there already."""
        if _is(position, "+") and isinstance(position.right, Const):
            position = position.left  # an address's displacement
        times = self._times_of(("place", position), position)
        if times:
            self._beside("integer", _ADDRESS, mask, times)
            self._parts(position, mask)

    def _times_of(self, part: object, position: Index) -> float:
        """How often a part of a place is made: outside of the loops that it does not depend on;
        never where it is there already."""
        if any(part in scope.known for scope in self._known):
            return 0.0
        outside = len(self._known) - 1
        while outside and self._known[outside].variable not in position.variables:
            outside -= 1
        self._known[outside].known.add(part)
        return self._known[outside].times

    def _parts(self, position: Index, mask: Lanes) -> None:
        if not isinstance(position, Binary):
            return
        times = self._times_of(position, position)
        if not times:
            return
        power = isinstance(position.right, Const) and position.right.value.bit_count() == 1
        kind, number = "integer", 1
        if position.op in ("<", "=="):
            kind = "compare"
        elif position.op in ("//", "%"):
            number = 1 if power else 2
        elif position.op == "+" and _is(position.left, "*"):
            number = 0  # a multiply-add
        self._beside(kind, number, mask, times)
        self._parts(position.left, mask)
        self._parts(position.right, mask)


@dataclass
class _Scope:
    """A loop around, or a body that is chosen."""

    variable: Var | None
    """The loop's."""
    times: float
    """How often it runs."""
    known: set[object] = field(default_factory=set)
    """Parts of places that are made in it already."""


def _is(position: Index, op: str) -> TypeGuard[Binary]:
    return isinstance(position, Binary) and position.op == op


def _value(position: Index, env: Env) -> Any:
    return position.evaluate(env, _OPERATORS, np.int64)


def _distinct(numbers: Lanes, mask: Lanes) -> int:
    """Of each warp, how many different ones; of all warps together."""
    ordered = np.sort(np.where(mask, numbers, -1).reshape(-1, WARP), axis=1)
    changed = (ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    return int(changed.sum()) + int((ordered[:, 0] >= 0).sum())


def _touched(at: Lanes, mask: Lanes, size: int) -> tuple[int, int, int]:
    """Sectors and lines of warps' accesses, and bytes asked for."""
    return _distinct(at // SECTOR, mask), _distinct(at // LINE, mask), size * _distinct(at, mask)


def banks(at: Lanes, mask: Lanes, size: int) -> tuple[int, int]:
    """Phases of warps' accesses to shared memory, of 128 bytes at most, and the wavefronts that
    they take: the most different words of a phase in one bank."""
    width = max(4, size)
    lanes = min(WARP, LINE // width)
    words = np.sort(np.where(mask, at // width, -1).reshape(-1, lanes), axis=1)
    words[:, 1:][words[:, 1:] == words[:, :-1]] = -1
    banks = np.where(words < 0, -1, words % lanes)
    most = (banks[:, :, None] == np.arange(lanes)).sum(axis=1).max(axis=1)
    return int((most > 0).sum()), int(most.sum())
