"""Pointwise convolution against numpy, on shapes that no tile divides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from test_schedules_kit import X86_64_V3, activate, check, every_unit, host_unit, normal

from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants
from shiftedge.export.compiler.backends.cpu.families import pointwise
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise
from shiftedge.export.compiler.backends.cpu.families.tiles import AVX2, AVX512, NEON, Tiles
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.graph.activations import Activation

UNIT = host_unit()
CHANNELS = st.one_of(
    st.sampled_from([1, 2, 3, 7, 8, 16, 24, 31, 32, 33, 48, 97]), st.integers(1, 120)
)


def verify(shape: Pointwise, tiles: Tiles, cuts=(), unit=UNIT) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, shape.pixels, shape.inputs)
    state = normal(rng, shape.pixels, shape.shift)
    weight = normal(rng, shape.outputs, shape.inputs, scale=shape.inputs**-0.5)
    bias = normal(rng, shape.outputs)
    residual = normal(rng, shape.pixels, shape.outputs)
    [kernel] = pointwise.schedule("pointwise", shape, tiles, unit)
    joined = np.concatenate([state, x[:, shape.shift :]], axis=1).astype(np.float64)
    expected = joined @ weight.T.astype(np.float64) + bias + shape.residual * residual
    arrays = {"x": x, "state": state, "residual": residual}
    arrays |= pointwise.pack(ConvConstants(FP32, weight, bias), shape, tiles, unit)
    check(kernel, arrays, unit, {"out": activate(shape.activation, expected)}, cuts)


@settings(max_examples=20)
@given(
    pixels=st.integers(1, 60),
    inputs=CHANNELS,
    outputs=CHANNELS,
    shift=st.integers(0, 120),
    residual=st.booleans(),
    activation=st.sampled_from(Activation),
    cuts=st.lists(st.integers(0, 200), max_size=3),
)
def test_any_shape_is_right_and_the_same_in_any_split(
    pixels, inputs, outputs, shift, residual, activation, cuts
):
    shape = Pointwise(pixels, inputs, outputs, min(shift, inputs), residual, activation)
    verify(shape, pointwise.tiles_for(shape, UNIT), cuts)


@settings(max_examples=12)
@given(
    rows=st.integers(1, 14),
    vectors=st.integers(1, 3),
    outer=st.booleans(),
    prefetch=st.booleans(),
    pixels=st.integers(1, 40),
    outputs=CHANNELS,
)
def test_any_tile_is_right(rows, vectors, outer, prefetch, pixels, outputs):
    tiles = Tiles(rows, vectors * UNIT.lanes, prefetch=prefetch, blocks_outer=outer)
    verify(Pointwise(pixels, 9, outputs, 2, True, Activation.RELU6), tiles, (1, 3))


@pytest.mark.parametrize("pixels", [1, 7, 49])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_folded_half_vector(pixels, blocks, whole):
    columns = whole * UNIT.lanes + UNIT.lanes // 2
    tiles = Tiles(8, columns, folded=True)
    shape = Pointwise(pixels, 14, blocks * columns, 4, True, Activation.RELU6)
    verify(shape, tiles, (2,))


def test_a_folded_half_vector_takes_inputs_two_by_two():
    tiles = Tiles(8, 24, folded=True)
    with pytest.raises(ValueError, match="even numbers"):
        pointwise.schedule("pointwise", Pointwise(14, 14, 24, 3), tiles, AVX512)


@pytest.mark.hosts
@pytest.mark.parametrize("unit", every_unit(), ids=lambda unit: f"{unit.lanes}lanes")
@pytest.mark.parametrize("outputs", [1, 24, 97])
def test_every_vector_unit(unit, outputs):
    shape = Pointwise(30, 19, outputs, 4, True, Activation.SWISH)
    verify(shape, pointwise.tiles_for(shape, unit), (2,), unit)


def test_the_text_shows_the_two_segments_and_no_test_inside_them():
    shape = Pointwise(98, 64, 96, 8, activation=Activation.RELU6)
    [kernel] = pointwise.schedule("expand", shape, Tiles(14, 48), AVX512)
    text = kernel.text()
    assert "add state[(unit % 7*14 + row)*8 + k]" in text
    assert "for k < 8" in text
    assert "for k < 56" in text
    assert "if" not in text  # 98 pixels are 7 tiles of 14, 96 channels 2 blocks of 48
    [tile] = kernel.tiles()
    assert len(tile.vectors) == 14 * 3


def test_default_tiles_fit_the_registers():
    for unit in (AVX512, AVX2, NEON):
        for pixels in (1, 2, 49, 196, 3136):
            for outputs in (1, 3, 16, 24, 32, 96, 97, 144, 160, 1280):
                shape = Pointwise(pixels, 8, outputs)
                tiles = pointwise.tiles_for(shape, unit)
                [kernel] = pointwise.schedule("p", shape, tiles, unit)
                [tile, *_] = kernel.tiles()
                across = -(-tiles.columns // unit.lanes)
                assert len(tile.vectors) + across < unit.registers, (unit, pixels, outputs)


def test_nothing_spills_and_everything_fuses_on_avx512_and_avx2():
    """The inner loop of a good tile holds multiply-adds on registers, and no stack."""
    for unit, target in ((AVX512, {"kind": "llvm", "mcpu": "x86-64-v4"}), (AVX2, X86_64_V3)):
        shape = Pointwise(84, 64, 96, residual=True, activation=Activation.RELU6)
        tiles = pointwise.tiles_for(shape, unit)
        [kernel] = pointwise.schedule("pointwise", shape, tiles, unit)
        assembly = tir.compile_kernels([kernel], target, unit.lanes).text("asm")
        assert assembly.count("vfmadd") >= tiles.rows * tiles.columns // unit.lanes
        register = "zmm" if unit is AVX512 else "ymm"
        stacked = [line for line in assembly.splitlines() if register in line and "(%rsp" in line]
        assert stacked == []


@pytest.mark.parametrize(
    ("outputs", "tiles"),
    [(64, Tiles(7, 40)), (40, Tiles(8, 24, folded=True)), (96, Tiles(8, 48, folded=True))],
)
def test_tiles_that_do_not_fit_are_refused(outputs, tiles):
    with pytest.raises(ValueError, match="multiples of"):
        pointwise.schedule("pointwise", Pointwise(14, 8, outputs), tiles, AVX512)
