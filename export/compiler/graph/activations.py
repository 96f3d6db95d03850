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
class Times:
    """Of two forms, in either order."""

    one: Form
    other: Form


@dataclass(frozen=True)
class Plus:
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
Form = Scaled | Times | Plus | Of | str


@dataclass(frozen=True, eq=False)
class ActivationRow:
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


# erf of a size x is 1 - _erf_rest(x), off by at most 1.5e-7: Abramowitz and Stegun, Handbook of
# Mathematical Functions, 7.1.26.
_ERF_P = 0.3275911
_ERF_POLYNOMIAL = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def _erf_rest(v: Vectors, size: Any) -> Any:
    one = v.number(1.0)
    t = one / v.multiply_add(size, v.number(_ERF_P), one)
    rest = v.number(_ERF_POLYNOMIAL[0])
    for coefficient in _ERF_POLYNOMIAL[1:]:
        rest = v.multiply_add(rest, t, v.number(coefficient))
    return rest * t * v.exp(v.number(0.0) - size * size)


def _size(v: Vectors, x: Any) -> Any:
    return v.largest(x, v.number(0.0) - x)


def _erf(v: Vectors, x: Any) -> Any:
    return v.with_sign(v.number(1.0) - _erf_rest(v, _size(v, x)), x)


def _gelu(v: Vectors, x: Any) -> Any:
    """x (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - |x| / 2 (1 - erf(|x| / sqrt 2)), which takes no
    small difference of large numbers where x is far below 0."""
    size = _size(v, x)
    rest = _erf_rest(v, size * v.number(math.sqrt(0.5)))
    return v.largest(x, v.number(0.0)) - size * v.number(0.5) * rest


_GELU_SLOPE, _GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


def _gelu_by_tanh(v: Vectors, x: Any) -> Any:
    """x (1 + tanh(y)) / 2 = x sigmoid(2 y)."""
    slope = v.multiply_add(
        x * x, v.number(2 * _GELU_SLOPE * _GELU_CUBE), v.number(2 * _GELU_SLOPE)
    )  # fmt: skip
    return x * _gate(v, x * slope)


def _tanh(v: Vectors, x: Any) -> Any:
    return v.multiply_add(_gate(v, x + x), v.number(2.0), v.number(-1.0))


def _mish(v: Vectors, x: Any) -> Any:
    """x tanh(log(1 + u)) = x n / (n + 2) with u = e^x, n = u (u + 2); of 20 on it is x."""
    u = v.exp(v.clamp(x, -87.0, 20.0))
    n = u * (u + v.number(2.0))
    return x * (n / (n + v.number(2.0)))


_RELU6_OF_3_MORE = Of("RELU6", Scaled(X, plus=3.0))
_ONE_MORE_THAN_ERF = Scaled(Of("ERF", Scaled(X, by=math.sqrt(0.5))), plus=1.0)
_CUBED = Scaled(Times(X, Times(X, X)), by=_GELU_CUBE)
_ONE_MORE_THAN_TANH = Scaled(Of("TANH", Scaled(Plus(X, _CUBED), by=_GELU_SLOPE)), plus=1.0)


def _halved_product(gate: Form) -> tuple[Form, ...]:
    """x * gate / 2, in every order."""
    return (
        Scaled(Times(X, gate), by=0.5),
        Times(Scaled(X, by=0.5), gate),
        Times(X, Scaled(gate, by=0.5)),
    )


class Activation(enum.Enum):
    """Pointwise functions that a kernel may apply to its result."""

    NONE = ActivationRow(lambda x: x, operations=0, bounds=(-math.inf, math.inf))
    RELU = ActivationRow(
        lambda x: np.maximum(x, 0.0), operations=1, bounds=(0.0, math.inf), operator="Relu"
    )  # fmt: skip
    RELU6 = ActivationRow(lambda x: np.clip(x, 0.0, 6.0), operations=2, bounds=(0.0, 6.0))
    HARD_SIGMOID = ActivationRow(
        lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        operations=3,
        expression=_hard_gate,
        operator="HardSigmoid",
        attributes={"alpha": (0.2, 1 / 6), "beta": (0.5, 0.5)},
        others="has slope {alpha:g} and offset {beta:g}; known are 1/6 and 0.5",
        written=(Scaled(_RELU6_OF_3_MORE, by=1 / 6),),
    )
    HARD_SWISH = ActivationRow(
        lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        operations=4,
        expression=lambda v, x: x * _hard_gate(v, x),
        operator="HardSwish",
        written=(Times(X, Of("HARD_SIGMOID", X)), Scaled(Times(X, _RELU6_OF_3_MORE), by=1 / 6)),
    )
    SWISH = ActivationRow(
        lambda x: x / (1.0 + np.exp(-x)),
        operations=18,
        expression=lambda v, x: x * _gate(v, x),
        exact=False,
        written=(Times(X, Of("SIGMOID", X)),),
    )
    SIGMOID = ActivationRow(
        lambda x: 1.0 / (1.0 + np.exp(-x)),
        operations=17,
        expression=_gate,
        exact=False,
        operator="Sigmoid",
    )
    TANH = ActivationRow(np.tanh, operations=20, expression=_tanh, exact=False, operator="Tanh")
    ERF = ActivationRow(
        np.vectorize(math.erf, otypes=[np.float64]),
        operations=30,
        expression=_erf,
        exact=False,
        operator="Erf",
    )
    GELU = ActivationRow(
        lambda x: x * 0.5 * (1.0 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2))),
        operations=31,
        expression=_gelu,
        exact=False,
        operator="Gelu",
        attributes={"approximate": ("none", "none")},
        others="has approximate {approximate!r}; known are 'none' and 'tanh'",
        written=_halved_product(_ONE_MORE_THAN_ERF),
    )
    GELU_BY_TANH = ActivationRow(
        lambda x: x * 0.5 * (1.0 + np.tanh(_GELU_SLOPE * (x + _GELU_CUBE * x**3))),
        operations=23,
        expression=_gelu_by_tanh,
        exact=False,
        operator="Gelu",
        attributes={"approximate": ("none", "tanh")},
        written=_halved_product(_ONE_MORE_THAN_TANH),
    )
    MISH = ActivationRow(
        lambda x: x * np.tanh(np.log1p(np.exp(x))),
        operations=22,
        expression=_mish,
        exact=False,
        operator="Mish",
    )
