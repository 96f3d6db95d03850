"""Small ONNX models of the contract, built node by node, for tests of the frontend; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

import onnx

from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec

HEIGHT, WIDTH, CLASSES = 6, 5, 4
FLOAT = onnx.TensorProto.FLOAT
SPEC = ModelSpec(
    "t", ("a", "b", "c", "d"), HEIGHT, WIDTH, WIDTH,
    (StateSpec("state_0", (1, 2, HEIGHT, WIDTH)),), 2,
)  # fmt: skip


class Builder:
    """Nodes and weights in the making. Names of tensors are returned and taken."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        out = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [out], name=f"n_{out}", **attributes))
        return out

    def const(self, value: Any, dtype: Any = np.float32, name: str | None = None) -> str:
        name = name or f"const_{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def random(self, *shape: int) -> str:
        return self.const(self.rng.normal(0, 1 / np.sqrt(np.prod(shape[1:], dtype=int)), shape))

    def conv(self, x: str, out: int, into: int, size: int = 1, groups: int = 1, **more: Any) -> str:
        weight, bias = self.random(out, into // groups, size, size), self.random(out)
        more.setdefault("pads", [size // 2] * 4)
        return self.op("Conv", x, weight, bias, group=groups, **more)


def model(
    body: Callable[[Builder, str], str] | None = None,
    *,
    features: Callable[[Builder, str], str] | None = None,
    change: Callable[[Any], None] | None = None,
    opset: int = 18,
) -> bytes:
    """conv 3 -> 8, then ``body``, a shift of 2 channels, mean and dense.

    ``body`` maps a tensor of 8 channels to one of 8, of the frame's height and width. ``features``
    (in place of mean and dense) maps the shifted map to (1, CLASSES).
    """
    b = Builder()
    x = b.conv("frame", 8, 3, 3)
    x = body(b, x) if body else x
    b.op("Slice", x, b.ints(0), b.ints(2), b.ints(1), out="next_state_0")
    rest = b.op("Slice", x, b.ints(2), b.ints(1 << 40), b.ints(1))
    x = b.op("Concat", "state_0", rest, axis=1)
    if features:
        x = features(b, x)
    else:
        x = b.op("Flatten", b.op("GlobalAveragePool", x))
        x = b.op("Gemm", x, b.random(CLASSES, 8), b.random(CLASSES), transB=1)
    b.op("Identity", x, out="logits")
    info, state = onnx.helper.make_tensor_value_info, SPEC.states[0].shape
    graph = onnx.helper.make_graph(
        b.nodes,
        "g",
        [info("frame", FLOAT, (1, 3, HEIGHT, WIDTH)), info("state_0", FLOAT, state)],
        [info("logits", FLOAT, (1, CLASSES)), info("next_state_0", FLOAT, state)],
        b.weights,
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    document = onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets)
    if change:
        change(document)
    serialised: bytes = document.SerializeToString()
    return serialised


def step_model(
    body: Callable[[Builder], str], *states: tuple[int, ...], labels: Sequence[str] = "abcd"
) -> tuple[bytes, ModelSpec]:
    """A model that ``body`` makes from nothing, and its spec.

    ``body`` reads ``frame`` and ``state_0``, ``state_1`` ..., of those shapes (1, C, H, W), makes
    ``next_state_0`` ..., and returns the name of the logits, (1, number of labels).
    """
    b = Builder()
    b.op("Identity", body(b), out="logits")
    named = {f"state_{index}": shape for index, shape in enumerate(states)}
    spec = ModelSpec(
        "t", tuple(labels), HEIGHT, WIDTH, WIDTH,
        tuple(StateSpec(name, shape) for name, shape in named.items()), 2,
    )  # fmt: skip
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        b.nodes,
        "g",
        [
            info("frame", FLOAT, (1, 3, HEIGHT, WIDTH)),
            *(info(name, FLOAT, shape) for name, shape in named.items()),
        ],
        [
            info("logits", FLOAT, (1, len(labels))),
            *(info(f"next_{name}", FLOAT, shape) for name, shape in named.items()),
        ],
        b.weights,
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    document = onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets)
    onnx.helper.set_model_props(document, {METADATA_KEY: spec.to_json()})
    serialised: bytes = document.SerializeToString()
    return serialised, spec


def kinds(operators: Sequence[object]) -> list[str]:
    return [type(operator).__name__ for operator in operators]
