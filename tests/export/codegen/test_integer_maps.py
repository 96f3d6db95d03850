"""Sums, roundings, joins, states and the frame's codes, against the integer reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")

from integer_kit import SPEC, STORED, Layers, check

from shiftedge.export.compiler.graph.graph import (
    Add,
    Dequantize,
    Join,
    KeepState,
    Quantization,
    Quantize,
)

every_unit = pytest.mark.parametrize("unit", STORED)
SIZES = [(5, 7, 13), (1, 1, 3), (16, 16, 64)]


@every_unit
@pytest.mark.parametrize("out", [Quantization(0.07, 99), None], ids=["codes", "numbers"])
@pytest.mark.parametrize("zeros", [(0, 255), (128, 128), (255, 3)])
def test_a_sum(zeros: tuple[int, int], out: Quantization | None, unit: str) -> None:
    for shape in SIZES:
        layers = Layers()
        x, y = layers.codes(shape, zeros[0], 0.05), layers.codes(shape, zeros[1], 0.03)
        layers.add(Add("", (x, y), ""), shape, out)
        check(layers, unit)


@every_unit
def test_a_sum_of_a_map_and_itself_and_of_a_state(unit: str) -> None:
    layers = Layers()
    shape = (4, 5, 11)
    x = layers.codes(shape, 140)
    y = layers.add(Add("", (x, x), ""), shape, Quantization(0.1, 130))
    state = layers.state(shape, like=y)
    layers.add(Add("", (state, y), ""), shape, Quantization(0.2, 7))
    layers.operators.append(KeepState("keep", (y,), "", 0, 0, 11))
    check(layers, unit)


@every_unit
@pytest.mark.parametrize("zero", [0, 128, 255])
@pytest.mark.parametrize("shape", SIZES)
def test_rounding(shape: tuple[int, int, int], zero: int, unit: str) -> None:
    layers = Layers()
    x = layers.numbers(shape)
    scale = float(np.float32(0.04))
    # Halves between codes, and what no code stands for.
    layers.given[x].reshape(-1)[:3] = 0.5 * scale, 1e30, -1e30
    codes = Quantization(scale, zero)
    y = layers.add(Quantize("", (x,), "", codes), shape, codes)
    layers.add(Dequantize("", (y,), "", codes), shape)
    check(layers, unit)


@every_unit
@pytest.mark.parametrize("width", [5, 16, 37])
def test_codes_of_the_frame(width: int, unit: str) -> None:
    """By colour, B, G, R to R, G, B, and as a state of the next frame."""
    spec = replace(SPEC, height=4, width=width, mean=(0.1, 0.5, 0.8), std=(0.2, 0.3, 0.25))
    layers = Layers()
    codes = Quantization(0.03, 101)
    layers.shapes["frame"] = (4, width, 3)
    x = layers.add(Quantize("", ("frame",), "", codes), (4, width, 3), codes)
    state = layers.state((4, width, 3), like=x)
    joined = layers.add(Join("", (state, x), "", 0, 0), (4, width, 6), codes)
    y = layers.conv(joined, 8, (3, 3), padding=(1, 1, 1, 1))
    layers.ended(y, codes=Quantization(0.03, 128))
    layers.operators.append(KeepState("keep", (x,), "", 0, 0, 3))
    image = layers.rng.integers(0, 256, (4, width, 3)).astype(np.uint8)
    check(layers, unit, spec=spec, image=image)


@every_unit
@pytest.mark.parametrize("begin", [0, 3, 5])
def test_a_join_alone(begin: int, unit: str) -> None:
    layers = Layers()
    x = layers.codes((5, 6, 14), 190)
    state = layers.state((5, 6, 3), like=x)
    codes = layers.quantization[x]
    layers.add(Join("", (state, x), "", 0, begin), (5, 6, 17 - begin), codes)
    layers.operators.append(KeepState("keep", (x,), "", 0, 11, 14))
    check(layers, unit)


@every_unit
def test_a_delay_line(unit: str) -> None:
    """A state that becomes another, joined to a map, and read as a map."""
    layers = Layers()
    x = layers.codes((5, 6, 10), 77)
    codes = layers.quantization[x]
    first, second = (layers.state((5, 6, 4), like=x) for _ in range(2))
    layers.add(Join("", (second, x), "", 1, 4), (5, 6, 10), codes)
    layers.add(Join("", (second, first), "", 1, 0), (5, 6, 8), codes)
    layers.add(Dequantize("", (first,), "", codes), (5, 6, 4))
    layers.operators += [
        KeepState("keep", (x,), "", 0, 6, 10),
        KeepState("on", (first,), "", 1, 0, 4),
    ]
    check(layers, unit)


@every_unit
def test_a_state_nothing_reads_as_a_map_is_not_copied(unit: str) -> None:
    layers = Layers()
    x = layers.codes((5, 6, 10), 77)
    layers.shift(x, 4)
    layers.operators.append(KeepState("keep", (x,), "", 0, 0, 4))
    assert check(layers, unit).families == ["join"]
