"""One function for each ONNX operator that models of the contract hold, as calls in an fx graph.

An operator takes the :class:`Builder`, the node and its attributes, and returns the graph's node
for its output; a tuple of them where it has several.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import ModelError

__all__ = ["OPERATORS", "Builder"]

_Attributes = Mapping[str, Any]
_Operator = Callable[["Builder", Any, _Attributes], Any]


class Builder:
    """The graph as it grows.

    Args:
        torch: the module.
        constants: tensors of the file by name; those that nodes give are added.
        shapes: of the tensors whose shape is known.
    """

    def __init__(
        self,
        torch: Any,
        constants: dict[str, NDArray[Any]],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.torch = torch
        self.functional = torch.nn.functional
        self.root = torch.nn.Module()
        self.graph = torch.fx.Graph()
        self.constants = constants
        self.values: dict[str, Any] = {}
        self._shapes = shapes

    def knows(self, name: str) -> bool:
        """Whether ``name`` has been given."""
        return name in self.values or name in self.constants

    def value(self, name: str) -> Any:
        """The graph's node of ``name``; a constant becomes a buffer of the module.

        Raises:
            ModelError: there is no such tensor.
        """
        if name not in self.values:
            if name not in self.constants:
                raise ModelError(f"The tensor {name!r} is used before any node gives it.")
            title = f"constant_{len(self.values)}"
            array = np.array(self.constants[name])  # a copy, which torch may own
            self.root.register_buffer(title, self.torch.from_numpy(array))
            self.values[name] = self.graph.get_attr(title)
        return self.values[name]

    def inputs(self, node: Any) -> list[Any]:
        """The graph's nodes of all inputs; None for one that is left out."""
        return [self.value(name) if name else None for name in node.input]

    def call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """A call as a node of the graph."""
        return self.graph.call_function(function, arguments, options)

    def constant(self, node: Any, index: int) -> NDArray[Any] | None:
        """The value of an input that has to be a constant; None where it is left out.

        Raises:
            ModelError: it is computed.
        """
        if index >= len(node.input) or not node.input[index]:
            return None
        name = node.input[index]
        if name not in self.constants:
            raise ModelError(f"{_title(node)} computes its input {name!r}; expected a constant.")
        return self.constants[name]

    def integers(self, node: Any, index: int) -> list[int] | None:
        """The same as a list of whole numbers."""
        found = self.constant(node, index)
        return None if found is None else [int(value) for value in found.reshape(-1)]

    def shape(self, node: Any, index: int = 0) -> tuple[int, ...]:
        """Of an input.

        Raises:
            ModelError: it is not known.
        """
        name = node.input[index]
        if name in self.constants:
            return self.constants[name].shape
        if name not in self._shapes:
            raise ModelError(f"{_title(node)} has an input {name!r} of unknown shape.")
        return self._shapes[name]


def _title(node: Any) -> str:
    """A node, for messages."""
    return f"The {node.op_type} {node.name or node.output[0]!r}"


def _simple(find: Callable[[Builder], Any]) -> _Operator:
    """An operator that is one torch function of its inputs."""

    def make(builder: Builder, node: Any, attributes: _Attributes) -> Any:
        return builder.call(find(builder), *builder.inputs(node))

    return make


