"""QuantizeLinear and DequantizeLinear -> codes of constants, and operators for those of features.

Of constants they are folded here: weights become int8 codes with a step for each output channel,
beside the float32 numbers that these stand for; a bias becomes float32. Of features each node
becomes :class:`Quantize` or :class:`Dequantize`; ``quantised_rewrites`` folds those away that no
kernel needs.

Features are uint8 with one scale and zero point a tensor. int8 features are the same 128 steps
lower, so they are read as uint8. uint8 weights are read as int8 where they fit around their zero
point. Refused by the node's name: other widths, features quantised by channel, scales that are no
positive numbers, blocks, and a DequantizeLinear that disagrees with what it undoes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.frontend.onnx_file import AGAIN
from shiftedge.export.compiler.frontend.reader import QuantizedWeights, Reader
from shiftedge.export.compiler.graph.graph import Dequantize, Quantization, Quantize

__all__ = ["dequantize", "quantize"]

_SIGN = 128
"""An int8 code is the uint8 code less this."""
_TYPES = {2: np.dtype(np.uint8), 3: np.dtype(np.int8)}
"""By TensorProto's number."""


def quantize(reader: Reader, node: Any) -> None:
    scale = _scale(reader, node)
    zero = _zero_point(reader, node, _output_type(reader, node))
    if reader.is_constant(node, 0):
        values = reader.weights(node, 0)
        scales, zeros = (_along(reader, node, values, each) for each in (scale, zero))
        limits = np.iinfo(zero.dtype)
        with np.errstate(over="ignore"):
            rounded = np.rint(values / scales) + zeros
        reader.constants[node.output[0]] = rounded.clip(limits.min, limits.max).astype(zero.dtype)
        return
    x = reader.tensor(node, flat=True)
    quantization = _of_features(reader, node, scale, zero)
    name = reader.name_of(node)
    reader.add(
        node, Quantize(node.name, (x.name,), name, quantization), reader.shapes[x.name], x.shape
    )
    reader.quantization[name] = quantization
    if zero.dtype == np.int8:
        reader.signed.add(name)


def dequantize(reader: Reader, node: Any) -> None:
    scale = _scale(reader, node)
    if reader.is_constant(node, 0):
        _constant(reader, node, scale)
        return
    x = reader.tensor(node, flat=True, quantized=True)
    known = reader.quantization.get(x.name)
    if known is None:
        raise reader.refuse(node, f"reads {node.input[0]!r}, which is float; expected codes", AGAIN)
    kind = np.dtype(np.int8 if x.name in reader.signed else np.uint8)
    quantization = _of_features(reader, node, scale, _zero_point(reader, node, kind))
    if quantization != known:
        raise reader.refuse(
            node,
            f"has scale {quantization.scale:g} and zero point {quantization.zero_point} for codes "
            f"of scale {known.scale:g} and zero point {known.zero_point}; expected the same",
        )
    name = reader.name_of(node)
    made = Dequantize(node.name, (x.name,), name, quantization)
    reader.add(node, made, reader.shapes[x.name], x.shape)


def _constant(reader: Reader, node: Any, scale: NDArray[np.float32]) -> None:
    """Weights or a bias: the numbers, and for weights the codes too."""
    given = reader.constant(node, 0)
    out = node.output[0]
    if given.dtype == np.int32:
        if reader.constant(node, 2, np.int32(0)).any():
            raise reader.refuse(node, "has int32 numbers with a zero point; expected 0")
        numbers = given.astype(np.float64) * _along(reader, node, given, scale)
        with np.errstate(over="ignore"):  # who reads infinite weights refuses them
            reader.constants[out] = numbers.astype(np.float32)
        return
    if given.dtype not in _TYPES.values():
        raise reader.refuse(
            node, f"has {given.dtype} weights {node.input[0]!r}; expected int8 or uint8"
        )
    zero = _zero_point(reader, node, given.dtype)
    around = given.astype(np.int32) - _along(reader, node, given, zero).astype(np.int32)
    scales = _along(reader, node, given, scale)
    with np.errstate(over="ignore"):
        reader.constants[out] = around.astype(np.float32) * scales
    if around.size == 0 or around.min() < -128 or around.max() > 127:
        raise reader.refuse(
            node,
            f"has weights {node.input[0]!r} that reach further from their zero point than int8 "
            "does; expected int8 weights of zero point 0",
        )
    axis = None if scale.size == 1 else _axis(reader, node, given.ndim)
    reader.quantized_weights[out] = QuantizedWeights(
        around.astype(np.int8), scale.reshape(-1), axis
    )


def _output_type(reader: Reader, node: Any) -> np.dtype[Any]:
    number = reader.integer(node, "output_dtype", 0)
    if number not in (0, *_TYPES):
        raise reader.refuse(node, f"makes codes of type {number}; expected uint8 or int8")
    return _TYPES.get(number, np.dtype(np.uint8))


def _scale(reader: Reader, node: Any) -> NDArray[np.float32]:
    """The scales, () or (channels,)."""
    scale = reader.weights(node, 1)
    if scale.ndim > 1 or not (scale > 0).all() or reader.integer(node, "block_size", 0):
        raise reader.refuse(
            node, f"has scales {node.input[1]!r}; expected one above 0, or one a channel"
        )
    return scale


def _zero_point(reader: Reader, node: Any, default: np.dtype[Any]) -> NDArray[Any]:
    zero = reader.constant(node, 2, np.zeros((), default))
    if zero.dtype not in _TYPES.values() or zero.ndim > 1:
        raise reader.refuse(node, f"has a zero point {zero.dtype}; expected uint8 or int8")
    return zero


def _of_features(
    reader: Reader, node: Any, scale: NDArray[np.float32], zero: NDArray[Any]
) -> Quantization:
    if scale.size != 1 or zero.size != 1:
        raise reader.refuse(node, f"has {scale.size} scales for features; expected one a tensor")
    shift = _SIGN if zero.dtype == np.int8 else 0
    return Quantization(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]) + shift)


def _axis(reader: Reader, node: Any, rank: int) -> int:
    axis = reader.integer(node, "axis", 1)
    if not -rank <= axis < rank:
        raise reader.refuse(node, f"has axis {axis} for {rank} dimensions", AGAIN)
    return axis % rank


def _along(reader: Reader, node: Any, values: NDArray[Any], numbers: NDArray[Any]) -> NDArray[Any]:
    """Scales or zero points, in a shape that broadcasts against ``values``."""
    if numbers.size == 1:
        return numbers.reshape(())
    axis = _axis(reader, node, values.ndim)
    if values.shape[axis] != numbers.size:
        raise reader.refuse(
            node, f"has {numbers.size} scales for {values.shape[axis]} channels", AGAIN
        )
    return numbers.reshape(*(1,) * axis, -1, *(1,) * (values.ndim - axis - 1))
