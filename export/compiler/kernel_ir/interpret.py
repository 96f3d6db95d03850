"""What the kernel IR means: a numpy interpreter, bit for bit what generated code computes.

A backend is right when it agrees with this. Every unit of a kernel runs as a call of its own, all
of them at once as lanes of numpy arrays; so do the turns of a loop whose body reads nothing that it
writes. A unit's threads are lanes too, which do every statement together: barriers are kept by
themselves. What is left of the order is what results depend on: a sum takes its segments, their
steps and terms one after the other.

- A product added to a float32 sum, or to a float16 one, is rounded once with it. Two packed
  bfloat16 numbers are added one by one, the odd one first. Whole numbers are summed in int32.
- Buffers of narrow floats hold their numbers: what is stored is rounded to the nearest, halves to
  even; what is read is float32.
- Nothing has a value before it is written: NaN, or a number that no quantised value is.

With ``exact`` all of it is float64 and nothing is rounded, which shows that a step computes what
its graph says, whatever the order and the precision.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory, Step
from shiftedge.export.compiler.kernel_ir.fragments import (
    COLUMNS,
    ELEMENT,
    FRAGMENTS,
    LANE,
    ROWS,
    SUMS,
    WARP,
)
from shiftedge.export.compiler.kernel_ir.index import OPERATORS, Index, Var
from shiftedge.export.compiler.numerics.activations import activated
from shiftedge.export.compiler.numerics.fma import fma32
from shiftedge.export.compiler.numerics.precision import FP16, NARROW

Array = NDArray[Any]
Env = dict[Var, Any]
"""Of variables: a number, or one for each lane."""

_OPERATORS: dict[str, Any] = {
    **OPERATORS, "min": np.minimum, "max": np.maximum, "<": np.less, "==": np.equal,
}  # fmt: skip
_EXACT = 1 << 24
"""Whole numbers below are exact in float32, whatever the order of their sum."""
_SLACK = 16
"""Elements behind a value: a vector may begin at its last one."""
_SUMS, _ELEMENTS = 1 << 16, 1 << 22
"""Accumulators, and elements read, at a time: what a cache holds, and a memory."""


def run(
    kernel: ir.Kernel,
    arrays: Mapping[str, Array],
    *,
    calls: Sequence[tuple[int, int]] | None = None,
    exact: bool = False,
) -> None:
    """Run a kernel, as ``calls`` of units (begin, end); by default each unit is one.

    ``arrays`` are one for each buffer, by name, flat, and written in place. Of narrow floats they
    hold numbers, as float32, or float64 if ``exact``; an array may be longer than its buffer.

    Raises:
        IndexError: the kernel reads or writes beyond a buffer.
    """
    if calls is None:
        calls = [(unit, unit + 1) for unit in range(kernel.units)]
    begin, end = np.array(calls, np.int64).reshape(-1, 2).repeat(kernel.threads, axis=0).T
    every = np.arange(len(begin))
    machine = _Machine(kernel, arrays, len(every), exact)
    env: Env = {ir.BEGIN: begin, ir.END: end}
    if kernel.threads > 1:
        env[ir.THREAD] = every % kernel.threads
    machine.run(kernel.prologue, env, every)
    machine.loop(ir.Loop(ir.UNIT, ir.BEGIN, ir.END, kernel.body), env, every)


@dataclass(frozen=True, eq=False)
class Frame:
    """What a step made of one frame."""

    logits: NDArray[np.float32]
    values: dict[str, Array]
    """Everything in the workspace, by name: flat, as it is stored, narrow floats as numbers."""


class Interpreter:
    """A stream of a step."""

    def __init__(
        self, step: Step, *, exact: bool = False, execute: Callable[..., object] | None = None
    ) -> None:
        """``execute`` runs a kernel instead of :func:`run`, given the kernel and its arrays: an
        emulated device."""
        self._step, self._exact = step, exact
        self._execute = execute or functools.partial(run, exact=exact)
        self._constants = {
            Argument(Memory.WEIGHTS, name): value for name, value in step.constants.items()
        }
        self.states: list[Array] = []
        """Of the next frame, flat, as they are stored, narrow floats as numbers."""
        self.reset()

    def reset(self) -> None:
        """Begin a fresh stream: zeros, whatever the type."""
        every = map(self._step.state_buffer, range(len(self._step.states)))
        self.states = [np.zeros_like(_unwritten(each, (), self._exact)) for each in every]

    def step(
        self, image: NDArray[np.uint8] | None, given: Mapping[str, Array] | None = None
    ) -> Frame:
        """One frame: uint8 (height, width, 3), BGR; ``given`` are values from outside, flat."""
        memory = dict(self._constants)
        if image is not None:
            memory[Argument(Memory.FRAME)] = image.reshape(-1)
        for number, state in enumerate(self.states):
            memory[Argument(Memory.STATE, str(number))] = state
        for name, value in (given or {}).items():
            memory[Argument(Memory.WORKSPACE, name)] = np.pad(value, (0, _SLACK))
        for call in self._step.calls:
            arrays = {}
            for buffer in call.kernel.buffers:
                argument = call.arguments[buffer.name]
                if argument not in memory:
                    if buffer.role != "output":
                        raise ValueError(f"{call.name} reads {argument} before it is made")
                    memory[argument] = _unwritten(buffer, (), self._exact)
                arrays[buffer.name] = memory[argument]
            self._execute(call.kernel, arrays)
        for number in range(len(self.states)):
            made = memory.get(Argument(Memory.NEXT_STATE, str(number)))
            if made is not None:
                self.states[number] = made
        values = {
            argument.name: value
            for argument, value in memory.items()
            if argument.memory is Memory.WORKSPACE
        }
        logits = memory.get(Argument(Memory.LOGITS), np.zeros(0, np.float32))
        return Frame(logits[: self._step.classes], values)


class _Machine:
    """Statements of one kernel. ``calls`` says of each lane which call it belongs to, or which
    thread of which call."""

    def __init__(
        self, kernel: ir.Kernel, arrays: Mapping[str, Array], calls: int, exact: bool
    ) -> None:
        self._kernel, self._exact = kernel, exact
        self._arrays = {each.name: arrays[each.name] for each in kernel.buffers}
        self._scratch = {
            each.name: _unwritten(each, (calls // self._sharing(each),), exact)
            for each in (*kernel.scratch, *kernel.block)
        }
        self._apart: dict[int, bool] = {}
        self._packed: dict[str, Array] = {}

    def _sharing(self, buffer: ir.Buffer) -> int:
        """How many lanes have one together."""
        return self._kernel.threads if buffer.role == "shared" else 1

    # Control.

    def run(self, statements: Sequence[ir.Statement], env: Env, calls: Array) -> None:
        for each in statements:
            if not len(calls):
                return
            if isinstance(each, ir.Loop):
                self.loop(each, env, calls)
            elif isinstance(each, ir.If):
                chosen = np.broadcast_to(_value(each.condition, env), calls.shape).astype(bool)
                self.run(each.then, *_lanes(env, calls, np.flatnonzero(chosen)))
                self.run(each.otherwise, *_lanes(env, calls, np.flatnonzero(~chosen)))
            elif isinstance(each, ir.Fill):
                places = _run(each.target, env, calls, each.count)
                value = np.full(places.shape, each.value)
                self._store(each.target.buffer, places, calls, value)
            elif isinstance(each, ir.Copy):
                self._copy(each, env, calls)
            elif isinstance(each, ir.Tile):
                self._tile(each, env, calls)
            elif isinstance(each, ir.MatrixProduct):
                self._matrices(each, env, calls)

    def loop(self, loop: ir.Loop, env: Env, calls: Array) -> None:
        begin = np.broadcast_to(_value(loop.begin, env), calls.shape)
        counts = np.maximum(_value(loop.end, env) - begin, 0)
        if self._independent(loop):
            chosen = np.repeat(np.arange(len(calls)), counts)
            turn = np.arange(len(chosen)) - np.repeat(np.cumsum(counts) - counts, counts)
            inner, lanes = _lanes(env, calls, chosen)
            self.run(loop.body, {**inner, loop.variable: begin[chosen] + turn}, lanes)
            return
        for turn in range(int(counts.max(initial=0))):
            chosen = np.flatnonzero(turn < counts)
            inner, lanes = _lanes(env, calls, chosen)
            self.run(loop.body, {**inner, loop.variable: begin[chosen] + turn}, lanes)

    def _independent(self, loop: ir.Loop) -> bool:
        """Whether its turns may run side by side: nothing is read that they write. Units may."""
        if loop.variable == ir.UNIT and not self._scratch:
            return True
        if id(loop) not in self._apart:
            read, written = set[str](), set[str]()
            _touched(loop.body, read, written)
            self._apart[id(loop)] = not read & written
        return self._apart[id(loop)]

    # Runs of elements.

    def _copy(self, copy: ir.Copy, env: Env, calls: Array) -> None:
        value = self._load(copy.source.buffer, _run(copy.source, env, calls, copy.count), calls)
        if copy.before:
            value = (value.astype(np.int64) + copy.before).astype(copy.source.buffer.dtype)
        if copy.scale and copy.shift:
            factor, more = (
                self._load(each.buffer, _run(each, env, calls, copy.count), calls)
                for each in (copy.scale, copy.shift)
            )
            exact = value.astype(np.float64) * factor + more if self._exact else None
            value = fma32(value, factor, more) if exact is None else exact
        if copy.plus:
            value = (value if value.dtype.kind == "f" else value.astype(np.int64)) + copy.plus
        places = _run(copy.target, env, calls, copy.count)
        self._store(copy.target.buffer, places, calls, value)

    def _matrices(self, product: ir.MatrixProduct, env: Env, calls: Array) -> None:
        """Of warps; a product and its sum are exact in float64, but for the last bits of it."""
        kind, count = FRAGMENTS[product.shape], len(calls) // WARP
        if (calls.reshape(-1, WARP) != calls[::WARP, None] + np.arange(WARP)).any():
            raise ValueError(f"{self._kernel.name}: a product of less than a warp")
        here = {name: value.reshape(-1, 1) for name, value in env.items()}
        warp = np.arange(count)[:, None, None]

        def held(access: ir.Access, elements: int) -> Array:
            """Places in registers, (lanes, elements)."""
            return np.broadcast_to(
                _value(access.position, {**here, ELEMENT: np.arange(elements)}),
                (len(calls), elements),
            )

        def places(pair: tuple[Index, Index], elements: int) -> tuple[Array, Array]:
            lanes = {LANE: np.arange(WARP)[:, None], ELEMENT: np.arange(elements)}
            shape = WARP, elements
            first, second = (np.broadcast_to(_value(each, lanes), shape) for each in pair)
            return first, second

        def matrix(access: ir.Access, pair: tuple[Index, Index], shape: tuple[int, int]) -> Array:
            elements = shape[0] * shape[1] // WARP
            whole = np.empty((count, *shape))
            found = self._load(access.buffer, held(access, elements), calls)
            first, second = places(pair, elements)
            whole[warp, first, second] = found.reshape(count, WARP, elements)
            return whole

        a = matrix(product.a, kind.a, (ROWS, kind.depth))
        b = matrix(product.b, kind.b, (kind.depth, COLUMNS))
        total = matrix(product.sums, kind.sums, (ROWS, COLUMNS))
        for place in range(kind.depth):
            total += a[:, :, place, None] * b[:, place, None]
        row, column = places(kind.sums, SUMS)
        made = total[warp, row, column].reshape(len(calls), SUMS)
        if not self._exact:
            made = made.astype(np.float32)
        self._store(product.sums.buffer, held(product.sums, SUMS), calls, made)

    # Tiles.

    def _tile(self, tile: ir.Tile, env: Env, calls: Array) -> None:
        """So many lanes at a time that sums stay in a cache."""
        read = max(
            (
                math.prod(step.extent for step in each.steps)
                * each.terms
                * (each.dot.terms if each.dot else 1)
                * (tile.columns if each.by_column else 1)
                for each in tile.segments
            ),
            default=1,
        )
        most = min(_SUMS // (tile.rows * tile.columns), _ELEMENTS // (tile.rows * read))
        for first in range(0, len(calls), max(1, most)):
            chosen = np.arange(first, min(len(calls), first + max(1, most)))
            self._block(tile, *_lanes(env, calls, chosen))

    def _block(self, tile: ir.Tile, env: Env, calls: Array) -> None:
        folded = min((part.column for part in tile.vectors if part.folded), default=tile.columns)
        total = self._sums(tile, env, calls, np.arange(min(folded, tile.columns)), None)
        if folded < tile.columns:
            columns = np.arange(folded, tile.columns)
            even, odd = (self._sums(tile, env, calls, columns, term) for term in (0, 1))
            both = even + odd
            for value in self._starts(tile, env, calls, columns, both):
                both = both + value
            total = np.concatenate((total, both), axis=2)
        here = _axes(env, tile.rows, np.arange(tile.columns))
        value = self._ended(tile, total, here, calls)
        self._store(tile.target.buffer, _places(tile.target, here), calls, value)

    def _starts(
        self, tile: ir.Tile, env: Env, calls: Array, columns: Array, like: Array
    ) -> Iterator[Array]:
        """First values, those of padded weights first."""
        here = _axes(env, tile.rows, columns)
        for access in sorted(tile.start, key=lambda each: each.buffer.role != "weight"):
            found = self._load(access.buffer, _places(access, here), calls)
            yield np.broadcast_to(found, like.shape)

    def _sums(
        self, tile: ir.Tile, env: Env, calls: Array, columns: Array, folded: int | None
    ) -> Array:
        """Sums (lanes, rows, columns) of some columns; of those ``folded``, of one of two terms."""
        dtype = tile.accumulator_dtype
        narrow = {"float16": "float32"}.get(dtype, dtype)
        kind = np.dtype(np.float64 if narrow == "float32" and self._exact else narrow)
        none: float = 0
        if any(segment.largest for segment in tile.segments):
            none = ir.LOWEST if kind.kind == "f" else np.iinfo(kind).min
        total = np.full((len(calls), tile.rows, len(columns)), none, kind)
        if folded is None:
            for number, value in enumerate(self._starts(tile, env, calls, columns, total)):
                first = number == 0 and any(x.buffer.role == "weight" for x in tile.start)
                total = np.array(value if first else total + value, kind)
        for segment in tile.segments:
            slots = _Slots.of(segment, env, tile.rows, columns, folded)
            total = self._segment(segment, slots, calls, total, half=tile.half)
        return total

    def _segment(
        self, segment: ir.Segment, slots: _Slots, calls: Array, total: Array, *, half: bool
    ) -> Array:
        """``total`` with what a segment adds."""
        term, behind = slots.source
        places = _places(segment.source, {**slots.here, ir.TERM: term}) + behind
        source = self._load(segment.source.buffer, places, calls)
        shape = np.broadcast_shapes(source.shape, (1, total.shape[1], slots.count, 1))
        source, dot = np.broadcast_to(source, shape), segment.dot
        if dot and source.dtype.kind != "f":
            source = (source.astype(np.int64) + segment.plus).astype(dot.dtype) * slots.present
        elif source.dtype.kind != "f" and not segment.largest:
            source = source.astype(np.int32) + np.int32(segment.plus)
        if segment.weight is None:
            for place in range(slots.count):
                one = source[:, :, place]
                total = np.maximum(total, one) if segment.largest else total + one
            return total
        weight, which = self._weights(segment.weight, dot, slots, calls)
        if total.dtype.kind != "f":
            return total + _whole_products(source, weight, which)
        if self._exact:
            return total + _products(source.astype(np.float64), weight, which)
        source, product = source.astype(np.float32), np.empty_like(total)
        for place in range(slots.count):
            factor = weight[0, place] if which is None else weight[which, None, place]
            one = source[:, :, place]
            if dot:  # products of bfloat16 numbers are exact
                total += np.multiply(one, factor, out=product)
            elif half:  # the sum of such a product and a half is exact in float64
                exact = one.astype(np.float64) * factor + total
                total = FP16.round(exact)
            else:
                total = fma32(one, factor, total)
        return total

    def _weights(
        self, weight: ir.Access, dot: ir.Dot | None, slots: _Slots, calls: Array
    ) -> tuple[Array, Array | None]:
        """Weights (kinds, slots, columns), and which of the kinds each lane has; None of one."""
        here, (term, behind) = slots.here, slots.weight
        names = [name for name in weight.position.variables if len(here.get(name, ())) > 1]
        env, which = here | {ir.TERM: term, ir.ROW: 0}, None
        if weight.buffer.name in self._scratch:
            which = np.arange(len(calls))
        elif names:
            found = np.stack([here[name].reshape(-1) for name in names])
            distinct, which = np.unique(found, axis=1, return_inverse=True)
            env |= zip(names, distinct[..., None, None, None], strict=True)
            which = which.reshape(-1)
            calls = calls[np.unique(which, return_index=True)[1]]
        if slots.column is not None:
            env[ir.COLUMN] = slots.column
        places = _value(weight.position, env) * (dot.terms if dot else 1) + behind
        found = self._load(weight.buffer, np.asarray(places), calls, dot)
        shape = (1 if which is None else len(calls), 1, slots.count, here[ir.COLUMN].size)
        return np.broadcast_to(found, shape)[:, 0], which

    def _ended(self, tile: ir.Tile, total: Array, here: Env, calls: Array) -> Array:
        """From sums to what is stored, but for the target's type."""
        if tile.epilogue:
            return self._epilogue(tile.epilogue, total, here, calls)
        if total.dtype.kind != "f":
            if tile.target.buffer.dtype != "float32":
                return total
            total = total.astype(np.float32)
        if tile.scale != 1.0:
            total = total * total.dtype.type(np.float32(tile.scale))
        if self._exact:
            return np.asarray(tile.activation.value.definition(total))
        return activated(tile.activation, total)

    def _epilogue(self, ends: ir.Epilogue, total: Array, here: Env, calls: Array) -> Array:
        def load(access: ir.Access) -> Array:
            return self._load(access.buffer, _value(access.position, here), calls)

        y = total.astype(np.float32)
        scale = np.float32(ends.scale) if isinstance(ends.scale, float) else load(ends.scale)
        y = y * scale if ends.offset is None else fma32(y, scale, load(ends.offset))
        if ends.residual:
            steps = load(ends.residual).astype(np.int32) + np.int32(ends.added.plus)
            y = fma32(steps, np.float32(ends.added.factor), y)
        stage = ends.stage
        y = activated(stage.activation, y)
        if stage.scale is not None:
            y = y * stage.scale
        if not stage.rounded:
            held: Array = y.clip(np.float32(stage.low), np.float32(stage.high))
            return held
        whole: Array = np.rint(y.clip(stage.low - stage.zero, stage.high - stage.zero))
        with np.errstate(invalid="ignore"):  # NaN of what is not there, and is not used
            quantized: Array = whole.astype(np.int64) + (stage.zero - ends.storage_offset)
        return quantized

    # Numbers and memory.

    def _load(
        self, buffer: ir.Buffer, places: Array, calls: Array, dot: ir.Dot | None = None
    ) -> Array:
        """Elements, of shape ``places``; with ``dot`` those that are packed into one."""
        if buffer.name in self._scratch:
            held = self._scratch[buffer.name]
            _check(self._kernel, buffer, places, held.shape[1])
            return held[self._owners(buffer, places, calls), places]
        held = self._elements(buffer, dot) if dot else self._arrays[buffer.name]
        _check(self._kernel, buffer, places, len(held))
        found: Array = held[places]
        if buffer.dtype in NARROW and found.dtype == np.dtype(buffer.dtype):  # a constant
            found = NARROW[buffer.dtype].numbers(found)
        return found

    def _owners(self, buffer: ir.Buffer, places: Array, calls: Array) -> Array:
        """Whose buffer each lane's places are in."""
        owners: Array = (calls // self._sharing(buffer)).reshape(-1, *[1] * (places.ndim - 1))
        return owners

    def _elements(self, buffer: ir.Buffer, dot: ir.Dot) -> Array:
        """Of a buffer of packed weights, one by one."""
        if buffer.name not in self._packed:
            held, narrow = self._arrays[buffer.name], NARROW.get(dot.dtype)
            elements = held.view(dot.dtype if narrow else np.int8)
            self._packed[buffer.name] = narrow.numbers(elements) if narrow else elements
        return self._packed[buffer.name]

    def _store(self, buffer: ir.Buffer, places: Array, calls: Array, value: Array) -> None:
        own = buffer.name in self._scratch
        array = (self._scratch if own else self._arrays)[buffer.name]
        _check(self._kernel, buffer, places, buffer.size)
        if buffer.dtype in NARROW and not self._exact:
            value = NARROW[buffer.dtype].round(value)
        elif array.dtype.kind != "f" and value.dtype.kind == "f":
            value = value.astype(np.int64)
        value = value.astype(array.dtype)
        if own:
            array[self._owners(buffer, places, calls), places] = value
        else:
            array[places] = value


@dataclass(frozen=True)
class _Slots:
    """The products of a segment in the order in which they are added; arrays are over (lanes,
    rows, slots, columns)."""

    here: Env
    """Variables along the axes."""
    count: int
    source: tuple[Any, Any]
    """The term of the step that each takes, and how many elements behind the term's place."""
    weight: tuple[Any, Any]
    """The same of its weight, the elements those of a lane."""
    column: Any
    """Whose place weights are counted from; None: each column's own."""
    present: Any
    """0 where there is no source."""

    @classmethod
    def of(
        cls, segment: ir.Segment, env: Env, rows: int, columns: Array, folded: int | None
    ) -> _Slots:
        dot, gather = segment.dot, segment.gather
        source: Any
        column: Any = None
        present: Any = 1
        here = _axes(env, rows, columns, steps=True)
        inner = 1 if folded is not None else segment.terms * (dot.terms if dot else 1)
        turns = np.indices((*(step.extent for step in segment.steps), inner))
        *outer, slot = turns.reshape(len(turns), 1, 1, -1, 1)
        here |= zip((step.variable for step in segment.steps), outer, strict=True)
        lane, element = (slot // dot.terms, slot % dot.terms) if dot else (slot, 0)
        if gather:
            place = here[ir.ROW] * gather.stride + slot + gather.taps - inner
            source, present = (np.maximum(place, 0), 0), place >= 0
            here[ir.ROW] = 0
        elif dot and dot.pairs:
            lane, element, column = _paired(dot.terms, segment.terms, slot, columns)
            source = 0, slot
        elif dot:
            if dot.accumulator_dtype == "float32":  # the odd one first
                element = dot.terms - 1 - element
            source = (0, lane * dot.terms + element) if segment.by_lane else (lane, element)
        elif folded is not None:
            source, lane, element = (folded, 0), 1, 2 * (columns - columns[0]) + folded
            column = int(columns[0])
        else:
            group = segment.reverse
            source = slot, group - 1 - 2 * (columns % group) if group else 0
        return cls(here, slot.size, source, (lane, element), column, present)


def _paired(size: int, terms: int, value: Array, columns: Array) -> tuple[Array, Array, Array]:
    """See ``families.pairs``: which weight of a register meets which of a pixel's values, and the
    column that it stands at. ``size`` is how many lanes and outputs a register has."""
    pair, output = value // 2, columns % size
    if terms < size:
        term, half = pair // 2, pair % 2
    else:
        turn = (pair - output) % (2 * size)
        term, half = turn % size, turn // size
    return term, 2 * size * half + 2 * output + value % 2, columns - output


def _whole_products(source: Array, weight: Array, which: Array | None) -> Array:
    """int32 sums of products of whole numbers, which wrap."""
    depth = source.shape[2]
    most = depth * 255 * 128 if weight.dtype == np.int8 and source.itemsize == 1 else 1 << 40
    kind = np.float32 if most < _EXACT else np.float64
    total = _products(source.astype(kind), weight.astype(kind), which)
    return total.astype(np.int64).astype(np.int32)


def _products(source: Array, weight: Array, which: Array | None) -> Array:
    """Sums over slots, in any order: (lanes, rows, slots, 1 or columns) by weights."""
    by_column = source.shape[3] > 1
    lanes = len(source) if which is None else max(len(source), len(which))
    source = np.broadcast_to(source, (lanes, *source.shape[1:]))
    total = np.empty((lanes, source.shape[1], weight.shape[2]), source.dtype)
    for number in range(len(weight)):
        chosen = slice(None) if which is None else np.flatnonzero(which == number)
        if by_column:
            total[chosen] = np.einsum("mrkc,kc->mrc", source[chosen], weight[number])
        else:
            total[chosen] = source[chosen, :, :, 0] @ weight[number].astype(source.dtype)
    return total


def _value(index: Index, env: Env) -> Any:
    """An index over the lanes."""
    return index.evaluate(env, _OPERATORS, np.int64)


def _places(access: ir.Access, here: Env) -> Array:
    """Of elements over the axes, of which there is at least that of the columns."""
    places = np.asarray(_value(access.position, here))
    return places if places.ndim else np.full_like(here[ir.COLUMN], places)


def _axes(env: Env, rows: int, columns: Array, *, steps: bool = False) -> Env:
    """Variables over (lanes, rows, [slots,] columns)."""
    middle = (1,) if steps else ()
    here: Env = {name: value.reshape(-1, 1, *middle, 1) for name, value in env.items()}
    here[ir.ROW] = np.arange(rows).reshape(1, -1, *middle, 1)
    here[ir.COLUMN] = columns.reshape(1, 1, *middle, -1)
    return here


def _lanes(env: Env, calls: Array, chosen: Array) -> tuple[Env, Array]:
    """Some of the lanes."""
    if len(chosen) == len(calls) and (chosen == np.arange(len(calls))).all():
        return env, calls
    return {name: value[chosen] for name, value in env.items()}, calls[chosen]


def _run(access: ir.Access, env: Env, calls: Array, count: int) -> Array:
    """Places of a run of elements, (lanes, count)."""
    first = np.broadcast_to(_value(access.position, env), calls.shape)
    return first[:, None] + np.arange(count)


def _check(kernel: ir.Kernel, buffer: ir.Buffer, places: Array, size: int) -> None:
    if places.size and (places.min() < 0 or places.max() >= size):
        raise IndexError(
            f"{kernel.name}: {places.min()} to {places.max()} of {buffer.name}[{buffer.size}]"
        )


def _unwritten(buffer: ir.Buffer, lanes: tuple[int, ...], exact: bool) -> Array:
    """Nothing yet; beyond the elements zeros, as many as the memory plan has there."""
    number = buffer.dtype == "float32" or buffer.dtype in NARROW
    dtype = np.dtype(("float64" if exact else "float32") if number else buffer.dtype)
    more = buffer.bytes // np.dtype(buffer.dtype).itemsize - buffer.size
    array = np.zeros((*lanes, buffer.size + more), dtype)
    array[..., : buffer.size] = np.nan if dtype.kind == "f" else np.iinfo(dtype).max - 3
    return array


def _touched(statements: Sequence[ir.Statement], read: set[str], written: set[str]) -> None:
    """Buffers that statements read and write."""
    for each in ir.walk(statements):
        if isinstance(each, (ir.Loop, ir.If, ir.Barrier)):
            continue
        written.add(each.target.buffer.name)
        if isinstance(each, ir.Copy):
            read.add(each.source.buffer.name)
        elif isinstance(each, ir.MatrixProduct):
            read.update(access.buffer.name for access in (each.sums, each.a, each.b))
        elif isinstance(each, ir.Tile):
            accesses = [*each.start, *(segment.source for segment in each.segments)]
            accesses += [one.weight for one in each.segments if one.weight]
            if each.epilogue and each.epilogue.residual:
                accesses.append(each.epilogue.residual)
            read.update(access.buffer.name for access in accesses)
