"""What the quantiser must know of an ONNX graph: its layers, and which tensors share a scale.

Rules:

1. A *layer* is a Conv with constant weights and a picture as its input. Convolutions on 1 x 1 (of
   squeeze and excite) are left alone: they cost nothing and their input is a mean.
2. Slice, Concat, Identity and Split move elements and change none. Tensors that they connect form
   a *group*; a state and its next state are of one group too. All of a group shares one scale and
   zero point, or is float, so that the shift stays a pure copy of bytes.
3. A group with a constant in it, with the logits, or with nothing but states is never quantised.

The graph itself is onnx-ir's (``onnx_ir``), which knows who makes a value and who reads it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.extras import require

COPIES = ("Slice", "Concat", "Identity", "Split")

# fmt: off
ACTIVATIONS = frozenset((
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "HardSwish", "HardSigmoid", "Sigmoid",
    "Tanh", "Gelu", "Mish", "Softplus",
))
QUANTIZED = frozenset((
    "QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger", "DynamicQuantizeLinear",
))
# fmt: on
OPSET_LEAST = 13
"""DequantizeLinear with a scale for each channel."""


@dataclass(frozen=True)
class Layer:
    name: str
    node: Any
    result: str
    """Its output after the activation that follows it, if one does."""

    @property
    def source(self) -> str:
        """What it reads."""
        return str(self.node.inputs[0].name)

    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """(O, I / groups, ...), and the bias (O,) or None."""
        weight, bias = (constant(value) for value in (*self.node.inputs[1:3], None)[:2])
        assert weight is not None
        return weight, bias


def constant(value: Any) -> NDArray[Any] | None:
    """What a value holds, where an initializer or a Constant gives it."""
    found = None if value is None else require("onnx_ir").convenience.get_const_tensor(value)
    return None if found is None else np.asarray(found.numpy())


def uses(value: Any, *, copied: bool) -> list[tuple[Any, int]]:
    """Nodes that copy the elements of a value, or that compute with it, and which input it is."""
    return [
        (node, at)
        for node, at in value.uses()
        if copied == (node.op_type in COPIES and (at == 0 or node.op_type == "Concat"))
    ]


class OnnxGraph:
    """A parsed model of onnx-ir, with shapes, and its groups; the model itself is not changed."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.inputs = [value.name for value in model.graph.inputs]
        self.outputs = [value.name for value in model.graph.outputs]
        made = [value for node in model.graph for value in node.outputs if value.name]
        self.values: dict[str, Any] = {value.name: value for value in (*model.graph.inputs, *made)}
        """Inputs, and what nodes make, in order."""
        self._leader: dict[str, str] = {}
        for node in model.graph:
            if node.op_type in COPIES:
                moved = [*(node.inputs if node.op_type == "Concat" else node.inputs[:1])]
                for value in (*moved[1:], *node.outputs):
                    self._join(moved[0].name, value.name)
        for name in self.inputs:
            if f"next_{name}" in self.outputs:
                self._join(name, f"next_{name}")
        self.layers = self._layers()

    def serialised(self) -> bytes:
        content: bytes = require("onnx_ir").to_proto(self.model).SerializeToString()
        return content

    def group(self, tensor: str) -> str:
        """The name that stands for the group of ``tensor``."""
        while (leader := self._leader.get(tensor, tensor)) != tensor:
            tensor = leader
        return tensor

    def groups(self) -> dict[str, list[str]]:
        """Members of every group, single tensors included, constants left out."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, value in self.values.items():
            if constant(value) is None:
                found[self.group(name)].append(name)
        return dict(found)

    def is_root(self, tensor: str) -> bool:
        """True for the frame and for what a node computes rather than copies."""
        maker = self.values[tensor].producer()
        return not tensor.startswith("state_") if maker is None else maker.op_type not in COPIES

    def _join(self, one: str, other: str) -> None:
        one, other = self.group(one), self.group(other)
        if one != other:
            self._leader[other] = one

    def _layers(self) -> tuple[Layer, ...]:
        found, names = [], set[str]()
        for node in self.model.graph:
            if node.op_type != "Conv" or any(
                value is not None and constant(value) is None for value in node.inputs[1:]
            ):
                continue
            shape = node.inputs[0].shape
            if shape is not None and all(side == 1 for side in shape[2:]):
                continue
            name = node.inputs[1].name.removesuffix(".weight")
            if name in names:  # shared weights
                name = node.outputs[0].name
            names.add(name)
            found.append(Layer(name, node, self._activated(node.outputs[0]).name))
        return tuple(found)

    def _activated(self, value: Any) -> Any:
        """The last of the activations that alone read ``value`` one after another, x * gate(x)
        included."""
        while True:
            readers = value.consumers()
            if value.is_graph_output() or not readers:
                return value
            if len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
                value = readers[0].outputs[0]
                continue
            gates = [node for node in readers if node.op_type in ("Sigmoid", "HardSigmoid")]
            products = [node for node in readers if node.op_type == "Mul"]
            if len(readers) == 2 and len(gates) == len(products) == 1:
                gate, product = gates[0].outputs[0], products[0]
                if set(product.inputs) == {value, gate} and len(gate.consumers()) == 1:
                    value = product.outputs[0]
                    continue
            return value


def parse(model: bytes, what: str) -> OnnxGraph:
    """The graph of a float model.

    Raises:
        ModelError: not an ONNX model, quantised already, or without a convolution to quantise.
    """
    onnx = require("onnx")
    try:
        document = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's own kinds
        raise ModelError(f"{what} is not an ONNX model, or is damaged: export it again.") from error
    strange = sorted({node.op_type for node in document.graph.node} & QUANTIZED)
    if strange:
        raise ModelError(
            f"{what} is quantised already (it holds {strange[0]}); give the float model that "
            "`shiftedge export` wrote."
        )
    opset = max((entry.version for entry in document.opset_import if not entry.domain), default=0)
    if opset < OPSET_LEAST:
        raise ModelError(
            f"{what} is of ONNX operator set {opset}; expected {OPSET_LEAST} or newer: export it "
            "again with `shiftedge export`."
        )
    graph = OnnxGraph(require("onnx_ir").from_proto(onnx.shape_inference.infer_shapes(document)))
    if not graph.layers:
        raise ModelError(f"{what} holds no convolution with constant weights to quantise.")
    return graph
