"""How much memory an ONNX file asks for, found out before any of it is given.

A file of a few kilobytes can claim tensors of any size: weights that are not in it, states, or
operators (ConstantOfShape, Expand, Resize, a convolution over a huge frame) that make much of
little. ONNX Runtime makes some of them while it loads, so the sizes have to be known before:

* weights: their shapes against the bytes that the file has for them, read from the file's own form;
* what operators make: a second session, of the same file with every tensor as an output and all
  optimisation off, infers the shapes and runs nothing (20 ms for the bundled model). What a graph
  within an operator (If, Loop, Scan), a function of the file's own or a sequence of tensors makes
  stays hidden from it, and these are refused.

Only what is needed of the file is read here, by :mod:`~shiftedge.runtime.engines.protobuf`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shiftedge.runtime.engines import protobuf
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

_GRAPH, _OUTPUT = 7, 12
_FORM: dict[str, dict[int, tuple[str, str]]] = {
    "model": {_GRAPH: ("graphs", "graph"), 25: ("functions", "named")},
    "graph": {
        1: ("nodes", "node"),
        5: ("weights", "tensor"),
        _OUTPUT: ("outputs", "named"),
        15: ("sparse", "sparse"),
    },
    "node": {
        1: ("reads", "text"),
        2: ("makes", "text"),
        4: ("operator", "text"),
        5: ("attributes", "attribute"),
    },
    "attribute": {
        5: ("tensors", "tensor"),
        6: ("graphs", "graph"),
        10: ("tensors", "tensor"),
        11: ("graphs", "graph"),
        22: ("sparse", "sparse"),
    },
    "tensor": {
        1: ("dims", "numbers"),
        2: ("type", "numbers"),
        8: ("name", "text"),
        14: ("location", "numbers"),
    },
    "sparse": {1: ("values", "tensor"), 3: ("dims", "numbers")},
    "named": {1: ("name", "text")},
}
"""What is read of onnx.proto: message -> number of a field -> our name of it, and what it holds."""

Message = Mapping[str, list[Any]]
"""Our name of a field -> its values in order."""


@dataclass
class _File:
    """What is read of a file."""

    nodes: list[Message] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    """Bytes of each initialiser."""
    outputs: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    """Operators that the file defines itself."""


def check_spec(spec: ModelSpec, what: object) -> None:
    """Refuse frames and states that no board can hold; ``what`` is whose they are, for the message.

    Raises:
        ModelError: they are larger than :data:`STEP_MOST_BYTES`.
    """
    frame = 3 * 4 * spec.height * spec.width
    _check(what, "a frame", frame)
    _check(what, "the states", 2 * spec.state_bytes + frame)  # a step reads one set, writes another


def check_weights(data: bytes, what: object) -> _File:
    """Refuse weights that claim more than the file holds; nothing of that size is allocated.

    Raises:
        ModelError: a tensor's shape does not go with its bytes, or the file is damaged.
    """
    file = _File()
    try:
        model = _message(memoryview(data), "model")
    except (IndexError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ModelError(
            f"{what} cannot be loaded as an ONNX model (it is no whole protobuf message); it may "
            "be damaged, or another kind of file: export it again."
        ) from error
    file.functions = {_last(function, "name", "") for function in model["functions"]}
    for graph in model["graphs"]:
        file.nodes += graph["nodes"]
        file.outputs |= {_last(output, "name", "") for output in graph["outputs"]}
        _check_graph(graph, file, what)
    _check(what, "its weights", sum(file.weights.values()))
    return file


def check_shapes(ort: Any, data: bytes, file: _File, what: object, folder: str) -> None:
    """Refuse a step that needs more memory than a board has, and nothing of it is run.

    Args:
        folder: where weights outside the file would be.

    Raises:
        ModelError: it needs more than :data:`STEP_MOST_BYTES` at once, or an operator makes a
            tensor of a size that is not known before.
        Exception: of ONNX Runtime, for a file that it cannot read.
    """
    for node in file.nodes:
        holds = any(attribute["graphs"] for attribute in node["attributes"])
        if holds or _operator(node) in file.functions:
            raise _hidden(what, node, "holds operators of its own")
    made = {name for node in file.nodes for name in node["makes"] if name}
    more = b"".join(
        protobuf.field(_OUTPUT, protobuf.field(1, name.encode())) for name in made - file.outputs
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    # Protobuf joins a message that comes twice, so outputs can be added behind the file.
    session = ort.InferenceSession(
        data + protobuf.field(_GRAPH, more), options, providers=["CPUExecutionProvider"]
    )
    tensors = (*session.get_inputs(), *session.get_outputs())
    sizes = {tensor.name: _bytes(tensor) for tensor in tensors}
    sequences = {tensor.name for tensor in tensors if not tensor.type.startswith("tensor(")}
    for node in file.nodes:
        for name in node["makes"]:
            size = sizes.get(name)
            if name in sequences:
                raise _hidden(what, node, f"makes {name!r}, which is no tensor")
            if size is not None:
                _check(what, f"{name!r}, which {_operator(node)} makes,", size)
            elif name and _operator(node) in _EXPANDING:
                raise ModelError(
                    f"{what}: {_operator(node)} makes {name!r}, of a size that is not known before "
                    "it runs, so it might be more than the memory; export the model with fixed "
                    "shapes."
                )
    _check(what, "a step", _at_once(file, sizes))


def _hidden(what: object, node: Message, why: str) -> ModelError:
    return ModelError(
        f"{what}: {_operator(node)} {why}, so the memory that it takes is not known before it "
        "runs; export the model as one graph of fixed shapes, without If, Loop, Scan, sequences "
        "and functions."
    )


def _at_once(file: _File, sizes: Mapping[str, int | None]) -> int:
    """Most bytes of tensors alive together; those that follow from weights alone stay for ever."""
    fixed = dict(file.weights)
    last = {name: index for index, node in enumerate(file.nodes) for name in node["reads"]}
    last |= dict.fromkeys(file.outputs, len(file.nodes))
    made = {name for node in file.nodes for name in node["makes"]}
    live = {name: size or 0 for name, size in sizes.items() if name not in made}  # the inputs
    now = most = sum(live.values())
    for index, node in enumerate(file.nodes):
        constant = all(name in fixed for name in node["reads"] if name)
        for name in filter(None, node["makes"]):
            size = sizes.get(name) or 0
            if constant:
                fixed[name] = size
            else:
                live[name] = size
                now += size
        most = max(most, now)
        for name in {*node["reads"], *node["makes"]}:
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


def _check_graph(graph: Message, file: _File, what: object) -> None:
    """The weights of a graph and of those within its operators."""
    for tensor in graph["weights"]:
        name, size = _tensor(tensor, what)
        _check(what, f"the weights {name!r}", size)
        file.weights[name] = size
    attributes = [each for node in graph["nodes"] for each in node["attributes"]]
    for sparse in (*graph["sparse"], *(each for held in attributes for each in held["sparse"])):
        # Made dense when the model is loaded.
        values = sparse["values"][-1] if sparse["values"] else defaultdict(list)
        name, kind = _last(values, "name", ""), _last(values, "type", 0)
        file.weights[name] = math.prod(sparse["dims"]) * _ITEM_BYTES.get(kind, 8)
        _check(what, f"the sparse weights {name!r}", file.weights[name])
    for held in attributes:
        for tensor in held["tensors"]:
            _tensor(tensor, what)
        for inner in held["graphs"]:
            _check_graph(inner, file, what)


def _tensor(tensor: Message, what: object) -> tuple[str, int]:
    """Name and size in bytes of a tensor whose numbers are in the file, or outside it."""
    name, dims = _last(tensor, "name", ""), tensor["dims"]
    numbers, held = math.prod(dims), tensor["bytes"][0]
    if _last(tensor, "location", 0) != 1 and numbers > held:  # a number takes a byte at least
        raise ModelError(
            f"{what}: the weights {name!r} have the shape {dims[:6]} and {held:,} bytes in the "
            "file, too few for it; the file is damaged: export the model again."
        )
    return name, numbers * _ITEM_BYTES.get(_last(tensor, "type", 0), 8)


# The file's form


def _message(data: memoryview, kind: str) -> Message:
    """The fields of a message that :data:`_FORM` names, and its length as "bytes"."""
    form = _FORM[kind]
    found: defaultdict[str, list[Any]] = defaultdict(list, bytes=[len(data)])
    for number, value in protobuf.fields(data):
        name, holds = form.get(number, ("", ""))
        if holds == "numbers":
            found[name] += protobuf.whole_numbers(value)
        elif holds and isinstance(value, memoryview):
            text = holds == "text"
            found[name].append(bytes(value).decode() if text else _message(value, holds))
    return found


def _last(message: Message, name: str, default: Any) -> Any:
    """A field that is to stand once; of several, protobuf takes the last."""
    return message[name][-1] if message[name] else default


def _operator(node: Message) -> str:
    return str(_last(node, "operator", ""))
