"""What the kernel IR means: a numpy interpreter, bit for bit what generated code computes.

A backend is right when it agrees with this. Every unit of a kernel runs as a call of its own, all
of them at once as lanes of numpy arrays; so do the turns of a loop whose body reads nothing that it
writes. What is left of the order is what results depend on: a sum takes its segments, their steps
and terms one after the other.

- A product added to a float32 sum is rounded once with it. Two bfloat16 numbers of a word are added
  one by one, the odd one first. Whole numbers are summed in int32.
- Buffers of narrow floats hold their numbers: what is stored is rounded to the nearest, halves to
  even; what is read is float32.
- Nothing has a value before it is written: NaN, or a number that no quantised value is.

With ``exact`` all of it is float64 and nothing is rounded, which shows that a step computes what
its graph says, whatever the order and the precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.calls import Step as Calls
from shiftedge.export.compiler.kernel_ir.index import Binary, Const, Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import (
    BEGIN,
    BF16,
    COLUMN,
    END,
    LOWEST,
    ROW,
    TERM,
    UNIT,
    Access,
    Buffer,
    Copy,
    Dot,
    Epilogue,
    Fill,
    If,
    Kernel,
    Loop,
    Segment,
    Statement,
    Tile,
)
from shiftedge.export.compiler.numerics.activations import activated
from shiftedge.export.compiler.numerics.bf16 import numbers_of, rounded
from shiftedge.export.compiler.numerics.fma import fma32

__all__ = ["Frame", "Interpreter", "run"]

Array = NDArray[Any]
Env = dict[Var, Any]
"""Of variables: a number, or one for each lane."""

_OPERATORS: dict[str, Any] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "//": np.floor_divide,
    "%": np.remainder,
    "min": np.minimum,
    "max": np.maximum,
    "<": np.less,
    "==": np.equal,
}
_ROUNDED = {BF16: rounded}
"""Types of narrow floats: how float32 becomes one of their numbers."""
_LOWEST_EXACT = 24
"""Bits: whole numbers below are exact in float32, whatever the order of their sum."""
_SLACK = 16
"""Elements behind a value: a word may begin at its last one."""
_SUMS, _ELEMENTS = 1 << 16, 1 << 22
"""Accumulators, and elements read, at a time: what a cache holds, and a memory."""


def run(
    kernel: Kernel,
    arrays: Mapping[str, Array],
    *,
    calls: Sequence[tuple[int, int]] | None = None,
    exact: bool = False,
) -> None:
    """Run a kernel.

    Args:
        kernel: any.
        arrays: one for each buffer, by name, flat, and written in place. Of narrow floats they hold
            numbers, as float32, or float64 if ``exact``; an array may be longer than its buffer.
        calls: units (begin, end) of each call; by default each unit is one.
        exact: compute in float64 and round nothing.

    Raises:
        IndexError: the kernel reads or writes beyond a buffer.
    """
    if calls is None:
        calls = [(unit, unit + 1) for unit in range(kernel.units)]
    begin, end = np.array(calls, np.int64).reshape(-1, 2).T
    every = np.arange(len(begin))
    machine = _Machine(kernel, arrays, len(every), exact)
    env: Env = {BEGIN: begin, END: end}
    machine.run(kernel.prologue, env, every)
    machine.loop(Loop(UNIT, BEGIN, END, kernel.body), env, every)


@dataclass(frozen=True, eq=False)
class Frame:
    """What a step made of one frame."""

    logits: NDArray[np.float32]
    values: dict[str, Array]
    """Everything in the workspace, by name: flat, as it is stored, narrow floats as numbers."""


class Interpreter:
    """A stream of a step."""

    def __init__(self, step: Calls, *, exact: bool = False) -> None:
        self._step, self._exact = step, exact
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
            run(call.kernel, arrays, exact=self._exact)
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
    """Statements of one kernel. ``calls`` says of each lane which call it belongs to."""

    def __init__(
        self, kernel: Kernel, arrays: Mapping[str, Array], calls: int, exact: bool
    ) -> None:
        self._kernel, self._exact = kernel, exact
        self._arrays = {each.name: arrays[each.name] for each in kernel.buffers}
        self._scratch = {each.name: _unwritten(each, (calls,), exact) for each in kernel.scratch}
        self._apart: dict[int, bool] = {}
        self._words: dict[str, Array] = {}

    # Control.

    def run(self, statements: Sequence[Statement], env: Env, calls: Array) -> None:
        for each in statements:
            if not len(calls):
                return
            if isinstance(each, Loop):
                self.loop(each, env, calls)
            elif isinstance(each, If):
                chosen = np.broadcast_to(_value(each.condition, env), calls.shape).astype(bool)
                self.run(each.then, *_lanes(env, calls, np.flatnonzero(chosen)))
                self.run(each.otherwise, *_lanes(env, calls, np.flatnonzero(~chosen)))
            elif isinstance(each, Fill):
                self._fill(each, env, calls)
            elif isinstance(each, Copy):
                self._copy(each, env, calls)
            else:
                self._tile(each, env, calls)

    def loop(self, loop: Loop, env: Env, calls: Array) -> None:
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

    def _independent(self, loop: Loop) -> bool:
        """Whether its turns may run side by side: nothing is read that they write. Units may."""
        if loop.variable == UNIT and not self._kernel.scratch:
            return True
        if id(loop) not in self._apart:
            read, written = set[str](), set[str]()
            _touched(loop.body, read, written)
            self._apart[id(loop)] = not read & written
        return self._apart[id(loop)]

    # Runs of elements.

    def _fill(self, fill: Fill, env: Env, calls: Array) -> None:
        places = _run(fill.target, env, calls, fill.count)
        self._store(fill.target.buffer, places, calls, np.full(places.shape, fill.value))

    def _copy(self, copy: Copy, env: Env, calls: Array) -> None:
        value = self._load(copy.source.buffer, _run(copy.source, env, calls, copy.count), calls)
        if copy.before:
            value = (value.astype(np.int64) + copy.before).astype(copy.source.buffer.dtype)
        if copy.scale or copy.shift:
            value = value.astype(self._float)
        factor, more = (
            self._load(each.buffer, _run(each, env, calls, copy.count), calls) if each else None
            for each in (copy.scale, copy.shift)
        )
        if factor is not None and more is not None:
            value = self._fma(value, factor, more)
        elif factor is not None or more is not None:
            value = value + more if factor is None else value * factor
        if copy.plus:
            value = (value if value.dtype.kind == "f" else value.astype(np.int64)) + copy.plus
        places = _run(copy.target, env, calls, copy.count)
        self._store(copy.target.buffer, places, calls, value)

    # Tiles.

    def _tile(self, tile: Tile, env: Env, calls: Array) -> None:
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

    def _block(self, tile: Tile, env: Env, calls: Array) -> None:
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
        self._store(tile.target.buffer, _value(tile.target.position, here), calls, value)

    def _starts(
        self, tile: Tile, env: Env, calls: Array, columns: Array, like: Array
    ) -> Iterator[Array]:
        """First values, those of padded weights first."""
        here = _axes(env, tile.rows, columns)
        for access in sorted(tile.start, key=lambda each: each.buffer.role != "weight"):
            found = self._load(access.buffer, _value(access.position, here), calls)
            yield np.broadcast_to(found, like.shape)

    def _sums(
        self, tile: Tile, env: Env, calls: Array, columns: Array, folded: int | None
    ) -> Array:
        """Sums (lanes, rows, columns) of some columns; of those ``folded``, of one of two terms."""
        kind = np.dtype(
            self._float if tile.accumulator_dtype == "float32" else tile.accumulator_dtype
        )
        none: float = 0
        if any(segment.largest for segment in tile.segments):
            none = LOWEST if kind.kind == "f" else np.iinfo(kind).min
        total = np.full((len(calls), tile.rows, len(columns)), none, kind)
        if folded is None:
            for number, value in enumerate(self._starts(tile, env, calls, columns, total)):
                first = number == 0 and any(x.buffer.role == "weight" for x in tile.start)
                total = np.array(value if first else total + value, kind)
        for segment in tile.segments:
            total = self._segment(tile, segment, env, calls, columns, folded, total)
        return total

    def _segment(
        self,
        tile: Tile,
        segment: Segment,
        env: Env,
        calls: Array,
        columns: Array,
        folded: int | None,
        total: Array,
    ) -> Array:
        slots = _Slots.of(segment, tile, columns, folded)
        here = slots.environment(segment, env, tile.rows, columns)
        places = _value(segment.source.position, {**here, TERM: slots.source_term})
        places = places + slots.source_offset
        source = self._load(segment.source.buffer, places, calls)
        shape = np.broadcast_shapes(source.shape, (1, tile.rows, slots.count, 1))
        source = np.broadcast_to(source, shape)
        dot, kind = segment.dot, source.dtype.kind
        if dot and kind != "f":
            source = (source.astype(np.int64) + segment.plus).astype(dot.dtype)
            source = source * slots.present
        elif kind != "f" and not segment.largest:
            source = source.astype(np.int32) + np.int32(segment.plus)
        if segment.weight is None:
            for place in range(slots.count):
                one = source[:, :, place]
                total = np.maximum(total, one) if segment.largest else total + one
            return total
        weight, which = self._weights(segment, segment.weight, slots, here, columns, calls)
        if total.dtype.kind != "f":
            return total + _whole_products(source, weight, which)
        if self._exact:
            return total + _products(source.astype(np.float64), weight, which)
        source = source.astype(np.float32)
        product = np.empty_like(total)
        for place in range(slots.count):
            factor = weight[0, place] if which is None else weight[which, None, place]
            one = source[:, :, place]
            if dot:  # products of bfloat16 numbers are exact
                np.multiply(one, factor, out=product)
                total += product
            else:
                total = fma32(one, factor, total)
        return total

    def _weights(
        self,
        segment: Segment,
        weight: Access,
        slots: _Slots,
        here: Env,
        columns: Array,
        calls: Array,
    ) -> tuple[Array, Array | None]:
        """Weights (kinds, slots, columns), and which of the kinds each lane has; None of one."""
        names = [
            name
            for name in _variables(weight.position)
            if name in here and np.ndim(here[name]) and len(here[name]) > 1
        ]
        env, which = dict(here), None
        if names:
            found = np.stack([here[name].reshape(-1) for name in names])
            distinct, which = np.unique(found, axis=1, return_inverse=True)
            which = which.reshape(-1)
            env |= {
                name: row.reshape(-1, 1, 1, 1) for name, row in zip(names, distinct, strict=True)
            }
            calls = calls[np.unique(which, return_index=True)[1]]
        env |= {TERM: slots.weight_term, ROW: 0}
        if slots.weight_column is not None:
            env[COLUMN] = slots.weight_column
        places = _value(weight.position, env) * slots.per_word + slots.weight_offset
        found = self._load(weight.buffer, np.asarray(places), calls, segment.dot)
        shape = (1 if which is None else distinct.shape[1], 1, slots.count, len(columns))
        return np.broadcast_to(found, shape)[:, 0], which

    def _ended(self, tile: Tile, total: Array, here: Env, calls: Array) -> Array:
        """From sums to what is stored, but for the target's type."""
        if tile.epilogue:
            return self._epilogue(tile.epilogue, total, here, calls, tile.target.buffer.dtype)
        if total.dtype.kind != "f":
            if tile.target.buffer.dtype != "float32":
                return total
            total = total.astype(np.float32)
        if tile.scale != 1.0:
            total = total * total.dtype.type(np.float32(tile.scale))
        return self._activated(tile.activation, total)

    def _epilogue(self, ends: Epilogue, total: Array, here: Env, calls: Array, dtype: str) -> Array:
        def load(access: Access) -> Array:
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

    def _activated(self, kind: Activation, value: Array) -> Array:
        return kind.value.definition(value) if self._exact else activated(kind, value)

    # Numbers and memory.

    @property
    def _float(self) -> Any:
        return np.float64 if self._exact else np.float32

    def _fma(self, a: Array, b: Array, c: Array) -> Array:
        return a * b + c if self._exact else fma32(a, b, c)

    def _load(self, buffer: Buffer, places: Array, calls: Array, words: Dot | None = None) -> Array:
        """Elements, of shape ``places``; of ``words`` their own."""
        if buffer.role == "scratch":
            held = self._scratch[buffer.name]
            _check(self._kernel, buffer, places, held.shape[1])
            first = calls.reshape(-1, *[1] * (places.ndim - 1))
            return held[first, places]
        held = self._elements(buffer, words) if words else self._arrays[buffer.name]
        _check(self._kernel, buffer, places, len(held))
        found: Array = held[places]
        if buffer.dtype == BF16 and found.dtype == np.uint16:  # a constant's bits
            found = numbers_of(found)
        return found

    def _elements(self, buffer: Buffer, dot: Dot) -> Array:
        """Of a buffer of words of weights."""
        if buffer.name not in self._words:
            held = self._arrays[buffer.name]
            narrow = dot.dtype == BF16
            held = np.ascontiguousarray(held).view(np.uint16 if narrow else np.int8)
            self._words[buffer.name] = numbers_of(held) if narrow else held
        return self._words[buffer.name]

    def _store(self, buffer: Buffer, places: Array, calls: Array, value: Array) -> None:
        held = self._scratch if buffer.role == "scratch" else self._arrays
        array = held[buffer.name]
        _check(self._kernel, buffer, places, buffer.size)
        if value.dtype.kind == "f" and not self._exact and buffer.dtype in _ROUNDED:
            value = _ROUNDED[buffer.dtype](value)
        if array.dtype.kind != "f" and value.dtype.kind == "f":
            value = value.astype(np.int64)
        value = value.astype(array.dtype)
        if buffer.role == "scratch":
            array[calls.reshape(-1, *[1] * (places.ndim - 1)), places] = value
        else:
            array[places] = value