def _same(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    """Identity, and dropout in evaluation mode."""
    return builder.value(node.input[0])


def _clip(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    least, most = (
        attributes.get(key) if bound is None else float(bound)
        for key, bound in (
            ("min", builder.constant(node, 1)),
            ("max", builder.constant(node, 2)),
        )
    )
    x = builder.value(node.input[0])
    if (least, most) == (0.0, 6.0):
        return builder.call(builder.functional.relu6, x)
    return builder.call(builder.torch.clamp, x, min=least, max=most)


def _hard_sigmoid(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    x = builder.value(node.input[0])
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    scaled = builder.call(builder.torch.mul, x, alpha)
    moved = builder.call(builder.torch.add, scaled, beta)
    return builder.call(builder.torch.clamp, moved, min=0.0, max=1.0)


def _leaky_relu(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    x = builder.value(node.input[0])
    return builder.call(builder.functional.leaky_relu, x, attributes.get("alpha", 0.01))


def _softmax(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    x = builder.value(node.input[0])
    return builder.call(builder.torch.softmax, x, attributes.get("axis", -1))


def _batch_norm(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    x, scale, bias, mean, variance = builder.inputs(node)
    return builder.call(
        builder.functional.batch_norm,
        *(x, mean, variance, scale, bias),
        eps=attributes.get("epsilon", 1e-5),
    )


def _conv(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    x, weight, *bias = builder.inputs(node)
    kernel = builder.shape(node, 1)[2:]
    rank = len(kernel)
    if rank not in (1, 2):
        raise ModelError(f"{_title(node)} has {rank} dimensions; expected one or two.")
    strides = list(attributes.get("strides", [1] * rank))
    dilations = list(attributes.get("dilations", [1] * rank))
    x, padding = _padding(builder, node, attributes, (kernel, strides, dilations), 0.0)
    return builder.call(
        builder.functional.conv1d if rank == 1 else builder.functional.conv2d,
        *(x, weight, bias[0] if bias else None),
        stride=strides,
        padding=padding,
        dilation=dilations,
        groups=attributes.get("group", 1),
    )


_Window = tuple[Any, list[int], list[int]]
"""Kernel, strides and dilations."""


def _padding(
    builder: Builder, node: Any, attributes: _Attributes, window: _Window, fill: float
) -> tuple[Any, list[int]]:
    """The input, padded where its two sides differ, and the padding that is left to the layer."""
    x = builder.value(node.input[0])
    rank = len(window[0])
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        sizes = builder.shape(node)[2:]
        needed = [
            max(0, (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
            for size, kernel, stride, dilation in zip(sizes, *window, strict=True)
        ]
        small, large = [each // 2 for each in needed], [each - each // 2 for each in needed]
        before, after = (small, large) if automatic == "SAME_UPPER" else (large, small)
    else:
        pads = list(attributes.get("pads", [0] * 2 * rank)) if automatic != "VALID" else [0] * 4
        before, after = pads[:rank], pads[rank : 2 * rank]
    # torch's pooling takes half of its window at most.
    if before == after and (node.op_type == "Conv" or _within_half(before, window[0])):
        return x, before
    around = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    return builder.call(builder.functional.pad, x, around, value=fill), [0] * rank


def _within_half(pads: list[int], kernel: Any) -> bool:
    return all(2 * pad <= size for pad, size in zip(pads, kernel, strict=True))


def _max_pool(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    kernel, strides, dilations = _pool_window(node, attributes)
    if len(node.output) > 1:
        raise ModelError(f"{_title(node)} asks for indices, which have no translation here.")
    x, padding = _padding(builder, node, attributes, (kernel, strides, dilations), -math.inf)
    return builder.call(
        builder.functional.max_pool2d,
        *(x, kernel),
        stride=strides,
        padding=padding,
        dilation=dilations,
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )


def _average_pool(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    kernel, strides, dilations = _pool_window(node, attributes)
    include = bool(attributes.get("count_include_pad", 0))
    x, padding = _padding(builder, node, attributes, (kernel, strides, dilations), 0.0)
    padded = x is not builder.value(node.input[0])
    if dilations != [1, 1] or (padded and not include):
        raise ModelError(
            f"{_title(node)} is dilated, or pads its sides unequally without counting the padding; "
            "neither has a translation here."
        )
    return builder.call(
        builder.functional.avg_pool2d,
        *(x, kernel),
        stride=strides,
        padding=padding,
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
        count_include_pad=include,
    )


def _pool_window(node: Any, attributes: _Attributes) -> tuple[list[int], list[int], list[int]]:
    kernel = list(attributes["kernel_shape"])
    if len(kernel) != 2:
        raise ModelError(f"{_title(node)} has {len(kernel)} dimensions; expected two.")
    ones = [1] * len(kernel)
    return kernel, list(attributes.get("strides", ones)), list(attributes.get("dilations", ones))


def _global_average_pool(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    axes = list(range(2, len(builder.shape(node))))
    return builder.call(builder.torch.mean, builder.value(node.input[0]), axes, keepdim=True)


def _global_max_pool(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    axes = list(range(2, len(builder.shape(node))))
    return builder.call(builder.torch.amax, builder.value(node.input[0]), axes, keepdim=True)


def _reduce_mean(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    axes = builder.integers(node, 1)
    axes = list(attributes.get("axes", [])) if axes is None else axes
    x = builder.value(node.input[0])
    if not axes:
        if attributes.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(len(builder.shape(node))))
    # XNNPACK takes the form that keeps the axes alone.
    mean = builder.call(builder.torch.mean, x, axes, keepdim=True)
    if attributes.get("keepdims", 1):
        return mean
    shape = builder.shape(node)
    gone = {axis % len(shape) for axis in axes}
    sizes = [size for index, size in enumerate(shape) if index not in gone]
    return builder.call(builder.torch.reshape, mean, sizes)


def _reshape(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    sizes = builder.integers(node, 1) or []
    if not attributes.get("allowzero", 0):
        sizes = [
            builder.shape(node)[index] if size == 0 else size for index, size in enumerate(sizes)
        ]
    return builder.call(builder.torch.reshape, builder.value(node.input[0]), sizes)


def _flatten(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    shape = builder.shape(node)
    axis = attributes.get("axis", 1)
    axis += len(shape) if axis < 0 else 0
    sizes = [math.prod(shape[:axis]), math.prod(shape[axis:])]
    return builder.call(builder.torch.reshape, builder.value(node.input[0]), sizes)


def _squeeze(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    axes = builder.integers(node, 1) or list(attributes.get("axes", []))
    shape = builder.shape(node)
    gone = {axis % len(shape) for axis in axes} or {i for i, size in enumerate(shape) if size == 1}
    sizes = [size for index, size in enumerate(shape) if index not in gone]
    return builder.call(builder.torch.reshape, builder.value(node.input[0]), sizes)


def _unsqueeze(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    axes = builder.integers(node, 1) or list(attributes.get("axes", []))
    left = list(builder.shape(node))
    rank = len(left) + len(axes)
    ones = {axis % rank for axis in axes}
    sizes = [1 if index in ones else left.pop(0) for index in range(rank)]
    return builder.call(builder.torch.reshape, builder.value(node.input[0]), sizes)


def _transpose(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    order = list(attributes.get("perm", range(len(builder.shape(node)))[::-1]))
    return builder.call(builder.torch.permute, builder.value(node.input[0]), order)


def _slice(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    begins, ends = (
        builder.integers(node, index) or list(attributes.get(key, []))
        for index, key in ((1, "starts"), (2, "ends"))
    )
    axes = builder.integers(node, 3) or list(attributes.get("axes", range(len(begins))))
    steps = builder.integers(node, 4) or [1] * len(begins)
    if any(step < 1 for step in steps):
        raise ModelError(f"{_title(node)} goes backwards, which has no translation here.")
    shape = builder.shape(node)
    x = builder.value(node.input[0])
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        begin, end, _ = slice(begin, end).indices(shape[axis])
        if (begin, end, step) == (0, shape[axis], 1):
            continue
        length = max(0, end - begin)
        x = builder.call(builder.torch.narrow, x, axis % len(shape), begin, length)
        if step > 1:
            index = builder.torch.arange(0, length, step)
            name = f"every_{len(builder.values)}_{axis % len(shape)}"
            builder.root.register_buffer(name, index)
            x = builder.call(
                builder.torch.index_select, x, axis % len(shape), builder.graph.get_attr(name)
            )
    return x


def _split(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    axis = attributes.get("axis", 0)
    size = builder.shape(node)[axis]
    parts = builder.integers(node, 1) or list(attributes.get("split", []))
    if not parts:
        each = math.ceil(size / len(node.output))
        parts = [min(each, size - begin) for begin in range(0, size, each)]
    x = builder.value(node.input[0])
    begins = np.cumsum([0, *parts[:-1]]).tolist()
    made = [
        builder.call(builder.torch.narrow, x, axis, begin, length)
        for begin, length in zip(begins, parts, strict=True)
    ]
    return made[0] if len(node.output) == 1 else made


def _concat(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    return builder.call(builder.torch.cat, builder.inputs(node), attributes["axis"])


def _pad(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    pads = builder.integers(node, 1) or list(attributes.get("pads", []))
    fill = builder.constant(node, 2)
    rank = len(builder.shape(node))
    axes = builder.integers(node, 3) or list(range(rank))
    sides = {axis % rank: (pads[index], pads[index + len(axes)]) for index, axis in enumerate(axes)}
    around = [side for axis in range(rank)[::-1] for side in sides.get(axis, (0, 0))]
    mode = attributes.get("mode", b"constant").decode()
    if mode != "constant":
        raise ModelError(f"{_title(node)} pads by {mode}, which has no translation here.")
    value = attributes.get("value", 0.0) if fill is None else float(fill.reshape(()))
    return builder.call(builder.functional.pad, builder.value(node.input[0]), around, value=value)


def _gemm(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    a, b, *c = builder.inputs(node)
    if attributes.get("transA", 0):
        a = builder.call(builder.torch.t, a)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    bias = c[0] if c else None
    plain = (alpha, beta) == (1.0, 1.0) and attributes.get("transB", 0)
    if plain and (bias is None or builder.shape(node, 2) == builder.shape(node, 1)[:1]):
        return builder.call(builder.functional.linear, a, b, bias)
    if attributes.get("transB", 0):
        b = builder.call(builder.torch.t, b)
    product = builder.call(builder.torch.matmul, a, b)
    if alpha != 1.0:
        product = builder.call(builder.torch.mul, product, alpha)
    if bias is None:
        return product
    return builder.call(builder.torch.add, product, bias, alpha=beta)


def _cast(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    kinds = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
    kind = kinds.get(attributes["to"])
    if kind is None:
        raise ModelError(f"{_title(node)} asks for type {attributes['to']}, unknown here.")
    dtype = getattr(builder.torch, kind)
    return builder.call(builder.torch.Tensor.to, builder.value(node.input[0]), dtype)


def _not_computed(builder: Builder, node: Any, attributes: _Attributes) -> Any:
    raise ModelError(f"{_title(node)} has an input that is computed; expected constants.")


OPERATORS: dict[str, _Operator] = {
    "Add": _simple(lambda builder: builder.torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _not_computed,
    "Conv": _conv,
    "Div": _simple(lambda builder: builder.torch.div),
    "Dropout": _same,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _simple(lambda builder: builder.functional.hardswish),
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "MatMul": _simple(lambda builder: builder.torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _simple(lambda builder: builder.torch.mul),
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _simple(lambda builder: builder.torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _simple(lambda builder: builder.torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _simple(lambda builder: builder.torch.sub),
    "Tanh": _simple(lambda builder: builder.torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operator of ONNX -> what it becomes."""
