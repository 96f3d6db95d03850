"""ONNX operators by name: each node -> operators of the graph, or a refusal by name.

One reader an operator, in one file, since a reader is a few lines and what they have in common is
``node``. What a constant does to each channel (BatchNormalization, Add, Sub, Mul, Div) becomes a
1 x 1 depthwise convolution, which the rewrites fold into the convolution before where they can; so
do a Pad, of zeros around it, and a mean that counts its padding, of equal weights.

Quantized files: QuantizeLinear and DequantizeLinear of constants are folded here. Weights become
int8 with a scale for each output channel, beside the float32 numbers that these stand for; a bias
becomes float32. Of features each node becomes ``Quantize`` or ``Dequantize``, and
``quantized_rewrites`` folds those away that no kernel needs. Features are uint8 with one scale and
zero point a tensor. int8 features are the same 128 lower, so they are read as uint8. uint8 weights
are read as int8 where they fit around their zero point. Refused by the node's name: other widths,
features quantized by channel, scales that are no positive numbers, blocks, and a DequantizeLinear
that disagrees with what it undoes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.frontend.node import AGAIN, Node, QuantizedWeights, Value
from shiftedge.export.compiler.graph import graph as ops
from shiftedge.export.compiler.graph.activations import Activation

_Padding = tuple[int, int, int, int]

# Activations


def _activation(kinds: tuple[Activation, ...], node: Node) -> None:
    """One of several, by the operator's attributes."""
    kind = next((each for each in kinds if _fits(each, node)), None)
    if kind is None:
        row = kinds[0].value
        given = {key: node.given(key, pair[0]) for key, pair in row.attributes.items()}
        raise node.refuse(row.others.format(**given))
    x = node.tensor()
    node.make(ops.Activate, (x,), x.shape, kind=kind)


def _fits(kind: Activation, node: Node) -> bool:
    for key, (default, wanted) in kind.value.attributes.items():
        given = node.given(key, default)
        near = isinstance(given, float) and abs(given - float(wanted)) <= 1e-6
        if given != wanted and not near:
            return False
    return True


