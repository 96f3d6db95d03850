"""Integer expressions: where a kernel reads and writes, as data.

A tree of constants, variables and a few operators; it folds what is constant, prints as arithmetic
and is lowered to TIR in one place. It is ours, and not TVM's, so that a schedule can be built,
printed and tested without TVM, and with types.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


class Index:
    """An integer expression. Operands may be plain ints; they must not be negative where
    they are divided, so that machines' division and Python's agree."""

    def __add__(self, other: IndexLike) -> Index:
        return _fold("+", self, index(other))

    def __radd__(self, other: int) -> Index:
        return _fold("+", index(other), self)

    def __sub__(self, other: IndexLike) -> Index:
        return _fold("-", self, index(other))

    def __rsub__(self, other: int) -> Index:
        return _fold("-", index(other), self)

    def __mul__(self, other: IndexLike) -> Index:
        return _fold("*", self, index(other))

    def __rmul__(self, other: int) -> Index:
        return _fold("*", index(other), self)

    def __floordiv__(self, other: IndexLike) -> Index:
        return _fold("//", self, index(other))

    def __mod__(self, other: IndexLike) -> Index:
        return _fold("%", self, index(other))

    def below(self, other: IndexLike) -> Index:
        """1 where self < other, else 0; a condition."""
        return _fold("<", self, index(other))

    def equals(self, other: IndexLike) -> Index:
        """1 where both are the same number, else 0; a condition (``==`` compares trees)."""
        return _fold("==", self, index(other))

    def replace(self, values: Mapping[Var, IndexLike]) -> Index:
        """The expression with variables replaced, folded again."""
        return self

    @property
    def variables(self) -> frozenset[Var]:
        """All that it depends on."""
        return frozenset()

    def evaluate(
        self,
        values: Mapping[Var, Any],
        operators: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        number: Callable[[int], Any] = int,
    ) -> Any:
        """Its value for values of all its variables: ints, or what ``operators`` take, such as
        arrays or a code generator's expressions; ``number`` makes one of those of a constant."""
        raise NotImplementedError


IndexLike = Index | int


@dataclass(frozen=True)
class Const(Index):
    value: int

    def evaluate(
        self, values: Any, operators: Any = None, number: Callable[[int], Any] = int
    ) -> Any:
        return number(self.value)

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Var(Index):
    """A loop's variable, or a parameter; two of one name are the same."""

    name: str

    def replace(self, values: Mapping[Var, IndexLike]) -> Index:
        return index(values[self]) if self in values else self

    @property
    def variables(self) -> frozenset[Var]:
        return frozenset((self,))

    def evaluate(self, values: Mapping[Var, Any], operators: Any = None, number: Any = int) -> Any:
        return values[self]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Binary(Index):
    """``left op right``; op is one of + - * // % min max < ==."""

    op: str
    left: Index
    right: Index

    def __hash__(self) -> int:
        """Made once: trees are looked up by the thousand."""
        found: int | None = self.__dict__.get("_hash")
        if found is None:
            found = hash((self.op, self.left, self.right))
            object.__setattr__(self, "_hash", found)
        return found

    def replace(self, values: Mapping[Var, IndexLike]) -> Index:
        return _fold(self.op, self.left.replace(values), self.right.replace(values))

    @functools.cached_property
    def variables(self) -> frozenset[Var]:
        return self.left.variables | self.right.variables

    def evaluate(self, values: Mapping[Var, Any], operators: Any = None, number: Any = int) -> Any:
        left, right = (side.evaluate(values, operators, number) for side in (self.left, self.right))
        return (operators or OPERATORS)[self.op](left, right)

    def __str__(self) -> str:
        if self.op in ("min", "max"):
            return f"{self.op}({self.left}, {self.right})"
        left, right = self._side(self.left, 0), self._side(self.right, self.op not in "+*")
        return f"{left}{self.op}{right}" if self.op == "*" else f"{left} {self.op} {right}"

    def _side(self, side: Index, tighter: bool | int) -> str:
        """An operand, in brackets where it binds less tightly than this operator."""
        if isinstance(side, Binary) and _BINDING[side.op] < _BINDING[self.op] + tighter:
            return f"({side})"
        return str(side)


_BINDING = {"<": 0, "==": 0, "+": 1, "-": 1, "*": 2, "//": 2, "%": 2, "min": 9, "max": 9}
OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
    "<": lambda left, right: int(left < right),
    "==": lambda left, right: int(left == right),
}


def index(value: IndexLike) -> Index:
    """A number or an expression, as an expression."""
    return value if isinstance(value, Index) else Const(value)


def minimum(left: IndexLike, right: IndexLike) -> Index:
    return _fold("min", index(left), index(right))


def maximum(left: IndexLike, right: IndexLike) -> Index:
    return _fold("max", index(left), index(right))


def _fold(op: str, left: Index, right: Index) -> Index:
    """The node, or something simpler that is always equal to it."""
    if isinstance(left, Const) and isinstance(right, Const):
        return Const(OPERATORS[op](left.value, right.value))
    if isinstance(right, Const):
        number = right.value
        if (op in "+-" and number == 0) or (op in ("*", "//") and number == 1):
            return left
        if (op == "*" and number == 0) or (op == "%" and number == 1):
            return Const(0)
        whole = _multiple(left, number) if op in ("//", "%") else None
        if whole is not None:  # (t * 14 + 9) // 7 -> t * 2 + 1: a tile of whole rows of an image
            quotient, rest = whole
            return quotient if op == "//" else Const(rest)
        inner = _with_constant(left)
        if inner and op in "+-":  # (x + 2) + 3: row numbers of a tile pile up like this
            return _fold("+", inner[0], Const(inner[1] + (number if op == "+" else -number)))
        if inner and op == "*":  # (x + 2) * 3 -> x * 3 + 6: an address's displacement
            return _fold("+", _fold("*", inner[0], right), Const(inner[1] * number))
    if isinstance(left, Const):
        if (op == "+" and left.value == 0) or (op == "*" and left.value == 1):
            return right
        if op == "*" and left.value == 0:
            return Const(0)
        if op in "+*":
            return _fold(op, right, left)
    if op == "+" and (inner := _with_constant(right)):
        return _fold("+", _fold("+", left, inner[0]), Const(inner[1]))
    if op == "+" and (inner := _with_constant(left)):
        return _fold("+", _fold("+", inner[0], right), Const(inner[1]))
    return Binary(op, left, right)


def _with_constant(value: Index) -> tuple[Index, int] | None:
    """x and 2 of x + 2."""
    if isinstance(value, Binary) and value.op == "+" and isinstance(value.right, Const):
        return value.left, value.right.value
    return None


def _multiple(value: Index, divisor: int) -> tuple[Index, int] | None:
    """``value`` as (quotient, remainder) of ``divisor`` where that is plain, else None."""
    value, rest = _with_constant(value) or (value, 0)
    if isinstance(value, Binary) and value.op == "*" and isinstance(value.right, Const):
        factor = value.right.value
        if factor % divisor == 0 and rest >= 0:
            return value.left * (factor // divisor) + rest // divisor, rest % divisor
    return None
