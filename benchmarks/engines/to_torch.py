"""A model as a torch module, for the engines that start from one; docs/adding-an-engine.md says why
it is written here, and what becomes of quantised files.

The file is read by the compiler's own frontend, whose graph has a dozen kinds of operators; what
comes out is a ``torch.fx.GraphModule`` with one call for each operator and static sizes, which is
what eager mode, ``torch.compile`` and ``torch.export`` all take best. Each reader of a quantised
value has a call of its own that gives the numbers, as XNNPACK's partitioner drops a call for all
its users or for none. Biases alone are float32: engines round them as the file did.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.graph import (
    Activate,
    Add,
    Conv,
    Dense,
    Dequantize,
    Graph,
    Join,
    KeepState,
    Mean,
    Mul,
    Operator,
    Pool,
    Quantization,
    Quantize,
)
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

FORMS = ("unsigned", "signed", "float-ends")
"""What a quantised graph holds.

- ``unsigned``: the file's uint8, moved as they are, for inductor.
- ``signed``: int8, each 128 less, and so is each zero point; slices and concatenations are made of
  numbers and rounded again. For XNNPACK, which makes a copy of bytes of them.
- ``float-ends``: as that, but states and weights are float32 and rounded by calls. For LiteRT.
"""
BETWEEN = 128
"""A uint8 value less this is the int8 value of the same number."""
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda torch: torch.clone,
    "RELU": lambda torch: torch.relu,
    "RELU6": lambda torch: torch.nn.functional.relu6,
    "HARD_SIGMOID": lambda torch: torch.nn.functional.hardsigmoid,
    "HARD_SWISH": lambda torch: torch.nn.functional.hardswish,
    "SWISH": lambda torch: torch.nn.functional.silu,
    "SIGMOID": lambda torch: torch.sigmoid,
    "TANH": lambda torch: torch.tanh,
    "ERF": lambda torch: torch.erf,
    "GELU": lambda torch: torch.nn.functional.gelu,
    "MISH": lambda torch: torch.nn.functional.mish,
}
"""Of the graph, by name -> torch's function; another one is a row that names it."""


def to_torch(path: Path, spec: ModelSpec, form: str = "unsigned") -> Any:
    """The model as a module in evaluation mode.

    Returns:
        A ``torch.fx.GraphModule``: (frame, state_0, ...) -> (logits, next_state_0, ...).

    Raises:
        CompileError: the compiler cannot read the file.
        ModelError: it holds what has no translation to torch here; the sentence names it.
        MissingExtraError: onnx or torch is not installed.
    """
    torch = require("torch")
    return _Module(torch, read_onnx(path.read_bytes(), spec, fold=False), spec, form).made()


def quantised_convolutions(module: Any) -> int:
    """How many convolutions of a module have quantised weights."""
    return sum("dequantize_per_channel" in str(node.target) for node in module.graph.nodes)


def signed(state: NDArray[Any]) -> NDArray[Any]:
    """uint8 values as the int8 values of the same numbers; anything else as it is."""
    return (state ^ np.uint8(BETWEEN)).view(np.int8) if state.dtype == np.uint8 else state


def unsigned(state: NDArray[Any]) -> NDArray[Any]:
    return state.view(np.uint8) ^ np.uint8(BETWEEN) if state.dtype == np.int8 else state


