"""Activations: one table, a row each. An activation more is a row more.

A row says how ONNX writes it, what it is in numpy, whether it is a clamp, and what vector
operations make it. The frontend, the reference, requantization, the cost model and every backend
read the row; none of them knows an activation by name.

An expression is written once for all backends, over the few operations of :class:`Vectors` and
Python's own ``+ - * /``. Clamps have none: a backend, and integers, clamp as they do best.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Activation", "Form", "Of", "Product", "Row", "Scaled", "Vectors", "X"]

Float64 = NDArray[np.float64]


class Vectors(Protocol):
    """What a backend makes expressions of: float32 vectors, in its own type."""

    def number(self, value: float) -> Any:
        """One number in all lanes."""

    def multiply_add(self, x: Any, factor: Any, plus: Any) -> Any:
        """x * factor + plus, rounded once."""

    def largest(self, x: Any, y: Any) -> Any:
        """The larger, lane by lane."""

    def clamp(self, x: Any, low: float, high: float) -> Any:
        """Not below ``low`` and not above ``high``."""

    def exp(self, x: Any) -> Any:
        """e to the x, relative error 2e-7; of x held to -87 .. 88, where it is a normal number."""

    def with_sign(self, size: Any, x: Any) -> Any:
        """``size``, which is not negative, with the sign of x."""


# How tools write an activation out, as the operators that the frontend has made of it.


@dataclass(frozen=True)
class Scaled:
    """x * by + plus, the same for all channels."""

    x: Form
    by: float = 1.0
    plus: float = 0.0


@dataclass(frozen=True)
class Product:
    """Of two forms, in either order."""

    one: Form
    other: Form


@dataclass(frozen=True)
class Of:
    """Another activation, by name."""

    kind: str
    x: Form


X = "x"
"""What the activation is of."""
Form = Scaled | Product | Of | str


@dataclass(frozen=True, eq=False)
class Row:
    """One activation."""

    definition: Callable[[Float64], Float64]
    operations: int
    """Vector operations, for the cost model."""
    bounds: tuple[float, float] | None = None
    """It is a clamp, to these."""
    expression: Callable[[Vectors, Any], Any] | None = None
    """It is none, but this."""
    exact: bool = True
    """Every processor computes the same bits: it has no exponential."""
    operator: str = ""
    """ONNX's, where that has one."""
    attributes: Mapping[str, tuple[float | str, float | str]] = field(default_factory=dict)
    """Of the operator, by name: what they are by default, and what they must be."""
    others: str = ""
    """What to say of an operator with other attributes, which stand in braces."""
    written: tuple[Form, ...] = ()
    """Without an operator of its own."""


def _hard_gate(v: Vectors, x: Any) -> Any:
    return v.clamp(v.multiply_add(x, v.number(1 / 6), v.number(0.5)), 0.0, 1.0)


def _gate(v: Vectors, x: Any) -> Any:
    """Sigmoid."""
    one = v.number(1.0)
    return one / (one + v.exp(v.number(0.0) - x))


_RELU6_OF_3_MORE = Of("RELU6", Scaled(X, plus=3.0))


class Activation(enum.Enum):
    """Pointwise functions that a kernel may apply to its result."""

    NONE = Row(lambda x: x, operations=0, bounds=(-math.inf, math.inf))
    RELU = Row(
        lambda x: np.maximum(x, 0.0), operations=1, bounds=(0.0, math.inf), operator="Relu"
    )  # fmt: skip
    RELU6 = Row(lambda x: np.clip(x, 0.0, 6.0), operations=2, bounds=(0.0, 6.0))
    HARD_SIGMOID = Row(
        lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        operations=3,
        expression=_hard_gate,
        operator="HardSigmoid",
        attributes={"alpha": (0.2, 1 / 6), "beta": (0.5, 0.5)},
        others="has slope {alpha:g} and offset {beta:g}; known are 1/6 and 0.5",
        written=(Scaled(_RELU6_OF_3_MORE, by=1 / 6),),
    )
    HARD_SWISH = Row(
        lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        operations=4,
        expression=lambda v, x: x * _hard_gate(v, x),
        operator="HardSwish",
        written=(
            Product(X, Of("HARD_SIGMOID", X)),
            Scaled(Product(X, _RELU6_OF_3_MORE), by=1 / 6),
        ),
    )
    SWISH = Row(
        lambda x: x / (1.0 + np.exp(-x)),
        operations=18,
        expression=lambda v, x: x * _gate(v, x),
        exact=False,
        written=(Product(X, Of("SIGMOID", X)),),
    )
    SIGMOID = Row(
        lambda x: 1.0 / (1.0 + np.exp(-x)),
        operations=17,
        expression=_gate,
        exact=False,
        operator="Sigmoid",
    )
