"""Nodes of TIR, as the lowering writes them: numbers, vectors, registers, addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from shiftedge.export.compiler.kernel_ir.index import Binary, Const, Index, Var
from shiftedge.export.compiler.kernel_ir.kernel import BF16, Buffer
from shiftedge.export.compiler.numerics.bf16 import bits_of

__all__ = [
    "constant",
    "expression",
    "get",
    "literal",
    "number",
    "pointer",
    "put",
    "ramp",
    "sequence",
    "splat",
    "vector_type",
]


def constant(dtype: str, value: float) -> Any:
    if dtype == "float32":
        return tirx.FloatImm(dtype, value)
    if dtype == BF16:
        return literal(dtype, int(bits_of(np.array(value)).item()))
    return literal(dtype, int(value))


def literal(dtype: str, value: int) -> Any:
    """A number of an integer type, wrapped into its range."""
    size = 1 << int(dtype.lstrip("uint"))
    wrapped = value % size
    if not dtype.startswith("u") and 2 * wrapped >= size:
        wrapped -= size
    return tirx.IntImm(dtype, wrapped)


def get(register: Any, first: int, lanes: int) -> Any:
    return tirx.BufferLoad(register, [ramp(number(first), lanes)])


def put(register: Any, first: int, lanes: int, value: Any) -> Any:
    return tirx.BufferStore(register, value, [ramp(number(first), lanes)])


def pointer(buffer: Buffer) -> Any:
    kind = tvm.ir.PointerType(tvm.ir.PrimType(buffer.dtype), "global")
    return tirx.Var(f"{buffer.name}_pointer", kind)


def sequence(statements: list[Any]) -> Any:
    """TIR has no sequence of one."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)


def number(value: int) -> Any:
    return tirx.IntImm("int32", value)


def ramp(position: Any, lanes: int) -> Any:
    return position if lanes == 1 else tirx.Ramp(position, number(1), number(lanes))


def splat(value: Any, lanes: int) -> Any:
    return value if lanes == 1 else tirx.Broadcast(value, number(lanes))


def vector_type(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


_BINARY = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
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
    return tree(index.replace(unrolled), env)


def tree(index: Index, env: Mapping[Var, Any]) -> Any:
    if isinstance(index, Const):
        return number(index.value)
    if isinstance(index, Var):
        return env[index]
    if isinstance(index, Binary):
        return _BINARY[index.op](tree(index.left, env), tree(index.right, env))
    raise TypeError(f"{type(index).__name__} is not an index")
