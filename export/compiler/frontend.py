"""ONNX -> :class:`Graph`: shapes in NHWC, batch norms folded, slices and concats of states named.

Straight from ONNX instead of through a general importer: the contract allows a small set of
operators, and the one thing that matters here, which slice is a shift and which a next state, is
what an importer would bury (docs/decisions/0004-frontend.md).

Refused, with the operator's and the node's name: an operator that is not listed in ``_READERS``, a
slice or concat that is no part of a shift, dynamic shapes, and weights that hold NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import (
    Activate,
    Activation,
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
    Shape,
)
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["read_onnx"]

ADVICE = "engine='onnxruntime' runs the model meanwhile"


def read_onnx(model: bytes, spec: ModelSpec) -> Graph:
    """Read an ONNX file that follows the contract.

    Args:
        model: the serialised file.
        spec: of the model, as its metadata says.

    Raises:
        CompileError: an operator has no translation here, a shape is dynamic, or the states do not
            fit the spec; the message names the node.
    """
    onnx = require("onnx")
    document = onnx.load_model_from_string(model)
    return _Reader(onnx, document.graph, spec).read()


class _Reader:
    def __init__(self, onnx: Any, graph: Any, spec: ModelSpec) -> None:
        self._onnx = onnx
        self._graph = graph
        self._spec = spec
        self._constants: dict[str, NDArray[Any]] = {
            entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer
        }
        self._alias: dict[str, str] = {}
        self._slices: dict[str, tuple[str, int, int]] = {}
        """Name of a channel slice -> (sliced value, begin, end)."""
        self._operators: list[Operator] = []
        self._shapes: dict[str, Shape] = {"frame": (spec.height, spec.width, 3)}
        for index, state in enumerate(spec.states):
            if len(state.shape) != 4 or state.shape[0] != 1:
                raise CompileError(
                    f"state_{index} has shape {state.shape}; expected (1, channels, height, width)."
                )
            self._shapes[f"state_{index}"] = (state.shape[2], state.shape[3], state.shape[1])

    def read(self) -> Graph:
        for node in self._graph.node:
            reader = _READERS.get(node.op_type)
            if reader is None:
                raise CompileError(
                    f"The operator {node.op_type} (node {node.name!r}) cannot be compiled; known "
                    f"are {', '.join(sorted(_READERS))}; {ADVICE}."
                )
            reader(self, node)
        states = tuple(self._shapes[f"state_{index}"] for index in range(len(self._spec.states)))
        for index in range(len(states)):
            self._keep(index)
        logits = self._value("logits")
        shape = self._shapes.get(logits, ())
        if int(np.prod(shape, initial=1)) != self._spec.classes:
            raise CompileError(f"The logits have shape {shape}; expected {self._spec.classes}.")
        kept = _alive(self._operators, logits)
        return Graph(kept, self._shapes, states, logits=logits)

    # What nodes read and write.

    def _value(self, name: str) -> str:
        while name in self._alias:
            name = self._alias[name]
        return name

    def _input(self, node: Any, index: int) -> str:
        name = self._value(node.input[index])
        if name in self._slices:
            raise CompileError(
                f"{node.op_type} (node {node.name!r}) reads the channel slice {name}, which is no "
                f"part of a temporal shift; {ADVICE}."
            )
        if name not in self._shapes:
            raise CompileError(
                f"{node.op_type} (node {node.name!r}) reads {name}, which no known operator makes; "
                f"{ADVICE}."
            )
        return name

    def _constant(self, node: Any, index: int, default: Any = None) -> NDArray[Any]:
        if index >= len(node.input) or not node.input[index]:
            if default is None:
                raise CompileError(f"{node.op_type} (node {node.name!r}) lacks input {index}.")
            return np.asarray(default)
        name = self._value(node.input[index])
        if name not in self._constants:
            raise CompileError(
                f"{node.op_type} (node {node.name!r}) computes its input {index} ({name}) while it "
                f"runs; expected a constant; {ADVICE}."
            )
        value = self._constants[name]
        if value.dtype.kind == "f" and np.isnan(value).any():
            raise CompileError(f"The constant {name} of node {node.name!r} holds NaN.")
        return value

    def _attributes(self, node: Any) -> dict[str, Any]:
        get = self._onnx.helper.get_attribute_value
        return {attribute.name: get(attribute) for attribute in node.attribute}

    def _add(self, operator: Operator, shape: Shape) -> None:
        self._operators.append(operator)
        self._shapes[operator.out] = shape

    def _refuse(self, node: Any, what: str) -> CompileError:
        return CompileError(f"{node.op_type} (node {node.name!r}) {what}; {ADVICE}.")

    def _keep(self, index: int) -> None:
        """The next state: a slice of some map's channels, or a whole map."""
        name = self._value(f"next_state_{index}")
        source, begin, end = self._slices.get(name, (name, 0, -1))
        shape = self._shapes.get(source)
        if shape is None or len(shape) != 3:
            raise CompileError(f"next_state_{index} is made by no known operator; {ADVICE}.")
        end = shape[2] if end < 0 else end
        wanted = self._shapes[f"state_{index}"]
        if (*shape[:2], end - begin) != wanted:
            raise CompileError(
                f"next_state_{index} has shape {(*shape[:2], end - begin)}; expected {wanted}, as "
                "the state has."
            )
        # No name of its own in the ONNX file, so the state's serves in messages.
        self._operators.append(
            KeepState(f"next_state_{index}", (source,), f"kept_{index}", index, begin, end)
        )

    # One reader for each operator.

    def _conv(self, node: Any) -> None:
        x = self._input(node, 0)
        weight = self._constant(node, 1).astype(np.float32)
        bias = self._constant(node, 2, np.zeros(weight.shape[0])).astype(np.float32)
        attributes = self._attributes(node)
        if weight.ndim != 4 or len(self._shapes[x]) != 3:
            raise self._refuse(node, "is not over two dimensions")
        if any(step != 1 for step in attributes.get("dilations", (1, 1))):
            raise self._refuse(node, "is dilated")
        padding = self._padding(node, attributes)
        stride = tuple(attributes.get("strides", (1, 1)))
        groups = int(attributes.get("group", 1))
        channels = self._shapes[x][2]
        if channels != weight.shape[1] * groups or weight.shape[0] % groups:
            raise self._refuse(
                node, f"has weights {weight.shape} in {groups} groups for {channels} channels"
            )
        out = node.output[0]
        rows, columns = self._window(node, x, weight.shape[2:], stride, padding)
        self._add(
            Conv(node.name, (x,), out, weight, bias, stride, padding, groups),
            (rows, columns, int(weight.shape[0])),
        )

    def _padding(self, node: Any, attributes: dict[str, Any]) -> tuple[int, int, int, int]:
        automatic = attributes.get("auto_pad", b"NOTSET")
        if automatic not in (b"NOTSET", b"VALID"):
            raise self._refuse(node, f"has auto_pad {automatic.decode()}")
        if automatic == b"VALID":
            return (0, 0, 0, 0)
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
        return (top, left, bottom, right)

    def _window(
        self,
        node: Any,
        x: str,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: tuple[int, int, int, int],
    ) -> tuple[int, int]:
        height, width, _ = self._shapes[x]
        rows = (height + padding[0] + padding[2] - kernel[0]) // stride[0] + 1
        columns = (width + padding[1] + padding[3] - kernel[1]) // stride[1] + 1
        if rows < 1 or columns < 1:
            raise self._refuse(node, f"leaves nothing of a map of {height}x{width}")
        return int(rows), int(columns)

    def _activation(self, kind: Activation) -> Callable[[Any], None]:
        def read(node: Any) -> None:
            x = self._input(node, 0)
            self._add(Activate(node.name, (x,), node.output[0], kind), self._shapes[x])

        return read

    def _clip(self, node: Any) -> None:
        low = float(self._constant(node, 1, -np.inf))
        high = float(self._constant(node, 2, np.inf))
        kinds = {(0.0, 6.0): Activation.RELU6, (0.0, float("inf")): Activation.RELU}
        kind = kinds.get((low, high))
        if kind is None:
            raise self._refuse(node, f"clips to {low:g}..{high:g}; known are 0..6 and 0 upwards")
        self._activation(kind)(node)

    def _hard_sigmoid(self, node: Any) -> None:
        attributes = self._attributes(node)
        alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
        if abs(alpha - 1 / 6) > 1e-6 or abs(beta - 0.5) > 1e-6:
            raise self._refuse(node, f"has slope {alpha:g}; known is 1/6")
        self._activation(Activation.HARD_SIGMOID)(node)

    def _mul(self, node: Any) -> None:
        a, b = self._input(node, 0), self._input(node, 1)
        swish = self._swish(a, b)
        if swish is not None:
            source, kind, gate = swish
            self._operators.remove(gate)
            self._add(Activate(node.name, (source,), node.output[0], kind), self._shapes[source])
            return
        if _size(self._shapes[a]) < _size(self._shapes[b]):
            a, b = b, a
        if self._shapes[b] not in (self._shapes[a], (1, 1, self._shapes[a][-1])):
            raise self._refuse(node, f"has shapes {self._shapes[a]} and {self._shapes[b]}")
        self._add(Mul(node.name, (a, b), node.output[0]), self._shapes[a])

    def _swish(self, a: str, b: str) -> tuple[str, Activation, Operator] | None:
        """x * sigmoid(x), when the gate has no other reader."""
        whole = {
            Activation.SIGMOID: Activation.SWISH,
            Activation.HARD_SIGMOID: Activation.HARD_SWISH,
        }
        for x, gate in ((a, b), (b, a)):
            made = next((one for one in self._operators if one.out == gate), None)
            if isinstance(made, Activate) and made.kind in whole and made.inputs == (x,):
                readers = sum(gate in map(self._value, node.input) for node in self._graph.node)
                if readers == 1:
                    return x, whole[made.kind], made
        return None

    def _sum(self, node: Any) -> None:
        a = self._value(node.input[0])
        b = self._value(node.input[1])
        if a in self._constants or b in self._constants:
            self._add_bias(node, b if a in self._constants else a, a if a in self._constants else b)
            return
        a, b = self._input(node, 0), self._input(node, 1)
        if self._shapes[a] != self._shapes[b]:
            raise self._refuse(node, f"has shapes {self._shapes[a]} and {self._shapes[b]}")
        self._add(Add(node.name, (a, b), node.output[0]), self._shapes[a])

    def _add_bias(self, node: Any, x: str, constant: str) -> None:
        """A constant added to a matrix product without a bias: MatMul and Add make a Dense."""
        made = next((one for one in self._operators if one.out == x), None)
        bias = self._constants[constant].astype(np.float32).reshape(-1)
        if not isinstance(made, Dense) or bias.shape != made.bias.shape:
            raise self._refuse(node, f"adds the constant {constant}")
        self._operators.remove(made)
        self._add(
            Dense(made.name, made.inputs, node.output[0], made.weight, made.bias + bias),
            (int(made.weight.shape[0]),),
        )

    def _global_mean(self, node: Any) -> None:
        x = self._input(node, 0)
        self._add(Mean(node.name, (x,), node.output[0]), (1, 1, self._shapes[x][-1]))

    def _reduce_mean(self, node: Any) -> None:
        attributes = self._attributes(node)
        x = self._input(node, 0)
        axes = attributes.get("axes")
        if axes is None:
            axes = self._constant(node, 1).tolist()
        if len(self._shapes[x]) != 3 or sorted(axis % 4 for axis in axes) != [2, 3]:
            raise self._refuse(node, f"is over the axes {list(axes)}; known is height and width")
        channels = self._shapes[x][-1]
        shape = (1, 1, channels) if attributes.get("keepdims", 1) else (channels,)
        self._add(Mean(node.name, (x,), node.output[0]), shape)

    def _pool(self, largest: bool) -> Callable[[Any], None]:
        def read(node: Any) -> None:
            x = self._input(node, 0)
            attributes = self._attributes(node)
            kernel = tuple(attributes["kernel_shape"])
            stride = tuple(attributes.get("strides", (1, 1)))
            padding = self._padding(node, attributes)
            if len(kernel) != 2 or attributes.get("ceil_mode", 0) or len(node.output) > 1:
                raise self._refuse(node, "rounds up, gives indices or is not over two dimensions")
            if any(step != 1 for step in attributes.get("dilations", (1, 1))):
                raise self._refuse(node, "is dilated")
            if attributes.get("count_include_pad", 0) and any(padding):
                raise self._refuse(node, "counts its padding")
            rows, columns = self._window(node, x, kernel, stride, padding)
            self._add(
                Pool(node.name, (x,), node.output[0], largest, kernel, stride, padding),
                (rows, columns, self._shapes[x][2]),
            )

        return read

    def _vector(self, node: Any) -> None:
        """Flatten, Reshape and Squeeze, where they only turn a 1 x 1 map into a vector."""
        x = self._input(node, 0)
        shape = self._shapes[x]
        if len(shape) == 3 and shape[:2] != (1, 1):
            raise self._refuse(node, f"reorders a map of shape {shape}")
        # Both forms are the same numbers in the same order, so only the name changes.
        self._alias[node.output[0]] = x

    def _dense(self, node: Any) -> None:
        attributes = self._attributes(node)
        x = self._input(node, 0)
        weight = self._constant(node, 1).astype(np.float32)
        plain = attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0
        if weight.ndim != 2 or not plain or attributes.get("transA", 0):
            raise self._refuse(node, "is scaled, or not a matrix by a vector")
        if not attributes.get("transB", 0):
            weight = np.ascontiguousarray(weight.T)
        outputs = int(weight.shape[0])
        bias = np.zeros(outputs, np.float32)
        if node.op_type == "Gemm":
            given = self._constant(node, 2, bias).astype(np.float32)
            bias = np.broadcast_to(given.reshape(-1), (outputs,)).copy()
        if _size(self._shapes[x]) != weight.shape[1] or self._shapes[x][:-1] not in ((), (1, 1)):
            raise self._refuse(node, f"has weights {weight.shape} for {self._shapes[x]}")
        self._add(Dense(node.name, (x,), node.output[0], weight, bias), (outputs,))

    def _same(self, node: Any) -> None:
        self._alias[node.output[0]] = node.input[0]

    def _constant_node(self, node: Any) -> None:
        value = self._attributes(node).get("value")
        if value is None:
            raise self._refuse(node, "is no tensor")
        self._constants[node.output[0]] = self._onnx.numpy_helper.to_array(value)

    def _slice(self, node: Any) -> None:
        x = self._input(node, 0)
        channels = self._shapes[x][-1]
        starts, ends = self._constant(node, 1), self._constant(node, 2)
        axes = self._constant(node, 3, np.arange(len(starts)))
        steps = self._constant(node, 4, np.ones(len(starts)))
        if len(starts) != 1 or int(axes[0]) % 4 != 1 or int(steps[0]) != 1:
            raise self._refuse(node, "is no slice of channels")
        begin, end, _ = slice(int(starts[0]), int(ends[0])).indices(channels)
        self._slices[node.output[0]] = (x, begin, end)

    def _concat(self, node: Any) -> None:
        names = [self._value(name) for name in node.input]
        axis = self._attributes(node)["axis"] % 4
        states = {f"state_{index}": index for index in range(len(self._spec.states))}
        if axis != 1 or len(names) != 2 or names[0] not in states:
            raise self._refuse(node, "does not join a state and features, as a temporal shift does")
        source, begin, end = self._slices.get(names[1], (names[1], 0, -1))
        shape = self._shapes.get(source)
        if shape is None or len(shape) != 3 or end not in (-1, shape[2]):
            raise self._refuse(node, f"joins {names[1]}, which is not the rest of a map's channels")
        state = self._shapes[names[0]]
        if state[:2] != shape[:2]:
            raise self._refuse(node, f"joins maps of {state} and {shape}")
        self._add(
            Join(node.name, (names[0], source), node.output[0], states[names[0]], begin),
            (*shape[:2], state[2] + shape[2] - begin),
        )


