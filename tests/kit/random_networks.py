"""Networks of random layers, and quantised ones; imports neither torch nor TVM."""

from __future__ import annotations

import numpy as np

from kit.onnx_files import CLASSES, HEIGHT, SPEC, WIDTH, Builder, model
from kit.qdq import quantized, with_equal_std
from shiftedge.export.agreement import moving_images, normalised
from shiftedge.runtime.spec import ModelSpec

__all__ = ["FRAMES", "coded", "random_floats", "random_network"]

FRAMES = 3


def coded(data: bytes, spec: ModelSpec, **options) -> tuple[bytes, ModelSpec]:
    """The QDQ file, with ranges of a stream."""
    spec = with_equal_std(spec)
    frames = normalised(moving_images(spec, FRAMES), spec)
    return quantized(data, spec, frames, **options)


class Network:
    """Adds random layers to a model, one after the other; these all may be quantised."""

    def __init__(self, b: Builder, x: str, seed: int) -> None:
        self.b, self.x = b, x
        self.rng = np.random.default_rng(seed)
        self.channels = 8

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def groups(self) -> None:
        divisors = [n for n in range(1, self.channels + 1) if self.channels % n == 0]
        groups = self.pick(*divisors)
        outputs = groups * self.pick(1, 2, 3)
        self.x = self.b.conv(self.x, outputs, self.channels, self.pick(1, 3), groups=groups)
        self.channels = outputs

    def block(self) -> None:
        """An inverted residual."""
        b, channels, hidden = self.b, self.channels, 2 * self.channels
        y = b.op("Relu", b.conv(self.x, hidden, channels))
        y = b.op("HardSwish", b.conv(y, hidden, hidden, self.pick(3, 5), groups=hidden))
        y = b.conv(y, channels, hidden)
        self.x = b.op("Add", self.x, y) if self.pick(0, 1) else y

    def convolution(self) -> None:
        outputs = self.pick(1, 3, 7, 8, 24, 33)
        self.x = self.b.conv(self.x, outputs, self.channels, self.pick(1, 3))
        self.channels = outputs
        self.activation()

    def residual(self) -> None:
        sides = [self.x, self.b.conv(self.x, self.channels, self.channels, 3)]
        self.x = self.b.op("Relu", self.b.op("Add", *sides[:: self.pick(1, -1)]))

    def branches(self) -> None:
        y = self.b.conv(self.x, self.channels, self.channels)
        z = self.b.conv(self.x, self.channels, self.channels, 3, groups=self.channels)
        self.x = self.b.op("Add", y, z)

    def pool(self) -> None:
        positive = self.b.op("Relu", self.b.conv(self.x, self.channels, self.channels))
        self.x = self.b.op("MaxPool", positive, kernel_shape=[2, 3], pads=[0, 1, 1, 1])

    def gate(self) -> None:
        mean = self.b.op("GlobalAveragePool", self.x)
        gate = self.b.op(
            "HardSigmoid", self.b.conv(mean, self.channels, self.channels), alpha=1 / 6
        )
        self.x = self.b.op("Mul", self.x, gate)

    def activation(self) -> None:
        kind = self.pick(0, 1, 2)
        self.x = self.b.op(("Relu", "HardSwish")[kind], self.x) if kind < 2 else self.x

    def dense(self) -> str:
        x = self.b.op("Flatten", self.b.op("GlobalAveragePool", self.x))
        weight, bias = self.b.random(CLASSES, self.channels), self.b.random(CLASSES)
        return self.b.op("Gemm", x, weight, bias, transB=1)


class Floats(Network):
    """Of layers of numbers, with convolutions and pools that make the map smaller."""

    def __init__(self, b: Builder, x: str, seed: int) -> None:
        super().__init__(b, x, seed)
        self.height, self.width = HEIGHT, WIDTH

    def convolution(self) -> None:
        outputs, size = self.pick(1, 3, 7, 8, 24, 33), self.pick(1, 3)
        down, right = self.pick(1, 2), self.pick(1, 2)
        self.x = self.b.conv(self.x, outputs, self.channels, size, strides=[down, right])
        self.height, self.width = (self.height - 1) // down + 1, (self.width - 1) // right + 1
        self.channels = outputs

    def residual(self) -> None:
        sides = [self.x, self.b.conv(self.x, self.channels, self.channels, 3)]
        self.x = self.b.op("Add", *sides[:: self.pick(1, -1)])

    def pool(self) -> None:
        kind = "MaxPool" if self.pick(0, 1) else "AveragePool"
        # ONNX Runtime merges zeros around a map into a MaxPool; without negative numbers it may.
        positive = self.b.op("Relu", self.x)
        self.x = self.b.op(kind, positive, kernel_shape=[2, 3], pads=[0, 1, 1, 1])

    def gate(self) -> None:
        mean = self.b.op("GlobalAveragePool", self.x)
        gate = self.b.op("Sigmoid", self.b.conv(mean, self.channels, self.channels))
        self.x = self.b.op("Mul", self.x, gate)

    def zeros(self) -> None:
        self.x = self.b.op("Pad", self.x, self.b.ints(0, 0, 1, 0, 0, 0, 0, 1))
        self.height, self.width = self.height + 1, self.width + 1

    def activation(self) -> None:
        kind = ("Relu", "HardSwish", "Sigmoid")[self.pick(0, 1, 2)]
        self.x = self.b.op(kind, self.x)

    def scale(self) -> None:
        self.x = self.b.op("Mul", self.x, self.b.random(self.channels, 1, 1))

    def dense(self) -> str:
        if self.pick(0, 1):
            self.x, self.height, self.width = self.b.op("GlobalAveragePool", self.x), 1, 1
        inputs = self.channels * self.height * self.width
        weight, bias = self.b.random(CLASSES, inputs), self.b.random(CLASSES)
        return self.b.op("Gemm", self.b.op("Flatten", self.x), weight, bias, transB=1)


LAYERS = (
    Network.convolution, Network.groups, Network.block, Network.residual, Network.branches,
    Network.pool, Network.gate,
)  # fmt: skip
FLOAT_LAYERS = (
    Floats.convolution, Floats.groups, Floats.block, Floats.residual, Floats.pool,
    Floats.gate, Floats.zeros, Floats.scale, Floats.activation, Floats.activation,
)  # fmt: skip


def random_network(seed: int) -> tuple[bytes, ModelSpec]:
    """A quantised one."""
    return coded(_model(Network, LAYERS, seed), SPEC)


def random_floats(seed: int) -> tuple[bytes, ModelSpec]:
    return _model(Floats, FLOAT_LAYERS, seed), SPEC


def _model(kind: type[Network], layers: tuple, seed: int) -> bytes:
    def features(b: Builder, x: str) -> str:
        network = kind(b, x, seed)
        for _ in range(6):
            layers[network.pick(*range(len(layers)))](network)
        return network.dense()

    return model(features=features)
