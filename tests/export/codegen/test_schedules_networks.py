"""Random small networks, compiled whole, against ONNX Runtime over a few frames."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from onnx_kit import CLASSES, HEIGHT, SPEC, WIDTH, Builder, model
from random_network import RandomNetwork

from shiftedge.export.agreement import compare, normalised, onnx_outputs
from shiftedge.export.compiler.compile import build_library, prepare
from shiftedge.export.compiler.targets import find_variant
from shiftedge.export.compiler.verify.agreement import native_outputs

FRAMES = 5


class Network(RandomNetwork):
    """With convolutions and pools that make the map smaller."""

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
    Network.convolution, Network.groups, Network.block, Network.residual, Network.pool,
    Network.gate, Network.zeros, Network.scale, Network.activation, Network.activation,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_a_random_network(seed):
    def features(b: Builder, x: str) -> str:
        network = Network(b, x, seed)
        for _ in range(6):
            LAYERS[network.pick(*range(len(LAYERS)))](network)
        return network.dense()

    data = model(features=features)
    target = find_variant("host")
    step, places = prepare(data, SPEC, target)
    shape = (FRAMES, HEIGHT, WIDTH, 3)
    images = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    expected = list(onnx_outputs(data, SPEC, normalised(images, SPEC)))
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libmodel.so"
        build_library(step, places, SPEC, target, library)
        one, three = (
            list(native_outputs(library, images, step, places, threads=threads))
            for threads in (1, 3)
        )
    rows = compare("ONNX Runtime / compiled", expected, one, tolerance=1e-4)
    assert all(row.passed for row in rows), rows
    for outputs, others in zip(one, three, strict=True):
        for name, value in outputs.items():
            np.testing.assert_array_equal(value, others[name], err_msg="depends on the threads")
