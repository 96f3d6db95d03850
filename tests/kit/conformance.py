"""What every backend is held to: small graphs, one of everything that kernels do.

A case builds layers in whatever precision it is given. Its step is interpreted and compared with
the evaluated graph (``compiler/test_conformance.py``), and what a backend generates of it is
compared with the interpreter, bit for bit (``codegen/test_conformance.py``): a backend registers
there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kit.layers import SPEC, UNITS, Layers
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import (
    Add,
    Dense,
    Dequantize,
    Graph,
    Join,
    KeepState,
    Mean,
    Mul,
    Pool,
    Quantization,
    Quantize,
    Shape,
)
from shiftedge.runtime.spec import ModelSpec

NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6
HARD_SWISH = Activation.HARD_SWISH
EVEN, NOT = (1, 1, 1, 1), (0, 0, 0, 0)
FLOATS = ("avx2", "avx512", "neon", "vdpbf16ps")
PRODUCTS = ("pmaddwd", "vpdpbusd", "sdot", "smlal")
STORED = PRODUCTS[:-1]
"""Those that store values differently, for kernels without products of matrices."""
ALL = (*FLOATS, *PRODUCTS)
Q = Quantization
Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


@dataclass(frozen=True)
class Case:
    """Layers, and what their step is to look like."""

    build: Callable[[Layers], object]
    units: tuple[str, ...] = ALL
    """Names in ``layers_kit.UNITS``."""
    spec: ModelSpec = SPEC
    family: str = ""
    """Some call's family begins so."""
    without: str = "-"
    """None does."""
    seed: int = 0
    fused: bool = True
    """Whether a code generator always adds a copy's product in one rounding: LLVM may not where it
    packs scalars into vectors."""

    def layers(self, unit: str) -> Layers:
        made = Layers(self.seed, UNITS[unit].precision)
        self.build(made)
        return made


CASES: dict[str, Case] = {}


def each(units: tuple[str, ...] = ALL, *, sparse: bool = False) -> list[tuple[str, str]]:
    """Case and unit; ``sparse`` takes every third case of wide and of narrow vectors in float32,
    which compile long and differ from others by their width alone."""
    pairs = [(name, unit) for name, case in CASES.items() for unit in case.units if unit in units]
    places = {name: place for place, name in enumerate(CASES)}
    return [
        (name, unit)
        for name, unit in pairs
        if not sparse or unit not in ("avx512", "neon") or places[name] % 3 == 0
    ]


# Convolutions: how they end, and whether something is added.
ENDS = (
    (RELU6, Q(0.03, 0), False),
    (NONE, Q(0.05, 255), True),
    (RELU, None, True),
    (HARD_SWISH, Q(0.02, 19), False),
    (Activation.SWISH, None, False),
)


def convolution(
    inputs: int,
    outputs: int,
    kernel: Pair,
    stride: Pair,
    padding: Sides,
    zero: int,
    shift: int,
    groups: int,
    end: tuple[Activation, Quantization | None, bool],
    size: Pair,
    layers: Layers,
) -> None:
    x = layers.map((*size, inputs), zero)
    if shift and kernel == (1, 1):
        layers.operators.append(KeepState("keep", (x,), "", 0, 0, shift))
    x = layers.shift(x, shift)
    y = layers.conv(x, outputs, kernel, stride=stride, padding=padding, groups=groups)
    kind, out, residual = end
    other = layers.map(layers.shapes[y], 140, name="other") if residual else ""
    layers.ended(y, kind, out, other)


POINTWISE = {  # inputs, outputs, zero point of the input, channels shifted
    "whole words": (32, 48, 128, 0),
    "odd": (13, 7, 255, 0),
    "odd shift": (18, 33, 131, 3),
    "shift of one": (5, 40, 0, 1),
    "all shifted": (6, 24, 200, 6),
    "wide": (130, 100, 9, 16),
}
for name, (inputs, outputs, zero, shift) in POINTWISE.items():
    for number, end in enumerate(ENDS):
        build = partial(
            convolution, inputs, outputs, (1, 1), (1, 1), NOT, zero, shift, 1, end, (5, 7)
        )
        units = FLOATS if end[0] is Activation.SWISH else ALL
        CASES[f"pointwise, {name}, {end[0].name}"] = Case(build, units, seed=number)