def _size(shape: Shape) -> int:
    return int(np.prod(shape))


def _alive(operators: Sequence[Operator], logits: str) -> tuple[Operator, ...]:
    """Operators that the logits or a next state depend on, in order."""
    needed = {logits}
    kept: list[Operator] = []
    for operator in reversed(operators):
        if isinstance(operator, KeepState) or operator.out in needed:
            needed.update(operator.inputs)
            kept.append(operator)
    return tuple(reversed(kept))


_READERS: dict[str, Callable[[_Reader, Any], None]] = {
    "Add": _Reader._sum,
    "AveragePool": lambda reader, node: reader._pool(False)(node),
    "Clip": _Reader._clip,
    "Concat": _Reader._concat,
    "Constant": _Reader._constant_node,
    "Conv": _Reader._conv,
    "Dropout": _Reader._same,
    "Flatten": _Reader._vector,
    "Gemm": _Reader._dense,
    "GlobalAveragePool": _Reader._global_mean,
    "HardSigmoid": _Reader._hard_sigmoid,
    "HardSwish": lambda reader, node: reader._activation(Activation.HARD_SWISH)(node),
    "Identity": _Reader._same,
    "MatMul": _Reader._dense,
    "MaxPool": lambda reader, node: reader._pool(True)(node),
    "Mul": _Reader._mul,
    "ReduceMean": _Reader._reduce_mean,
    "Relu": lambda reader, node: reader._activation(Activation.RELU)(node),
    "Reshape": _Reader._vector,
    "Sigmoid": lambda reader, node: reader._activation(Activation.SIGMOID)(node),
    "Slice": _Reader._slice,
    "Squeeze": _Reader._vector,
}
