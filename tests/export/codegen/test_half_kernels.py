"""Kernels over maps of bfloat16, family by family, against their reference."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")

from half_kit import Halves, check
from integer_kit import SPEC

from shiftedge.export.compiler.graph.graph import (
    Activation,
    Add,
    Dense,
    Join,
    KeepState,
    Mean,
    Mul,
    Pool,
)

NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6
HARD_SWISH = Activation.HARD_SWISH
EVEN = (1, 1, 1, 1)


# Inputs, outputs, channels shifted.
@pytest.mark.parametrize(
    ("inputs", "outputs", "shift"),
    [(18, 33, 3), (24, 33, 1), (13, 7, 2), (6, 24, 6), (130, 100, 16)],
)
def test_pointwise(inputs: int, outputs: int, shift: int) -> None:
    for seed, (kind, residual) in enumerate(((RELU6, False), (HARD_SWISH, True))):
        layers = Halves(seed)
        x = layers.map((5, 7, inputs))
        if shift:
            layers.operators.append(KeepState("keep", (x,), "", 0, 0, shift))
            x = layers.shift(x, shift)
        y = layers.convolved(x, outputs)
        other = layers.map((5, 7, outputs), name="other") if residual else ""
        layers.ended(y, kind, None, other)
        compiled = check(layers)
        words = [kernel for kernel in compiled.step.kernels if "vdpbf16ps" in kernel.text()]
        assert bool(words) == (inputs % 2 == 0)


# Inputs, outputs, kernel, stride, padding, channels shifted.
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "padding", "shift"),
    [
        (16, 24, (3, 3), (1, 1), EVEN, 0),
        (5, 9, (3, 2), (2, 1), (1, 0, 0, 1), 0),
        (5, 9, (3, 3), (2, 2), EVEN, 0),
        (12, 33, (3, 3), (1, 1), EVEN, 5),
    ],
)
def test_with_a_window(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    shift: int,
) -> None:
    for seed, (kind, residual) in enumerate(((RELU, True), (NONE, False))):
        layers = Halves(seed)
        x = layers.map((7, 6, inputs))
        x = layers.shift(x, shift) if shift else x
        y = layers.convolved(x, outputs, kernel, stride=stride, padding=padding)
        other = layers.map(layers.shapes[y]) if residual else ""
        layers.ended(y, kind, None, other)
        check(layers)


@pytest.mark.parametrize(("channels", "groups"), [(24, 24), (13, 13), (24, 4), (6, 2)])
@pytest.mark.parametrize("padding", [EVEN, (0, 0, 0, 0)])
def test_channels_apart(channels: int, groups: int, padding: tuple[int, int, int, int]) -> None:
    layers = Halves(channels)
    x = layers.map((7, 6, channels))
    y = layers.convolved(x, channels, (3, 3), stride=(2, 1), padding=padding, groups=groups)
    layers.ended(y, RELU6, None, layers.map(layers.shapes[y]))
    check(layers)


# Height, width, inputs, hidden, outputs, stride, kernel, shift.
@pytest.mark.parametrize(
    "block",
    [
        (6, 5, 16, 96, 16, 1, 3, 2),
        (6, 5, 7, 21, 12, 2, 5, 0),
        (20, 16, 8, 24, 8, 1, 3, 2),
        (20, 16, 9, 27, 8, 2, 3, 1),
        (2, 2, 8, 32, 12, 2, 3, 0),
        (1, 1, 8, 32, 8, 1, 3, 2),
    ],
)
def test_inverted_residuals(block: tuple[int, ...]) -> None:
    height, width, inputs, hidden, outputs, stride, size, shift = block
    layers = Halves(hidden)
    x = layers.map((height, width, inputs)) if height > 1 else layers.numbers((1, 1, inputs))
    y = layers.shift(x, shift) if shift else x
    y = layers.ended(layers.convolved(y, hidden), RELU6)
    pad = (size // 2,) * 4
    y = layers.convolved(y, hidden, (size, size), stride=(stride,) * 2, padding=pad, groups=hidden)
    y = layers.convolved(layers.ended(y, RELU6), outputs)
    if stride == 1 and inputs == outputs:
        layers.add(Add("", (x, y), ""), layers.shapes[y])
    assert check(layers).families == ["inverted residual"] * (2 if height < 20 else 1)


def test_a_block_without_an_expansion_and_an_uneven_one() -> None:
    for padding in (EVEN, (0, 0, 1, 1)):
        layers = Halves(3)
        x = layers.map((20, 18, 24))
        y = layers.convolved(x, 24, (3, 3), padding=padding, groups=24)
        layers.convolved(layers.ended(y, RELU), 16)
        check(layers)


@pytest.mark.parametrize("behind", [True, False])
def test_the_frame(behind: bool) -> None:
    layers = Halves(5)
    layers.shapes["frame"] = (5, 5, 3)
    y = layers.convolved("frame", 16, (3, 3), stride=(2, 2), padding=EVEN)
    y = layers.ended(y, RELU6)
    if behind:
        y = layers.convolved(y, 16, (3, 3), padding=EVEN, groups=16)
        layers.convolved(layers.ended(y, RELU6), 8)
    image = layers.rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    compiled = check(layers, image=image, spec=SPEC)
    assert ("first convolution and block" in compiled.families) == behind


def test_a_frame_that_is_kept() -> None:
    layers = Halves(6)
    layers.shapes["frame"] = (5, 5, 3)
    layers.operators.append(KeepState("keep", ("frame",), "", 0, 0, 3))
    state = layers.state((5, 5, 3))
    joined = layers.add(Join("", (state, "frame"), "", 0, 0), (5, 5, 6))
    layers.convolved(joined, 10, (3, 3), padding=EVEN)
    image = layers.rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    check(layers, image=image)


def test_a_tail() -> None:
    layers = Halves(7)
    x = layers.shift(layers.map((4, 3, 20)), 4)
    y = layers.ended(layers.convolved(x, 70), RELU6)
    mean = layers.add(Mean("", (y,), ""), (70,))
    weight = layers.rng.standard_normal((4, 70)).astype(np.float32)
    bias = layers.rng.standard_normal(4).astype(np.float32)
    layers.add(Dense("", (mean,), "", weight, bias), (4,))
    assert check(layers).families == ["tail", "dense"]


@pytest.mark.parametrize("padding", [EVEN, (0, 0, 0, 0)])
@pytest.mark.parametrize("largest", [True, False])
def test_pools(largest: bool, padding: tuple[int, int, int, int]) -> None:
    layers = Halves(8)
    x = layers.map((6, 8, 21))
    size = 3 if any(padding) else 2
    pool = Pool("", (x,), "", largest, (size, size), (2, 2), padding)
    layers.add(pool, (3, 4, 21))
    layers.add(Pool("", (x,), "", largest, (6, 8), (1, 1), (0, 0, 0, 0)), (1, 1, 21))
    check(layers)


def test_maps_and_gates() -> None:
    layers = Halves(9)
    x, y = layers.map((4, 5, 22)), layers.map((4, 5, 22))
    total = layers.add(Add("", (x, y), ""), (4, 5, 22))
    mean = layers.add(Mean("", (total,), ""), (1, 1, 22))
    gate = layers.ended(layers.convolved(mean, 22), Activation.HARD_SIGMOID)
    gated = layers.add(Mul("", (total, gate), ""), (4, 5, 22))
    layers.ended(layers.add(Mul("", (gated, x), ""), (4, 5, 22)), RELU)
    check(layers)
