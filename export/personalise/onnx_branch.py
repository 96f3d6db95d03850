"""What is taught to a model, as a branch of its ONNX file; every layer that was there stays.

::

    ... last sum of maps ... mean -> last layer (a row more for each new label) --- + -> logits
              |               |                                                     |
              flatten -- concat of both's products, a number a label                |
                              |                                                     |
           state, joined, -> kept * state + new -> next state ----------------------

The branch reads what the last layer reads and, where it is small, the last sum of maps before it,
which still knows where in the image something is. Its numbers are smoothed over time, since a
gesture shows itself for longer than a frame, and the smoothed ones are one more state of the model.
All operators are of those that `shiftedge compile` takes: two matrix products, a sum, and a 1x1
convolution of the state and the new numbers.

The file is changed byte by byte (:mod:`~shiftedge.runtime.engines.protobuf`), since the machine on
which somebody personalises a model, a board perhaps, has no onnx package. What the branch adds is
named :data:`PREFIX`, so a personalised file can be taken apart and taught again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.engines import protobuf
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec

Floats = NDArray[np.float32]

PREFIX = "own."
"""Of the names of everything that a branch adds."""
KNOWN = f"{PREFIX}known"
"""The logits of the last layer alone, in a file with a branch."""
LOGITS = "logits"
MAP_NUMBERS_MOST = 8192
"""Of a sum of maps that the branch reads. MobileNetV2's at 224x224 has 7,840, ResNet-50's
100,352."""
# Numbers of fields in onnx.proto.
_GRAPH, _METADATA = 7, 14
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
_READS, _MAKES, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5
_INT_ATTRIBUTE = 2
_FLOAT, _INT64 = 1, 7
"""TensorProto's numbers of types."""


@dataclass(frozen=True, eq=False)
class Branch:
    """What was taught: the smoothed part of the logits."""

    weights: tuple[Floats, ...]
    """(classes, inputs) of each tensor that is read."""
    bias: Floats
    """(classes,)."""
    keep: float
    """Share of the state that stays from one frame to the next, 0..1."""


@dataclass(frozen=True, eq=False)
class Parts:
    """A file taken apart."""

    base: bytes
    """Without a branch."""
    taps: tuple[str, ...]
    """Tensors that a branch reads: what the last layer reads comes last."""
    weight: Floats
    """Of the last layer, (classes, inputs)."""
    bias: Floats
    """(classes,)."""
    names: tuple[str, str]
    """Of both in the file."""
    transposed: bool
    """Whether the file has the weight as it is here, and not (inputs, classes)."""
    branch: Branch | None

    def with_taps(self) -> bytes:
        """The base with the tensors that a branch reads as further outputs."""
        # Protobuf joins a message that comes twice.
        named = (protobuf.field(1, name.encode()) for name in self.taps)
        return self.base + protobuf.field(
            _GRAPH, b"".join(protobuf.field(_OUTPUT, name) for name in named)
        )

    def digest(self) -> bytes:
        """SHA-256 of all but what can be taught: files that agree have the same features."""
        nothing = np.zeros((1, self.weight.shape[1]), np.float32)
        data = _rebuilt(self, nothing, nothing[0, :1], None, None)
        return hashlib.sha256(data).digest()

    def taught(self, weight: Floats, bias: Floats, branch: Branch, spec: ModelSpec) -> bytes:
        """The file with another last layer, a branch and a spec.

        Args:
            weight: (classes, inputs) of the last layer.
            bias: (classes,).
            spec: of the whole, the branch's state last.
        """
        return _rebuilt(self, weight, bias, branch, spec)


def state_of(spec: ModelSpec, classes: int) -> StateSpec:
    """The state of a branch, the last one of a model of the base's ``spec``."""
    return StateSpec(f"state_{len(spec.states)}", (1, classes, 1, 1))


