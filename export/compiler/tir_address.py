"""Addresses as TIR expressions of int32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from shiftedge.export.compiler.tir_index import Binary, Const, Index, Var

__all__ = ["address"]

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


def address(index: Index, env: Mapping[Var, Any]) -> Any:
    """An index as a TIR expression of int32."""
    unrolled = {name: value for name, value in env.items() if isinstance(value, int)}
    return _tree(index.replace(unrolled), env)


def _tree(index: Index, env: Mapping[Var, Any]) -> Any:
    if isinstance(index, Const):
        return tirx.IntImm("int32", index.value)
    if isinstance(index, Var):
        return env[index]
    if isinstance(index, Binary):
        return _BINARY[index.op](_tree(index.left, env), _tree(index.right, env))
    raise TypeError(f"{type(index).__name__} is not an index")
