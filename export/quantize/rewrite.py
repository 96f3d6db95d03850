"""The quantised file: QuantizeLinear and DequantizeLinear about float operators, as every engine
reads it, and the shift on the quantized values themselves.

::

    block input -> QuantizeLinear -+-> Slice ------------------------------> next_state_i (uint8)
                                   +-> Slice -> Concat -> DequantizeLinear -> Conv
                      state_i (uint8) ------------^
                                   +-> DequantizeLinear -> Add (the residual)

onnxruntime.quantization writes the same nodes about each operator by itself; it would put a pair of
them about Slice and Concat with float states outside, so these few lines are our own. The graph is
edited by onnx-ir.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.quantize.graph import Layer, OnnxGraph, uses
from shiftedge.export.quantize.plan import Plan
from shiftedge.export.quantize.ranges import Affine
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

BIAS_MOST = 2.0**30
"""Largest magnitude of a bias in its int32 steps: leaves room for the sum of products."""

SCALE_LEAST = 1e-20
"""Of weights: keeps those of next to nothing from a scale whose products leave float32."""


def quantized_weights(
    weight: NDArray[np.float32], bias: NDArray[np.float32] | None, input_scale: float
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32] | None]:
    """Weights of one layer in int8.

    Returns:
        int8 weights; float32 (O,), the scale of each output channel; int32 bias in steps of
        ``input_scale * scale``. A scale is the largest weight over 127, raised where the bias would
        not fit an int32: so for a channel of next to no weights.
    """
    flat = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64)
    scale = flat / 127.0
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / (input_scale * BIAS_MOST))
    scale = np.where(scale > 0.0, np.maximum(scale, SCALE_LEAST), 1.0).astype(np.float32)
    column = scale.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float64)
    quantized = np.clip(np.rint(weight / column), -127, 127).astype(np.int8)
    if bias is None:
        return quantized, scale, None
    steps = np.rint(bias.astype(np.float64) / _bias_scale(input_scale, scale).astype(np.float64))
    return quantized, scale, steps.astype(np.int32)


def _bias_scale(input_scale: float, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.float32(input_scale) * scale, np.float32)


def _quantized_spec(
    graph: OnnxGraph, plan: Plan, affine: Mapping[str, Affine], spec: ModelSpec
) -> ModelSpec:
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


def rewrite(
    graph: OnnxGraph, plan: Plan, affine: Mapping[str, Affine], spec: ModelSpec
) -> tuple[bytes, ModelSpec]:
    """The quantised model, serialised, and its spec."""
    writer = _Writer(OnnxGraph(graph.model.clone()), affine)
    layers = {layer.name for layer in plan.layers}
    for layer in writer.graph.layers:
        if layer.name in layers:
            writer.weights(layer)
    members = {member for group in plan.groups.values() for member in group}
    for tensor in writer.graph.values:
        if tensor in members:
            writer.tensor(tensor)
    stored = _quantized_spec(graph, plan, affine, spec)
    return writer.serialised(stored), stored


class _Writer:
    """Puts the nodes into a graph of its own."""

    def __init__(self, graph: OnnxGraph, affine: Mapping[str, Affine]) -> None:
        self.ir = require("onnx_ir")
        self.graph = graph
        self.affine = affine
        self.whole = graph.model.graph
        self.first = next(iter(self.whole))
        """Before it stands what is made of inputs."""
        self.fresh: dict[str, Any] = {}

    def tensor(self, tensor: str) -> None:
        """Have one stored in its group's range, and its numbers made for who computes with it."""
        value = self.graph.values[tensor]
        made = value.producer()
        group = self.graph.group(tensor)
        scale = self._constant(f"{group}_scale", np.array(self.affine[group].scale, np.float32))
        zero_point = np.array(self.affine[group].zero_point, np.uint8)
        zero = self._constant(f"{group}_zero_point", zero_point)
        copying, computing = uses(value, copied=True), uses(value, copied=False)
        nodes = []
        stored = value
        if self.graph.is_root(tensor):
            node = self._node("QuantizeLinear", [value, scale, zero], f"{tensor}_quantized")
            nodes.append(node)
            (stored,) = node.outputs
            for user, at in copying:
                user.replace_input_with(at, stored)
            if value.is_graph_output():
                stored.shape = value.shape
                self.whole.outputs[self.whole.outputs.index(value)] = stored
                value.name, stored.name = f"{tensor}_float", tensor
        elif made is not None and not value.is_graph_output():
            value.name = f"{tensor}_quantized"
        stored.type = self.ir.TensorType(self.ir.DataType.UINT8)
        if computing:
            node = self._node("DequantizeLinear", [stored, scale, zero], f"{tensor}_dequantized")
            nodes.append(node)
            for user, at in computing:
                user.replace_input_with(at, node.outputs[0])
        if made is None:
            self.first.prepend(nodes)
        else:
            made.append(nodes)

    def weights(self, layer: Layer) -> None:
        """Have a layer's weights in int8."""
        weight, bias = layer.weights()
        input_scale = self.affine[self.graph.group(layer.source)].scale
        quantized, scale, steps = quantized_weights(weight, bias, input_scale)
        parts: list[tuple[str, NDArray[Any], NDArray[np.float32]]] = [("weight", quantized, scale)]
        if steps is not None:
            parts.append(("bias", steps, _bias_scale(input_scale, scale)))
        for at, (part, stored, scales) in enumerate(parts, 1):
            name = f"{layer.name}.{part}"
            inputs = [
                self._constant(f"{name}_quantized", stored),
                self._constant(f"{name}_scale", scales),
                self._constant(f"{name}_zero_point", np.zeros(scales.shape, stored.dtype)),
            ]
            node = self._node("DequantizeLinear", inputs, f"{name}_dequantized", axis=0)
            layer.node.prepend(node)
            layer.node.replace_input_with(at, node.outputs[0])

    def _node(self, kind: str, inputs: list[Any], result: str, **attributes: int) -> Any:
        output = self.ir.Value(name=result)
        return self.ir.node(kind, inputs, attributes, outputs=[output], name=f"{result}_{kind}")

    def _constant(self, name: str, held: NDArray[Any]) -> Any:
        if name not in self.fresh:
            value = self.ir.Value(name=name, const_value=self.ir.tensor(held, name=name))
            self.whole.register_initializer(value)
            self.fresh[name] = value
        return self.fresh[name]

    def serialised(self, spec: ModelSpec) -> bytes:
        """The file, with what nobody reads any more left out."""
        for name, value in list(self.whole.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del self.whole.initializers[name]
        self.graph.model.metadata_props.clear()
        self.graph.model.metadata_props[METADATA_KEY] = spec.to_json()
        document = self.ir.to_proto(self.graph.model)
        del document.graph.value_info[:]
        require("onnx").checker.check_model(document, full_check=True)
        serialised: bytes = document.SerializeToString(deterministic=True)
        return serialised