def take_apart(data: bytes, what: object) -> Parts:
    """Take apart a file that ONNX Runtime has loaded.

    Args:
        what: whose bytes they are, for messages.

    Raises:
        ModelError: the logits are not made by a Gemm with weights and a bias of its own, float32
            and in the file.
    """

    def refuse(why: str) -> NoReturn:
        raise ModelError(
            f"{what} cannot be personalised: {why}, and a last layer that can be taught is a Gemm "
            "of float32 weights and a bias over pooled features, as `shiftedge export` writes it."
        )

    branch = _branch_of(data)
    base = data if branch is None else _without_branch(data)
    nodes, tensors = [], {}
    for number, value in _parts_of_graphs(base):
        if number == _NODE:
            nodes.append(value)
        elif number == _INITIALIZER:
            tensors[_text(value, 8)] = value
    makers = [node for node in nodes if LOGITS in _texts(node, _MAKES)]
    if len(makers) != 1 or (kind := _text(makers[0], _OPERATOR)) != "Gemm":
        refuse(f"its logits are made by {kind if makers else 'nothing'}")
    (node,) = makers
    attributes = {_text(each, 1): each for each in _messages(node, _ATTRIBUTE)}
    alpha, beta = (_float(attributes.get(name)) for name in ("alpha", "beta"))
    if (alpha, beta) != (1.0, 1.0) or _whole(attributes.get("transA")):
        refuse("its last layer scales or turns what it reads")
    reads = _texts(node, _READS)
    if len(reads) != 3 or not all(name in tensors for name in reads[1:]):
        refuse("its last layer has no weights and bias of its own")
    if sum(name in _texts(each, _READS) for each in nodes for name in reads[1:]) != 2:
        refuse("another layer reads the last one's weights too")
    weight, bias = (_tensor(tensors[name]) for name in reads[1:])
    if weight is None or bias is None or weight.ndim != 2:
        refuse("its last layer's weights are not float32 in the file")
    transposed = bool(_whole(attributes.get("transB")))
    rows = weight if transposed else weight.T
    if bias.size != len(rows):
        refuse("its last layer has a bias of another length than its weights")
    return Parts(
        base,
        (*_last_sum(nodes), reads[0]),
        np.ascontiguousarray(rows),
        bias.reshape(-1),
        (reads[1], reads[2]),
        transposed,
        branch,
    )


def _last_sum(nodes: list[memoryview]) -> tuple[str, ...]:
    """The last sum of two maps, of a file in float; of a quantised one none, since what is a sum
    there is rounded before anybody reads it."""
    kinds = [_text(node, _OPERATOR) for node in nodes]
    sums = [node for node, kind in zip(nodes, kinds, strict=True) if kind == "Add"]
    if not sums or "QuantizeLinear" in kinds:
        return ()
    return (_text(sums[-1], _MAKES),)


def _rebuilt(
    parts: Parts, weight: Floats, bias: Floats, branch: Branch | None, spec: ModelSpec | None
) -> bytes:
    stored = weight if parts.transposed else weight.T
    new = {
        parts.names[0]: _as_tensor(parts.names[0], stored),
        parts.names[1]: _as_tensor(parts.names[1], bias),
    }
    out: list[bytes | memoryview] = []
    for number, value, span in protobuf.spans(memoryview(parts.base)):
        if number == _GRAPH and isinstance(value, memoryview):
            graph = [*_changed(value, new, len(bias), renamed=branch is not None)]
            if branch is not None and spec is not None:
                graph += _branch_fields(parts.taps, branch, spec)
            out.append(protobuf.field(_GRAPH, b"".join(graph)))
        elif number != _METADATA or _text(value, 1) != METADATA_KEY:
            out.append(span)
    if spec is not None:
        pair = protobuf.field(1, METADATA_KEY.encode()) + protobuf.field(2, spec.to_json().encode())
        out.append(protobuf.field(_METADATA, pair))
    return b"".join(out)


def _changed(
    graph: memoryview, new: Mapping[str, bytes], classes: int, *, renamed: bool
) -> Iterator[bytes | memoryview]:
    """The fields of a graph with other tensors, and the last layer's result by another name."""
    for number, value, span in protobuf.spans(graph):
        if number == _INITIALIZER and (name := _text(value, 8)) in new:
            yield protobuf.field(_INITIALIZER, new[name])
        elif number == _OUTPUT and _text(value, 1) == LOGITS:
            yield protobuf.field(_OUTPUT, _value_info(LOGITS, (1, classes)))
        elif number == _NODE and renamed and LOGITS in _texts(value, _MAKES):
            yield protobuf.field(_NODE, _making(value, KNOWN))
        elif number != _VALUE_INFO or _text(value, 1) != LOGITS:
            yield span


