"""What the quantiser must know of an ONNX graph: who makes a tensor, who reads it, what is copied.

Rules:

1. A *layer* is a Conv with constant weights and a picture as its input. Convolutions on 1 x 1 (of
   squeeze and excite) are left alone: they cost nothing and their input is a mean.
2. Slice, Concat, Identity and Split move elements and change none. Tensors that they connect form
   a *group*; a state and its next state are of one group too. All of a group shares one scale and
   zero point, or is float, so that the shift stays a pure copy of bytes.
3. A group with a constant in it, with the logits, or with nothing but states is never quantised.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.extras import require

__all__ = ["COPIES", "Graph", "Layer", "parse"]

COPIES = ("Slice", "Concat", "Identity", "Split")

# fmt: off
ACTIVATIONS = frozenset((
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "HardSwish", "HardSigmoid", "Sigmoid",
    "Tanh", "Gelu", "Mish", "Softplus",
))
QUANTISED = frozenset((
    "QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger", "DynamicQuantizeLinear",
))
# fmt: on
OPSET_LEAST = 13
"""DequantizeLinear with a scale for each channel."""


@dataclass(frozen=True)
class Layer:
    """One convolution."""

    name: str
    node: int
    """Index of the Conv in the graph."""
    result: str
    """Its output after the activation that follows it, if one does."""


class Graph:
    """A parsed model and its indices; the model itself is not changed.

    Args:
        model: ModelProto, shapes inferred here.
    """

    def __init__(self, model: Any) -> None:
        onnx = require("onnx")
        self.model = model
        self.nodes: list[Any] = list(model.graph.node)
        self.constants: dict[str, NDArray[Any]] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self.inputs = [entry.name for entry in model.graph.input]
        self.outputs = [entry.name for entry in model.graph.output]
        self.maker: dict[str, int] = {}
        self.readers: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            for name in node.output:
                self.maker[name] = index
            for name in dict.fromkeys(node.input):
                self.readers[name].append(index)
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                value = onnx.numpy_helper.to_array(node.attribute[0].t)
                self.constants[node.output[0]] = value
        self._shapes = _shapes(model)
        self._leader: dict[str, str] = {}
        self._tie()
        self.layers = self._layers()

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Where it is known."""
        return self._shapes.get(tensor)

    def group(self, tensor: str) -> str:
        """The name that stands for the group of ``tensor``."""
        while (leader := self._leader.get(tensor, tensor)) != tensor:
            tensor = leader
        return tensor

    def groups(self) -> dict[str, list[str]]:
        """Members of every group, single tensors included, constants left out."""
        found: dict[str, list[str]] = defaultdict(list)
        for tensor in dict.fromkeys((*self.inputs, *self.maker)):
            if tensor and tensor not in self.constants:
                found[self.group(tensor)].append(tensor)
        return dict(found)

    def copied(self, node: Any) -> list[str]:
        """Inputs of a copying node that it copies, which leaves out bounds and axes."""
        return list(node.input) if node.op_type == "Concat" else list(node.input[:1])

    def is_root(self, tensor: str) -> bool:
        """True for the frame and for what a node computes rather than copies."""
        made = self.maker.get(tensor)
        if made is None:
            return not tensor.startswith("state_")
        return self.nodes[made].op_type not in COPIES

    def users(self, tensor: str) -> list[int]:
        """Nodes that compute with ``tensor``: its readers but for those that copy it."""
        return [
            index
            for index in self.readers[tensor]
            if self.nodes[index].op_type not in COPIES
            or tensor not in self.copied(self.nodes[index])
        ]

    def _tie(self) -> None:
        for node in self.nodes:
            if node.op_type in COPIES:
                tied = [*self.copied(node), *node.output]
                for other in tied[1:]:
                    self._join(tied[0], other)
        for name in self.inputs:
            if f"next_{name}" in self.outputs:
                self._join(name, f"next_{name}")

    def _join(self, one: str, other: str) -> None:
        one, other = self.group(one), self.group(other)
        if one != other:
            self._leader[other] = one

    def _layers(self) -> tuple[Layer, ...]:
        found, names = [], set[str]()
        for index, node in enumerate(self.nodes):
            if node.op_type != "Conv" or node.input[1] not in self.constants:
                continue
            if len(node.input) > 2 and node.input[2] and node.input[2] not in self.constants:
                continue
            shape = self.shape(node.input[0])
            if shape is not None and all(side == 1 for side in shape[2:]):
                continue
            name = node.input[1].removesuffix(".weight")
            if name in names:  # shared weights
                name = node.output[0]
            names.add(name)
            found.append(Layer(name, index, self._activated(node.output[0])))
        return tuple(found)

    def _activated(self, tensor: str) -> str:
        """The last of the activations that alone read ``tensor`` one after another, x * gate(x)
        included."""
        while True:
            readers = [self.nodes[index] for index in self.readers[tensor]]
            if tensor in self.outputs or not readers:
                return tensor
            if len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
                tensor = readers[0].output[0]
                continue
            gates = [node for node in readers if node.op_type in ("Sigmoid", "HardSigmoid")]
            products = [node for node in readers if node.op_type == "Mul"]
            if len(readers) == 2 and len(gates) == len(products) == 1:
                gate, product = gates[0].output[0], products[0]
                if set(product.input) == {tensor, gate} and len(self.readers[gate]) == 1:
                    tensor = product.output[0]
                    continue
            return tensor


def parse(model: bytes | Any, what: str) -> Graph:
    """The graph of a float model.

    Args:
        model: serialised, or a ModelProto.
        what: the file, for messages.

    Raises:
        ModelError: not an ONNX model, quantised already, or without a convolution to quantise.
    """
    onnx = require("onnx")
    if isinstance(model, bytes):
        try:
            model = onnx.load_model_from_string(model)
        except Exception as error:  # protobuf's own kinds
            raise ModelError(f"{what} is not an ONNX model, or is damaged: export it again.") from (
                error
            )
    strange = sorted({node.op_type for node in model.graph.node} & QUANTISED)
    if strange:
        raise ModelError(
            f"{what} is quantised already (it holds {strange[0]}); give the float model that "
            "`shiftedge export` wrote."
        )
    opset = max((entry.version for entry in model.opset_import if entry.domain == ""), default=0)
    if opset < OPSET_LEAST:
        raise ModelError(
            f"{what} is of ONNX operator set {opset}; expected {OPSET_LEAST} or newer: export it "
            "again with `shiftedge export`."
        )
    graph = Graph(model)
    if not graph.layers:
        raise ModelError(f"{what} holds no convolution with constant weights to quantise.")
    return graph


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    onnx = require("onnx")
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {}
    for entry in (*inferred.value_info, *inferred.input, *inferred.output):
        sides = [side.dim_value for side in entry.type.tensor_type.shape.dim]
        if sides and all(side > 0 for side in sides):
            shapes[entry.name] = tuple(sides)
    return shapes


def weights(graph: Graph, layer: Layer) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Of a layer: (O, I / groups, ...) and (O,) or None."""
    node = graph.nodes[layer.node]
    bias = graph.constants[node.input[2]] if len(node.input) > 2 and node.input[2] else None
    return graph.constants[node.input[1]], bias
