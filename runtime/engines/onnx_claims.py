"""How much memory an ONNX file asks for, found out before any of it is given.

A file of a few kilobytes can claim tensors of any size: weights that are not in it, states, or
operators (ConstantOfShape, Expand, Resize, a convolution over a huge frame) that make much of
little. ONNX Runtime makes some of them while it loads, so the sizes have to be known before:

* weights: their shapes against the bytes that the file has for them, read from the file's own form;
* what operators make: a second session, of the same file with every tensor as an output and all
  optimisation off, infers the shapes and runs nothing (20 ms for the bundled model). What a graph
  within an operator (If, Loop, Scan), a function of the file's own or a sequence of tensors makes
  stays hidden from it, and these are refused.

The file's form is protobuf (onnx.proto): fields of a number and a type, messages in messages. Only
what is needed of it is read here, since a board has no onnx package.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import ModelSpec

STEP_MOST_BYTES = 8 << 30
"""Of all tensors that a step holds at once. ResNet-50 on frames of 4096x4096 pixels, the largest
that ``shiftedge export`` takes, holds under 6 GiB; boards have 1 to 8 GiB of memory in all."""

_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""onnx.proto's TensorProto.DataType -> bytes a number; 8 for the others."""
_TYPE_BYTES = {
    "tensor(float)": 4, "tensor(double)": 8, "tensor(float16)": 2, "tensor(bfloat16)": 2,
    "tensor(int8)": 1, "tensor(uint8)": 1, "tensor(bool)": 1, "tensor(int16)": 2,
    "tensor(uint16)": 2, "tensor(int32)": 4, "tensor(uint32)": 4,
}  # fmt: skip
"""ONNX Runtime's name of a type -> bytes a number; 8 for the others."""
_EXPANDING = {
    "CenterCropPad", "Col2Im", "ConstantOfShape", "Expand", "EyeLike", "GridSample", "MaxUnpool",
    "OneHot", "Pad", "RandomNormal", "RandomUniform", "Range", "Resize", "Tile", "Upsample",
}  # fmt: skip
"""Operators whose result may be larger than all that they read."""

# Numbers of fields in onnx.proto.
_GRAPH, _FUNCTION = 7, 25
_NODE, _INITIALIZER, _OUTPUT, _SPARSE = 1, 5, 12, 15
_READS, _MAKES, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_ATTRIBUTE = 5, 6, 10, 11, 22
_DIMS, _TYPE, _NAME, _LOCATION = 1, 2, 8, 14
_SPARSE_DIMS = 3


@dataclass
class _Node:
    operator: str
    reads: list[str] = field(default_factory=list)
    makes: list[str] = field(default_factory=list)
    holds_graph: bool = False


@dataclass
class _File:
    """What is read of a file."""

    weights: dict[str, int] = field(default_factory=dict)
    """Bytes of each initialiser."""
    nodes: list[_Node] = field(default_factory=list)
    outputs: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    """Operators that the file defines itself."""


def check_spec(spec: ModelSpec, what: object) -> None:
    """Refuse frames and states that no board can hold.

    Args:
        spec: of the model.
        what: file, for the message.

    Raises:
        ModelError: they are larger than :data:`STEP_MOST_BYTES`.
    """
    frame = 3 * 4 * spec.height * spec.width
    _check(what, "a frame", frame)
    _check(what, "the states", 2 * spec.state_bytes + frame)  # a step reads one set, writes another


def check_weights(data: bytes, what: object) -> None:
    """Refuse weights that claim more than the file holds; nothing of that size is allocated.

    Args:
        data: the file.
        what: its name, for the message.

    Raises:
        ModelError: a tensor's shape does not go with its bytes, or the file is damaged.
    """
    _read(data, what)


