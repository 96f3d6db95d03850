"""Convolutions, blocks and tails that count in integers, against the integer reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")

from integer_kit import PRODUCTS, SPEC, Layers, check

from shiftedge.export.compiler.graph.graph import (
    Activation,
    Dense,
    KeepState,
    Mean,
    Quantization,
)

NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6
HARD_SWISH = Activation.HARD_SWISH
EVEN = (1, 1, 1, 1)
every_product = pytest.mark.parametrize("unit", PRODUCTS)

# Inputs, outputs, zero point of the input, channels shifted.
POINTWISE = {
    "whole words": (32, 48, 128, 0),
    "odd": (13, 7, 255, 0),
    "odd shift": (18, 33, 131, 3),
    "shift of one": (5, 40, 0, 1),
    "all shifted": (6, 24, 200, 6),
    "wide": (130, 100, 9, 16),
}


@every_product
@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise(name: str, unit: str) -> None:
    inputs, outputs, zero, shift = POINTWISE[name]
    for seed, (kind, out, residual) in enumerate(
        (
            (RELU6, Quantization(0.03, 0), False),
            (NONE, Quantization(0.05, 255), True),
            (RELU, None, True),
            (HARD_SWISH, Quantization(0.02, 19), False),
        )
    ):
        layers = Layers(seed)
        x = layers.codes((5, 7, inputs), zero)
        if shift:
            layers.operators.append(KeepState("keep", (x,), "", 0, 0, shift))
            x = layers.shift(x, shift)
        y = layers.conv(x, outputs)
        other = layers.codes((5, 7, outputs), 140, name="other") if residual else ""
        layers.ended(y, kind, out, other)
        check(layers, unit)


@pytest.mark.parametrize("least", [-128, -127, 127])
def test_the_largest_sums_of_pairs(least: int) -> None:
    """Codes at both ends of their range: what a pair's 16 bits hold, and what they do not."""
    layers = Layers()
    x = layers.codes((5, 7, 39), 0)
    layers.given[x][:3] = 0
    layers.given[x][3:] = 255
    layers.ended(layers.conv(x, 19, least=least), NONE, None)
    compiled = check(layers, "smlal")
    text = compiled.step.kernels[0].text()
    assert f" by {'smull' if least == -128 else 'smlal'} " in text


# Inputs, outputs, kernel, stride, padding, zero point, channels shifted.
DENSE = {
    "3 x 3": (16, 24, (3, 3), (1, 1), EVEN, 128, 0),
    "odd": (5, 9, (3, 2), (2, 1), (1, 0, 0, 1), 255, 0),
    "shift": (12, 33, (3, 3), (1, 1), EVEN, 7, 5),
    "strided 1 x 1": (20, 40, (1, 1), (2, 2), (0, 0, 0, 0), 99, 0),
    "padded 1 x 1": (6, 8, (1, 1), (1, 1), (0, 1, 1, 0), 255, 2),
}


@every_product
@pytest.mark.parametrize("name", DENSE)
def test_with_a_window(name: str, unit: str) -> None:
    inputs, outputs, kernel, stride, padding, zero, shift = DENSE[name]
    for seed, (kind, out, residual) in enumerate(
        (
            (RELU, Quantization(0.03, 0), True),
            (NONE, Quantization(0.04, 90), False),
            (RELU6, None, False),
        )
    ):
        layers = Layers(seed)
        x = layers.codes((7, 6, inputs), zero)
        x = layers.shift(x, shift) if shift else x
        y = layers.conv(x, outputs, kernel, stride=stride, padding=padding)
        other = layers.codes(layers.shapes[y], 33, name="other") if residual else ""
        layers.ended(y, kind, out, other)
        check(layers, unit)


@every_product
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_over_the_frame(stride: int, residual: bool, unit: str) -> None:
    """The camera's bytes, three means, padding that is no byte."""
    spec = replace(SPEC, height=9, width=11, mean=(0.2, 0.45, 0.7), std=(0.23,) * 3)
    layers = Layers()
    layers.shapes["frame"] = (9, 11, 3)
    padding = (1, 1, 0, 1)
    y = layers.conv("frame", 20, (3, 3), stride=(stride,) * 2, padding=padding, frame=True)
    other = layers.codes(layers.shapes[y], 130, name="other") if residual else ""
    layers.ended(y, RELU, Quantization(0.02, 0), other)
    image = layers.rng.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    check(layers, unit, spec=spec, image=image)


# Inputs, hidden, outputs, size of the map, stride, channels shifted, residual, zero point.
BLOCKS = {
    "phased": (16, 40, 16, (7, 7), 1, 2, True, 128),
    "banded": (11, 30, 19, (30, 9), 2, 3, False, 255),
    "odd": (9, 21, 9, (6, 5), 1, 0, True, 0),
}


