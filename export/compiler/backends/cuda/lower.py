"""Kernels with threads to TVM's TIR: what ``cpu/llvm/lower`` is for processors.

A unit is a block of the grid, ``UNIT`` is blockIdx.x and ``THREAD`` threadIdx.x. Registers are
local allocations that LLVM promotes, since each place in them is a number. As on processors no pass
is run.

An access of several elements is one vector where its place is a multiple of the vector's length
whatever the variables are, and several narrower ones elsewhere: ``vectors``. So each vector
that this module writes may be said to be aligned (``ptx`` does), and none is that is not.

A tile's parts are vectors of their lanes; rows whose sources are neighbours are loaded together.
Each product is one fused multiply-add, in the order of the segment's steps. Not here: packed
products, quantised ends, folded parts. Loops of segments are unrolled where they say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tvm
from tvm import tirx

from shiftedge.export.compiler.backends.cuda.vectors import halved, is_next, runs
from shiftedge.export.compiler.backends.tir import nodes
from shiftedge.export.compiler.backends.tir.math import activation
from shiftedge.export.compiler.backends.tir.nodes import get, number, put, shuffle
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.fragments import ELEMENT, FRAGMENTS, SUMS
from shiftedge.export.compiler.kernel_ir.index import Const, Var

_BARRIER = "llvm.nvvm.barrier.cta.sync.aligned.all"
"""bar.sync. TVM's own tvm_storage_sync calls it without its operand, which LLVM refuses."""
_C_FUNCTION = 2
"""calling_conv of tvm::CallingConv::kDeviceKernelLaunch."""

Env = dict[Var, Any]


def lower(kernel: ir.Kernel) -> Any:
    """A kernel as a ``tirx.PrimFunc``, whose parameters are its buffers.

    Raises:
        ValueError: it holds what no GPU kernel does.
    """
    return _BlockLowering(kernel).function()