def _clip(node: Node) -> None:
    bounds = []  # attributes before opset 11
    for index, (key, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        bound = node.constant(index, node.attributes.get(key, default))
        right = bound.size == 1 and bound.dtype.kind in "fiu"
        node.need(right, f"has {bound.shape} {bound.dtype} as its {key}", AGAIN)
        bounds.append(float(bound.reshape(-1)[0]))
    low, high = bounds
    high = math.inf if high >= float(np.finfo(np.float32).max) else high
    found = tuple(kind for kind in Activation if kind.value.bounds == (low, high) and low == 0.0)
    node.need(found, f"clips to {low:g}..{high:g}; known are 0..6 and 0 upwards")
    _activation(found, node)


# Element by element


def _batch_norm(node: Node) -> None:
    x = node.tensor()
    node.need(
        not node.integer("training_mode", 0),
        "is in training mode; expected an exported model in eval mode",
    )
    channels = x.shape[-1]
    gamma, beta, mean, variance = (node.weights(index).astype(np.float64) for index in (1, 2, 3, 4))
    right = all(each.shape == (channels,) for each in (gamma, beta, mean, variance))
    node.need(right, f"has numbers for other than {channels} channels", AGAIN)
    epsilon = node.number("epsilon", 1e-5)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        node.scale(x, scale, beta - mean * scale)


def _sum(node: Node) -> None:
    if _by_constant(node, lambda number, _: (1.0, number)):
        return
    a, b = node.tensor(0), node.tensor(1)
    node.need(a.shape == b.shape, f"has shapes {a.shape} and {b.shape}; expected one shape")
    node.make(ops.Add, (a, b), a.shape)


def _difference(node: Node) -> None:
    scaled = _by_constant(node, lambda number, first: (-1.0, number) if first else (1.0, -number))
    node.need(scaled, "is of two maps; expected one side to be a constant")


def _mul(node: Node) -> None:
    if _by_constant(node, lambda number, _: (number, 0.0)):
        return
    a, b = node.tensor(0), node.tensor(1)
    if math.prod(a.shape) < math.prod(b.shape):
        a, b = b, a
    node.need(
        b.shape in (a.shape, (1, 1, a.shape[-1])),
        f"has shapes {a.shape} and {b.shape}; expected one shape, or one number a channel",
    )
    node.make(ops.Mul, (a, b), a.shape)


def _power(node: Node) -> None:
    """The second and third one, as products."""
    x, exponent = node.tensor(), node.constant(1)
    power = float(exponent.reshape(-1)[0]) if exponent.size == 1 else 0.0
    node.need(power in (2.0, 3.0), f"raises to {exponent.tolist()}; known are 2 and 3")
    if power == 3.0:
        squared = node.make(ops.Mul, (x, x), x.shape, inner=" (squared)")
        node.make(ops.Mul, (x, Value(squared, x.shape)), x.shape)
    else:
        node.make(ops.Mul, (x, x), x.shape)


def _quotient(node: Node) -> None:
    by_constant = node.is_constant(1) and not node.is_constant(0)
    node.need(by_constant, "divides by a map; expected a constant")
    with np.errstate(divide="ignore"):
        _by_constant(node, lambda number, _: (1.0 / number, 0.0))


def _by_constant(node: Node, factors: Callable[[NDArray[np.float64], bool], Any]) -> bool:
    """Whether one of two inputs is a constant, one number or (channels,). Then the node's output is
    the other input by the scale and the shift that ``factors`` makes of that, and of whether it is
    the first."""
    if node.is_constant(0) == node.is_constant(1):
        return False
    side = 0 if node.is_constant(0) else 1
    x, values = node.tensor(1 - side), node.weights(side)
    rank = 4 if len(x.shape) == 3 else 2
    sizes = (*(1,) * (rank - values.ndim), *values.shape)
    one = len(sizes) == rank and sizes[0] == 1 and all(size == 1 for size in sizes[2:])
    node.need(
        one and sizes[1] in (1, x.shape[-1]),
        f"reads the constant {node.inputs[side]!r} of shape {values.shape}; expected one number, "
        f"or one for each of {x.shape[-1]} channels",
    )
    node.scale(x, *factors(values.reshape(-1).astype(np.float64), side == 0))
    return True


# Convolutions, windows and matrix products


def _conv(node: Node) -> None:
    x, weight = node.map(), node.weights(1)
    node.need(weight.ndim == 4, f"has weights {weight.shape}; expected two dimensions of space")
    outputs = int(weight.shape[0])
    bias = node.weights(2, np.zeros(outputs, np.float32))
    node.need(bias.shape == (outputs,), f"has a bias {bias.shape}; expected ({outputs},)", AGAIN)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    right = node.integers("kernel_shape", kernel, 1) == kernel
    node.need(right, f"has weights {weight.shape} of another kernel_shape", AGAIN)
    _check_dilations(node)
    padding = _padding(node)
    stride, groups = node.integers("strides", (1, 1), 1), node.integer("group", 1)
    channels = x.shape[2]
    node.need(
        groups >= 1 and channels == weight.shape[1] * groups and outputs % groups == 0,
        f"has weights {weight.shape} in {groups} groups for {channels} channels",
        AGAIN,
    )
    quantized, scale = _quantized_weight(node, outputs)
    node.make(
        ops.Conv,
        (x,),
        (*node.window(x, kernel, stride, padding), outputs),
        weight=weight,
        bias=bias,
        stride=stride,
        padding=padding,
        groups=groups,
        quantized_weight=quantized,
        weight_scale=scale,
    )


def _quantized_weight(node: Node, outputs: int) -> tuple[ops.Int8Array | None, ops.Array | None]:
    """The weights as int8 and the scale of each output channel, where they were read so."""
    found = node.tensors.quantized_weights.get(node.inputs[1])
    if found is None:
        return None, None
    node.need(
        found.axis in (None, 0),
        f"has weights quantised along axis {found.axis}; expected one scale an output channel",
    )
    return found.values, np.broadcast_to(found.scale, (outputs,)).copy()


def _check_dilations(node: Node) -> None:
    dilated = any(step != 1 for step in node.integers("dilations", (1, 1), 1))
    node.need(not dilated, "is dilated; expected dilations of 1")


def _padding(node: Node) -> _Padding:
    automatic = node.attributes.get("auto_pad", b"NOTSET")
    if automatic == b"VALID":
        return (0, 0, 0, 0)
    node.need(automatic == b"NOTSET", f"has auto_pad {automatic!r}; expected explicit pads")
    top, left, bottom, right = node.integers("pads", (0, 0, 0, 0), 0)
    return (top, left, bottom, right)


def _pool(largest: bool, node: Node) -> None:
    x = node.map(quantized=largest)
    height, width = node.integers("kernel_shape", None, 1)
    down, right = node.integers("strides", (1, 1), 1)
    padding = _padding(node)
    node.need(not any(node.outputs[1:]), "gives indices; expected values alone")
    _check_dilations(node)
    counted = bool(node.integer("count_include_pad", 0)) and any(padding)
    if node.integer("ceil_mode", 0):
        node.need(not counted, "rounds up and counts its padding; expected one of both")
        padding = _rounded_up(x, (height, width), (down, right), padding)
    node.need(
        all(pad < size for pad, size in zip(padding, (height, width) * 2, strict=True)),
        f"has windows of nothing but padding {padding}; expected less than the kernel",
    )
    shape = (*node.window(x, (height, width), (down, right), padding), x.shape[2])
    if counted:
        mean = np.full((x.shape[2], 1, height, width), 1 / (height * width), np.float32)
        node.depthwise(x, shape, mean, stride=(down, right), padding=padding)
    else:
        _window_pool(node, x, shape, largest, (height, width), (down, right), padding)


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


def _global_pool(largest: bool, node: Node) -> None:
    x = node.map(quantized=largest)
    shape = (1, 1, x.shape[2])
    if largest:
        _window_pool(node, x, shape, True, (x.shape[0], x.shape[1]))
    else:
        node.make(ops.Mean, (x,), shape)


def _window_pool(
    node: Node,
    x: Value,
    shape: tuple[int, ...],
    largest: bool,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: _Padding = (0, 0, 0, 0),
) -> None:
    out = node.make(
        ops.Pool, (x,), shape, largest=largest, kernel=kernel, stride=stride, padding=padding
    )  # fmt: skip
    tensors = node.tensors
    # The largest of quantized values is the quantized value of the largest.
    if x.name in tensors.quantization:
        tensors.quantization[out] = tensors.quantization[x.name]
        if x.name in tensors.signed:
            tensors.signed.add(out)


def _reduce_mean(node: Node) -> None:
    x = node.map()
    given = node.attributes.get("axes")  # an attribute before opset 18
    axes = list(given) if given is not None else node.whole_numbers(1)
    right = sorted(axis % 4 for axis in axes) == [2, 3]
    node.need(right, f"is over the axes {axes}; known is height and width")
    shape = (1, 1, x.shape[2])
    node.make(ops.Mean, (x,), shape, shape if node.integer("keepdims", 1) else shape[2:])


def _pad(node: Node) -> None:
    x = node.map()
    mode, value = node.attributes.get("mode", b"constant"), node.constant(2, 0.0)
    zeros = mode == b"constant" and value.size == 1 and float(value.reshape(-1)[0]) == 0.0
    node.need(zeros, f"pads by {mode!r}; expected constant zeros")
    axes = [axis % 4 for axis in node.whole_numbers(3, np.arange(4))]
    pads = node.whole_numbers(1)
    right = len(pads) == 2 * len(axes) == 2 * len(set(axes))
    node.need(right, f"has {len(pads)} pads for {len(axes)} axes", AGAIN)
    before = dict(zip(axes, pads[: len(axes)], strict=True))
    after = dict(zip(axes, pads[len(axes) :], strict=True))
    padding = (before.get(2, 0), before.get(3, 0), after.get(2, 0), after.get(3, 0))
    others = [side.get(axis, 0) for side in (before, after) for axis in (0, 1)]
    node.need(
        not any(others) and min(padding) >= 0,
        f"has pads {pads}; expected rows and columns alone, none cut off",
    )
    height, width, channels = x.shape
    shape = (height + padding[0] + padding[2], width + padding[1] + padding[3], channels)
    node.depthwise(x, shape, np.ones((channels, 1, 1, 1), np.float32), padding=padding)


def _dense(node: Node) -> None:
    x, weight = node.tensor(flat=True), node.weights(1)
    product = node.kind == "MatMul"
    plain = product or (
        node.number("alpha", 1.0) == node.number("beta", 1.0) == 1.0
        and not node.integer("transA", 0)
    )
    right = weight.ndim == 2 and len(x.shape) == 1 and plain
    node.need(right, "is scaled, or not a vector by a matrix")
    if product or not node.integer("transB", 0):
        weight = np.ascontiguousarray(weight.T)
    outputs = int(weight.shape[0])
    right = x.shape[0] == weight.shape[1]
    node.need(right, f"has weights {weight.shape} for {x.shape[0]} numbers", AGAIN)
    source = node.tensors.shapes[x.name]
    if len(source) == 3 and source[:2] != (1, 1):
        # A map was flattened in ONNX's order, channels outermost; the graph's is innermost.
        height, width, channels = source
        split = weight.reshape(outputs, channels, height, width)
        weight = np.ascontiguousarray(split.transpose(0, 2, 3, 1).reshape(outputs, -1))
    bias = np.zeros(outputs, np.float32)
    if not product:
        given = node.weights(2, bias)
        right = given.size in (1, outputs)
        node.need(right, f"has a bias {given.shape}; expected ({outputs},)", AGAIN)
        bias = np.broadcast_to(given.reshape(-1), (outputs,)).copy()
    node.make(ops.Dense, (x,), (outputs,), weight=weight, bias=bias)


# Forms of one value: nothing is computed


def _same(node: Node) -> None:
    if not node.is_constant(0):
        node.set_value(node.value(0))
        return
    source, tensors = node.inputs[0], node.tensors
    node.set_constant(tensors.constants[source])
    if source in tensors.quantized_weights:
        tensors.quantized_weights[node.outputs[0]] = tensors.quantized_weights[source]


def _dropout(node: Node) -> None:
    training = len(node.inputs) > 2 and node.constant(2, False).any()
    node.need(not training, "is in training mode; expected an exported model in eval mode")
    _same(node)


def _cast(node: Node) -> None:
    """Of constants, as ONNX Runtime does before it runs; of features, only to what they are."""
    kind = node.integer("to")
    kinds = {1: np.float32, 6: np.int32, 7: np.int64}  # TensorProto's numbers
    node.need(kind in kinds, f"casts to type {kind}; expected float32")
    if node.is_constant(0):
        values = node.constant(0)
        node.need(values.dtype.kind in "fiub", f"casts {values.dtype}; expected numbers")
        with np.errstate(all="ignore"):
            node.set_constant(values.astype(kinds[kind]))
        return
    node.need(kind == 1, "casts features to integers; expected float32")
    node.tensor(flat=True)
    _same(node)


def _constant(node: Node) -> None:
    for key, kind in (("value_float", np.float32), ("value_int", np.int64)):
        for name in (key, f"{key}s"):
            if name in node.attributes:
                node.set_constant(np.asarray(node.attributes[name], kind))
                return
    try:
        node.set_constant(node.tensors.onnx.numpy_helper.to_array(node.attributes.get("value")))
    except Exception as error:  # absent, another kind of attribute, or damaged
        raise node.refuse(f"is not of a tensor ({error})") from error


def _flatten(node: Node) -> None:
    x, axis = node.tensor(quantized=True), node.integer("axis", 1)
    node.need(axis in (0, 1, 1 - len((0, *x.shape))), f"has axis {axis}; expected 1")
    node.set_value(Value(x.name, (math.prod(x.shape),)))


def _onnx_sizes(x: Value) -> tuple[int, ...]:
    return (1, x.shape[-1], *x.shape[:-1])


def _reshape(node: Node) -> None:
    x = node.tensor(quantized=True)
    wanted, before = node.whole_numbers(1), _onnx_sizes(x)
    if not node.integer("allowzero", 0):
        wanted = [
            before[place] if size == 0 and place < len(before) else size
            for place, size in enumerate(wanted)
        ]
    if wanted.count(-1) == 1:
        rest = math.prod(size for size in wanted if size != -1)
        total = math.prod(before)
        wanted = [total // rest if size == -1 and rest > 0 else size for size in wanted]
    _set_form(node, x, tuple(wanted))


def _squeeze(node: Node) -> None:
    x = node.tensor(quantized=True)
    before = _onnx_sizes(x)
    axes = _axes(node, [axis for axis, size in enumerate(before) if size == 1])
    dropped = {axis % len(before) for axis in axes}
    right = all(before[axis] == 1 for axis in dropped)
    node.need(right, f"drops the axes {axes} of {before}", AGAIN)
    _set_form(node, x, tuple(size for axis, size in enumerate(before) if axis not in dropped))


def _unsqueeze(node: Node) -> None:
    x = node.tensor(quantized=True)
    axes, sizes = _axes(node, []), list(_onnx_sizes(x))
    rank = len(sizes) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        sizes.insert(axis, 1)
    _set_form(node, x, tuple(sizes))


def _axes(node: Node, default: list[int]) -> list[int]:
    given = node.attributes.get("axes")  # an attribute before opset 13
    if given is not None:
        return [int(axis) for axis in given]
    return node.whole_numbers(1, np.asarray(default, np.int64))


def _set_form(node: Node, x: Value, sizes: tuple[int, ...]) -> None:
    """The node's output is ``x`` as ``sizes`` in ONNX, if that moves no number."""
    channels, pixels = x.shape[-1], math.prod(x.shape[:-1])
    if sizes == _onnx_sizes(x):
        form = x.shape
    elif sizes in ((1, channels, 1, 1), (channels, 1, 1)) and pixels == 1:
        form = (1, 1, channels)
    elif sizes == (1, channels * pixels) or (sizes == (channels,) and pixels == 1):
        form = (channels * pixels,)
    else:
        raise node.refuse(f"reorders a map of shape {x.shape} to {sizes}")
    node.set_value(Value(x.name, form))


# Temporal shifts


def _slice(node: Node) -> None:
    x = node.map(quantized=True)
    starts, ends = node.whole_numbers(1), node.whole_numbers(2)
    axes = node.whole_numbers(3, np.arange(len(starts)))
    steps = node.whole_numbers(4, np.ones(len(starts), np.int64))
    one = len(starts) == len(ends) == len(axes) == len(steps) == 1
    node.need(one, "is no slice of channels alone")
    node.need(axes[0] % 4 == 1 and steps[0] == 1, "is no slice of channels")
    begin, end, _ = slice(starts[0], ends[0]).indices(x.shape[2])
    node.set_value(Value(x.name, x.shape, (begin, end)))


def _split(node: Node) -> None:
    x = node.map(quantized=True)
    channels, parts = x.shape[2], len(node.outputs)
    node.need(node.integer("axis", 0) % 4 == 1, "splits another axis than channels")
    share = -(-channels // parts)
    equal = [min(share, max(0, channels - share * part)) for part in range(parts)]
    given = node.attributes.get("split", equal)  # an attribute before opset 13
    sizes = node.whole_numbers(1, np.asarray(list(given), np.int64))
    right = len(sizes) == parts and sum(sizes) == channels and min(sizes) >= 0
    node.need(right, f"splits {channels} channels as {sizes}", AGAIN)
    begin = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        node.tensors.values[name] = Value(x.name, x.shape, (begin, begin + size))
        begin += size


def _concat(node: Node) -> None:
    tensors = node.tensors
    named = {f"state_{index}": index for index in range(len(tensors.shapes))}
    no_shift = "does not join a state and features, as a temporal shift does"
    node.need(node.integer("axis") % 4 == 1 and len(node.inputs) == 2, no_shift)
    state, features = node.value(0), node.value(1)
    whole = state.channels is None and len(state.shape) == 3
    node.need(state.name in named and whole, no_shift)
    shape = features.shape
    begin, end = features.channels or (0, shape[-1])
    node.need(
        len(shape) == 3 and end == shape[2] and begin != end,
        f"joins {node.inputs[1]}, which is not the rest of a map's channels",
    )
    right = state.shape[:2] == shape[:2]
    node.need(right, f"joins maps of {state.shape} and {shape}", AGAIN)
    quantization = tensors.quantization.get(state.name)
    same = quantization == tensors.quantization.get(features.name)
    node.need(
        same and features.name not in tensors.signed,
        "joins a state and features of different scales or types; expected the same, so that the "
        "shift is a copy",
    )
    joined = (*shape[:2], state.shape[2] + end - begin)
    out = node.make(ops.Join, (state, features), joined, state=named[state.name], begin=begin)
    if quantization is not None:
        tensors.quantization[out] = quantization


# Quantization

_SIGN = 128
"""An int8 value is the uint8 one less this."""
_TYPES = {2: np.dtype(np.uint8), 3: np.dtype(np.int8)}
"""By TensorProto's number."""


def _quantize(node: Node) -> None:
    scale, number = _scale(node), node.integer("output_dtype", 0)
    node.need(number in (0, *_TYPES), f"makes values of type {number}; expected uint8 or int8")
    zero = _zero_point(node, _TYPES.get(number, np.dtype(np.uint8)))
    if node.is_constant(0):
        values, limits = node.weights(0), np.iinfo(zero.dtype)
        with np.errstate(over="ignore"):
            rounded = np.rint(values / _along(node, values, scale)) + _along(node, values, zero)
        node.set_constant(rounded.clip(limits.min, limits.max).astype(zero.dtype))
        return
    x, quantization = node.tensor(flat=True), _of_features(node, scale, zero)
    shape = node.tensors.shapes[x.name]
    out = node.make(ops.Quantize, (x,), shape, x.shape, quantization=quantization)
    node.tensors.quantization[out] = quantization
    if zero.dtype == np.int8:
        node.tensors.signed.add(out)


def _dequantize(node: Node) -> None:
    scale, tensors = _scale(node), node.tensors
    if node.is_constant(0):
        _dequantize_constant(node, scale)
        return
    x = node.tensor(flat=True, quantized=True)
    known = tensors.quantization.get(x.name)
    if known is None:
        raise node.refuse(
            f"reads {node.inputs[0]!r}, which is float; expected uint8 or int8", AGAIN
        )
    kind = np.dtype(np.int8 if x.name in tensors.signed else np.uint8)
    found = _of_features(node, scale, _zero_point(node, kind))
    node.need(
        found == known,
        f"has scale {found.scale:g} and zero point {found.zero_point} for values of scale "
        f"{known.scale:g} and zero point {known.zero_point}; expected the same",
    )
    node.make(ops.Dequantize, (x,), tensors.shapes[x.name], x.shape, quantization=found)


def _dequantize_constant(node: Node, scale: NDArray[np.float32]) -> None:
    """Weights or a bias: the numbers, and for weights the int8 values too."""
    given = node.constant(0)
    if given.dtype == np.int32:
        zero_point = node.constant(2, np.int32(0)).any()
        node.need(not zero_point, "has int32 numbers with a zero point; expected 0")
        with np.errstate(over="ignore"):  # who reads infinite weights refuses them
            numbers = given.astype(np.float64) * _along(node, given, scale)
            node.set_constant(numbers.astype(np.float32))
        return
    weights = f"weights {node.inputs[0]!r}"
    right = given.dtype in _TYPES.values()
    node.need(right, f"has {given.dtype} {weights}; expected int8 or uint8")
    zero = _zero_point(node, given.dtype)
    around = given.astype(np.int32) - _along(node, given, zero).astype(np.int32)
    scales = _along(node, given, scale)
    with np.errstate(over="ignore"):
        node.set_constant(around.astype(np.float32) * scales)
    node.need(
        around.size > 0 and around.min() >= -128 and around.max() <= 127,
        f"has {weights} that reach further from their zero point than int8 does; expected int8 "
        "weights of zero point 0",
    )
    axis = None if scale.size == 1 else _axis(node, given.ndim)
    node.tensors.quantized_weights[node.outputs[0]] = QuantizedWeights(
        around.astype(np.int8), scale.reshape(-1), axis
    )


def _scale(node: Node) -> NDArray[np.float32]:
    """The scales, () or (channels,)."""
    scale = node.weights(1)
    right = scale.ndim <= 1 and (scale > 0).all() and not node.integer("block_size", 0)
    node.need(right, f"has scales {node.inputs[1]!r}; expected one above 0, or one a channel")
    return scale


def _zero_point(node: Node, default: np.dtype[Any]) -> NDArray[Any]:
    zero = node.constant(2, np.zeros((), default))
    right = zero.dtype in _TYPES.values() and zero.ndim <= 1
    node.need(right, f"has a zero point {zero.dtype}; expected uint8 or int8")
    return zero


def _of_features(node: Node, scale: NDArray[np.float32], zero: NDArray[Any]) -> ops.Quantization:
    one = scale.size == zero.size == 1
    node.need(one, f"has {scale.size} scales for features; expected one a tensor")
    shift = _SIGN if zero.dtype == np.int8 else 0
    return ops.Quantization(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]) + shift)


def _axis(node: Node, rank: int) -> int:
    axis = node.integer("axis", 1)
    node.need(-rank <= axis < rank, f"has axis {axis} for {rank} dimensions", AGAIN)
    return axis % rank


def _along(node: Node, values: NDArray[Any], numbers: NDArray[Any]) -> NDArray[Any]:
    """Scales or zero points, in a shape that broadcasts against ``values``."""
    if numbers.size == 1:
        return numbers.reshape(())
    axis = _axis(node, values.ndim)
    count = values.shape[axis]
    node.need(count == numbers.size, f"has {numbers.size} scales for {count} channels", AGAIN)
    return numbers.reshape(*(1,) * axis, -1, *(1,) * (values.ndim - axis - 1))


_BY_OPERATOR = {
    name: tuple(kind for kind in Activation if kind.value.operator == name)
    for name in {kind.value.operator for kind in Activation} - {""}
}

READERS: dict[str, Callable[[Node], None]] = {
    **{name: functools.partial(_activation, kinds) for name, kinds in _BY_OPERATOR.items()},
    "Add": _sum,
    "AveragePool": functools.partial(_pool, False),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Div": _quotient,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _dense,
    "GlobalAveragePool": functools.partial(_global_pool, False),
    "GlobalMaxPool": functools.partial(_global_pool, True),
    "Identity": _same,
    "MatMul": _dense,
    "MaxPool": functools.partial(_pool, True),
    "Mul": _mul,
    "Pad": _pad,
    "Pow": _power,
    "QuantizeLinear": _quantize,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _difference,
    "Unsqueeze": _unsqueeze,
}
"""By ONNX operator."""