def _making(node: object, name: str) -> bytes:
    """A node of one result, by another name."""
    assert isinstance(node, memoryview)
    return b"".join(
        protobuf.field(_MAKES, name.encode()) if number == _MAKES else bytes(span)
        for number, _, span in protobuf.spans(node)
    )


def _branch_fields(taps: tuple[str, ...], branch: Branch, spec: ModelSpec) -> Iterator[bytes]:
    """What a branch adds to a graph."""
    classes = len(branch.bias)
    state, next_state = spec.states[-1].name, f"next_{spec.states[-1].name}"
    sides = (1, classes, 1, 1)

    def node(kind: str, reads: tuple[str, ...], makes: str, **attributes: int) -> bytes:
        content = b"".join(protobuf.field(_READS, name.encode()) for name in reads)
        content += protobuf.field(_MAKES, makes.encode())
        content += protobuf.field(_NAME, f"{PREFIX}{kind}.{makes}".encode())
        content += protobuf.field(_OPERATOR, kind.encode())
        for name, value in attributes.items():
            attribute = protobuf.field(1, name.encode()) + protobuf.field(3, value)
            attribute += protobuf.field(20, _INT_ATTRIBUTE)
            content += protobuf.field(_ATTRIBUTE, attribute)
        return protobuf.field(_NODE, content)

    def tensor(name: str, numbers: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
        return protobuf.field(_INITIALIZER, _as_tensor(f"{PREFIX}{name}", numbers))

    made = ""
    zeros = np.zeros(classes, np.float32)
    for index, (tap, weight) in enumerate(zip(taps, branch.weights, strict=True)):
        last = index == len(taps) - 1
        yield tensor(f"weight_{index}", weight)
        yield tensor(f"bias_{index}", branch.bias if last else zeros)
        if not last:  # a map; its numbers in ONNX's order
            yield node("Flatten", (tap,), f"{PREFIX}flat_{index}", axis=1)
            tap = f"{PREFIX}flat_{index}"
        reads = (tap, f"{PREFIX}weight_{index}", f"{PREFIX}bias_{index}")
        yield node("Gemm", reads, f"{PREFIX}part_{index}", transB=1)
        if made:
            yield node("Add", (made, f"{PREFIX}part_{index}"), f"{PREFIX}sum_{index}")
        made = f"{PREFIX}sum_{index}" if made else f"{PREFIX}part_{index}"
    eye = np.eye(classes, dtype=np.float32)
    smooth = np.concatenate([np.float32(branch.keep) * eye, eye], axis=1)[..., None, None]
    yield tensor("smooth", smooth)
    yield tensor("still", zeros)
    yield tensor("as_map", np.array(sides, np.int64))
    yield tensor("as_row", np.array((1, classes), np.int64))
    yield node("Reshape", (made, f"{PREFIX}as_map"), f"{PREFIX}new")
    yield node("Concat", (state, f"{PREFIX}new"), f"{PREFIX}joined", axis=1)
    smoothed = (f"{PREFIX}joined", f"{PREFIX}smooth", f"{PREFIX}still")
    yield node("Conv", smoothed, next_state)
    yield node("Reshape", (next_state, f"{PREFIX}as_row"), f"{PREFIX}row")
    yield node("Add", (KNOWN, f"{PREFIX}row"), LOGITS)
    yield protobuf.field(_INPUT, _value_info(state, sides))
    yield protobuf.field(_OUTPUT, _value_info(next_state, sides))


def _branch_of(data: bytes) -> Branch | None:
    """What was taught before, if anything was."""
    tensors: dict[str, Floats | None] = {}
    for number, value in _parts_of_graphs(data):
        if number == _INITIALIZER and (name := _text(value, 8)).startswith(PREFIX):
            tensors[name.removeprefix(PREFIX)] = _tensor(value)
    count = sum(name.startswith("weight_") for name in tensors)
    weights = [tensors.get(f"weight_{index}") for index in range(count)]
    bias, smooth = tensors.get(f"bias_{count - 1}"), tensors.get("smooth")
    found = [weight for weight in weights if weight is not None]
    if bias is None or smooth is None or len(found) != count or smooth.ndim != 4:
        return None
    return Branch(tuple(found), bias, float(smooth.reshape(-1)[0]))


def _without_branch(data: bytes) -> bytes:
    out: list[bytes | memoryview] = []
    for number, value, span in protobuf.spans(memoryview(data)):
        if number == _GRAPH and isinstance(value, memoryview):
            out.append(protobuf.field(_GRAPH, b"".join(_fields_without_branch(value))))
        else:
            out.append(span)
    return b"".join(out)


def _fields_without_branch(graph: memoryview) -> Iterator[bytes | memoryview]:
    added: set[str] = set()
    for number, value, _ in protobuf.spans(graph):
        if number == _NODE and _text(value, _NAME).startswith(PREFIX):
            added |= {*_texts(value, _READS), *_texts(value, _MAKES)} - {LOGITS}
    states = {name for name in added if name.startswith(("state_", "next_state_"))}
    for number, value, span in protobuf.spans(graph):
        if number == _NODE and _text(value, _NAME).startswith(PREFIX):
            continue
        if number == _INITIALIZER and _text(value, 8).startswith(PREFIX):
            continue
        if number in (_INPUT, _OUTPUT) and _text(value, 1) in states:
            continue
        if number == _NODE and KNOWN in _texts(value, _MAKES):
            yield protobuf.field(_NODE, _making(value, LOGITS))
        else:
            yield span


def _value_info(name: str, sides: tuple[int, ...]) -> bytes:
    """A ValueInfoProto of float32."""
    shape = b"".join(protobuf.field(1, protobuf.field(1, side)) for side in sides)
    kind = protobuf.field(1, _FLOAT) + protobuf.field(2, shape)
    return protobuf.field(1, name.encode()) + protobuf.field(2, protobuf.field(1, kind))


def _as_tensor(name: str, numbers: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    """A TensorProto."""
    kind, stored = (_INT64, "<i8") if numbers.dtype == np.int64 else (_FLOAT, "<f4")
    dims = b"".join(protobuf.field(1, side) for side in numbers.shape)
    raw = np.ascontiguousarray(numbers, stored).tobytes()
    named = protobuf.field(2, kind) + protobuf.field(8, name.encode())
    return dims + named + protobuf.field(9, raw)


# Reading


def _parts_of_graphs(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """The fields of the file's graph that are messages."""
    for number, graph in protobuf.fields(memoryview(data)):
        if number == _GRAPH and isinstance(graph, memoryview):
            for inner, value in protobuf.fields(graph):
                if isinstance(value, memoryview):
                    yield inner, value


def _messages(message: object, wanted: int) -> list[memoryview]:
    """The fields of that number that hold bytes."""
    if not isinstance(message, memoryview):
        return []
    found = (value for number, value in protobuf.fields(message) if number == wanted)
    return [value for value in found if isinstance(value, memoryview)]


def _texts(message: object, number: int) -> list[str]:
    return [bytes(value).decode("utf-8", "replace") for value in _messages(message, number)]


def _text(message: object, number: int) -> str:
    return next(iter(_texts(message, number)[-1:]), "")


def _float(attribute: memoryview | None) -> float:
    """Of an attribute; 1, the default of both that are asked for, where it is not there."""
    found = [] if attribute is None else _messages(attribute, 2)
    return float(np.frombuffer(found[-1], "<f4")[0]) if found else 1.0


def _whole(attribute: memoryview | None) -> int:
    values = [] if attribute is None else [v for n, v in protobuf.fields(attribute) if n == 3]
    return values[-1] if values and isinstance(values[-1], int) else 0


def _tensor(message: memoryview) -> Floats | None:
    """The numbers of a TensorProto; None where they are not float32, or not in it."""
    dims: list[int] = []
    kind = place = 0
    raw = b""
    for number, value in protobuf.fields(message):
        if number == 1:
            dims += protobuf.whole_numbers(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 14 and isinstance(value, int):
            place = value
        elif number in (4, 9) and isinstance(value, memoryview):  # float_data, packed or not
            raw += bytes(value)
    if kind != _FLOAT or place or len(raw) != 4 * math.prod(dims):
        return None
    return np.frombuffer(raw, "<f4").reshape(dims).astype(np.float32)