DENSE = {  # inputs, outputs, kernel, stride, padding, zero point, channels shifted
    "3 x 3": (16, 24, (3, 3), (1, 1), EVEN, 128, 0),
    "odd": (5, 9, (3, 2), (2, 1), (1, 0, 0, 1), 255, 0),
    "strided": (5, 9, (3, 3), (2, 2), EVEN, 3, 0),
    "shift": (12, 33, (3, 3), (1, 1), EVEN, 7, 5),
    "strided 1 x 1": (20, 40, (1, 1), (2, 2), NOT, 99, 0),
    "padded 1 x 1": (6, 8, (1, 1), (1, 1), (0, 1, 1, 0), 255, 2),
}
for name, shape in DENSE.items():
    for number, end in enumerate(((RELU, Q(0.03, 0), True), (NONE, Q(0.04, 90), False))):
        build = partial(convolution, *shape, 1, end, (7, 6))
        CASES[f"dense, {name}, {end[0].name}"] = Case(build, seed=number)

DEPTHWISE = {  # channels, kernel, stride, padding, zero point of the input, channels shifted
    "plain": (24, (3, 3), (1, 1), EVEN, 0, 0),
    "odd channels": (13, (3, 3), (1, 1), EVEN, 128, 0),
    "one row down": (33, (3, 3), (2, 1), (1, 0, 1, 2), 255, 0),
    "no border": (9, (3, 2), (1, 2), NOT, 77, 0),
    "shift in a word": (19, (3, 3), (1, 1), EVEN, 131, 3),
    "shift without border": (8, (1, 1), (1, 1), NOT, 3, 5),
    "all shifted": (6, (5, 5), (2, 2), (2, 2, 2, 2), 255, 6),
    "wide window": (4, (7, 7), (1, 1), (3, 3, 3, 3), 200, 0),
}
for place, (name, (channels, *shape)) in enumerate(DEPTHWISE.items()):
    for number, end in enumerate(
        (
            (RELU6, Q(0.03, 0), False),
            (NONE, Q(0.04, 140), True),
            (RELU, None, True),
            (HARD_SWISH, Q(0.02, 18), False),
            (Activation.HARD_SIGMOID, Q(0.02, 18), False),
        )
    ):
        if number < 3 or place == 1:
            build = partial(convolution, channels, channels, *shape, channels, end, (7, 9))
            units = (*FLOATS, *STORED)
            made = Case(build, units, family="depthwise", seed=number)
            CASES[f"depthwise, {name}, {end[0].name}"] = made

GROUPED = {  # inputs, outputs, groups, kernel, stride, padding, zero point, channels shifted
    "pairs": (12, 12, 6, (3, 3), (1, 1), EVEN, 128, 0),
    "odd": (15, 21, 3, (3, 3), (2, 1), (0, 1, 1, 0), 255, 0),
    "multiplier": (7, 14, 7, (3, 3), (1, 1), EVEN, 0, 0),
    "1 x 1": (32, 40, 4, (1, 1), (1, 1), NOT, 60, 0),
    "shift": (16, 48, 2, (3, 3), (1, 1), EVEN, 17, 5),
    "1 x 1 and shift": (20, 20, 5, (1, 1), (2, 2), NOT, 4, 3),
    "fours": (20, 20, 5, (3, 3), (2, 2), EVEN, 131, 9),
    "eights": (24, 24, 3, (3, 2), (1, 1), (2, 1, 0, 1), 255, 0),
    "sixties": (120, 18, 2, (2, 3), (2, 1), (0, 1, 1, 1), 7, 61),
    "a column": (18, 9, 3, (3, 1), (1, 2), (1, 0, 1, 0), 33, 0),
}
for number, (name, (inputs, outputs, groups, *shape)) in enumerate(GROUPED.items()):
    end = ((RELU, Q(0.03, 0), True), (NONE, None, False))[number % 2]
    build = partial(convolution, inputs, outputs, *shape, groups, end, (6, 7))
    CASES[f"grouped, {name}"] = Case(build, family="grouped", seed=number)