class _BlockLowering:
    def __init__(self, kernel: ir.Kernel) -> None:
        if kernel.prologue or kernel.scratch:
            raise ValueError(f"{kernel.name}: a GPU kernel has no prologue and no scratch")
        self.kernel = kernel
        scopes = {"shared": "shared", "register": "local"}
        self.own = [
            tirx.decl_buffer(
                (each.size,), each.dtype, each.name, scope=scopes[each.role], layout=None
            )
            for each in kernel.block
        ]
        self.given = [
            tirx.decl_buffer((each.size,), each.dtype, each.name, layout=None)
            for each in kernel.buffers
        ]
        names = (each.name for each in (*kernel.buffers, *kernel.block))
        self.buffers = dict(zip(names, (*self.given, *self.own), strict=True))
        self.words = {
            each.name: tirx.decl_buffer(
                (-(-each.size // 2),), "int32", f"{each.name}_words",
                scope=self.buffers[each.name].scope(), layout=None,
            )
            for each in (*kernel.buffers, *kernel.block)
            if each.dtype == "float16" and each.role != "register"
        }  # fmt: skip
        """Buffers of halves as pairs."""

    def function(self) -> Any:
        kernel, parameters = self.kernel, [nodes.pointer(each) for each in self.kernel.buffers]
        body: list[Any] = [
            tirx.DeclBuffer(buffer, data=pointer)
            for buffer, pointer in zip(self.given, parameters, strict=True)
        ]
        body += map(tirx.AllocBuffer, self.own)
        given = zip(self.given, parameters, strict=True)
        pointers = {buffer.name: pointer for buffer, pointer in given}
        for name, words in self.words.items():
            data = pointers.get(name, self.buffers[name].data)
            body.append(tirx.DeclBuffer(words, data=data))
        axes = [("blockIdx.x", kernel.units), ("threadIdx.x", kernel.threads)]
        variables = [tirx.Var(tag.replace(".", "_"), "int32") for tag, _ in axes]
        env = dict(zip((ir.UNIT, ir.THREAD), variables, strict=True))
        whole = nodes.sequence([*body, *self._statements(kernel.body, env)])
        for (tag, extent), variable in zip(reversed(axes), reversed(variables), strict=True):
            axis = tirx.IterVar(tvm.ir.Range(0, extent), variable, 1, tag)
            whole = tirx.AttrStmt(axis, "thread_extent", number(extent), whole)
        attributes = {"global_symbol": kernel.name, "tirx.noalias": True}
        return tirx.PrimFunc(parameters, whole).with_attrs(
            {**attributes, "calling_conv": _C_FUNCTION}
        )

    def _statements(self, statements: Sequence[ir.Statement], env: Env) -> list[Any]:
        result: list[Any] = []
        for each in statements:
            if isinstance(each, ir.Loop):
                variable = tirx.Var(each.variable.name.replace(" ", "_"), "int32")
                begin, end = (nodes.expression(at, env) for at in (each.begin, each.end))
                body = self._statements(each.body, {**env, each.variable: variable})
                result.append(_serial(variable, begin, end - begin, body))
            elif isinstance(each, ir.If):
                known = each.condition.replace(_numbers_of(env))
                if isinstance(known, Const):
                    result += self._statements(each.then if known.value else each.otherwise, env)
                    continue
                condition = nodes.expression(known, env)
                bodies = (self._statements(body, env) for body in (each.then, each.otherwise))
                sequences = (nodes.sequence(body) if body else None for body in bodies)
                result.append(tirx.IfThenElse(condition, *sequences))
            elif isinstance(each, ir.Barrier):
                call = tirx.call_llvm_intrin("void", _BARRIER, number(0))
                result.append(tirx.Evaluate(call))
            elif isinstance(each, ir.Fill):
                dtype = each.target.buffer.dtype
                for first, length in self._runs(each.target, env, each.count):
                    value = nodes.constant(dtype, each.value, length)
                    result.append(self._store(each.target, env, first, length, value))
            elif isinstance(each, ir.Copy):
                result += self._copy(each, env)
            elif isinstance(each, ir.MatrixProduct):
                result += self._matrices(each, env)
            else:
                result += self._tile(each, env)
        return result

    def _copy(self, copy: ir.Copy, env: Env) -> Iterator[Any]:
        """Vectors that both ends are aligned for: to or from a register, those of the other."""
        if copy.before or copy.plus:
            raise ValueError(f"{self.kernel.name}: a copy of integers")
        for first, length in self._together((copy.source, copy.target), env, copy.count):
            value = self._load(copy.source, env, first, length)
            dtype = copy.source.buffer.dtype
            if copy.scale and copy.shift:
                scale, shift = (
                    self._load(each, env, first, length) for each in (copy.scale, copy.shift)
                )
                value = nodes.as_type("float32", value, length) if dtype != "float32" else value
                value, dtype = nodes.fma(value, scale, shift, length), "float32"
            if dtype != copy.target.buffer.dtype:
                value = nodes.as_type(copy.target.buffer.dtype, value, length)
            yield self._store(copy.target, env, first, length, value)

    def _matrices(self, product: ir.MatrixProduct, env: Env) -> Iterator[Any]:
        """A call of what ``ptx`` links with it: sums, and halves in pairs."""
        kind = FRAGMENTS[product.shape]

        def at(access: ir.Access, element: int) -> Any:
            """A place in registers, a number."""
            return access.position.replace({**_numbers_of(env), ELEMENT: element})

        def one(access: ir.Access, element: int) -> Any:
            return self._load(ir.Access(access.buffer, at(access, element)), env, 0, 1)

        sums = shuffle(range(SUMS), *(one(product.sums, each) for each in range(SUMS)))
        given = []
        for access, count in zip((product.a, product.b), kind.elements, strict=True):
            given.append(shuffle(range(count), *(one(access, each) for each in range(count))))
        made = tirx.call_pure_extern(f"float32x{SUMS}", f"mma_{product.shape}", sums, *given)
        # Each register of the sums takes its own of the result.
        held = tirx.decl_buffer((SUMS,), "float32", "product", scope="local", layout=None)
        yield tirx.AllocBuffer(held)
        yield put(held, 0, SUMS, made)
        for each in range(SUMS):
            target = ir.Access(product.sums.buffer, at(product.sums, each))
            yield self._store(target, env, 0, 1, get(held, each, 1))

    # BlockTiles

    def _tile(self, tile: ir.Tile, env: Env) -> list[Any]:
        if tile.epilogue or any(part.folded for part in tile.vectors):
            raise ValueError(f"{self.kernel.name}: a tile of a processor's")
        dtype = tile.accumulator_dtype
        if dtype not in ("float32", "float16"):
            raise ValueError(f"{self.kernel.name}: sums of integers")
        sums = [
            tirx.decl_buffer((part.lanes,), dtype, f"sum{place}", scope="local", layout=None)
            for place, part in enumerate(tile.vectors)
        ]
        result: list[Any] = [tirx.AllocBuffer(each) for each in sums]
        least = ir.LOWEST if any(each.largest for each in tile.segments) else 0.0
        starts = sorted(tile.start, key=lambda each: each.buffer.role != "weight")
        for register, part in zip(sums, tile.vectors, strict=True):
            here = {**env, ir.ROW: part.row, ir.COLUMN: part.column}
            if not starts:
                result.append(
                    put(register, 0, part.lanes, nodes.constant(dtype, least, part.lanes))
                )
            for place, access in enumerate(starts):
                for first, length in self._runs(access, here, self._valid(tile, part)):
                    value = self._numbers(access, here, first, length, dtype)
                    value = get(register, first, length) + value if place else value
                    result.append(put(register, first, length, value))
        for segment in tile.segments:
            if segment.dot or segment.gather or segment.reverse or segment.plus:
                raise ValueError(f"{self.kernel.name}: a segment of a processor's")
            result += self._segment(tile, segment, sums, env, 0)
        for register, part in zip(sums, tile.vectors, strict=True):
            here = {**env, ir.ROW: part.row, ir.COLUMN: part.column}
            for first, length in self._runs(tile.target, here, self._valid(tile, part)):
                value = get(register, first, length)
                if tile.scale != 1.0:
                    value = value * nodes.constant("float32", tile.scale, length)
                value = activation(tile.activation, value, length)
                if tile.target.buffer.dtype != dtype:
                    value = nodes.as_type(tile.target.buffer.dtype, value, length)
                result.append(self._store(tile.target, here, first, length, value))
        return result

    def _valid(self, tile: ir.Tile, part: ir.Part) -> int:
        return max(0, min(part.lanes, tile.columns - part.column))

    def _segment(
        self, tile: ir.Tile, segment: ir.Segment, sums: list[Any], env: Env, depth: int
    ) -> list[Any]:
        """The loops of a segment from ``depth`` on, around one step."""
        if depth == len(segment.steps):
            result: list[Any] = []
            rows = self._lanes(tile, segment, env) if segment.by_lane else None
            for term in range(segment.terms):
                result += self._step(tile, segment, sums, {**env, ir.TERM: term}, rows)
            return result
        step = segment.steps[depth]
        if step.unrolled or step.extent == 1:
            result = []
            for turn in range(step.extent):
                result += self._segment(
                    tile, segment, sums, {**env, step.variable: turn}, depth + 1
                )
            return result
        variable = tirx.Var(step.variable.name, "int32")
        inner = self._segment(tile, segment, sums, {**env, step.variable: variable}, depth + 1)
        return [_serial(variable, number(0), number(step.extent), inner)]

    def _lanes(self, tile: ir.Tile, segment: ir.Segment, env: Env) -> list[Any]:
        """Each row's numbers of all terms, as a vector."""
        here = [{**env, ir.ROW: row, ir.TERM: 0} for row in range(tile.rows)]
        return [self._load(segment.source, each, 0, segment.terms) for each in here]

    def _step(
        self, tile: ir.Tile, segment: ir.Segment, sums: list[Any], env: Env, lanes: list[Any] | None
    ) -> Iterator[Any]:
        """Every accumulator takes its source, times its weight; ``lanes`` are those of each row's
        terms, where they are loaded."""
        dtype = tile.accumulator_dtype
        rows: Callable[[int], Any] | None = None
        if lanes is not None:
            term = env[ir.TERM]
            rows = lambda row: shuffle([term], lanes[row])  # noqa: E731
        elif not segment.by_column:
            rows = self._rows(tile, segment.source, env, dtype)
        weights: dict[tuple[int, int], Any] = {}
        for register, part in zip(sums, tile.vectors, strict=True):
            here = {**env, ir.ROW: part.row, ir.COLUMN: part.column}
            valid = self._valid(tile, part)
            if rows is None:
                source = self._vector(segment.source, here, valid, part.lanes, dtype)
            else:
                source = nodes.splat(rows(part.row), part.lanes)
            old = get(register, 0, part.lanes)
            if segment.largest:
                new = tirx.max(old, source)
            elif segment.weight is None:
                new = old + source
            else:
                key = part.column, part.lanes
                if key not in weights:
                    weights[key] = self._vector(segment.weight, here, valid, part.lanes, dtype)
                new = nodes.fma(source, weights[key], old, part.lanes, dtype)
            yield put(register, 0, part.lanes, new)

    def _rows(self, tile: ir.Tile, source: ir.Access, env: Env, dtype: str) -> Callable[[int], Any]:
        """The source of each row as a number: neighbours are loaded as vectors."""
        at = [
            source.position.replace(_numbers_of({**env, ir.ROW: row})) for row in range(tile.rows)
        ]
        itemsize, found, row = _itemsize(source.buffer), dict[int, Any](), 0
        while row < tile.rows:
            count = 1
            while row + count < tile.rows and is_next(at[row], at[row + count], count):
                count += 1
            for first, length in runs(at[row], count, itemsize):
                value = self._numbers(source, {**env, ir.ROW: row}, first, length, dtype)
                for lane in range(length):
                    found[row + first + lane] = shuffle([lane], value) if length > 1 else value
            row += count
        return lambda row: found[row]

    def _vector(self, access: ir.Access, env: Env, valid: int, lanes: int, dtype: str) -> Any:
        """``lanes`` numbers of which ``valid`` are read."""
        parts = [
            (self._numbers(access, env, first, length, dtype), length)
            for first, length in self._runs(access, env, valid)
        ]
        if len(parts) == 1 and valid == lanes:
            return parts[0][0]
        each = [
            shuffle([lane], value) if length > 1 else value
            for value, length in parts
            for lane in range(length)
        ]
        each += [each[0]] * (lanes - len(each))
        return shuffle(range(lanes), *each)

    # Memory

    def _runs(self, access: ir.Access, env: Env, count: int) -> list[tuple[int, int]]:
        position = access.position.replace(_numbers_of(env))
        return runs(position, count, _itemsize(access.buffer))

    def _together(
        self, accesses: Sequence[ir.Access], env: Env, count: int
    ) -> list[tuple[int, int]]:
        """Runs that all of them are aligned for; of registers any are."""
        memory = [each for each in accesses if each.buffer.role != "register"] or accesses[:1]
        found = [self._runs(each, env, count) for each in memory]
        return max(found, key=len)

    def _numbers(self, access: ir.Access, env: Env, first: int, length: int, dtype: str) -> Any:
        """Elements as numbers of a type."""
        value = self._load(access, env, first, length)
        if access.buffer.dtype == dtype:
            return value
        return nodes.as_type(dtype, value, length)

    def _load(self, access: ir.Access, env: Env, first: int, length: int) -> Any:
        """Pairs of halves as the words that they are: what is not aligned stays halves, of which
        LLVM makes vectors of its own, see ``ptx``."""
        if self._in_words(access.buffer, length):
            words = tirx.BufferLoad(*self._words(access, env, first, length))
            return nodes.bits_as("float16", words, length)
        position = nodes.expression(access.position, env) + first
        return tirx.BufferLoad(self.buffers[access.buffer.name], [nodes.ramp(position, length)])

    def _store(self, access: ir.Access, env: Env, first: int, length: int, value: Any) -> Any:
        if self._in_words(access.buffer, length):
            buffer, place = self._words(access, env, first, length)
            return tirx.BufferStore(buffer, nodes.bits_as("int32", value, length // 2), place)
        place = nodes.ramp(nodes.expression(access.position, env) + first, length)
        return tirx.BufferStore(self.buffers[access.buffer.name], value, [place])

    def _in_words(self, buffer: ir.Buffer, length: int) -> bool:
        return buffer.dtype == "float16" and buffer.role != "register" and length % 2 == 0

    def _words(self, access: ir.Access, env: Env, first: int, length: int) -> tuple[Any, list[Any]]:
        """The buffer as words, and the place in it."""
        position = access.position.replace(_numbers_of(env)) + first
        words = nodes.expression(halved(position), env)
        return self.words[access.buffer.name], [nodes.ramp(words, length // 2)]


def _serial(variable: Any, begin: Any, extent: Any, body: list[Any]) -> Any:
    return tirx.For(variable, begin, extent, tirx.ForKind.SERIAL, nodes.sequence(body))


def _numbers_of(env: Mapping[Var, Any]) -> dict[Var, int]:
    """Variables that are numbers once unrolled."""
    return {name: value for name, value in env.items() if isinstance(value, int)}


def _itemsize(buffer: ir.Buffer) -> int:
    return {"float32": 4, "float16": 2, "uint8": 1, "int32": 4}[buffer.dtype]
