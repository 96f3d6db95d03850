"""ONNX convolutions, windows and matrix products -> operators of the graph.

A Pad becomes a 1 x 1 depthwise convolution by 1 with padding, and a mean that counts its padding a
depthwise convolution of equal weights: the rewrites fold the one, and both have kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shiftedge.export.compiler.frontend.onnx_file import AGAIN
from shiftedge.export.compiler.frontend.reader import Reader, Value
from shiftedge.export.compiler.graph.graph import Array, Conv, Dense, Int8Array, Mean, Pool

__all__ = ["conv", "dense", "global_pool", "pad", "pool", "reduce_mean"]

_Padding = tuple[int, int, int, int]

# Convolutions and windows


def conv(reader: Reader, node: Any) -> None:
    x = reader.map(node)
    weight = reader.weights(node, 1)
    if weight.ndim != 4:
        raise reader.refuse(node, f"has weights {weight.shape}; expected two dimensions of space")
    outputs = int(weight.shape[0])
    bias = reader.weights(node, 2, np.zeros(outputs, np.float32))
    if bias.shape != (outputs,):
        raise reader.refuse(node, f"has a bias {bias.shape}; expected ({outputs},)", AGAIN)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    if reader.integers(node, "kernel_shape", kernel, 1) != kernel:
        raise reader.refuse(node, f"has weights {weight.shape} of another kernel_shape", AGAIN)
    _check_dilations(reader, node)
    padding = _padding(reader, node)
    strides = reader.integers(node, "strides", (1, 1), 1)
    groups = reader.integer(node, "group", 1)
    channels = x.shape[2]
    if groups < 1 or channels != weight.shape[1] * groups or outputs % groups:
        raise reader.refuse(
            node, f"has weights {weight.shape} in {groups} groups for {channels} channels", AGAIN
        )
    rows, columns = reader.window(node, x, kernel, strides, padding)
    name, stride = reader.name_of(node), (strides[0], strides[1])
    codes, steps = _codes(reader, node, outputs)
    made = Conv(
        node.name, (x.name,), name, weight, bias, stride, padding, groups, codes, steps
    )  # fmt: skip
    reader.add(node, made, (rows, columns, outputs))


def _codes(reader: Reader, node: Any, outputs: int) -> tuple[Int8Array | None, Array | None]:
    """Of the weights, and the step of each output channel, where they were read from int8."""
    quantized = reader.quantized_weights.get(node.input[1])
    if quantized is None:
        return None, None
    if quantized.axis not in (None, 0):
        raise reader.refuse(
            node,
            f"has weights quantised along axis {quantized.axis}; expected one scale an output "
            "channel",
        )
    return quantized.values, np.broadcast_to(quantized.scale, (outputs,)).copy()


def _check_dilations(reader: Reader, node: Any) -> None:
    if any(step != 1 for step in reader.integers(node, "dilations", (1, 1), 1)):
        raise reader.refuse(node, "is dilated; expected dilations of 1")


def _padding(reader: Reader, node: Any) -> _Padding:
    automatic = reader.attributes(node).get("auto_pad", b"NOTSET")
    if automatic not in (b"NOTSET", b"VALID"):
        raise reader.refuse(node, f"has auto_pad {automatic!r}; expected explicit pads")
    if automatic == b"VALID":
        return (0, 0, 0, 0)
    top, left, bottom, right = reader.integers(node, "pads", (0, 0, 0, 0), 0)
    return (top, left, bottom, right)


def pool(largest: bool) -> Callable[[Reader, Any], None]:
    def read(reader: Reader, node: Any) -> None:
        x = reader.map(node, quantized=largest)
        height, width = reader.integers(node, "kernel_shape", None, 1)
        down, right = reader.integers(node, "strides", (1, 1), 1)
        padding = _padding(reader, node)
        if any(node.output[1:]):
            raise reader.refuse(node, "gives indices; expected values alone")
        _check_dilations(reader, node)
        counted = bool(reader.integer(node, "count_include_pad", 0)) and any(padding)
        if reader.integer(node, "ceil_mode", 0):
            if counted:
                raise reader.refuse(node, "rounds up and counts its padding; expected one of both")
            padding = _rounded_up(x, (height, width), (down, right), padding)
        if any(pad >= size for pad, size in zip(padding, (height, width) * 2, strict=True)):
            raise reader.refuse(
                node, f"has windows of nothing but padding {padding}; expected less than the kernel"
            )
        rows, columns = reader.window(node, x, (height, width), (down, right), padding)
        channels, name = x.shape[2], reader.name_of(node)
        if counted:
            weight = np.full((channels, 1, height, width), 1 / (height * width), np.float32)
            bias = np.zeros(channels, np.float32)
            mean = Conv(
                node.name, (x.name,), name, weight, bias, (down, right), padding, channels
            )  # fmt: skip
            reader.add(node, mean, (rows, columns, channels))
            return
        made = Pool(node.name, (x.name,), name, largest, (height, width), (down, right), padding)
        reader.add(node, made, (rows, columns, channels))
        _copy_quantized(reader, x, name)

    return read


def _copy_quantized(reader: Reader, x: Value, out: str) -> None:
    """The largest of codes is the code of the largest."""
    if x.name in reader.quantization:
        reader.quantization[out] = reader.quantization[x.name]
        if x.name in reader.signed:
            reader.signed.add(out)


def _rounded_up(
    x: Value, kernel: tuple[int, int], stride: tuple[int, int], padding: _Padding
) -> _Padding:
    """Padding with which rounding down gives as many windows as rounding up without it.

    The added rows and columns neither win nor count, so results are the same.
    """
    top, left, bottom, right = padding
    rows = x.shape[0] + top + bottom - kernel[0]
    columns = x.shape[1] + left + right - kernel[1]
    return (top, left, bottom + -rows % stride[0], right + -columns % stride[1])


def global_pool(largest: bool) -> Callable[[Reader, Any], None]:
    def read(reader: Reader, node: Any) -> None:
        x = reader.map(node, quantized=largest)
        shape, name = (1, 1, x.shape[2]), reader.name_of(node)
        if largest:
            size = (x.shape[0], x.shape[1])
            made = Pool(node.name, (x.name,), name, True, size, (1, 1), (0, 0, 0, 0))
            reader.add(node, made, shape)
            _copy_quantized(reader, x, name)
        else:
            reader.add(node, Mean(node.name, (x.name,), name), shape)

    return read


def reduce_mean(reader: Reader, node: Any) -> None:
    x = reader.map(node)
    given = reader.attributes(node).get("axes")  # an attribute before opset 18
    axes = list(given) if given is not None else reader.whole_numbers(node, 1)
    if sorted(axis % 4 for axis in axes) != [2, 3]:
        raise reader.refuse(node, f"is over the axes {axes}; known is height and width")
    shape = (1, 1, x.shape[2])
    form = shape if reader.integer(node, "keepdims", 1) else shape[2:]
    reader.add(node, Mean(node.name, (x.name,), reader.name_of(node)), shape, form)


def pad(reader: Reader, node: Any) -> None:
    """Zeros around a map: a 1 x 1 depthwise convolution by 1, with padding."""
    x = reader.map(node)
    mode = reader.attributes(node).get("mode", b"constant")
    value = reader.constant(node, 2, 0.0)
    if mode != b"constant" or value.size != 1 or float(value.reshape(-1)[0]) != 0.0:
        raise reader.refuse(node, f"pads by {mode!r}; expected constant zeros")
    axes = [axis % 4 for axis in reader.whole_numbers(node, 3, np.arange(4))]
    pads = reader.whole_numbers(node, 1)
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise reader.refuse(node, f"has {len(pads)} pads for {len(axes)} axes", AGAIN)
    before = dict(zip(axes, pads[: len(axes)], strict=True))
    after = dict(zip(axes, pads[len(axes) :], strict=True))
    padding = (before.get(2, 0), before.get(3, 0), after.get(2, 0), after.get(3, 0))
    others = [side.get(axis, 0) for side in (before, after) for axis in (0, 1)]
    if any(others) or min(padding) < 0:
        raise reader.refuse(node, f"has pads {pads}; expected rows and columns alone, none cut off")
    height, width, channels = x.shape
    weight, bias = np.ones((channels, 1, 1, 1), np.float32), np.zeros(channels, np.float32)
    name = reader.name_of(node)
    made = Conv(node.name, (x.name,), name, weight, bias, (1, 1), padding, channels)
    shape = (height + padding[0] + padding[2], width + padding[1] + padding[3], channels)
    reader.add(node, made, shape)


# Matrix products


def dense(reader: Reader, node: Any) -> None:
    x = reader.tensor(node, flat=True)
    weight = reader.weights(node, 1)
    product = node.op_type == "MatMul"
    plain = product or (
        reader.number(node, "alpha", 1.0) == reader.number(node, "beta", 1.0) == 1.0
        and not reader.integer(node, "transA", 0)
    )
    if weight.ndim != 2 or len(x.shape) != 1 or not plain:
        raise reader.refuse(node, "is scaled, or not a vector by a matrix")
    if product or not reader.integer(node, "transB", 0):
        weight = np.ascontiguousarray(weight.T)
    outputs = int(weight.shape[0])
    if x.shape[0] != weight.shape[1]:
        raise reader.refuse(
            node, f"has weights {weight.shape} for {x.shape[0]} numbers", AGAIN
        )  # fmt: skip
    source = reader.shapes[x.name]
    if len(source) == 3 and source[:2] != (1, 1):
        # A map was flattened in ONNX's order, channels outermost; the graph's is innermost.
        height, width, channels = source
        split = weight.reshape(outputs, channels, height, width)
        weight = np.ascontiguousarray(split.transpose(0, 2, 3, 1).reshape(outputs, -1))
    bias = np.zeros(outputs, np.float32)
    if not product:
        given = reader.weights(node, 2, bias)
        if given.size not in (1, outputs):
            raise reader.refuse(node, f"has a bias {given.shape}; expected ({outputs},)", AGAIN)
        bias = np.broadcast_to(given.reshape(-1), (outputs,)).copy()
    made = Dense(node.name, (x.name,), reader.name_of(node), weight, bias)
    reader.add(node, made, (outputs,))
