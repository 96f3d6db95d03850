"""One-frame steps of whole networks as ONNX, built node by node without torch: MobileNetV2 and
ResNet-50 with shifts, and one with what users bring. Weights are random and reproducible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from kit.onnx_files import FLOAT, Builder
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec

__all__ = ["NETWORKS", "mobilenet_v2", "own", "resnet50"]

FOLD_DIV = 8
"""One channel in eight is shifted (arXiv 1811.08383, section 3.2)."""
Network = tuple[bytes, ModelSpec]


class Step(Builder):
    """A step in the making: the shapes of its maps, and its states."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)
        self.states: list[tuple[int, ...]] = []
        self.shapes: dict[str, tuple[int, int, int]] = {"frame": (3, height, width)}

    def layer(
        self, x: str, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: str = ""
    ) -> str:
        """A convolution of odd kernel and an activation: "", an operator's name, or "Relu6"."""
        inputs, height, width = self.shapes[x]
        spread = np.sqrt(2 / (inputs // groups * kernel**2))  # which an activation keeps alive
        weight = self.const(self.rng.normal(0, spread, (outputs, inputs // groups, kernel, kernel)))
        bias = self.const(self.rng.normal(0, 0.2, outputs))
        more = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
        y = self.op("Conv", x, weight, bias, **more)
        self.shapes[y] = (outputs, (height - 1) // stride + 1, (width - 1) // stride + 1)
        return self.active(y, act)

    def active(self, x: str, act: str) -> str:
        if not act:
            return x
        low, high = self.const(0.0), self.const(6.0)
        slope = {"alpha": 1 / 6} if act == "HardSigmoid" else {}
        y = self.op("Clip", x, low, high) if act == "Relu6" else self.op(act, x, **slope)
        self.shapes[y] = self.shapes[x]
        return y

    def shifted(self, x: str, channels: int | None = None) -> str:
        """``x`` with its first eighth of channels from the frame before."""
        count, height, width = self.shapes[x]
        fold = count // FOLD_DIV if channels is None else channels
        number = len(self.states)
        self.states.append((1, fold, height, width))
        first, last, axis = self.ints(0), self.ints(1 << 40), self.ints(1)
        self.op("Slice", x, first, self.ints(fold), axis, out=f"next_state_{number}")
        rest = self.op("Slice", x, self.ints(fold), last, axis)
        y = self.op("Concat", f"state_{number}", rest, axis=1)
        self.shapes[y] = self.shapes[x]
        return y

    def sum(self, x: str, y: str, act: str = "") -> str:
        z = self.op("Add", x, y)
        self.shapes[z] = self.shapes[x]
        return self.active(z, act)

    def dense(self, x: str, classes: int) -> str:
        inputs = self.shapes[x][0]
        x = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.op("Gemm", x, self.random(classes, inputs), self.random(classes), transB=1)


def _built(step: Step, logits: str, classes: int) -> Network:
    step.op("Identity", logits, out="logits")
    height, width = step.size
    states = tuple(StateSpec(f"state_{n}", shape) for n, shape in enumerate(step.states))
    labels = tuple(f"label {number}" for number in range(classes))
    spec = ModelSpec("t", labels, height, width, min(step.size), states, len(states) + 1)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        step.nodes,
        "g",
        [
            info("frame", FLOAT, (1, 3, height, width)),
            *(info(state.name, FLOAT, state.shape) for state in states),
        ],
        [
            info("logits", FLOAT, (1, classes)),
            *(info(f"next_{state.name}", FLOAT, state.shape) for state in states),
        ],
        step.weights,
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    document = onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets)
    onnx.helper.set_model_props(document, {METADATA_KEY: spec.to_json()})
    serialised: bytes = document.SerializeToString()
    return serialised, spec


Stages = tuple[tuple[int, int, int, int, int], ...]
STAGES: Stages = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3), (6, 320, 1, 1, 3),
)  # fmt: skip
"""Expansion, output channels, repeats, stride of the first, window: table 2 of arXiv 1801.04381."""
LITE0: Stages = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
)  # fmt: skip
"""The same of EfficientNet-Lite0."""


def _scaled(channels: int, width: float) -> int:
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def mobilenet_v2(
    height: int,
    width: int,
    *,
    multiplier: float = 1.0,
    classes: int = 27,
    previous: bool = False,
    stages: Stages = STAGES,
) -> Network:
    """MobileNetV2 with a shift in each residual block, as ``MobileNetV2``; of other stages
    EfficientNet-Lite0, as ``EfficientNetLite0``.

    ``previous`` joins the frame before to the frame, in front of the first convolution.
    """
    b = Step(height, width)
    x = "frame"
    if previous:
        b.states.append((1, 3, height, width))
        b.op("Identity", "frame", out="next_state_0")
        x = b.op("Concat", "state_0", "frame", axis=1)
        b.shapes[x] = (6, height, width)
    x = b.layer(x, _scaled(32, multiplier), 3, 2, act="Relu6")
    for expansion, base, repeats, first, kernel in stages:
        outputs = _scaled(base, multiplier)
        for index in range(repeats):
            stride = first if index == 0 else 1
            inputs = b.shapes[x][0]
            residual = stride == 1 and inputs == outputs
            y = b.shifted(x) if residual else x
            hidden = inputs * expansion
            if expansion != 1:
                y = b.layer(y, hidden, 1, act="Relu6")
            y = b.layer(y, hidden, kernel, stride, groups=hidden, act="Relu6")
            y = b.layer(y, outputs, 1)
            x = b.sum(x, y) if residual else y
    x = b.layer(x, _scaled(1280, max(multiplier, 1.0)), 1, act="Relu6")
    return _built(b, b.dense(x, classes), classes)


def resnet50(
    height: int, width: int, *, classes: int = 3, blocks: tuple[int, ...] = (3, 4, 6, 3)
) -> Network:
    """ResNet-50 with a shift in each block, as ``ResNet``; ``blocks`` may leave some out."""
    b = Step(height, width)
    x = b.layer("frame", 64, 7, 2, act="Relu")
    channels, height, width = b.shapes[x]
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    b.shapes[x] = (channels, (height - 1) // 2 + 1, (width - 1) // 2 + 1)
    for stage, count in enumerate(blocks):
        planes = 64 << stage
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            y = b.layer(b.shifted(x), planes, 1, act="Relu")
            y = b.layer(y, planes, 3, stride, act="Relu")
            y = b.layer(y, 4 * planes, 1)
            fits = stride == 1 and b.shapes[x][0] == 4 * planes
            x = b.sum(y, x if fits else b.layer(x, 4 * planes, 1, stride), "Relu")
    return _built(b, b.dense(x, classes), classes)


def own(height: int, width: int, *, classes: int = 3) -> Network:
    """Squeeze and excite, several activations, pooling, groups, 5 x 5 windows, odd channels."""
    b = Step(height, width)
    x = b.layer("frame", 12, 3, 2, act="HardSwish")
    channels, rows, columns = b.shapes[x]
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    b.shapes[x] = (channels, (rows - 1) // 2 + 1, (columns - 1) // 2 + 1)
    x = b.layer(x, 12, 5, groups=12, act="Relu")
    x = b.layer(b.shifted(x, 3), 18, 1)
    sigmoid = b.op("Sigmoid", x)
    swish = b.op("Mul", x, sigmoid)
    b.shapes[swish] = b.shapes[x]
    mean = b.op("GlobalAveragePool", swish)
    b.shapes[mean] = (18, 1, 1)
    gate = b.layer(b.layer(mean, 4, 1, act="Relu"), 18, 1, act="HardSigmoid")
    gated = b.op("Mul", swish, gate)
    b.shapes[gated] = b.shapes[swish]
    x = b.sum(gated, b.layer(b.shifted(gated), 18, 5, groups=3), "Relu")
    x = b.layer(x, 33, 3, 2, act="Relu")
    return _built(b, b.dense(x, classes), classes)


NETWORKS: dict[str, Callable[[], Network]] = {
    "mobilenet-1.0@224x224": lambda: mobilenet_v2(224, 224),
    "mobilenet-1.4@160x120": lambda: mobilenet_v2(120, 160, multiplier=1.4, classes=3),
    "mobilenet-0.35@64x48": lambda: mobilenet_v2(48, 64, multiplier=0.35, classes=3),
    "previous-0.5@128x96": lambda: mobilenet_v2(96, 128, multiplier=0.5, classes=6, previous=True),
    "lite0@64x48": lambda: mobilenet_v2(48, 64, classes=3, stages=LITE0),
    "resnet@64x64": lambda: resnet50(64, 64),
    "resnet-8@112x112": lambda: resnet50(112, 112, blocks=(1, 1, 1, 1)),
    "own@64x48": lambda: own(48, 64),
}
"""By NAME@WIDTHxHEIGHT."""
