"""Quantised networks of random layers; imports neither torch nor TVM."""

from __future__ import annotations

from onnx_kit import CLASSES, SPEC, Builder, model
from qdq_kit import quantized, with_equal_std
from random_network import RandomNetwork

from shiftedge.export.agreement import moving_images, normalised
from shiftedge.runtime.spec import ModelSpec

__all__ = ["FRAMES", "coded", "random_network"]

FRAMES = 3


def coded(data: bytes, spec: ModelSpec, **options) -> tuple[bytes, ModelSpec]:
    """The QDQ file, with ranges of a stream."""
    spec = with_equal_std(spec)
    frames = normalised(moving_images(spec, FRAMES), spec)
    return quantized(data, spec, frames, **options)


class Network(RandomNetwork):
    """Of layers that all have codes."""

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


LAYERS = (
    Network.convolution, Network.groups, Network.block, Network.residual, Network.branches,
    Network.pool, Network.gate,
)  # fmt: skip


def random_network(seed: int) -> tuple[bytes, ModelSpec]:
    def features(b: Builder, x: str) -> str:
        network = Network(b, x, seed)
        for _ in range(6):
            LAYERS[network.pick(*range(len(LAYERS)))](network)
        return network.dense()

    return coded(model(features=features), SPEC)
