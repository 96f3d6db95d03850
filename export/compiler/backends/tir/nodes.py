"""Nodes of TIR, as the lowering writes them: numbers, vectors, registers, addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from shiftedge.export.compiler.kernel_ir.index import OPERATORS, Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import BF16, Buffer
from shiftedge.export.compiler.numerics.bf16 import bits_of


def constant(dtype: str, value: float, lanes: int = 1) -> Any:
    """A number of a type, in all lanes."""
    if dtype in ("float32", "float16"):
        return splat(tirx.FloatImm(dtype, value), lanes)
    if dtype == BF16:
        return literal(dtype, int(bits_of(np.array(value)).item()), lanes)
    return literal(dtype, int(value), lanes)


def literal(dtype: str, value: int, lanes: int = 1) -> Any:
    """A number of an integer type, wrapped into its range, in all lanes."""
    size = 1 << int(dtype.lstrip("uint"))
    wrapped = value % size
    if not dtype.startswith("u") and 2 * wrapped >= size:
        wrapped -= size
    return splat(tirx.IntImm(dtype, wrapped), lanes)


def number(value: int) -> Any:
    return tirx.IntImm("int32", value)


def splat(value: Any, lanes: int) -> Any:
    return value if lanes == 1 else tirx.Broadcast(value, number(lanes))


def vector_type(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def as_type(dtype: str, value: Any, lanes: int) -> Any:
    """The numbers converted."""
    return tirx.Cast(vector_type(dtype, lanes), value)


def bits_as(dtype: str, value: Any, lanes: int) -> Any:
    """The same bits."""
    return tirx.reinterpret(vector_type(dtype, lanes), value)


def shuffle(order: Iterable[int], *vectors: Any) -> Any:
    """These lanes of the vectors, which are counted on from one to the next."""
    return tirx.Shuffle(list(vectors), [number(lane) for lane in order])


def intrinsic(result: str, name: str, *operands: Any) -> Any:
    """What one of LLVM's makes of the operands."""
    return tirx.call_llvm_pure_intrin(result, f"llvm.{name}", *operands)


def fma(x: Any, factor: Any, plus: Any, lanes: int, dtype: str = "float32") -> Any:
    """x * factor + plus, rounded once."""
    element = f"f{dtype.removeprefix('float')}"
    name = f"fma.{element}" if lanes == 1 else f"fma.v{lanes}{element}"
    return intrinsic(vector_type(dtype, lanes), name, x, factor, plus)


# Memory


def get(register: Any, first: int, lanes: int) -> Any:
    return tirx.BufferLoad(register, [ramp(number(first), lanes)])


def put(register: Any, first: int, lanes: int, value: Any) -> Any:
    return tirx.BufferStore(register, value, [ramp(number(first), lanes)])


def ramp(position: Any, lanes: int) -> Any:
    return position if lanes == 1 else tirx.Ramp(position, number(1), number(lanes))


def pointer(buffer: Buffer) -> Any:
    kind = tvm.ir.PointerType(tvm.ir.PrimType(buffer.dtype), "global")
    return tirx.Var(f"{buffer.name}_pointer", kind)


def sequence(statements: list[Any]) -> Any:
    """TIR has no sequence of one."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)


_OPERATORS = {
    **OPERATORS,
    "//": tirx.truncdiv,
    "%": tirx.truncmod,
    "min": tirx.min,
    "max": tirx.max,
    "<": tirx.LT,
    "==": tirx.EQ,
}


def expression(index: Index, env: Mapping[Var, Any]) -> Any:
    """An index as a TIR expression of int32."""
    unrolled = {name: value for name, value in env.items() if isinstance(value, int)}
    return index.replace(unrolled).evaluate(env, _OPERATORS, number)