class _Module:
    """The fx graph as it grows. Maps are NCHW there, vectors (1, channels)."""

    def __init__(self, torch: Any, graph: Graph, spec: ModelSpec, form: str) -> None:
        self._torch, self._graph, self._spec = torch, graph, spec
        self._functional = torch.nn.functional
        importlib.import_module("torch.ao.quantization.fx._decomposed")  # registers the dialect
        self._dialect = torch.ops.quantized_decomposed
        self._signed, self._float_ends = form != "unsigned", form == "float-ends"
        self._root, self._fx = torch.nn.Module(), torch.fx.Graph()
        self._values: dict[str, Any] = {}
        """Name of the graph's value -> node: float32, or quantised where ``meaning`` has it."""
        self._meaning = graph.quantization
        self._numbers_of: dict[str, str] = {}
        """A value that is the numbers of a quantised one -> that."""

    def made(self) -> Any:
        graph, states = self._graph, range(len(self._spec.states))
        self._values["frame"] = self._fx.placeholder("frame")
        for name in (f"state_{index}" for index in states):
            node = self._fx.placeholder(name)
            if self._float_ends and name in self._meaning:
                node = self._quantised(node, self._meaning[name])
            self._values[name] = node
        kept: dict[int, Any] = {}
        for operator in graph.operators:
            if isinstance(operator, KeepState):
                kept[operator.state] = self._kept(operator)
            elif isinstance(operator, Dequantize):
                self._numbers_of[operator.out] = operator.inputs[0]
            else:
                self._values[operator.out] = self._made_by(operator)
        logits = self._call(self._torch.reshape, self._read(graph.logits), [1, self._spec.classes])
        self._fx.output((logits, *(kept[index] for index in states)))
        return self._torch.fx.GraphModule(self._root, self._fx, "OnnxModel").eval()

    # Reading and writing values.

    def _call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        return self._fx.call_function(function, arguments, options)

    def _constant(self, values: Any) -> Any:
        name = f"constant_{len(list(self._root.buffers()))}"
        array = np.array(values)  # a copy, which torch may own
        self._root.register_buffer(name, self._torch.from_numpy(array))
        return self._fx.get_attr(name)

    def _stored(self, name: str) -> Any:
        """A value as it is: quantised where it has a meaning."""
        return self._values[name] if name in self._values else self._read(name)

    def _read(self, name: str) -> Any:
        source = self._numbers_of.get(name, name)
        if source not in self._meaning:
            return self._values[source]
        return self._numbers(self._values[source], self._meaning[source])

    def _map(self, name: str) -> Any:
        """The same as a map, as which a vector is 1 x 1."""
        found, shape = self._read(name), self._graph.shapes[name]
        return (
            found if len(shape) == 3 else self._call(self._torch.reshape, found, [1, *shape, 1, 1])
        )

    def _arguments(self, meaning: Quantization) -> tuple[Any, ...]:
        """Of a call: scale, zero point, least and most, type."""
        scale, zero = float(np.float32(meaning.scale)), meaning.zero_point
        if self._signed:
            return (scale, zero - BETWEEN, -128, 127, self._torch.int8)
        return (scale, zero, 0, 255, self._torch.uint8)

    def _quantised(self, node: Any, meaning: Quantization) -> Any:
        return self._call(
            self._dialect.quantize_per_tensor.default, node, *self._arguments(meaning)
        )

    def _numbers(self, node: Any, meaning: Quantization) -> Any:
        return self._call(
            self._dialect.dequantize_per_tensor.default, node, *self._arguments(meaning)
        )

    def _moved(
        self, function: Any, nodes: list[Any], meaning: Quantization | None, *more: Any
    ) -> Any:
        """What moves values and computes nothing: ``nodes`` are quantised where there is a
        ``meaning``."""
        joins = function is self._torch.cat
        if meaning is None or not self._signed:
            return self._call(function, nodes if joins else nodes[0], *more)
        numbers = [self._numbers(node, meaning) for node in nodes]
        moved = self._call(function, numbers if joins else numbers[0], *more)
        return self._quantised(moved, meaning)

    # Operators.

    def _made_by(self, operator: Operator) -> Any:
        if isinstance(operator, Join):
            return self._join(operator)
        made = self._numbers_by(operator)
        meaning = self._meaning.get(operator.out)
        return made if meaning is None else self._quantised(made, meaning)

    def _numbers_by(self, operator: Operator) -> Any:
        torch, inputs = self._torch, operator.inputs
        if isinstance(operator, Quantize):
            return self._read(inputs[0])
        if isinstance(operator, Conv):
            return self._conv(operator)
        if isinstance(operator, Pool):
            return self._pool(operator)
        if isinstance(operator, Activate):
            find = ACTIVATIONS.get(operator.kind.name)
            if find is None:
                raise _refused(operator, f"is the activation {operator.kind.name}")
            return self._call(find(torch), self._read(inputs[0]))
        if isinstance(operator, (Add, Mul)):
            function = torch.add if isinstance(operator, Add) else torch.mul
            vectors = len(self._graph.shapes[operator.out]) == 1
            read = self._read if vectors else self._map
            return self._call(function, *(read(name) for name in inputs))
        if isinstance(operator, Mean):
            # XNNPACK takes the form that keeps the axes alone.
            mean = self._call(torch.mean, self._map(inputs[0]), [2, 3], keepdim=True)
            shape = self._graph.shapes[operator.out]
            return self._call(torch.reshape, mean, [1, *shape]) if len(shape) == 1 else mean
        if isinstance(operator, Dense):
            x = self._read(inputs[0])
            if len(self._graph.shapes[inputs[0]]) == 3:
                x = self._call(torch.reshape, x, [1, operator.weight.shape[1]])
            weight, bias = self._constant(operator.weight), self._constant(operator.bias)
            return self._call(self._functional.linear, x, weight, bias)
        raise _refused(operator, f"is a {type(operator).__name__}")

    def _conv(self, conv: Conv) -> Any:
        if conv.quantized_weight is None or conv.weight_scale is None:
            weight = self._constant(conv.weight)
        else:
            dialect, scales = self._dialect, self._constant(conv.weight_scale)
            zeros = self._constant(np.zeros(len(conv.weight_scale), np.int64))
            how = (scales, zeros, 0, -128, 127, self._torch.int8)
            weight = self._constant(conv.weight if self._float_ends else conv.quantized_weight)
            if self._float_ends:
                weight = self._call(dialect.quantize_per_channel.default, weight, *how)
            weight = self._call(dialect.dequantize_per_channel.default, weight, *how)
        x, padding = self._padded(conv, self._map(conv.inputs[0]), 0.0)
        bias = self._constant(conv.bias)
        options = {"stride": list(conv.stride), "padding": padding, "groups": conv.groups}
        return self._call(self._functional.conv2d, x, weight, bias, **options)

    def _pool(self, pool: Pool) -> Any:
        x, padding = self._padded(pool, self._map(pool.inputs[0]), -np.inf)
        options = {"stride": list(pool.stride), "padding": padding}
        if pool.largest:
            return self._call(self._functional.max_pool2d, x, list(pool.kernel), **options)
        if any(pool.padding) and not any(padding):
            raise _refused(pool, "pads its sides unequally and counts no padding")
        mean = self._functional.avg_pool2d
        return self._call(mean, x, list(pool.kernel), **options, count_include_pad=False)

    def _padded(self, layer: Conv | Pool, x: Any, fill: float) -> tuple[Any, list[int]]:
        """The input, padded where its two sides differ, and the padding that is left to the layer;
        torch's pooling takes half of its window at most."""
        top, left, bottom, right = layer.padding
        half = isinstance(layer, Conv) or all(
            2 * pad <= size for pad, size in zip((top, left), layer.kernel, strict=True)
        )
        if (top, left) == (bottom, right) and half:
            return x, [top, left]
        sides = [left, right, top, bottom]
        return self._call(self._functional.pad, x, sides, value=float(fill)), [0, 0]

    def _join(self, join: Join) -> Any:
        state, other = join.inputs
        meaning = self._meaning.get(state)
        if meaning != self._meaning.get(other):
            raise _refused(join, "joins quantised values of several scales; expected one for all")
        moved = self._sliced(other, join.begin, self._graph.shapes[other][2])
        return self._moved(self._torch.cat, [self._stored(state), moved], meaning, 1)

    def _kept(self, keep: KeepState) -> Any:
        (source,) = keep.inputs
        kept = self._sliced(source, keep.begin, keep.end)
        meaning = self._meaning.get(source)
        return kept if meaning is None or not self._float_ends else self._numbers(kept, meaning)

    def _sliced(self, name: str, begin: int, end: int) -> Any:
        """Channels of a map, quantised where it is."""
        value = self._stored(name)
        if (begin, end) == (0, self._graph.shapes[name][2]):
            return value
        return self._moved(
            self._torch.narrow, [value], self._meaning.get(name), 1, begin, end - begin
        )


def _refused(operator: Operator, what: str) -> ModelError:
    return ModelError(f"The node {operator.name!r} {what}, which has no translation to torch here.")
