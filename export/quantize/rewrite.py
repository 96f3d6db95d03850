"""The quantised file: QuantizeLinear and DequantizeLinear about float operators, as every engine
reads it, and the shift on the codes themselves.

::

    block input -> QuantizeLinear -+-> Slice ------------------------------> next_state_i (uint8)
                                   +-> Slice -> Concat -> DequantizeLinear -> Conv
                      state_i (uint8) ------------^
                                   +-> DequantizeLinear -> Add (the residual)

onnxruntime.quantization writes the same nodes about each operator by itself; it would put a pair of
them about Slice and Concat with float states outside, so these few lines are our own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.quantize.graph import COPIES, Graph, Layer, weights
from shiftedge.export.quantize.plan import Plan
from shiftedge.export.quantize.ranges import Affine
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

__all__ = ["quantised_spec", "quantised_weights", "rewrite"]

BIAS_MOST = 2.0**30
"""Largest magnitude of a bias in its int32 steps: leaves room for the sum of products."""

SCALE_LEAST = 1e-20
"""Of weights: keeps those of next to nothing from a scale whose products leave float32."""


def quantised_weights(
    weight: NDArray[np.float32], bias: NDArray[np.float32] | None, input_scale: float
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32] | None]:
    """Weights of one layer as codes.

    Args:
        weight: (O, I, ...).
        bias: (O,) or None.
        input_scale: of the layer's input.

    Returns:
        int8 codes; float32 (O,), the scale of each output channel; int32 bias in steps of
        ``input_scale * scale``. A scale is the largest weight over 127, raised where the bias would
        not fit an int32: so for a channel of next to no weights.
    """
    flat = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64)
    scale = flat / 127.0
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / (input_scale * BIAS_MOST))
    scale = np.where(scale > 0.0, np.maximum(scale, SCALE_LEAST), 1.0).astype(np.float32)
    column = scale.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float64)
    codes = np.clip(np.rint(weight / column), -127, 127).astype(np.int8)
    if bias is None:
        return codes, scale, None
    steps = np.rint(bias.astype(np.float64) / _bias_scale(input_scale, scale).astype(np.float64))
    return codes, scale, steps.astype(np.int32)


def _bias_scale(input_scale: float, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.float32(input_scale) * scale, np.float32)


def quantised_spec(graph: Graph, plan: Plan, affine: Mapping[str, Affine], spec: ModelSpec) -> Any:
    """``spec`` with what its states hold."""
    states = []
    for index, state in enumerate(spec.states):
        group = graph.group(f"state_{index}")
        if group in plan.groups:
            a = affine[group]
            state = dataclasses.replace(
                state, dtype="uint8", scale=a.scale, zero_point=a.zero_point
            )
        states.append(state)
    return dataclasses.replace(spec, states=tuple(states), precision="int8")


def rewrite(graph: Graph, plan: Plan, affine: Mapping[str, Affine], spec: ModelSpec) -> bytes:
    """Serialise the quantised model.

    Args:
        graph: of the float model.
        plan: of this graph.
        affine: of each group of the plan.
        spec: of the float model.
    """
    return _Writer(graph, plan, affine).write(quantised_spec(graph, plan, affine, spec))


class _Writer:
    def __init__(self, graph: Graph, plan: Plan, affine: Mapping[str, Affine]) -> None:
        self.onnx = require("onnx")
        self.graph = graph
        self.plan = plan
        self.affine = affine
        self.nodes: list[Any] = []
        self.fresh: dict[str, Any] = {}
        self.codes = {
            member: self._code_name(member)
            for members in plan.groups.values()
            for member in members
        }
        """Quantised tensor -> the name that its codes go by."""

    def _code_name(self, member: str) -> str:
        plain = member.startswith("state_") and member in self.graph.inputs
        return member if plain or member in self.graph.outputs else f"{member}_codes"

    def _float_name(self, root: str) -> str:
        # Where the codes take the name of a graph's output, the float tensor needs another.
        return f"{root}_float" if self.codes.get(root) == root else root

    def write(self, spec: ModelSpec) -> bytes:
        """All of it."""
        layers = {layer.node: layer for layer in self.plan.layers}
        for name in self.graph.inputs:
            self._announce(name)
        for index, node in enumerate(self.graph.nodes):
            copy = self.onnx.NodeProto()
            copy.CopyFrom(node)
            if node.op_type in COPIES and node.output[0] in self.codes:
                self._rename_copy(copy)
            else:
                for place, name in enumerate(node.input):
                    if name in self.codes:
                        copy.input[place] = f"{name}_numbers"
                for place, name in enumerate(node.output):
                    copy.output[place] = self._float_name(name)
                if index in layers:
                    self._weights(copy, layers[index])
            self.nodes.append(copy)
            for name in node.output:
                self._announce(name)
        return self._serialise(spec)

    def _rename_copy(self, node: Any) -> None:
        for place, name in enumerate(node.input):
            node.input[place] = self.codes.get(name, name)
        for place, name in enumerate(node.output):
            node.output[place] = self.codes.get(name, name)

    def _announce(self, tensor: str) -> None:
        """After a quantised tensor has been made: its codes, and its numbers if anybody computes
        with them."""
        if tensor not in self.codes:
            return
        group = self.graph.group(tensor)
        if self.graph.is_root(tensor):
            self._linear("QuantizeLinear", self._float_name(tensor), self.codes[tensor], group)
        if self.graph.users(tensor):
            self._linear("DequantizeLinear", self.codes[tensor], f"{tensor}_numbers", group)

    def _linear(self, kind: str, source: str, result: str, group: str) -> None:
        affine = self.affine[group]
        scale = self._constant(f"{group}_scale", np.array(affine.scale, np.float32))
        zero = self._constant(f"{group}_zero_point", np.array(affine.zero_point, np.uint8))
        self.nodes.append(
            self.onnx.helper.make_node(
                kind, [source, scale, zero], [result], name=f"{result}_{kind}"
            )
        )

    def _weights(self, node: Any, layer: Layer) -> None:
        weight, bias = weights(self.graph, layer)
        source = self.graph.nodes[layer.node].input[0]
        input_scale = self.affine[self.graph.group(source)].scale
        codes, scale, steps = quantised_weights(weight, bias, input_scale)
        node.input[1] = self._channels(f"{layer.name}.weight", codes, scale)
        if steps is not None:
            node.input[2] = self._channels(
                f"{layer.name}.bias", steps, _bias_scale(input_scale, scale)
            )

    def _channels(self, name: str, codes: NDArray[Any], scale: NDArray[np.float32]) -> str:
        inputs = [
            self._constant(f"{name}_codes", codes),
            self._constant(f"{name}_scale", scale),
            self._constant(f"{name}_zero_point", np.zeros(scale.shape, codes.dtype)),
        ]
        result = f"{name}_numbers"
        self.nodes.append(
            self.onnx.helper.make_node(
                "DequantizeLinear", inputs, [result], name=f"{result}_DequantizeLinear", axis=0
            )
        )
        return result

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self.fresh[name] = self.onnx.numpy_helper.from_array(value, name)
        return name

    def _serialise(self, spec: ModelSpec) -> bytes:
        document = self.onnx.ModelProto()
        document.CopyFrom(self.graph.model)
        graph = document.graph
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend([*kept, *self.fresh.values()])
        for entry in (*graph.input, *graph.output):
            if entry.name in self.codes and entry.name != "frame":
                entry.type.tensor_type.elem_type = self.onnx.TensorProto.UINT8
        del document.metadata_props[:]
        document.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
        self.onnx.checker.check_model(document, full_check=True)
        serialised: bytes = document.SerializeToString(deterministic=True)
        return serialised
