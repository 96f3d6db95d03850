"""Kernels to machine code: the kernel IR lowered to TVM's TIR, and TIR to an object file.

What was found about TVM 0.27, and why this module looks as it does:

- TIR is built from its nodes (``tirx.For``, ``BufferStore``, ``Ramp`` ...), already in the form
  that TVM's passes would bring it to: flat buffers, explicit vectors, tiles unrolled. So no pass is
  run, and ``target.build.llvm`` is called directly. That is fast (20 to 50 ms a kernel) and there
  is nothing between what a kernel's text says and what LLVM sees.
- It also gives **a plain C function**: pointers and two int32, no packed arguments, no checks, no
  symbol of TVM's runtime. A parameter is a ``Var`` of ``PointerType``, bound to a buffer by
  ``DeclBuffer``; a buffer as parameter is refused by the code generator ("please lower it first").
- Without the pass LowerTVMBuiltin an allocation stays an alloca, whatever its size. Each
  accumulator is one vector's allocation of its own, which LLVM promotes to a register; reading
  parts of one (channel remainders) does not hinder that.
- ``tirx.noalias`` makes the pointers noalias: a kernel's buffers must not overlap.
- A product added to an accumulator becomes one fused multiply-add, so results do not depend on
  which tile an element falls in.
- ``floordiv`` needs a lowering pass; indices are not negative here, so ``truncdiv`` does.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.target.codegen import llvm_get_cpu_archlist

from shiftedge.export.compiler.backends.cpu.llvm import bf16, dots, epilogue
from shiftedge.export.compiler.backends.tir import nodes
from shiftedge.export.compiler.backends.tir.math import activation
from shiftedge.export.compiler.backends.tir.nodes import as_type, get, number, put, shuffle
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Var

_UNROLLED_RUNS = 4
"""Longer runs of whole vectors than this become a loop."""
_PREFETCH_READ, _PREFETCH_L1, _PREFETCH_DATA = 0, 3, 1  # operands of llvm.prefetch


@dataclass(frozen=True)
class Code:
    """Compiled kernels: one object file."""

    module: Any
    """TVM's."""

    def write(self, path: Path) -> None:
        """Writes the object file; OSError if that fails.

        By way of memory where Linux offers it: LLVM ends the process where a disk is full.
        """
        if sys.platform != "linux":
            self.module.write_to_file(str(path), "o")
            return
        with os.fdopen(os.memfd_create("kernels.o"), "rb") as memory:
            self.module.write_to_file(f"/proc/self/fd/{memory.fileno()}", "o")
            path.write_bytes(memory.read())

    def text(self, kind: str) -> str:
        """Of all kernels: "ll" is LLVM's language, "asm" the assembly."""
        return str(self.module.inspect_source(kind))


def compile_kernels(
    kernels: Sequence[ir.Kernel], target: Mapping[str, Any], lanes: int, dots: Collection[str] = ()
) -> Code:
    """Compiles kernels for an LLVM target, ``{"kind": "llvm", "mcpu": "x86-64-v4"}`` and the like.

    ``lanes`` is the width of the target's float32 vectors; kernels were built for the same.
    ``dots`` are the kinds of ``Dot`` that it has an instruction for.
    """
    resolved = tvm.target.Target(dict(target))
    functions = {kernel.name: lower(kernel, lanes, dots) for kernel in kernels}
    if len(functions) != len(kernels):
        raise ValueError("two kernels have one name")
    module = tvm.IRModule(
        {name: function.with_attr("target", resolved) for name, function in functions.items()}
    )
    return Code(tvm.get_global_func("target.build.llvm")(module, resolved))


@functools.cache
def processors(triple: str) -> tuple[str, ...]:
    """The processors that LLVM knows by name. For any other it generates code for a plain one, with
    a line on standard error, and a bundle would be said to be for the one that was named."""
    target = tvm.target.Target({"kind": "llvm", "mtriple": triple})
    return tuple(map(str, llvm_get_cpu_archlist(target)))


def lower(kernel: ir.Kernel, lanes: int, dots: Collection[str] = ()) -> Any:
    return _Lowering(kernel, lanes, dots).function()


