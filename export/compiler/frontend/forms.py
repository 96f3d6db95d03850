"""ONNX operators that compute nothing: names, shapes, types, and the temporal shift's parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from shiftedge.export.compiler.frontend.onnx_file import AGAIN
from shiftedge.export.compiler.frontend.reader import Reader, Value
from shiftedge.export.compiler.graph.graph import Join

__all__ = [
    "cast",
    "concat",
    "constant_node",
    "dropout",
    "flatten",
    "reshape",
    "same",
    "slice_channels",
    "split",
    "squeeze",
    "unsqueeze",
]

# Forms of one value


def same(reader: Reader, node: Any) -> None:
    if reader.is_constant(node, 0):
        reader.constants[node.output[0]] = reader.constants[node.input[0]]
        if node.input[0] in reader.quantized_weights:
            reader.quantized_weights[node.output[0]] = reader.quantized_weights[node.input[0]]
    else:
        reader.values[node.output[0]] = reader.value(node, 0)


def dropout(reader: Reader, node: Any) -> None:
    if len(node.input) > 2 and reader.constant(node, 2, False).any():
        raise reader.refuse(node, "is in training mode; expected an exported model in eval mode")
    same(reader, node)


def cast(reader: Reader, node: Any) -> None:
    """Of constants, as ONNX Runtime does before it runs; of features, only to what they are."""
    kind = reader.integer(node, "to")
    kinds = {1: np.float32, 6: np.int32, 7: np.int64}  # TensorProto's numbers
    if kind not in kinds:
        raise reader.refuse(node, f"casts to type {kind}; expected float32")
    if reader.is_constant(node, 0):
        values = reader.constant(node, 0)
        if values.dtype.kind not in "fiub":
            raise reader.refuse(node, f"casts {values.dtype}; expected numbers")
        with np.errstate(all="ignore"):
            reader.constants[node.output[0]] = values.astype(kinds[kind])
    elif kind != 1:
        raise reader.refuse(node, "casts features to integers; expected float32")
    else:
        reader.tensor(node, flat=True)
        same(reader, node)


def constant_node(reader: Reader, node: Any) -> None:
    attributes = reader.attributes(node)
    for key, kind in (("value_float", np.float32), ("value_int", np.int64)):
        if key in attributes:
            reader.constants[node.output[0]] = np.asarray(attributes[key], kind)
            return
    for key, kind in (("value_floats", np.float32), ("value_ints", np.int64)):
        if key in attributes:
            reader.constants[node.output[0]] = np.asarray(list(attributes[key]), kind)
            return
    reader.constants[node.output[0]] = reader.tensor_attribute(node, "value")


def flatten(reader: Reader, node: Any) -> None:
    x = reader.tensor(node, quantized=True)
    axis = reader.integer(node, "axis", 1)
    if axis not in (0, 1, 1 - len((0, *x.shape))):
        raise reader.refuse(node, f"has axis {axis}; expected 1")
    reader.values[node.output[0]] = Value(x.name, (math.prod(x.shape),))


def reshape(reader: Reader, node: Any) -> None:
    x = reader.tensor(node, quantized=True)
    wanted = reader.whole_numbers(node, 1)
    before = (1, x.shape[-1], *x.shape[:-1])
    if not reader.integer(node, "allowzero", 0):
        wanted = [
            before[place] if size == 0 and place < len(before) else size
            for place, size in enumerate(wanted)
        ]
    total = math.prod(before)
    if wanted.count(-1) == 1:
        rest = math.prod(size for size in wanted if size != -1)
        wanted = [total // rest if size == -1 and rest > 0 else size for size in wanted]
    _set_form(reader, node, x, tuple(wanted))


def squeeze(reader: Reader, node: Any) -> None:
    x = reader.tensor(node, quantized=True)
    before = (1, x.shape[-1], *x.shape[:-1])
    axes = _axes(reader, node, [axis for axis, size in enumerate(before) if size == 1])
    dropped = {axis % len(before) for axis in axes}
    if any(before[axis] != 1 for axis in dropped):
        raise reader.refuse(node, f"drops the axes {axes} of {before}", AGAIN)
    after = tuple(size for axis, size in enumerate(before) if axis not in dropped)
    _set_form(reader, node, x, after)


def unsqueeze(reader: Reader, node: Any) -> None:
    x = reader.tensor(node, quantized=True)
    axes = _axes(reader, node, [])
    sizes = [1, x.shape[-1], *x.shape[:-1]]
    rank = len(sizes) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        sizes.insert(axis, 1)
    _set_form(reader, node, x, tuple(sizes))


def _axes(reader: Reader, node: Any, default: list[int]) -> list[int]:
    given = reader.attributes(node).get("axes")  # an attribute before opset 13
    if given is not None:
        return [int(axis) for axis in given]
    return reader.whole_numbers(node, 1, np.asarray(default, np.int64))


def _set_form(reader: Reader, node: Any, x: Value, sizes: tuple[int, ...]) -> None:
    """The node's output is ``x`` as ``sizes`` in ONNX, if that moves no number."""
    channels, pixels = x.shape[-1], math.prod(x.shape[:-1])
    form: tuple[int, ...] | None = None
    if sizes == (1, channels, *x.shape[:-1]):
        form = x.shape
    elif sizes in ((1, channels, 1, 1), (channels, 1, 1)) and pixels == 1:
        form = (1, 1, channels)
    elif sizes == (1, channels * pixels) or (sizes == (channels,) and pixels == 1):
        form = (channels * pixels,)
    if form is None:
        raise reader.refuse(node, f"reorders a map of shape {x.shape} to {sizes}")
    reader.values[node.output[0]] = Value(x.name, form)


