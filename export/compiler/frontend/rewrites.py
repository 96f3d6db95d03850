"""Rewrites of the graph as it is read: written-out activations named, constants folded.

Each rule looks at one operator and what makes its inputs, and gives another operator for the same
value, or none. In two rounds, each until nothing changes:

1. **Activations written out**, as ``graph.activations`` has their forms.
2. **Scale and shift a channel** into the convolution or matrix product before, if nothing else
   reads that one. **Zeros around a map** into the padding of a convolution that reads it.

A round by itself, because folding the 3 of a hard sigmoid's x + 3 into the convolution before would
hide round 1's patterns. Refused: folds whose weights would leave float32's range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import graph as ops
from shiftedge.export.compiler.graph.activations import Activation, Form, Of, Plus, Scaled, Times, X

_Rule = Callable[[ops.Operator, ops.Uses], ops.Operator | None]
_FORMS = tuple((kind, form) for kind in Activation for form in kind.value.written)


def simplify(operators: Sequence[ops.Operator], logits: str) -> tuple[ops.Operator, ...]:
    """The operators that ``logits`` or a next state depends on, rewritten; in order.

    Every value that is left keeps its name and shape.
    """
    result = alive(operators, logits)
    for rules in ((_activation,), (_fold_scale, _fold_zeros)):
        changed = True
        while changed:
            result, changed = _round(result, rules, logits)
    return result


def alive(operators: Sequence[ops.Operator], logits: str) -> tuple[ops.Operator, ...]:
    """Operators that the logits or a next state depend on, in order."""
    needed = {logits}
    kept: list[ops.Operator] = []
    for operator in reversed(operators):
        if isinstance(operator, ops.KeepState) or operator.out in needed:
            needed.update(operator.inputs)
            kept.append(operator)
    return tuple(reversed(kept))


def _round(
    operators: Sequence[ops.Operator], rules: Sequence[_Rule], logits: str
) -> tuple[tuple[ops.Operator, ...], bool]:
    """Each rule once at each operator; and whether one applied."""
    uses, changed = ops.Uses(operators, logits), False
    result = []
    for operator in operators:
        current = operator
        for rule in rules:
            better = rule(current, uses)
            if better is not None:
                changed = True
                current = uses.made[current.out] = better
        result.append(current)
    return alive(result, logits), changed


# Activations


def _activation(operator: ops.Operator, uses: ops.Uses) -> ops.Operator | None:
    if isinstance(operator, ops.Activate):
        return None
    for kind, form in _FORMS:
        for x in _matches(form, operator.out, uses.made):
            return ops.Activate(operator.name, (x,), operator.out, kind)
    return None


_OF_TWO: Mapping[type, type[ops.Operator]] = {Times: ops.Mul, Plus: ops.Add}


def _matches(form: Form, value: str, made: Mapping[str, ops.Operator]) -> Iterator[str]:
    """Each x of which ``value`` is such a form."""
    operator = made.get(value)
    if form == X:
        yield value
    elif isinstance(form, Of):
        if isinstance(operator, ops.Activate) and operator.kind.name == form.kind:
            yield from _matches(form.x, operator.inputs[0], made)
    elif isinstance(form, Scaled):
        if operator is not None and _is_scale(operator, form.by, form.plus):
            yield from _matches(form.x, operator.inputs[0], made)
    elif isinstance(form, (Times, Plus)) and isinstance(operator, _OF_TWO[type(form)]):
        for one, other in (operator.inputs, operator.inputs[::-1]):
            found = set(_matches(form.one, one, made))
            yield from (x for x in _matches(form.other, other, made) if x in found)


# Constants


def _fold_scale(operator: ops.Operator, uses: ops.Uses) -> ops.Operator | None:
    before = uses.made.get(operator.inputs[0])
    numbers = _scale(operator)
    if (
        numbers is None
        or not isinstance(before, (ops.Conv, ops.Dense))
        or uses.count[before.out] != 1
    ):
        return None
    scale, shift = numbers
    weight_scale = None
    if isinstance(before, ops.Conv) and before.weight_scale is not None:
        if (scale <= 0).any():
            return None  # a scale is above 0, and int8 weights do not change
        weight_scale = (before.weight_scale * scale).astype(np.float32)
    columns = scale.reshape(-1, *(1,) * (before.weight.ndim - 1))
    with np.errstate(over="ignore"):
        weight = (before.weight * columns).astype(np.float32)
        bias = (before.bias * scale + shift).astype(np.float32)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        return None
    if isinstance(before, ops.Conv):
        return replace(
            before, out=operator.out, weight=weight, bias=bias, weight_scale=weight_scale
        )
    return replace(before, out=operator.out, weight=weight, bias=bias)


def _fold_zeros(operator: ops.Operator, uses: ops.Uses) -> ops.Operator | None:
    zeros = uses.made.get(operator.inputs[0])
    if (
        not isinstance(operator, ops.Conv)
        or not isinstance(zeros, ops.Conv)
        or not _by_channel(zeros)
    ):
        return None
    if (zeros.weight != 1.0).any() or zeros.bias.any():
        return None
    top, left, bottom, right = (a + b for a, b in zip(operator.padding, zeros.padding, strict=True))
    return replace(operator, inputs=zeros.inputs, padding=(top, left, bottom, right))


def _by_channel(operator: ops.Operator) -> bool:
    """A 1 x 1 convolution of each channel by itself, with or without padding."""
    return (
        isinstance(operator, ops.Conv)
        and operator.kernel == (1, 1)
        and operator.stride == (1, 1)
        and operator.groups == len(operator.weight)
        and operator.weight.shape[1] == 1
    )


def _scale(operator: ops.Operator) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Scale and shift of each channel, if that is all that ``operator`` does."""
    if not isinstance(operator, ops.Conv) or not _by_channel(operator) or any(operator.padding):
        return None
    return operator.weight.reshape(-1).astype(np.float64), operator.bias.astype(np.float64)


def _is_scale(operator: ops.Operator, scale: float, shift: float) -> bool:
    """Whether ``operator`` is x * scale + shift, the same for all channels."""
    numbers = _scale(operator)
    return numbers is not None and bool(
        np.allclose(numbers[0], scale, rtol=0, atol=1e-6)
        and np.allclose(numbers[1], shift, rtol=0, atol=1e-6)
    )