def check_shapes(ort: Any, data: bytes, what: object, folder: str) -> None:
    """Refuse a step that needs more memory than a board has, and nothing of it is run.

    Args:
        ort: the package onnxruntime.
        data: the file, for which :func:`check_weights` passed.
        what: its name, for messages.
        folder: where weights outside the file would be.

    Raises:
        ModelError: it needs more than :data:`STEP_MOST_BYTES` at once, or an operator makes a
            tensor of a size that is not known before.
        Exception: of ONNX Runtime, for a file that it cannot read.
    """
    file = _read(data, what)
    for node in file.nodes:
        if node.holds_graph or node.operator in file.functions:
            raise _hidden(what, node, "holds operators of its own")
    made = [name for node in file.nodes for name in node.makes if name]
    more = b"".join(_field(_OUTPUT, _field(1, name.encode())) for name in {*made} - file.outputs)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    # Protobuf joins a message that comes twice, so outputs can be added behind the file.
    session = ort.InferenceSession(
        data + _field(_GRAPH, more), options, providers=["CPUExecutionProvider"]
    )
    tensors = (*session.get_inputs(), *session.get_outputs())
    sizes = {tensor.name: _bytes(tensor) for tensor in tensors}
    sequences = {tensor.name for tensor in tensors if not tensor.type.startswith("tensor(")}
    for node in file.nodes:
        for name in node.makes:
            size = sizes.get(name)
            if name in sequences:
                raise _hidden(what, node, f"makes {name!r}, which is no tensor")
            if size is not None:
                _check(what, f"{name!r}, which {node.operator} makes,", size)
            elif name and node.operator in _EXPANDING:
                raise ModelError(
                    f"{what}: {node.operator} makes {name!r}, of a size that is not known before "
                    "it runs, so it might be more than the memory; export the model with fixed "
                    "shapes."
                )
    _check(what, "a step", _at_once(file, sizes))


def _hidden(what: object, node: _Node, why: str) -> ModelError:
    return ModelError(
        f"{what}: {node.operator} {why}, so the memory that it takes is not known before it runs; "
        "export the model as one graph of fixed shapes, without If, Loop, Scan, sequences and "
        "functions."
    )


def _at_once(file: _File, sizes: Mapping[str, int | None]) -> int:
    """Most bytes of tensors alive together; those that follow from weights alone stay for ever."""
    fixed = dict(file.weights)
    last = {name: index for index, node in enumerate(file.nodes) for name in node.reads}
    last |= dict.fromkeys(file.outputs, len(file.nodes))
    made = {name for node in file.nodes for name in node.makes}
    live = {name: size or 0 for name, size in sizes.items() if name not in made}  # the inputs
    now = most = sum(live.values())
    for index, node in enumerate(file.nodes):
        constant = all(name in fixed for name in node.reads if name)
        for name in filter(None, node.makes):
            size = sizes.get(name) or 0
            if constant:
                fixed[name] = size
            else:
                live[name] = size
                now += size
        most = max(most, now)
        for name in {*node.reads, *node.makes}:
            if name in live and last.get(name, index) <= index:
                now -= live.pop(name)
    return most + sum(fixed.values())


def _bytes(node: Any) -> int | None:
    """Of an input or output of a session; None where its shape is not known."""
    shape = node.shape
    if shape is None or not all(isinstance(side, int) and side >= 0 for side in shape):
        return None
    return int(math.prod(shape) * _TYPE_BYTES.get(node.type, 8))


def _check(what: object, tensor: str, size: int) -> None:
    if size > STEP_MOST_BYTES:
        amount = f"{size / 2**30:,.0f} GiB" if size < 1 << 60 else "more than 2^60 bytes"
        raise ModelError(
            f"{what} claims {amount} of memory for {tensor} and at most "
            f"{STEP_MOST_BYTES >> 30} GiB are given, more than boards have; the file is damaged, "
            "or the frame is too large: export the model again, with a smaller --size."
        )


# The file's form