def block(layers: Layers, name: str, kernel: tuple[int, int] = (3, 3), kind=RELU6) -> None:
    inputs, hidden, outputs, size, stride, shift, residual, zero = BLOCKS[name]
    source = x = layers.codes((*size, inputs), zero)
    x = layers.shift(x, shift) if shift else x
    low = 0 if kind is RELU6 else 16
    y = layers.ended(layers.conv(x, hidden), kind, Quantization(0.025, low))
    high, wide = kernel
    padding = (high // 2, wide // 2, (high - 1) // 2, (wide - 1) // 2)
    y = layers.conv(y, hidden, kernel, stride=(stride,) * 2, padding=padding, groups=hidden)
    y = layers.ended(y, kind, Quantization(0.024, low))
    layers.ended(layers.conv(y, outputs), NONE, Quantization(0.04, 120), source if residual else "")


@every_product
@pytest.mark.parametrize("name", BLOCKS)
def test_an_inverted_residual(name: str, unit: str) -> None:
    layers = Layers()
    block(layers, name)
    assert "inverted residual" in check(layers, unit).families


@every_product
@pytest.mark.parametrize("window", [5, 7])
@pytest.mark.parametrize("name", ["phased", "banded"])
def test_an_inverted_residual_of_a_larger_window(name: str, window: int, unit: str) -> None:
    layers = Layers()
    block(layers, name, kernel=(window, window))
    assert "inverted residual" in check(layers, unit).families


@every_product
def test_an_inverted_residual_of_hard_swish(unit: str) -> None:
    layers = Layers()
    block(layers, "phased", kind=HARD_SWISH)
    assert "inverted residual" in check(layers, unit).families


@every_product
@pytest.mark.parametrize("name", BLOCKS)
def test_an_inverted_residual_that_falls_apart(name: str, unit: str) -> None:
    """Its window has an uneven border."""
    layers = Layers()
    inputs, _, outputs, _, stride, _, residual, _ = BLOCKS[name]
    assert not residual or (inputs, stride) == (outputs, 1)
    block(layers, name, kernel=(3, 5))
    families = check(layers, unit).families
    assert "inverted residual" not in families
    assert any(each.startswith("depthwise") for each in families)


@every_product
def test_a_depthwise_and_its_project(unit: str) -> None:
    """No expand: over a map, and over a state."""
    for of_state in (False, True):
        layers = Layers()
        x = layers.codes((8, 9, 18), 140)
        if of_state:
            layers.operators.append(KeepState("keep", (x,), "", 0, 0, 18))
            x = layers.state((8, 9, 18), like=x)
        y = layers.conv(x, 18, (3, 3), padding=EVEN, groups=18)
        y = layers.ended(y, RELU, Quantization(0.03, 0))
        layers.ended(layers.conv(y, 10), NONE, Quantization(0.05, 131))
        assert "inverted residual" in check(layers, unit).families


@every_product
@pytest.mark.parametrize("apart", [False, True])
def test_the_first_block(apart: bool, unit: str) -> None:
    spec = replace(SPEC, height=12, width=14, std=(0.25,) * 3)
    layers = Layers()
    layers.shapes["frame"] = (12, 14, 3)
    y = layers.conv("frame", 20, (3, 3), stride=(2, 2), padding=(1, 1, 0, 0), frame=True)
    y = layers.ended(y, RELU6, Quantization(0.024, 0))
    padding = (1, 1, 1, 0) if apart else EVEN
    y = layers.conv(y, 20, (3, 3), padding=padding, groups=20)
    y = layers.ended(y, RELU6, Quantization(0.024, 0))
    layers.ended(layers.conv(y, 12), NONE, Quantization(0.05, 110))
    image = layers.rng.integers(0, 256, (12, 14, 3)).astype(np.uint8)
    families = check(layers, unit, spec=spec, image=image).families
    assert ("first convolution and block" in families) is not apart


@every_product
@pytest.mark.parametrize("zero", [0, 1, 255])
@pytest.mark.parametrize("shift", [0, 5])
def test_a_tail(shift: int, zero: int, unit: str) -> None:
    """Where 0 is not the code 0, it is a convolution and a mean."""
    layers = Layers()
    x = layers.codes((5, 6, 18), 128)
    x = layers.shift(x, shift) if shift else x
    kind = RELU if zero == 0 else NONE
    y = layers.ended(layers.conv(x, 50), kind, Quantization(0.03, zero))
    mean = layers.add(Mean("", (y,), ""), (50,))
    weight = layers.rng.standard_normal((4, 50)).astype(np.float32)
    dense = Dense("", (mean,), "", weight, np.ones(4, np.float32))
    layers.add(dense, (4,), out="dense")
    compiled = check(layers, unit, close=("dense",))
    assert ("tail" in compiled.families) is (zero == 0)
