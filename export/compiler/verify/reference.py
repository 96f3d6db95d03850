"""The graph computed by numpy: slow, plain, and independent of every schedule.

It settles who is right when a kernel and ONNX Runtime disagree, and checks the frontend by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.graph import (
    Activate,
    Add,
    Conv,
    Dense,
    Graph,
    Join,
    KeepState,
    Mean,
    Mul,
    Operator,
    Pool,
)

__all__ = ["run_operator", "run_step"]

Array = NDArray[np.float64]


def run_step(
    graph: Graph, frame: NDArray[np.float32], states: Sequence[NDArray[np.float32]]
) -> tuple[Array, list[Array]]:
    """One step in float64.

    Args:
        graph: of the model.
        frame: normalised, shape (height, width, 3), RGB.
        states: each of the shape that ``graph.states`` says, NHWC without N.

    Returns:
        Logits (classes,), and the next states.
    """
    values: dict[str, Array] = {graph.frame: frame.astype(np.float64)}
    kept: dict[int, Array] = {}
    for index, state in enumerate(states):
        values[f"state_{index}"] = state.astype(np.float64)
    for operator in graph.operators:
        if isinstance(operator, KeepState):
            source = _map(values[operator.inputs[0]])
            kept[operator.state] = source[..., operator.begin : operator.end].copy()
        else:
            values[operator.out] = run_operator(operator, values)
    return values[graph.logits].reshape(-1), [kept[index] for index in range(len(states))]


def run_operator(operator: Operator, values: Mapping[str, Array]) -> Array:
    """The value that ``operator`` makes of the values it reads."""
    inputs = [_map(values[name]) for name in operator.inputs]
    x = inputs[0]
    if isinstance(operator, Conv):
        return _conv(operator, x)
    if isinstance(operator, Activate):
        return operator.kind.value.definition(x)
    if isinstance(operator, Add):
        return x + inputs[1]
    if isinstance(operator, Mul):
        return x * inputs[1]
    if isinstance(operator, Pool):
        return _pool(operator, x)
    if isinstance(operator, Mean):
        mean: Array = x.mean(axis=(0, 1), keepdims=True)
        return mean
    if isinstance(operator, Dense):
        product: Array = np.dot(operator.weight.astype(np.float64), x.reshape(-1))
        return product + operator.bias
    if isinstance(operator, Join):
        return np.concatenate((x, inputs[1][..., operator.begin :]), axis=-1)
    raise TypeError(f"no definition of {type(operator).__name__}")


def _map(value: Array) -> Array:
    """A vector as the 1 x 1 map that it is to the graph."""
    return value.reshape(1, 1, -1) if value.ndim == 1 else value


def _windows(
    x: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    fill: float,
) -> Array:
    """Every window of a map: (rows, columns, channels, kernel height, kernel width)."""
    top, left, bottom, right = padding
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(0, 1))
    return windows[:: stride[0], :: stride[1]]


def _conv(conv: Conv, x: Array) -> Array:
    windows = _windows(x, conv.kernel, conv.stride, conv.padding, 0.0)
    rows, columns, channels = windows.shape[:3]
    grouped = windows.reshape(rows, columns, conv.groups, channels // conv.groups, *conv.kernel)
    weight = conv.weight.astype(np.float64).reshape(conv.groups, -1, *conv.weight.shape[1:])
    out = np.einsum("rcgikl,goikl->rcgo", grouped, weight, optimize=True)
    result: Array = out.reshape(rows, columns, -1) + conv.bias
    return result


def _pool(pool: Pool, x: Array) -> Array:
    if pool.largest:
        result: Array = _windows(x, pool.kernel, pool.stride, pool.padding, -np.inf).max((3, 4))
        return result
    total = _windows(x, pool.kernel, pool.stride, pool.padding, 0.0).sum((3, 4))
    count = _windows(np.ones_like(x), pool.kernel, pool.stride, pool.padding, 0.0).sum((3, 4))
    mean: Array = total / count
    return mean