def _read(data: bytes, what: object) -> _File:
    file = _File()
    try:
        for number, value in _fields(memoryview(data)):
            if number == _GRAPH and isinstance(value, memoryview):
                _graph(value, file, what, inner=False)
            elif number == _FUNCTION and isinstance(value, memoryview):
                file.functions |= {_text(v) for n, v in _fields(value) if n == 1}
    except (IndexError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ModelError(
            f"{what} cannot be loaded as an ONNX model (it is no whole protobuf message); it may "
            "be damaged, or another kind of file: export it again."
        ) from error
    _check(what, "its weights", sum(file.weights.values()))
    return file


def _graph(data: memoryview, file: _File, what: object, *, inner: bool) -> None:
    for number, value in _fields(data):
        if not isinstance(value, memoryview):
            continue
        if number == _INITIALIZER:
            _weights(value, file, what)
        elif number == _SPARSE:
            _sparse(value, file, what)
        elif number == _NODE:
            _node(value, file, what, inner)
        elif number == _OUTPUT and not inner:
            file.outputs |= {_text(v) for n, v in _fields(value) if n == 1}


def _node(data: memoryview, file: _File, what: object, inner: bool) -> None:
    node = _Node("")
    for number, value in _fields(data):
        if not isinstance(value, memoryview):
            continue
        if number == _OPERATOR:
            node.operator = _text(value)
        elif number == _READS:
            node.reads.append(_text(value))
        elif number == _MAKES:
            node.makes.append(_text(value))
        elif number == _ATTRIBUTE:
            for kind, part in _fields(value):
                if not isinstance(part, memoryview):
                    continue
                if kind in (_TENSOR, _TENSORS):
                    _weights(part, file, what, within=node.operator)
                elif kind in (_SUBGRAPH, _SUBGRAPHS):
                    node.holds_graph = True
                    _graph(part, file, what, inner=True)
                elif kind == _SPARSE_ATTRIBUTE:
                    _sparse(part, file, what)
    if not inner:
        file.nodes.append(node)


def _weights(data: memoryview, file: _File, what: object, within: str = "") -> None:
    dims: list[int] = []
    kind, name, outside = 0, "", False
    for number, value in _fields(data):
        if number == _DIMS:
            dims += _whole_numbers(value)
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME and isinstance(value, memoryview):
            name = _text(value)
        elif number == _LOCATION:
            outside = value == 1
    numbers = math.prod(dims)
    if not outside and numbers > len(data):  # a number takes a byte at least
        raise ModelError(
            f"{what}: the weights {name!r} have the shape {dims[:6]} and {len(data):,} bytes in "
            "the file, too few for it; the file is damaged: export the model again."
        )
    if not within:
        file.weights[name] = numbers * _ITEM_BYTES.get(kind, 8)
        _check(what, f"the weights {name!r}", file.weights[name])


def _sparse(data: memoryview, file: _File, what: object) -> None:
    """A sparse tensor is made dense when the model is loaded."""
    dims: list[int] = []
    kind, name = 0, ""
    for number, value in _fields(data):
        if number == _SPARSE_DIMS:
            dims += _whole_numbers(value)
        elif number == 1 and isinstance(value, memoryview):
            for inner, part in _fields(value):
                if inner == _TYPE and isinstance(part, int):
                    kind = part
                elif inner == _NAME and isinstance(part, memoryview):
                    name = _text(part)
    size = math.prod(dims) * _ITEM_BYTES.get(kind, 8)
    _check(what, f"the sparse weights {name!r}", size)
    file.weights[name] = size


def _whole_numbers(value: int | memoryview) -> list[int]:
    """Of one field, packed or not; those below 0, which are no sizes, as 2^64 less."""
    if isinstance(value, int):
        return [value]
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(number)
    return numbers


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message; values of fixed length as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of type {kind}")
        if at + size > len(data):
            raise IndexError("a field goes past the end")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")


def _field(number: int, content: bytes) -> bytes:
    """A message or a text as a field."""
    return _number(number << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _text(value: int | memoryview) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""