@dataclass(frozen=True)
class _Slots:
    """The products of a step of a segment, in the order in which they are added. Arrays are over
    (lanes, rows, slots of all steps, columns)."""

    count: int
    """Of all steps."""
    inner: int
    """Of one."""
    source_term: Any
    source_offset: Any
    weight_term: Any
    weight_offset: Any
    present: Any = 1
    """0 where there is no source."""
    per_word: int = 1
    """Elements of a weight's position."""
    weight_column: Any = None
    """Whose place weights are counted from; None: each column's own."""

    @classmethod
    def of(cls, segment: Segment, tile: Tile, columns: Array, folded: int | None) -> _Slots:
        dot, terms = segment.dot, segment.terms
        steps = math.prod(step.extent for step in segment.steps)

        def each(values: Any) -> Array:  # over the slots of a step
            return np.tile(np.asarray(values), steps)[None, None, :, None]

        if segment.gather and dot:
            count = dot.terms * terms
            slot = np.arange(count)
            row = np.arange(tile.rows)[None, :, None, None]
            place = row * segment.gather.stride + each(slot + segment.gather.taps - count)
            word, byte = each(slot // dot.terms), each(slot % dot.terms)
            read = np.maximum(place, 0)
            return cls(steps * count, count, read, 0, word, byte, place >= 0, dot.terms)
        if dot and dot.pairs:
            return cls._pairs(dot, terms, steps, columns)
        if dot:
            slot = np.arange(dot.terms * terms)
            if dot.accumulator_dtype == "float32":
                slot = slot.reshape(terms, -1)[:, ::-1].reshape(-1)
            word, element = each(slot // dot.terms), each(slot % dot.terms)
            word_of, offset = (0, each(slot)) if segment.by_lane else (word, element)
            count = len(slot)
            return cls(steps * count, count, word_of, offset, word, element, per_word=dot.terms)
        if folded is not None:
            first = 2 * (columns - columns[0]) + folded
            return cls(steps, 1, folded, 0, 1, first, weight_column=int(columns[0]))
        if segment.reverse:
            group = segment.reverse
            turned = group - 1 - 2 * (columns % group)
            return cls(steps * terms, terms, each(np.arange(terms)), turned, 0, 0)
        term = each(np.arange(terms))
        return cls(steps * terms, terms, term, 0, term, 0)

    @classmethod
    def _pairs(cls, dot: Dot, terms: int, steps: int, columns: Array) -> _Slots:
        """See ``families.pairs``: which weight of a register meets which of a pixel's codes."""
        size = dot.terms  # words of a register, and outputs that share one
        code = np.tile(np.arange(terms * dot.terms), steps)[None, None, :, None]
        pair, output = code // 2, columns % size
        if terms < size:
            term, half = pair // 2, pair % 2
        else:
            turn = (pair - output) % (2 * size)
            term, half = turn % size, turn // size
        byte = 2 * size * half + 2 * output + code % 2
        count = terms * dot.terms
        return cls(
            steps * count,
            count,
            0,
            code,
            term,
            byte,
            per_word=dot.terms,
            weight_column=columns - output,
        )

    def environment(self, segment: Segment, env: Env, rows: int, columns: Array) -> Env:
        """Variables along the axes."""
        here = _axes(env, rows, columns, steps=True)
        if segment.gather:
            here[ROW] = 0
        extents = [step.extent for step in segment.steps]
        turns = np.indices(extents).reshape(len(extents), -1) if extents else ()
        for step, turn in zip(segment.steps, turns, strict=True):
            here[step.variable] = np.repeat(turn, self.inner)[None, None, :, None]
        return here


def _whole_products(source: Array, weight: Array, which: Array | None) -> Array:
    """int32 sums of products of whole numbers, which wrap."""
    depth = source.shape[2]
    most = depth * 255 * 128 if weight.dtype == np.int8 and source.itemsize == 1 else 1 << 40
    kind = np.float32 if most < 1 << _LOWEST_EXACT else np.float64
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
    if isinstance(index, Const):
        return np.int64(index.value)
    if isinstance(index, Var):
        return env[index]
    if isinstance(index, Binary):
        return _OPERATORS[index.op](_value(index.left, env), _value(index.right, env))
    raise TypeError(f"{type(index).__name__} is not an index")


def _variables(index: Index) -> set[Var]:
    if isinstance(index, Binary):
        return _variables(index.left) | _variables(index.right)
    return {index} if isinstance(index, Var) else set()


def _axes(env: Env, rows: int, columns: Array, *, steps: bool = False) -> Env:
    """Variables over (lanes, rows, [slots,] columns)."""
    middle = (1,) if steps else ()
    here: Env = {name: value.reshape(-1, 1, *middle, 1) for name, value in env.items()}
    here[ROW] = np.arange(rows).reshape(1, -1, *middle, 1)
    here[COLUMN] = columns.reshape(1, 1, *middle, -1)
    return here


def _lanes(env: Env, calls: Array, chosen: Array) -> tuple[Env, Array]:
    """Some of the lanes."""
    if len(chosen) == len(calls) and (chosen == np.arange(len(calls))).all():
        return env, calls
    return {name: value[chosen] for name, value in env.items()}, calls[chosen]


def _run(access: Access, env: Env, calls: Array, count: int) -> Array:
    """Places of a run of elements, (lanes, count)."""
    first = np.broadcast_to(_value(access.position, env), calls.shape)
    return first[:, None] + np.arange(count)


def _check(kernel: Kernel, buffer: Buffer, places: Array, size: int) -> None:
    if places.size and (places.min() < 0 or places.max() >= size):
        raise IndexError(
            f"{kernel.name}: {places.min()} to {places.max()} of {buffer.name}[{buffer.size}]"
        )


def _held(dtype: str, exact: bool) -> Any:
    """In which numpy holds a buffer's elements."""
    if dtype == "float32" or dtype in _ROUNDED:
        return np.float64 if exact else np.float32
    return np.dtype(dtype)


def _unwritten(buffer: Buffer, lanes: tuple[int, ...], exact: bool) -> Array:
    """Nothing yet; beyond the elements zeros, as many as the memory plan has there."""
    dtype = np.dtype(_held(buffer.dtype, exact))
    more = buffer.bytes // np.dtype(buffer.dtype).itemsize - buffer.size
    array = np.zeros((*lanes, buffer.size + more), dtype)
    array[..., : buffer.size] = np.nan if dtype.kind == "f" else np.iinfo(dtype).max - 3
    return array


def _touched(statements: Sequence[Statement], read: set[str], written: set[str]) -> None:
    """Buffers that statements read and write."""
    for each in statements:
        if isinstance(each, Loop):
            _touched(each.body, read, written)
        elif isinstance(each, If):
            _touched((*each.then, *each.otherwise), read, written)
        else:
            written.add(each.target.buffer.name)
            if isinstance(each, Copy):
                read.add(each.source.buffer.name)
            elif isinstance(each, Tile):
                accesses = [*each.start, *(segment.source for segment in each.segments)]
                accesses += [one.weight for one in each.segments if one.weight]
                if each.epilogue and each.epilogue.residual:
                    accesses.append(each.epilogue.residual)
                read.update(access.buffer.name for access in accesses)
