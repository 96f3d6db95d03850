"""Rewrites of the graph as it is read: written-out activations named, constants folded.

Each rule looks at one operator and what makes its inputs, and gives another operator for the same
value, or none. In two rounds, each until nothing changes:

1. **Activations written out.** relu6(x + 3) / 6 is hard sigmoid, x times either of both sigmoids is
   hard swish or swish, and x * relu6(x + 3) / 6 too.
2. **Scale and shift a channel** into the convolution or matrix product before, if nothing else
   reads that one. **Zeros around a map** into the padding of a convolution that reads it.

A round by itself, because folding the 3 of x + 3 into the convolution before would hide round 1's
patterns. Refused: folds whose weights would leave float32's range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.graph import (
    Activate,
    Activation,
    Conv,
    Dense,
    KeepState,
    Mul,
    Operator,
)

__all__ = ["alive", "simplify"]

_Made = Mapping[str, Operator]
_Rule = Callable[[Operator, _Made, Counter[str]], Operator | None]
_WHOLE = {Activation.SIGMOID: Activation.SWISH, Activation.HARD_SIGMOID: Activation.HARD_SWISH}


def simplify(operators: Sequence[Operator], logits: str) -> tuple[Operator, ...]:
    """The operators that ``logits`` or a next state depends on, rewritten; in order.

    Every value that is left keeps its name and shape.
    """
    result = alive(operators, logits)
    for rules in ((_hard_sigmoid, _hard_swish, _swish), (_fold_scale, _fold_zeros)):
        changed = True
        while changed:
            result, changed = _round(result, rules, logits)
    return result


def alive(operators: Sequence[Operator], logits: str) -> tuple[Operator, ...]:
    """Operators that the logits or a next state depend on, in order."""
    needed = {logits}
    kept: list[Operator] = []
    for operator in reversed(operators):
        if isinstance(operator, KeepState) or operator.out in needed:
            needed.update(operator.inputs)
            kept.append(operator)
    return tuple(reversed(kept))


def _round(
    operators: Sequence[Operator], rules: Sequence[_Rule], logits: str
) -> tuple[tuple[Operator, ...], bool]:
    """Each rule once at each operator; and whether one applied."""
    made = {operator.out: operator for operator in operators}
    uses = Counter(name for operator in operators for name in operator.inputs)
    uses[logits] += 1
    changed = False
    result = []
    for operator in operators:
        current = operator
        for rule in rules:
            better = rule(current, made, uses)
            if better is not None:
                changed = True
                current = made[current.out] = better
        result.append(current)
    return alive(result, logits), changed


# Activations


def _hard_sigmoid(operator: Operator, made: _Made, _: Counter[str]) -> Operator | None:
    """relu6(x + 3) / 6."""
    if not _is_scale(operator, 1 / 6, 0.0):
        return None
    source = _shifted_relu6(operator.inputs[0], made)
    if source is None:
        return None
    return Activate(operator.name, (source,), operator.out, Activation.HARD_SIGMOID)


def _hard_swish(operator: Operator, made: _Made, _: Counter[str]) -> Operator | None:
    """x * relu6(x + 3) / 6, multiplied first."""
    product = made.get(operator.inputs[0])
    if not _is_scale(operator, 1 / 6, 0.0) or not isinstance(product, Mul):
        return None
    for x, gate in (product.inputs, product.inputs[::-1]):
        if _shifted_relu6(gate, made) == x:
            return Activate(operator.name, (x,), operator.out, Activation.HARD_SWISH)
    return None


def _swish(operator: Operator, made: _Made, _: Counter[str]) -> Operator | None:
    """x * sigmoid(x), of either kind."""
    if not isinstance(operator, Mul):
        return None
    for x, gate in (operator.inputs, operator.inputs[::-1]):
        maker = made.get(gate)
        if isinstance(maker, Activate) and maker.kind in _WHOLE and maker.inputs == (x,):
            return Activate(operator.name, (x,), operator.out, _WHOLE[maker.kind])
    return None


def _shifted_relu6(value: str, made: _Made) -> str | None:
    """x, where ``value`` is relu6(x + 3)."""
    clipped = made.get(value)
    if not isinstance(clipped, Activate) or clipped.kind is not Activation.RELU6:
        return None
    shifted = made.get(clipped.inputs[0])
    return shifted.inputs[0] if shifted is not None and _is_scale(shifted, 1.0, 3.0) else None


# Constants


def _fold_scale(operator: Operator, made: _Made, uses: Counter[str]) -> Operator | None:
    before = made.get(operator.inputs[0])
    numbers = _scale(operator)
    if numbers is None or not isinstance(before, (Conv, Dense)) or uses[before.out] != 1:
        return None
    scale, shift = numbers
    weight_scale = None
    if isinstance(before, Conv) and before.weight_scale is not None:
        if (scale <= 0).any():
            return None  # a step is above 0, and its codes do not change
        weight_scale = (before.weight_scale * scale).astype(np.float32)
    columns = scale.reshape(-1, *(1,) * (before.weight.ndim - 1))
    with np.errstate(over="ignore"):
        weight = (before.weight * columns).astype(np.float32)
        bias = (before.bias * scale + shift).astype(np.float32)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        return None
    if isinstance(before, Conv):
        return replace(
            before, out=operator.out, weight=weight, bias=bias, weight_scale=weight_scale
        )
    return replace(before, out=operator.out, weight=weight, bias=bias)


def _fold_zeros(operator: Operator, made: _Made, _: Counter[str]) -> Operator | None:
    zeros = made.get(operator.inputs[0])
    if not isinstance(operator, Conv) or not isinstance(zeros, Conv) or not _by_channel(zeros):
        return None
    if (zeros.weight != 1.0).any() or zeros.bias.any():
        return None
    top, left, bottom, right = (a + b for a, b in zip(operator.padding, zeros.padding, strict=True))
    return replace(operator, inputs=zeros.inputs, padding=(top, left, bottom, right))


def _by_channel(operator: Operator) -> bool:
    """A 1 x 1 convolution of each channel by itself, with or without padding."""
    return (
        isinstance(operator, Conv)
        and operator.kernel == (1, 1)
        and operator.stride == (1, 1)
        and operator.groups == len(operator.weight)
        and operator.weight.shape[1] == 1
    )


def _scale(operator: Operator) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Scale and shift of each channel, if that is all that ``operator`` does."""
    if not isinstance(operator, Conv) or not _by_channel(operator) or any(operator.padding):
        return None
    return operator.weight.reshape(-1).astype(np.float64), operator.bias.astype(np.float64)


def _is_scale(operator: Operator, scale: float, shift: float) -> bool:
    """Whether ``operator`` is x * scale + shift, the same for all channels."""
    numbers = _scale(operator)
    return numbers is not None and bool(
        np.allclose(numbers[0], scale, rtol=0, atol=1e-6)
        and np.allclose(numbers[1], shift, rtol=0, atol=1e-6)
    )