class _Lowering:
    """Lowers one kernel. Environments map our variables to TIR's, or to numbers when unrolled."""

    def __init__(self, kernel: ir.Kernel, lanes: int, dots: Collection[str]) -> None:
        self.kernel = kernel
        self.lanes = lanes
        self.dots = dots
        scratch = ir.Buffer("scratch", max(kernel.scratch_size, 1), "scratch")
        self.parameters = [*kernel.buffers, scratch]
        self.pointers = [nodes.pointer(each) for each in self.parameters]
        self.buffers = {
            each.name: tirx.decl_buffer((each.size,), each.dtype, each.name, layout=None)
            for each in self.parameters
        }
        # The scratch block, once for each type that is kept there: what is of one type is never
        # read as another.
        self.views = {
            dtype: tirx.decl_buffer((4 * scratch.size,), dtype, f"scratch_{dtype}", layout=None)
            for dtype in sorted({each.dtype for each in kernel.scratch} - {"float32"})
        }
        self.scalars = {ir.BEGIN: tirx.Var("begin", "int32"), ir.END: tirx.Var("end", "int32")}
        has_bf16 = any(each.dtype == ir.BF16 for each in (*kernel.buffers, *kernel.scratch))
        self.own_bf16 = has_bf16 and "vdpbf16ps" in dots
        """Whether the processor's own instructions for bfloat16 are used."""

    def function(self) -> Any:
        environment = dict(self.scalars)
        unit = ir.Loop(ir.UNIT, ir.BEGIN, ir.END, self.kernel.body)
        body = [
            tirx.DeclBuffer(self.buffers[each.name], data=pointer)
            for each, pointer in zip(self.parameters, self.pointers, strict=True)
        ]
        body += [tirx.DeclBuffer(view, data=self.pointers[-1]) for view in self.views.values()]
        work = nodes.sequence(self._statements((*self.kernel.prologue, unit), environment))
        body.append(bf16.importing(work) if self.own_bf16 else work)
        parameters = [*self.pointers, *self.scalars.values()]
        function = tirx.PrimFunc(parameters, nodes.sequence(body))
        return function.with_attrs({"global_symbol": self.kernel.name, "tirx.noalias": True})

    def _statements(self, statements: Sequence[ir.Statement], env: dict[Var, Any]) -> list[Any]:
        result: list[Any] = []
        for each in statements:
            if isinstance(each, ir.Loop):
                variable = tirx.Var(each.variable.name, "int32")
                begin, end = (nodes.expression(at, env) for at in (each.begin, each.end))
                body = self._statements(each.body, {**env, each.variable: variable})
                result.append(_serial(variable, begin, end - begin, body))
            elif isinstance(each, ir.If):
                condition = nodes.expression(each.condition, env)
                bodies = (self._statements(body, env) for body in (each.then, each.otherwise))
                sequences = (nodes.sequence(body) if body else None for body in bodies)
                result.append(tirx.IfThenElse(condition, *sequences))
            elif isinstance(each, ir.Fill):
                result += self._fill(each, env)
            elif isinstance(each, ir.Copy):
                result += self._copy(each, env)
            elif isinstance(each, ir.Tile):
                result += self._tile(each, env)
            else:
                raise ValueError(f"{self.kernel.name}: processors have no barriers")
        return result

    # Runs of elements

    def _fill(self, fill: ir.Fill, env: dict[Var, Any]) -> list[Any]:
        def run(first: Any, length: int) -> Any:
            buffer, position = fill.target.buffer, self._position(fill.target, env) + first
            value = nodes.constant(buffer.dtype, fill.value, length)
            return self._store_raw(buffer, position, length, value)

        return self._runs(fill.count, run)

    def _copy(self, copy: ir.Copy, env: dict[Var, Any]) -> list[Any]:
        def run(first: Any, length: int) -> Any:
            position = self._position(copy.target, env) + first
            kinds = copy.source.buffer.dtype, copy.target.buffer.dtype
            if kinds == (ir.BF16, ir.BF16):
                bits = self._load_raw(copy.source, env, length, first)
                return self._store_raw(copy.target.buffer, position, length, bits)
            value = self._load(copy.source, env, length, first)
            kind, made = ("float32" if each == ir.BF16 else each for each in kinds)
            if copy.before:
                value = value + nodes.literal(kind, copy.before, length)
            if kind != made:
                value = as_type(made, value, length)
            if copy.scale:
                value = value * self._load(copy.scale, env, length, first)
            if copy.shift:
                value = value + self._load(copy.shift, env, length, first)
            if copy.plus:
                value = value + nodes.constant(made, copy.plus, length)
            return self._store(copy.target.buffer, position, length, value)

        return self._runs(copy.count, run)

    def _runs(self, count: int, run: Any) -> list[Any]:
        """``run(first, length)`` over ``count`` elements: whole vectors, then what remains."""
        whole = count // self.lanes
        if whole <= _UNROLLED_RUNS:
            return [run(first, length) for first, length in ir.pieces(count, self.lanes)]
        variable = tirx.Var("run", "int32")
        body = [run(variable * self.lanes, self.lanes)]
        loop = _serial(variable, number(0), number(whole), body)
        done = whole * self.lanes
        rest = ir.pieces(count - done, self.lanes)
        return [loop, *(run(done + first, length) for first, length in rest)]

    # Tiles

    def _tile(self, tile: ir.Tile, env: dict[Var, Any]) -> list[Any]:
        registers = [
            tirx.decl_buffer((part.lanes,), tile.accumulator_dtype, f"sum{place}")
            for place, part in enumerate(tile.vectors)
        ]
        both = [*zip(registers, tile.vectors, strict=True)]
        result: list[Any] = [tirx.AllocBuffer(each) for each in registers]
        for register, part in both:
            result += self._start(tile, register, part, env)
        for segment in tile.segments:
            result += self._segment(tile, segment, registers, env, 0)
        if tile.epilogue:
            ended = self._ended(tile, tile.epilogue, registers, env)
            for piece in epilogue.finished(tile, tile.epilogue, ended, self.dots):
                here = {**env, ir.ROW: piece.row, ir.COLUMN: piece.column}
                position = self._position(tile.target, here)
                result.append(self._store(tile.target.buffer, position, piece.lanes, piece.value))
            return result
        for register, part in both:
            result += self._finish(tile, register, part, env)
        return result

    def _start(self, tile: ir.Tile, register: Any, part: ir.Part, env: dict[Var, Any]) -> list[Any]:
        """First values: what is padded to whole vectors, then what is not, piece by piece."""
        dtype = str(register.dtype)
        largest = any(segment.largest for segment in tile.segments)
        least = ir.LOWEST if dtype == "float32" else int(np.iinfo(dtype).min)
        value = nodes.constant(dtype, least if largest else 0, part.lanes)
        if part.folded:  # its columns are whole at the end only
            return [put(register, 0, part.lanes, value)]
        padded, exact = _by_padding(tile)
        here = {**env, ir.ROW: part.row, ir.COLUMN: part.column}
        for place, access in enumerate(padded):
            loaded = self._load(access, here, part.lanes)
            value = loaded if place == 0 else value + loaded
        result = [put(register, 0, part.lanes, value)]
        for first, length in epilogue.valid(part, tile.columns):
            for access in exact:
                value = get(register, first, length) + self._load(access, here, length, first)
                result.append(put(register, first, length, value))
        return result

    def _segment(
        self,
        tile: ir.Tile,
        segment: ir.Segment,
        registers: list[Any],
        env: dict[Var, Any],
        depth: int,
    ) -> list[Any]:
        """The loops of a segment from ``depth`` on, around one step."""
        if depth == len(segment.steps):
            return self._step(tile, segment, registers, env)
        step = segment.steps[depth]
        # Of a loop of one turn LLVM moves out what does not depend on it, products of pairs, and
        # then holds them all.
        if step.unrolled or step.extent == 1:
            result: list[Any] = []
            for turn in range(step.extent):
                here = {**env, step.variable: turn}
                result += self._segment(tile, segment, registers, here, depth + 1)
            return result
        variable = tirx.Var(step.variable.name, "int32")
        inner = self._segment(tile, segment, registers, {**env, step.variable: variable}, depth + 1)
        return [_serial(variable, number(0), number(step.extent), inner)]

    def _step(
        self, tile: ir.Tile, segment: ir.Segment, registers: list[Any], env: dict[Var, Any]
    ) -> list[Any]:
        """One step: every accumulator takes its source, times its weight."""
        if segment.gather:
            return dots.gathered(
                segment, tile.vectors, registers, env, self._load, self._multiply_add
            )
        result = []
        if segment.prefetch:
            address = tirx.address_of(self._load_raw(segment.prefetch, env, 1))
            hints = map(number, (_PREFETCH_READ, _PREFETCH_L1, _PREFETCH_DATA))
            call = tirx.call_llvm_intrin("void", "llvm.prefetch.p0", address, *hints)
            result.append(tirx.Evaluate(call))
        for term in range(segment.terms):
            for register, part in zip(registers, tile.vectors, strict=True):
                if part.folded and term == 0:
                    continue
                here = {**env, ir.ROW: part.row, ir.COLUMN: part.column, ir.TERM: term}
                source, old = self._source(segment, part, here), get(register, 0, part.lanes)
                if segment.weight:
                    weights = self._load(segment.weight, here, part.lanes)
                    if segment.dot:
                        new = self._multiply_add(old, source, weights, part.lanes, segment.dot)
                        result.append(put(register, 0, part.lanes, new))
                        continue
                    if segment.weight.buffer.dtype not in ("float32", ir.BF16):
                        weights = as_type("int32", weights, part.lanes)
                    source = source * weights
                new = tirx.max(old, source) if segment.largest else old + source
                result.append(put(register, 0, part.lanes, new))
        return result

    def _multiply_add(self, old: Any, source: Any, weights: Any, lanes: int, dot: ir.Dot) -> Any:
        if dot.dtype == ir.BF16:
            return bf16.multiply_add(old, source, weights, lanes, own=self.own_bf16)
        return dots.multiply_add(old, source, weights, lanes, dot, own=dot.kind in self.dots)

    def _source(self, segment: ir.Segment, part: ir.Part, here: dict[Var, Any]) -> Any:
        if segment.dot:
            return self._packed(segment, segment.dot, part, here)
        if segment.by_column:
            return self._by_column(segment, part, here)
        if segment.by_lane:
            terms = self._load(segment.source, {**here, ir.TERM: 0}, segment.terms)
            return nodes.splat(shuffle([here[ir.TERM]], terms), part.lanes)
        if not part.folded:
            return nodes.splat(self._load(segment.source, here, 1), part.lanes)
        # Two numbers as one of 64 bits: one broadcasting load, no shuffle.
        two = self._load(segment.source, {**here, ir.TERM: 0}, 2)
        wide = nodes.splat(tirx.reinterpret("float64", two), part.lanes // 2)
        return nodes.bits_as("float32", wide, part.lanes)

    def _by_column(self, segment: ir.Segment, part: ir.Part, here: dict[Var, Any]) -> Any:
        """The source's own number for each column; int8 as what the accumulators are."""
        value = self._load(segment.source, here, part.lanes)
        if segment.reverse:
            group = segment.reverse
            order = [lane - lane % group + group - 1 - lane % group for lane in range(part.lanes)]
            value = shuffle(order, value)
        if segment.source.buffer.dtype in ("float32", ir.BF16) or segment.largest:
            return value
        value = as_type("int32", value, part.lanes)
        if segment.plus:
            value = value + nodes.literal("int32", segment.plus, part.lanes)
        if segment.weight and segment.weight.buffer.dtype == "float32":
            return as_type("float32", value, part.lanes)
        return value

    def _packed(self, segment: ir.Segment, dot: ir.Dot, part: ir.Part, here: dict[Var, Any]) -> Any:
        """The values of a step's dot product in every lane."""
        if not segment.by_lane:
            values = self._load_raw(segment.source, here, dot.terms)
            packed = nodes.splat(tirx.reinterpret("int32", values), part.lanes)
        else:
            # A whole register, whatever of it is used: what lies behind is readable.
            values = self._load_raw(segment.source, {**here, ir.TERM: 0}, part.lanes * dot.terms)
            packed = nodes.bits_as("int32", values, part.lanes)
            if dot.pairs:
                packed = dots.plus(packed, part.lanes, dot, segment.plus)
                return dots.pair_factors(packed, here[ir.TERM], segment.terms)
            # One shuffle, no number on its way, or LLVM loads it by itself.
            packed = shuffle([here[ir.TERM]] * part.lanes, packed)
        return dots.plus(packed, part.lanes, dot, segment.plus)

    def _ended(
        self, tile: ir.Tile, ends: ir.Epilogue, registers: list[Any], env: dict[Var, Any]
    ) -> Iterator[epilogue.Piece]:
        """The valid columns of a tile of int8, up to where they are rounded."""
        for register, part in zip(registers, tile.vectors, strict=True):
            here = {**env, ir.ROW: part.row, ir.COLUMN: part.column}
            for first, length in epilogue.valid(part, tile.columns, self.lanes):
                sums = get(register, first, length)
                load = functools.partial(self._load, env=here, lanes=length, first=first)
                value = epilogue.ended(ends, sums, str(register.dtype), length, load)
                yield epilogue.Piece(value, part.row, part.column + first, length)

    def _finish(
        self, tile: ir.Tile, register: Any, part: ir.Part, env: dict[Var, Any]
    ) -> list[Any]:
        """Activation and store, valid columns only."""
        here = {**env, ir.ROW: part.row, ir.COLUMN: part.column}
        result = self._unfold(tile, register, part, here) if part.folded else []
        target, position = tile.target.buffer, self._position(tile.target, here)
        for first, length in epilogue.valid(part, tile.columns):
            value = get(register, first, length)
            if str(register.dtype) == "int32" and target.dtype == "float32":
                value = as_type("float32", value, length)
            if tile.scale != 1.0:
                value = value * nodes.constant("float32", tile.scale, length)
            value = activation(tile.activation, value, length)
            result.append(self._store(target, position + first, length, value))
        return result

    def _unfold(
        self, tile: ir.Tile, register: Any, part: ir.Part, here: dict[Var, Any]
    ) -> list[Any]:
        """Adds the two halves of a folded accumulator and the first values, into its first lanes.

        The first values are added in the order of the whole accumulators'.
        """
        total = get(register, 0, part.lanes)
        even, odd = (shuffle(range(half, part.lanes, 2), total) for half in (0, 1))
        padded, exact = _by_padding(tile)
        value = even + odd
        for access in (*padded, *exact):
            value = value + self._load(access, here, part.width)
        return [put(register, 0, part.width, value)]

    # Memory

    def _position(self, access: ir.Access, env: Mapping[Var, Any]) -> Any:
        position = nodes.expression(access.position, env)
        if access.buffer.role == "scratch":
            return position + self.kernel.offsets[access.buffer.name]
        return position

    def _buffer(self, buffer: ir.Buffer) -> Any:
        if buffer.role == "scratch":
            return self.views.get(buffer.dtype, self.buffers["scratch"])
        return self.buffers[buffer.name]

    def _load(self, access: ir.Access, env: Mapping[Var, Any], lanes: int, first: Any = 0) -> Any:
        """Elements; of bfloat16 the numbers, as float32."""
        value = self._load_raw(access, env, lanes, first)
        return bf16.widened(value, lanes) if access.buffer.dtype == ir.BF16 else value

    def _load_raw(
        self, access: ir.Access, env: Mapping[Var, Any], lanes: int, first: Any = 0
    ) -> Any:
        position = self._position(access, env) + first
        return tirx.BufferLoad(self._buffer(access.buffer), [nodes.ramp(position, lanes)])

    def _store(self, buffer: ir.Buffer, position: Any, lanes: int, value: Any) -> Any:
        """To bfloat16, float32 numbers are rounded."""
        if buffer.dtype == ir.BF16:
            value = bf16.narrowed(value, lanes, own=self.own_bf16)
        return self._store_raw(buffer, position, lanes, value)

    def _store_raw(self, buffer: ir.Buffer, position: Any, lanes: int, value: Any) -> Any:
        return tirx.BufferStore(self._buffer(buffer), value, [nodes.ramp(position, lanes)])


def _serial(variable: Any, begin: Any, extent: Any, body: list[Any]) -> Any:
    return tirx.For(variable, begin, extent, tirx.ForKind.SERIAL, nodes.sequence(body))


def _by_padding(tile: ir.Tile) -> tuple[list[ir.Access], list[ir.Access]]:
    """The first values that are padded to whole vectors, and those that are not."""
    padded = [access for access in tile.start if access.buffer.role == "weight"]
    return padded, [access for access in tile.start if access.buffer.role != "weight"]