def over_the_frame(stride: int, residual: bool, layers: Layers) -> None:
    """The camera's bytes, three means, padding that is no byte."""
    x = layers.frame(9, 11)
    y = layers.conv(x, 20, (3, 3), stride=(stride,) * 2, padding=(1, 1, 0, 1))
    other = layers.map(layers.shapes[y], 130, name="other") if residual else ""
    layers.ended(y, RELU, Q(0.02, 0), other)


MEANS = replace(SPEC, height=9, width=11, mean=(0.2, 0.45, 0.7), std=(0.23,) * 3)
for stride in (1, 2):
    for residual in (False, True):
        build = partial(over_the_frame, stride, residual)
        CASES[f"over the frame, {stride}, {residual}"] = Case(build, spec=MEANS)

BLOCKS = {  # inputs, hidden, outputs, size of the map, stride, shifted, residual, zero point
    "phased": (16, 40, 16, (7, 7), 1, 2, True, 128),
    "banded": (11, 30, 19, (30, 9), 2, 3, False, 255),
    "odd": (9, 21, 9, (6, 5), 1, 0, True, 0),
    "large": (8, 24, 8, (20, 16), 1, 2, True, 7),
    "one pixel out": (8, 32, 12, (2, 2), 2, 0, False, 90),
}


def block(name: str, kernel: Pair, kind: Activation, layers: Layers) -> None:
    inputs, hidden, outputs, size, stride, shift, residual, zero = BLOCKS[name]
    source = layers.map((*size, inputs), zero)
    low = 0 if kind is RELU6 else 16
    y = layers.ended(layers.conv(layers.shift(source, shift), hidden), kind, Q(0.025, low))
    high, wide = kernel
    padding = (high // 2, wide // 2, (high - 1) // 2, (wide - 1) // 2)
    y = layers.conv(y, hidden, kernel, stride=(stride,) * 2, padding=padding, groups=hidden)
    y = layers.ended(y, kind, Q(0.024, low))
    layers.ended(layers.conv(y, outputs), NONE, Q(0.04, 120), source if residual else "")


for name in BLOCKS:
    build = partial(block, name, (3, 3), RELU6)
    CASES[f"block, {name}"] = Case(build, family="inverted residual")
    # An uneven border: it falls apart.
    build = partial(block, name, (3, 5), RELU6)
    CASES[f"block, {name}, uneven"] = Case(build, family="depth", without="inverted residual")
for name in ("phased", "banded"):
    for size in (5, 7):
        build = partial(block, name, (size, size), RELU6)
        CASES[f"block, {name}, {size} x {size}"] = Case(build, family="inverted residual")
build = partial(block, "phased", (3, 3), HARD_SWISH)
CASES["block, hard swish"] = Case(build, family="inverted residual")


def block_of_a_pixel(layers: Layers) -> None:
    x = layers.numbers((1, 1, 8))
    y = layers.ended(layers.conv(layers.shift(x, 2), 32), RELU6)
    y = layers.ended(layers.conv(y, 32, (3, 3), padding=EVEN, groups=32), RELU6)
    y = layers.conv(y, 8)
    layers.add(Add("", (x, y), ""), (1, 1, 8))


CASES["block, one pixel"] = Case(block_of_a_pixel, FLOATS, family="inverted residual")


def depthwise_and_project(of_state: bool, padding: Sides, layers: Layers) -> None:
    x = layers.map((8, 9, 18), 140)
    if of_state:
        layers.operators.append(KeepState("keep", (x,), "", 0, 0, 18))
        x = layers.state((8, 9, 18), like=x)
    y = layers.ended(layers.conv(x, 18, (3, 3), padding=padding, groups=18), RELU, Q(0.03, 0))
    layers.ended(layers.conv(y, 10), NONE, Q(0.05, 131))


for of_state in (False, True):
    build = partial(depthwise_and_project, of_state, EVEN)
    CASES[f"block, no expansion, {of_state}"] = Case(build, family="inverted residual")
CASES["depthwise and project"] = Case(partial(depthwise_and_project, False, (0, 0, 1, 1)))


def first_block(padding: Sides, layers: Layers) -> None:
    x = layers.frame(12, 14)
    y = layers.conv(x, 20, (3, 3), stride=(2, 2), padding=(1, 1, 0, 0))
    y = layers.ended(y, RELU6, Q(0.024, 0))
    y = layers.ended(layers.conv(y, 20, (3, 3), padding=padding, groups=20), RELU6, Q(0.024, 0))
    layers.ended(layers.conv(y, 12), NONE, Q(0.05, 110))


SMALL = replace(SPEC, height=12, width=14, std=(0.25,) * 3)
FIRST = "first convolution and block"
CASES["first block"] = Case(partial(first_block, EVEN), spec=SMALL, family=FIRST)
CASES["first block, apart"] = Case(partial(first_block, (1, 1, 1, 0)), spec=SMALL, without=FIRST)


def tail(shift: int, zero: int, layers: Layers) -> None:
    """Where 0 is not the value 0, it is a convolution and a mean."""
    x = layers.shift(layers.map((5, 6, 18), 128), shift)
    y = layers.ended(layers.conv(x, 50), NONE if zero else RELU, Q(0.03, zero))
    mean = layers.add(Mean("", (y,), ""), (50,))
    weight = layers.rng.standard_normal((4, 50)).astype(np.float32)
    layers.add(Dense("", (mean,), "", weight, np.ones(4, np.float32)), (4,), name="dense")


for shift in (0, 5):
    CASES[f"tail, {shift}"] = Case(partial(tail, shift, 0), family="tail")
    for zero in (1, 255):
        build = partial(tail, shift, zero)
        CASES[f"tail, {shift}, {zero}"] = Case(build, PRODUCTS, without="tail")


def largest_sums_of_pairs(least: int, groups: int, layers: Layers) -> None:
    """Values at both ends of their range: what a pair's 16 bits hold, and what they do not."""
    x = layers.map((5, 7, 39), 0)
    layers.given[x][:3] = 0
    layers.given[x][3:] = 255
    padding = NOT if groups == 1 else EVEN
    y = layers.conv(
        x, 39, (1, 1) if groups == 1 else (3, 3), padding=padding, groups=groups, least=least
    )
    layers.ended(y)


for least in (-128, -127, 127):
    for groups in (1, 3):
        build = partial(largest_sums_of_pairs, least, groups)
        CASES[f"largest sums of pairs, {least}, {groups}"] = Case(build, ("smlal",))


def past_24_bits(channels: int, kernel: Pair, groups: int, layers: Layers) -> None:
    """Where float32 would round, channels that are treated apart multiply words too."""
    x = layers.map((27, 26, channels), 3)
    layers.given[x][...] |= 0xE0
    y = layers.conv(x, channels, kernel, stride=(2, 1), groups=groups)
    conv = layers.operators[-1]
    conv.quantized_weight[...] = np.abs(conv.quantized_weight) | 96
    conv.weight[...] = conv.quantized_weight * conv.weight_scale[:, None, None, None]
    layers.ended(y)


for channels, kernel, groups in ((160, (3, 3), 2), (40, (25, 25), 40)):
    build = partial(past_24_bits, channels, kernel, groups)
    CASES[f"past 24 bits, {groups}"] = Case(build, ("pmaddwd", "smlal"), family="grouped")

# Pools, means.
POOLS = {  # channels, kernel, stride, padding
    "3 x 3": (24, (3, 3), (2, 2), EVEN),
    "odd": (35, (2, 3), (1, 2), (0, 1, 1, 0)),
    "many channels": (131, (2, 2), (2, 2), NOT),
    "one channel": (1, (3, 2), (1, 1), (2, 1, 0, 1)),
}


def pool(
    largest: bool,
    channels: int,
    kernel: Pair,
    stride: Pair,
    padding: Sides,
    layers: Layers,
) -> None:
    x = layers.map((8, 9, channels), 128, 0.1)
    if x in layers.quantization:
        layers.given[x] //= 3  # below the zero point, so that a border of 0 would win
    top, left, bottom, right = padding
    rows = (8 + top + bottom - kernel[0]) // stride[0] + 1
    columns = (9 + left + right - kernel[1]) // stride[1] + 1
    out = layers.quantization.get(x) if largest else None
    layers.add(Pool("", (x,), "", largest, kernel, stride, padding), (rows, columns, channels), out)


for name, shape in POOLS.items():
    CASES[f"largest, {name}"] = Case(partial(pool, True, *shape), (*FLOATS, *STORED))
    CASES[f"mean of windows, {name}"] = Case(partial(pool, False, *shape), FLOATS)


def largest_of_a_shift_and_a_state(layers: Layers) -> None:
    x = layers.shift(layers.map((6, 5, 12), 201), 5)
    out = layers.quantization.get(x)
    y = layers.add(Pool("", (x,), "", True, (3, 3), (1, 1), EVEN), (6, 5, 12), out)
    state = layers.state((6, 5, 7), like=x)
    layers.add(Pool("", (state,), "", True, (2, 2), (2, 2), NOT), (3, 2, 7), out)
    layers.operators += [
        KeepState("keep", (y,), "", 0, 2, 7),
        KeepState("keep too", (y,), "", 1, 5, 12),
    ]


CASES["largest of a shift"] = Case(largest_of_a_shift_and_a_state, (*FLOATS, *STORED))


def mean(size: Shape, zero: int, least: int, layers: Layers) -> None:
    x = layers.map(size, zero)
    if least:
        layers.given[x][...] |= least
    layers.add(Mean("", (x,), ""), size[2:])


for size in ((7, 7, 40), (1, 3, 5), (31, 30, 17)):
    CASES[f"mean, {size}"] = Case(partial(mean, size, 128, 0), (*FLOATS, *STORED))
    for zero in (0, 255):
        CASES[f"mean, {size}, {zero}"] = Case(partial(mean, size, zero, 0), STORED)
CASES["mean, past 24 bits"] = Case(partial(mean, (300, 300, 3), 1, 0xF1), STORED)


def mean_of_a_state(layers: Layers) -> None:
    x = layers.map((5, 4, 9), 130)
    state = layers.state((5, 4, 9), like=x)
    layers.add(Mean("", (state,), ""), (9,))
    layers.operators.append(KeepState("keep", (x,), "", 0, 0, 9))


CASES["mean of a state"] = Case(mean_of_a_state, (*FLOATS, *STORED))

# Sums, products, quantisation, states.
SIZES = ((5, 7, 13), (1, 1, 3), (16, 16, 64))


def a_sum(shape: Shape, zeros: Pair, out: Quantization | None, layers: Layers) -> None:
    x, y = layers.map(shape, zeros[0], 0.05), layers.map(shape, zeros[1], 0.03)
    layers.add(Add("", (x, y), ""), shape, out)


for zeros in ((0, 255), (128, 128), (255, 3)):
    for out in (Q(0.07, 99), None):
        for shape in SIZES:
            units = (*FLOATS, *STORED) if zeros == (128, 128) and shape[0] > 1 else STORED
            CASES[f"sum, {zeros}, {out}, {shape}"] = Case(partial(a_sum, shape, zeros, out), units)


def sum_with_itself_and_a_state(layers: Layers) -> None:
    shape = (4, 5, 11)
    x = layers.map(shape, 140)
    y = layers.add(Add("", (x, x), ""), shape, Q(0.1, 130))
    state = layers.state(shape, like=y)
    layers.add(Add("", (state, y), ""), shape, Q(0.2, 7))
    layers.operators.append(KeepState("keep", (y,), "", 0, 0, 11))


CASES["sum with itself and a state"] = Case(sum_with_itself_and_a_state, (*FLOATS, *STORED))


def gates(kind: Activation, layers: Layers) -> None:
    shape = (4, 5, 22)
    x, y = layers.map(shape), layers.map(shape)
    total = layers.add(Add("", (x, y), ""), shape)
    mean = layers.add(Mean("", (total,), ""), (1, 1, 22))
    gate = layers.ended(layers.conv(mean, 22), kind)
    gated = layers.add(Mul("", (total, gate), ""), shape)
    layers.ended(layers.add(Mul("", (gated, x), ""), shape), RELU)


for kind in (Activation.HARD_SIGMOID, Activation.SIGMOID):
    CASES[f"gates, {kind.name}"] = Case(partial(gates, kind), FLOATS)


def rounding(shape: Shape, zero: int, layers: Layers) -> None:
    x = layers.numbers(shape)
    scale = float(np.float32(0.04))
    # Halves between steps, and what no value stands for.
    layers.given[x].reshape(-1)[:3] = 0.5 * scale, 1e30, -1e30
    out = Q(scale, zero)
    y = layers.add(Quantize("", (x,), "", out), shape, out)
    layers.add(Dequantize("", (y,), "", out), shape)


for zero in (0, 128, 255):
    for shape in SIZES:
        CASES[f"rounding, {zero}, {shape}"] = Case(partial(rounding, shape, zero), STORED)


def quantized_frame(width: int, layers: Layers) -> None:
    """By colour, B, G, R to R, G, B, and as a state of the next frame."""
    out = Q(0.03, 101)
    x = layers.add(Quantize("", (layers.frame(4, width),), "", out), (4, width, 3), out)
    state = layers.state((4, width, 3), like=x)
    joined = layers.add(Join("", (state, x), "", 0, 0), (4, width, 6), out)
    layers.ended(layers.conv(joined, 8, (3, 3), padding=EVEN), out=Q(0.03, 128))
    layers.operators.append(KeepState("keep", (x,), "", 0, 0, 3))


for width in (5, 16, 37):
    spec = replace(SPEC, height=4, width=width, mean=(0.1, 0.5, 0.8), std=(0.2, 0.3, 0.25))
    CASES[f"quantised frame, {width}"] = Case(partial(quantized_frame, width), STORED, spec)


def kept_frame(layers: Layers) -> None:
    x = layers.frame(6, 5)
    layers.operators.append(KeepState("keep", (x,), "", 0, 0, 3))
    state = layers.state((6, 5, 3))
    joined = layers.add(Join("", (state, x), "", 0, 0), (6, 5, 6))
    layers.conv(joined, 10, (3, 3), padding=EVEN)


CASES["kept frame"] = Case(kept_frame, FLOATS, replace(SPEC, height=6, width=5), fused=False)


def join(begin: int, layers: Layers) -> None:
    x = layers.map((5, 6, 14), 190)
    state = layers.state((5, 6, 3), like=x)
    out = layers.quantization.get(x)
    layers.add(Join("", (state, x), "", 0, begin), (5, 6, 17 - begin), out)
    layers.operators.append(KeepState("keep", (x,), "", 0, 11, 14))


for begin in (0, 3, 5):
    CASES[f"join, {begin}"] = Case(partial(join, begin), (*FLOATS, *STORED))


def delay_line(layers: Layers) -> None:
    """A state that becomes another, joined to a map, and read as a map."""
    x = layers.map((5, 6, 10), 77)
    out = layers.quantization.get(x)
    first, second = (layers.state((5, 6, 4), like=x) for _ in range(2))
    layers.add(Join("", (second, x), "", 1, 4), (5, 6, 10), out)
    layers.add(Join("", (second, first), "", 1, 0), (5, 6, 8), out)
    if out is not None:
        layers.add(Dequantize("", (first,), "", out), (5, 6, 4))
    layers.operators += [
        KeepState("keep", (x,), "", 0, 6, 10),
        KeepState("on", (first,), "", 1, 0, 4),
    ]


CASES["delay line"] = Case(delay_line, (*FLOATS, *STORED))


def state_that_nothing_reads_as_a_map(layers: Layers) -> None:
    x = layers.map((5, 6, 10), 77)
    layers.shift(x, 4)
    layers.operators.append(KeepState("keep", (x,), "", 0, 0, 4))


CASES["state, not copied"] = Case(
    state_that_nothing_reads_as_a_map, (*FLOATS, *STORED), family="join", without="copy"
)


def inexact(graph: Graph) -> set[str]:
    """Values that are of float32 kernels, or behind them, in a graph of quantised values."""
    loose: set[str] = set()
    for operator in graph.operators:
        if isinstance(operator, (Dense, Pool)) and operator.inputs[0] not in graph.quantization:
            loose.add(operator.out)
    return loose