# Shifts


def slice_channels(reader: Reader, node: Any) -> None:
    x = reader.map(node, quantized=True)
    starts, ends = reader.whole_numbers(node, 1), reader.whole_numbers(node, 2)
    axes = reader.whole_numbers(node, 3, np.arange(len(starts)))
    steps = reader.whole_numbers(node, 4, np.ones(len(starts), np.int64))
    if not len(starts) == len(ends) == len(axes) == len(steps) == 1:
        raise reader.refuse(node, "is no slice of channels alone")
    if axes[0] % 4 != 1 or steps[0] != 1:
        raise reader.refuse(node, "is no slice of channels")
    begin, end, _ = slice(starts[0], ends[0]).indices(x.shape[2])
    reader.values[node.output[0]] = Value(x.name, x.shape, (begin, end))


def split(reader: Reader, node: Any) -> None:
    x = reader.map(node, quantized=True)
    channels, parts = x.shape[2], len(node.output)
    if reader.integer(node, "axis", 0) % 4 != 1:
        raise reader.refuse(node, "splits another axis than channels")
    share = -(-channels // parts)
    equal = [min(share, max(0, channels - share * part)) for part in range(parts)]
    given = reader.attributes(node).get("split", equal)  # an attribute before opset 13
    sizes = reader.whole_numbers(node, 1, np.asarray(list(given), np.int64))
    if len(sizes) != parts or sum(sizes) != channels or min(sizes) < 0:
        raise reader.refuse(node, f"splits {channels} channels as {sizes}", AGAIN)
    begin = 0
    for name, size in zip(node.output, sizes, strict=True):
        reader.values[name] = Value(x.name, x.shape, (begin, begin + size))
        begin += size


def concat(reader: Reader, node: Any) -> None:
    named = {f"state_{index}": index for index in range(len(reader.shapes))}
    if reader.integer(node, "axis") % 4 != 1 or len(node.input) != 2:
        raise reader.refuse(node, "does not join a state and features, as a temporal shift does")
    state, features = reader.value(node, 0), reader.value(node, 1)
    if state.name not in named or state.channels is not None or len(state.shape) != 3:
        raise reader.refuse(node, "does not join a state and features, as a temporal shift does")
    shape = features.shape
    begin, end = features.channels or (0, shape[-1])
    if len(shape) != 3 or end != shape[2] or begin == end:
        raise reader.refuse(
            node, f"joins {node.input[1]}, which is not the rest of a map's channels"
        )
    if state.shape[:2] != shape[:2]:
        raise reader.refuse(node, f"joins maps of {state.shape} and {shape}", AGAIN)
    quantization = reader.quantization.get(state.name)
    if quantization != reader.quantization.get(features.name) or features.name in reader.signed:
        raise reader.refuse(
            node,
            "joins a state and features of different scales or types; expected the same codes, so "
            "that the shift is a copy",
        )
    join = Join(
        node.name,
        (state.name, features.name),
        reader.name_of(node),
        named[state.name],
        begin,
    )
    reader.add(node, join, (*shape[:2], state.shape[2] + end - begin))
    if quantization is not None:
        reader.quantization[join.out] = quantization
