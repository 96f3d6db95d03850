"""A small network with everything that the quantiser must treat well, and clips that move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from kit.onnx_files import Builder
from shiftedge.export.quantize import QuantizeSettings, quantize
from shiftedge.export.quantize.report import Report
from shiftedge.export.quantize.source import Clips
from shiftedge.runtime.capture.synthetic.moving import moving_scene
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec

HEIGHT, WIDTH = 24, 32
LABELS = ("a", "b", "c", "d")
MAP = (1, 2, HEIGHT // 2, WIDTH // 2)


def clips(count: int = 3, frames: int = 30, height: int = HEIGHT, width: int = WIDTH) -> Clips:
    """Moving scenes."""
    scenes = (moving_scene(i, frames=frames, height=height, width=width) for i in range(count))
    return Clips("test clips", tuple(scenes))


def spec(count: int = 2, **changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "name": "small",
        "labels": LABELS,
        "height": HEIGHT,
        "width": WIDTH,
        "resize_short_side": HEIGHT,
        "states": tuple(StateSpec(f"state_{i}", MAP) for i in range(count)),
        "receptive_field": count + 1,
    }
    return ModelSpec(**{**fields, **changes})


class Net(Builder):
    """Layers with biases, as folded batch norms leave them."""

    def layer(self, x: str, name: str, out: int, into: int, size: int = 1, **more: Any) -> str:
        groups = more.pop("groups", 1)
        shape = (out, into // groups, size, size)
        scale = 1.4 / np.sqrt(np.prod(shape[1:]))
        weight = more.pop("weight", None)
        weight = self.rng.normal(0, scale, shape) if weight is None else weight
        bias = more.pop("bias", None)
        bias = self.rng.normal(0, 0.3, out) if bias is None else bias
        inputs = [x, self.const(weight, name=f"{name}.weight"), self.const(bias, name=f"{name}.b")]
        more.setdefault("pads", [size // 2] * 4)
        return self.op("Conv", *inputs, group=groups, **more)

    def relu6(self, x: str) -> str:
        return self.op("Clip", x, self.const(0.0), self.const(6.0))

    def shift(self, x: str, index: int, fold: int = 2) -> str:
        self.op("Slice", x, self.ints(0), self.ints(fold), self.ints(1), out=f"next_state_{index}")
        rest = self.op("Slice", x, self.ints(fold), self.ints(1 << 40), self.ints(1))
        return self.op("Concat", f"state_{index}", rest, axis=1)

    def block(self, x: str, index: int, channels: int = 8) -> str:
        """An inverted residual with a shift in front."""
        hidden = 3 * channels
        y = self.layer(self.shift(x, index), f"block{index}.expand", hidden, channels)
        y = self.layer(self.relu6(y), f"block{index}.depthwise", hidden, hidden, 3, groups=hidden)
        y = self.layer(self.relu6(y), f"block{index}.project", channels, hidden)
        return self.op("Add", x, y)

    def head(self, x: str, channels: int = 8) -> str:
        x = self.relu6(self.layer(x, "head", 24, channels))
        x = self.op("ReduceMean", x, self.ints(2, 3), keepdims=0)
        return self.op("Gemm", x, self.random(len(LABELS), 24), self.random(len(LABELS)), transB=1)


def write(path: Path, body: Callable[[Net], str], description: ModelSpec) -> Path:
    """``body`` makes the logits from ``frame`` and the states."""
    net = Net()
    net.op("Identity", body(net), out="logits")
    info, float_ = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    states = [(f"state_{i}", state.shape) for i, state in enumerate(description.states)]
    graph = onnx.helper.make_graph(
        net.nodes,
        "small",
        [info("frame", float_, (1, 3, HEIGHT, WIDTH)), *(info(n, float_, s) for n, s in states)],
        [
            info("logits", float_, (1, len(LABELS))),
            *(info(f"next_{n}", float_, s) for n, s in states),
        ],
        net.weights,
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, ir_version=9, opset_imports=opsets)
    onnx.helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.save(model, str(path))
    return path


def small(net: Net) -> str:
    """Two inverted residuals with shifts."""
    x = net.relu6(net.layer("frame", "stem", 8, 3, 3, strides=[2, 2]))
    x = net.layer(x, "narrow", 8, 8)
    return net.head(net.block(net.block(x, 0), 1))


def no_convolution(net: Net) -> str:
    """A state, a mean and a dense layer."""
    net.op("Relu", "state_0", out="next_state_0")
    x = net.op("ReduceMean", "frame", net.ints(2, 3), keepdims=0)
    return net.op("Gemm", x, net.random(len(LABELS), 3), net.random(len(LABELS)), transB=1)


def painful(net: Net) -> str:
    """Between ``large`` and ``fine`` one channel is 4,000 times the others, which then have no
    steps left: only float carries them."""
    x = net.relu6(net.layer("frame", "stem", 8, 3, 3, strides=[2, 2]))
    unit = np.ones((8, 1, 1, 1))
    unit[7] = 4000.0
    weight = net.rng.normal(0, 0.5, (8, 8, 1, 1))
    bias = net.rng.normal(0, 0.3, 8)
    x = net.layer(x, "large", 8, 8, weight=weight * unit, bias=bias * unit.reshape(-1))
    inverse = net.rng.normal(0, 0.5, (8, 8, 1, 1)) / unit.reshape(1, 8, 1, 1)
    x = net.layer(x, "fine", 8, 8, weight=inverse)
    return net.head(net.block(net.block(x, 0), 1))


def images(frames: int, seed: int = 99) -> NDArray[np.uint8]:
    """Another scene."""
    return moving_scene(seed, frames=frames, height=HEIGHT, width=WIDTH)


def quantized_to(
    path: Path, calibration: str | Clips, output: Path, settings: QuantizeSettings
) -> Report:
    """Write the int8 file of a model."""
    result = quantize(path, calibration, settings)
    output.write_bytes(result.model)
    return result.report
