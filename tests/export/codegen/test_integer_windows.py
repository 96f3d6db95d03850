"""Depthwise and grouped convolutions, pools and means over codes, against the integer reference."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")

from integer_kit import PRODUCTS, STORED, Layers, check

from shiftedge.export.compiler.graph.graph import Activation, KeepState, Mean, Pool, Quantization

NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6
EVEN = (1, 1, 1, 1)
every_unit = pytest.mark.parametrize("unit", STORED)
every_product = pytest.mark.parametrize("unit", PRODUCTS)

# Channels, kernel, stride, padding, zero point of the input, channels shifted.
DEPTHWISE = {
    "plain": (24, (3, 3), (1, 1), EVEN, 0, 0),
    "odd channels": (13, (3, 3), (1, 1), EVEN, 128, 0),
    "one row down": (33, (3, 3), (2, 1), (1, 0, 1, 2), 255, 0),
    "no border": (9, (3, 2), (1, 2), (0, 0, 0, 0), 77, 0),
    "shift in a word": (19, (3, 3), (1, 1), EVEN, 131, 3),
    "shift without border": (8, (1, 1), (1, 1), (0, 0, 0, 0), 3, 5),
    "all shifted": (6, (5, 5), (2, 2), (2, 2, 2, 2), 255, 6),
    "wide window": (4, (7, 7), (1, 1), (3, 3, 3, 3), 200, 0),
}


@every_unit
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str, unit: str) -> None:
    channels, kernel, stride, padding, zero, shift = DEPTHWISE[name]
    for seed, (kind, out, residual) in enumerate(
        (
            (RELU6, Quantization(0.03, 0), False),
            (NONE, Quantization(0.04, 140), True),
            (RELU, None, True),
        )
    ):
        layers = Layers(seed)
        x = layers.codes((7, 9, channels), zero)
        x = layers.shift(x, shift) if shift else x
        y = layers.conv(x, channels, kernel, stride=stride, padding=padding, groups=channels)
        other = ""
        if residual:
            layers.codes(layers.shapes[y], 91, name="other")
            other = "other"
        layers.ended(y, kind, out, other)
        assert any(each.startswith("depthwise") for each in check(layers, unit).families)


@every_unit
@pytest.mark.parametrize("kind", [Activation.HARD_SWISH, Activation.HARD_SIGMOID])
def test_other_activations_of_a_depthwise(kind: Activation, unit: str) -> None:
    layers = Layers()
    x = layers.codes((6, 7, 21), 120)
    y = layers.conv(x, 21, (3, 3), padding=EVEN, groups=21)
    layers.ended(y, kind, Quantization(0.02, 18))
    check(layers, unit)


# Inputs, outputs, groups, kernel, stride, padding, zero point, channels shifted.
GROUPED = {
    "pairs": (12, 12, 6, (3, 3), (1, 1), EVEN, 128, 0),
    "odd": (15, 21, 3, (3, 3), (2, 1), (0, 1, 1, 0), 255, 0),
    "multiplier": (7, 14, 7, (3, 3), (1, 1), EVEN, 0, 0),
    "1 x 1": (32, 40, 4, (1, 1), (1, 1), (0, 0, 0, 0), 60, 0),
    "shift": (16, 48, 2, (3, 3), (1, 1), EVEN, 17, 5),
    "1 x 1 and shift": (20, 20, 5, (1, 1), (2, 2), (0, 0, 0, 0), 4, 3),
    "fours": (20, 20, 5, (3, 3), (2, 2), EVEN, 131, 9),
    "eights": (24, 24, 3, (3, 2), (1, 1), (2, 1, 0, 1), 255, 0),
    "sixties": (120, 18, 2, (2, 3), (2, 1), (0, 1, 1, 1), 7, 61),
    "a column": (18, 9, 3, (3, 1), (1, 2), (1, 0, 1, 0), 33, 0),
}


@every_product
@pytest.mark.parametrize("name", GROUPED)
def test_grouped(name: str, unit: str) -> None:
    inputs, outputs, groups, kernel, stride, padding, zero, shift = GROUPED[name]
    number = list(GROUPED).index(name)
    kind, out, residual = ((RELU, Quantization(0.03, 0), True), (NONE, None, False))[number % 2]
    layers = Layers(number)
    x = layers.codes((6, 7, inputs), zero)
    x = layers.shift(x, shift) if shift else x
    y = layers.conv(x, outputs, kernel, stride=stride, padding=padding, groups=groups)
    other = layers.codes(layers.shapes[y], 255, name="other") if residual else ""
    layers.ended(y, kind, out, other)
    assert any(each.startswith("grouped") for each in check(layers, unit).families)


@pytest.mark.parametrize("least", [-128, -127])
def test_the_largest_sums_of_pairs_in_groups(least: int) -> None:
    """Twice -128 * -128 is more than 16 bits hold."""
    layers = Layers()
    x = layers.codes((5, 6, 12), 255)
    layers.given[x][...] = np.where(layers.rng.random((5, 6, 12)) < 0.9, 0, layers.given[x])
    y = layers.conv(x, 12, (3, 3), padding=EVEN, groups=3, least=least)
    layers.ended(y, NONE, None)
    check(layers, "smlal")


@pytest.mark.parametrize("unit", ["pmaddwd", "smlal"])
@pytest.mark.parametrize("groups", [2, 40])
def test_sums_past_24_bits(groups: int, unit: str) -> None:
    """Where float32 would round, channels that are treated apart multiply words too."""
    layers = Layers()
    channels = 160 if groups == 2 else 40
    window = (3, 3) if groups == 2 else (25, 25)
    x = layers.codes((27, 26, channels), 3)
    layers.given[x][...] |= 0xE0
    y = layers.conv(x, channels, window, stride=(2, 1), groups=groups)
    conv = layers.operators[-1]
    conv.quantized_weight[...] = np.abs(conv.quantized_weight) | 96
    conv.weight[...] = conv.quantized_weight * conv.weight_scale[:, None, None, None]
    layers.ended(y, NONE, None)
    compiled = check(layers, unit)
    assert all(each.startswith("grouped") for each in compiled.families[-1:])
    assert compiled.step.kernels[-1].buffers[1].dtype == compiled.dot.packed_dtype


# Channels, kernel, stride, padding.
POOLS = {
    "3 x 3": (24, (3, 3), (2, 2), EVEN),
    "odd": (35, (2, 3), (1, 2), (0, 1, 1, 0)),
    "many channels": (131, (2, 2), (2, 2), (0, 0, 0, 0)),
    "one channel": (1, (3, 2), (1, 1), (2, 1, 0, 1)),
}


@every_unit
@pytest.mark.parametrize("name", POOLS)
def test_the_largest(name: str, unit: str) -> None:
    channels, kernel, stride, padding = POOLS[name]
    layers = Layers()
    codes = Quantization(0.1, 128)
    x = layers.codes((8, 9, channels), codes.zero_point, codes.scale)
    layers.given[x] //= 3  # codes below that of 0, so that a border of 0 would win
    top, left, bottom, right = padding
    rows = (8 + top + bottom - kernel[0]) // stride[0] + 1
    columns = (9 + left + right - kernel[1]) // stride[1] + 1
    pool = Pool("", (x,), "", True, kernel, stride, padding)
    layers.add(pool, (rows, columns, channels), codes)
    check(layers, unit)


@every_unit
def test_the_largest_of_a_shift_and_of_a_state(unit: str) -> None:
    layers = Layers()
    x = layers.shift(layers.codes((6, 5, 12), 201), 5)
    pool = Pool("", (x,), "", True, (3, 3), (1, 1), EVEN)
    y = layers.add(pool, (6, 5, 12), layers.quantization[x])
    state = layers.state((6, 5, 7), like=x)
    layers.add(Pool("", (state,), "", True, (2, 2), (2, 2), (0, 0, 0, 0)), (3, 2, 7))
    layers.quantization["made_2"] = layers.quantization[x]
    layers.operators += [
        KeepState("keep", (y,), "", 0, 2, 7),
        KeepState("keep too", (y,), "", 1, 5, 12),
    ]
    check(layers, unit)


@every_unit
@pytest.mark.parametrize("zero", [0, 128, 255])
@pytest.mark.parametrize("size", [(7, 7, 40), (1, 3, 5), (31, 30, 17)])
def test_mean(size: tuple[int, int, int], zero: int, unit: str) -> None:
    layers = Layers()
    x = layers.codes(size, zero)
    layers.add(Mean("", (x,), ""), size[2:])
    check(layers, unit)


@every_unit
def test_a_mean_past_24_bits(unit: str) -> None:
    """More places than float32 can count codes of."""
    layers = Layers()
    x = layers.codes((300, 300, 3), 1)
    layers.given[x][...] |= 0xF1
    layers.add(Mean("", (x,), ""), (3,))
    check(layers, unit)


@every_unit
def test_a_mean_of_a_state(unit: str) -> None:
    layers = Layers()
    x = layers.codes((5, 4, 9), 130)
    state = layers.state((5, 4, 9), like=x)
    layers.add(Mean("", (state,), ""), (9,))
    layers.operators.append(KeepState("keep", (x,), "", 0, 0, 9))
    check(layers, unit)
