"""ONNX operators by name: each node -> operators of the graph, or a refusal by name.

Element by element, here: activations, sums and products. What a constant does to each channel
(BatchNormalization, Add, Sub, Mul, Div) becomes a 1 x 1 depthwise convolution, which the rewrites
fold into the convolution before where they can.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.frontend import forms, linear
from shiftedge.export.compiler.frontend import quantized as quantization
from shiftedge.export.compiler.frontend.onnx_file import AGAIN
from shiftedge.export.compiler.frontend.reader import Reader, Value
from shiftedge.export.compiler.graph.graph import Activate, Activation, Add, Mul

__all__ = ["READERS"]

NodeReader = Callable[[Reader, Any], None]


def _activation(*kinds: Activation) -> NodeReader:
    """One of several, by the operator's attributes."""

    def read(reader: Reader, node: Any) -> None:
        kind = next((each for each in kinds if _fits(each, reader, node)), None)
        if kind is None:
            row = kinds[0].value
            given = {key: reader.given(node, key, pair[0]) for key, pair in row.attributes.items()}
            raise reader.refuse(node, row.others.format(**given))
        x = reader.tensor(node)
        reader.add(node, Activate(node.name, (x.name,), reader.name_of(node), kind), x.shape)

    return read


def _fits(kind: Activation, reader: Reader, node: Any) -> bool:
    for key, (default, wanted) in kind.value.attributes.items():
        given = reader.given(node, key, default)
        near = isinstance(given, float) and abs(given - float(wanted)) <= 1e-6
        if given != wanted and not near:
            return False
    return True


def _clip(reader: Reader, node: Any) -> None:
    attributes = reader.attributes(node)  # bounds are attributes before opset 11
    bounds = []
    for index, (key, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        bound = reader.constant(node, index, attributes.get(key, default))
        if bound.size != 1 or bound.dtype.kind not in "fiu":
            raise reader.refuse(node, f"has {bound.shape} {bound.dtype} as its {key}", AGAIN)
        bounds.append(float(bound.reshape(-1)[0]))
    low, high = bounds
    if high >= float(np.finfo(np.float32).max):
        high = math.inf
    found = [kind for kind in Activation if kind.value.bounds == (low, high) and low == 0.0]
    if not found:
        raise reader.refuse(node, f"clips to {low:g}..{high:g}; known are 0..6 and 0 upwards")
    _activation(*found)(reader, node)


def _batch_norm(reader: Reader, node: Any) -> None:
    x = reader.tensor(node)
    if reader.integer(node, "training_mode", 0):
        raise reader.refuse(node, "is in training mode; expected an exported model in eval mode")
    channels = x.shape[-1]
    gamma, beta, mean, variance = (
        reader.weights(node, index).astype(np.float64) for index in (1, 2, 3, 4)
    )
    if any(each.shape != (channels,) for each in (gamma, beta, mean, variance)):
        raise reader.refuse(node, f"has numbers for other than {channels} channels", AGAIN)
    epsilon = reader.number(node, "epsilon", 1e-5)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        reader.by_channel(node, x, scale, beta - mean * scale)


def _sum(reader: Reader, node: Any) -> None:
    constant = _constant_side(reader, node)
    if constant is not None:
        x, values = constant
        reader.by_channel(node, x, 1.0, values)
        return
    a, b = reader.tensor(node, 0), reader.tensor(node, 1)
    if a.shape != b.shape:
        raise reader.refuse(node, f"has shapes {a.shape} and {b.shape}; expected one shape")
    reader.add(node, Add(node.name, (a.name, b.name), reader.name_of(node)), a.shape)


def _difference(reader: Reader, node: Any) -> None:
    constant = _constant_side(reader, node)
    if constant is None:
        raise reader.refuse(node, "is of two maps; expected one side to be a constant")
    x, values = constant
    if reader.is_constant(node, 0):
        reader.by_channel(node, x, -1.0, values)
    else:
        reader.by_channel(node, x, 1.0, -values)


def _mul(reader: Reader, node: Any) -> None:
    constant = _constant_side(reader, node)
    if constant is not None:
        x, values = constant
        reader.by_channel(node, x, values, 0.0)
        return
    a, b = reader.tensor(node, 0), reader.tensor(node, 1)
    if math.prod(a.shape) < math.prod(b.shape):
        a, b = b, a
    if b.shape not in (a.shape, (1, 1, a.shape[-1])):
        raise reader.refuse(
            node, f"has shapes {a.shape} and {b.shape}; expected one shape, or one number a channel"
        )
    reader.add(node, Mul(node.name, (a.name, b.name), reader.name_of(node)), a.shape)


def _quotient(reader: Reader, node: Any) -> None:
    constant = _constant_side(reader, node)
    if constant is None or reader.is_constant(node, 0):
        raise reader.refuse(node, "divides by a map; expected a constant")
    x, values = constant
    with np.errstate(divide="ignore"):
        reader.by_channel(node, x, 1.0 / values, 0.0)


def _constant_side(reader: Reader, node: Any) -> tuple[Value, NDArray[np.float64]] | None:
    """The map or vector of two inputs, and the other, if that is a constant: one number or
    (channels,)."""
    if reader.is_constant(node, 0) == reader.is_constant(node, 1):
        return None
    side = 0 if reader.is_constant(node, 0) else 1
    x, values = reader.tensor(node, 1 - side), reader.weights(node, side)
    rank = 4 if len(x.shape) == 3 else 2
    sizes = (*(1,) * (rank - values.ndim), *values.shape)
    one = len(sizes) == rank and sizes[0] == 1 and all(size == 1 for size in sizes[2:])
    if not one or sizes[1] not in (1, x.shape[-1]):
        raise reader.refuse(
            node,
            f"reads the constant {node.input[side]!r} of shape {values.shape}; expected one "
            f"number, or one for each of {x.shape[-1]} channels",
        )
    return x, values.reshape(-1).astype(np.float64)


_ACTIVATIONS = {
    name: _activation(*(kind for kind in Activation if kind.value.operator == name))
    for name in {kind.value.operator for kind in Activation} - {""}
}

READERS: dict[str, NodeReader] = {
    **_ACTIVATIONS,
    "Add": _sum,
    "AveragePool": linear.pool(False),
    "BatchNormalization": _batch_norm,
    "Cast": forms.cast,
    "Clip": _clip,
    "Concat": forms.concat,
    "Constant": forms.constant_node,
    "Conv": linear.conv,
    "DequantizeLinear": quantization.dequantize,
    "Div": _quotient,
    "Dropout": forms.dropout,
    "Flatten": forms.flatten,
    "Gemm": linear.dense,
    "GlobalAveragePool": linear.global_pool(False),
    "GlobalMaxPool": linear.global_pool(True),
    "Identity": forms.same,
    "MatMul": linear.dense,
    "MaxPool": linear.pool(True),
    "Mul": _mul,
    "Pad": linear.pad,
    "QuantizeLinear": quantization.quantize,
    "ReduceMean": linear.reduce_mean,
    "Reshape": forms.reshape,
    "Slice": forms.slice_channels,
    "Split": forms.split,
    "Squeeze": forms.squeeze,
    "Sub": _difference,
    "Unsqueeze": forms.unsqueeze,
}
"""By ONNX operator."""
