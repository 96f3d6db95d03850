"""The inverted residual, both forms, against numpy: odd sizes, strides, channels, any split."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from test_schedules_kit import X86_64_V3, activate, compiled, every_unit, host_unit, normal, run

from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants
from shiftedge.export.compiler.backends.cpu.families import inverted_residual, padding
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32
from shiftedge.export.compiler.backends.cpu.families.conv import ConvShape
from shiftedge.export.compiler.backends.cpu.families.inverted_residual import (
    BlockShape,
    BlockTiles,
)
from shiftedge.export.compiler.backends.cpu.families.tiles import AVX2, AVX512, NEON, Tiles
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.graph.activations import Activation

UNIT = host_unit()


def reference(shape: BlockShape, x, state, residual, w) -> np.ndarray:
    """float64, straight from the definition."""
    joined = np.concatenate([state, x[..., shape.shift :]], axis=-1).astype(np.float64)
    hidden = joined
    if shape.expand:
        hidden = activate(shape.expand_activation, joined @ w["expand_weight"].T + w["expand_bias"])
    pad = shape.pad
    hidden = np.pad(hidden, ((pad, pad), (pad, pad), (0, 0)))
    total = np.zeros((shape.out_height, shape.out_width, shape.hidden)) + w["depthwise_bias"]
    for down in range(shape.kernel):
        for right in range(shape.kernel):
            window = hidden[down :: shape.stride, right :: shape.stride]
            window = window[: shape.out_height, : shape.out_width]
            total += window * w["depthwise_weight"][:, down, right]
    total = activate(shape.depthwise_activation, total)
    return total @ w["project_weight"].T + w["project_bias"] + shape.residual * residual


def stages(weights) -> dict[str, ConvConstants]:
    names = {name.removesuffix("_bias") for name in weights if name.endswith("_bias")}
    return {
        name: ConvConstants(FP32, weights[f"{name}_weight"], weights[f"{name}_bias"])
        for name in names
    }


def verify(shape: BlockShape, tiles: BlockTiles, cuts=(), unit=UNIT) -> None:
    rng = np.random.default_rng(shape.hidden)
    size, hidden, outputs = shape.kernel, shape.hidden, shape.outputs
    weights = {
        "depthwise_weight": normal(rng, hidden, size, size, scale=1 / size),
        "depthwise_bias": normal(rng, hidden),
        "project_weight": normal(rng, outputs, hidden, scale=hidden**-0.5),
        "project_bias": normal(rng, outputs),
    }
    if shape.expand:
        weights["expand_weight"] = normal(rng, hidden, shape.inputs, scale=shape.inputs**-0.5)
        weights["expand_bias"] = normal(rng, hidden)
    x = normal(rng, shape.height, shape.width, shape.inputs)
    state = normal(rng, shape.height, shape.width, shape.shift)
    kernels = inverted_residual.schedule("block", shape, tiles, unit)
    residual = normal(rng, shape.out_height, shape.out_width, outputs)
    arrays = {"x": x, "state": state, "residual": residual}
    arrays |= inverted_residual.pack(stages(weights), shape, tiles, unit)
    libraries = [compiled(kernel, unit) for kernel in kernels]
    results = []
    for cut in ((), cuts):
        values = dict(arrays)
        for kernel, library in zip(kernels, libraries, strict=True):
            values |= run(kernel, values, library, cut)
        results.append(values["out"])
    expected = reference(shape, x, state, residual, weights).reshape(-1)
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=3e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(*results, err_msg="depends on the split")


SHAPES = st.builds(
    BlockShape,
    height=st.integers(1, 12),
    width=st.integers(1, 20),
    inputs=st.integers(1, 24),
    hidden=st.sampled_from([1, 3, 7, 16, 31, 48, 97]),
    outputs=st.sampled_from([1, 3, 7, 16, 24, 97]),
    stride=st.sampled_from([1, 2]),
    kernel=st.sampled_from([3, 3, 5]),
    shift=st.integers(0, 24),
    expand_activation=st.sampled_from([Activation.RELU6, Activation.HARD_SIGMOID]),
    depthwise_activation=st.sampled_from([Activation.RELU, Activation.HARD_SIGMOID]),
    residual=st.booleans(),
).map(lambda shape: dataclasses.replace(shape, shift=min(shape.shift, shape.inputs)))


@settings(max_examples=13)
@given(shape=SHAPES, band=st.integers(0, 6), cuts=st.lists(st.integers(0, 50), max_size=3))
def test_any_shape_in_both_forms_is_right_and_the_same_in_any_split(shape, band, cuts):
    tiles = inverted_residual.tiles_for(shape, UNIT)
    while band and shape.out_height % band:
        band -= 1
    verify(shape, dataclasses.replace(tiles, band=band), cuts)


@settings(max_examples=6)
@given(
    shape=SHAPES,
    expand=st.integers(1, 14),
    window=st.integers(1, 16),
    vectors=st.integers(1, 3),
    outer=st.booleans(),
)
def test_any_tile_is_right(shape, expand, window, vectors, outer):
    tiles = BlockTiles(
        band=shape.out_height,
        expand=Tiles(expand, vectors * UNIT.lanes),
        window=window,
        project=Tiles(5, 2 * UNIT.lanes, blocks_outer=False),
        channels_outer=outer,
    )
    verify(shape, tiles)


@pytest.mark.parametrize("band", [0, 2])
@pytest.mark.parametrize("unit", every_unit(), ids=lambda unit: f"{unit.lanes}lanes")
def test_residual_on_every_vector_unit_of_this_machine(band, unit):
    shape = BlockShape(6, 9, 24, 40, 24, shift=3, residual=True)
    tiles = inverted_residual.tiles_for(shape, unit)
    verify(shape, dataclasses.replace(tiles, band=band), (1, 2), unit)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [5, 32, 35])
def test_without_an_expand(channels, stride):
    shape = BlockShape(8, 10, channels, channels, 16, stride=stride, expand=False)
    verify(shape, inverted_residual.tiles_for(shape, UNIT), (1,))


def test_text_of_a_band():
    shape = BlockShape(56, 56, 24, 144, 24, shift=3, residual=True)
    tiles = BlockTiles(2, Tiles(7, 48), 14, Tiles(8, 24, folded=True))
    [kernel] = inverted_residual.schedule("block", shape, tiles, AVX512)
    expand, depthwise, project = kernel.tiles()
    assert [len(tile.vectors) for tile in (expand, depthwise, project)] == [21, 14, 16]
    assert [segment.source.buffer.name for segment in expand.segments] == ["state", "x"]
    assert "for padded row in unit*2 + min(unit - begin, 1)*2 .. unit*2 + 4:" in kernel.text()
    assert kernel.units == 28


def test_small_images_are_phased_and_their_expanded_block_stays_in_the_first_level_cache():
    for size in (14, 7):
        shape = BlockShape(size, size, 96, 576, 96)
        tiles = inverted_residual.tiles_for(shape, AVX512)
        assert tiles.band == 0
        hidden, project = inverted_residual.schedule("block", shape, tiles, AVX512)
        assert hidden.scratch_size * 4 <= 48 * 1024
        assert project.scratch_size == 0
        assert hidden.flops + project.flops == shape.flops


def test_compiles_for_avx2_and_neon():
    shape = BlockShape(14, 14, 64, 384, 96, stride=2, shift=8)
    for unit, target in (
        (AVX2, X86_64_V3),
        (NEON, {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"}),
    ):
        tiles = inverted_residual.tiles_for(shape, unit)
        kernels = inverted_residual.schedule("block", shape, tiles, unit)
        tir.compile_kernels(kernels, target, unit.lanes)


def test_tiles_that_do_not_fit_are_refused():
    shape = BlockShape(14, 14, 8, 48, 8)
    tiles = inverted_residual.tiles_for(shape, AVX512)
    bad = dataclasses.replace(tiles, band=4)
    with pytest.raises(ValueError, match="bands of 4 do not divide 14 rows"):
        inverted_residual.schedule("block", shape, bad, AVX512)
    bad = dataclasses.replace(tiles, expand=Tiles(4, 24))
    with pytest.raises(ValueError, match="whole vectors of 16"):
        inverted_residual.schedule("block", shape, bad, AVX512)


@pytest.mark.parametrize(("size", "hidden"), [(16, 32), (21, 7)])
def test_the_first_convolution_in_the_place_of_the_expand(size, hidden):
    stem = ConvShape(
        size, size, 3, hidden, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), frame=True
    )
    height = stem.out_height
    shape = BlockShape(height, height, 3, hidden, 16, stem=stem)
    tiles = inverted_residual.tiles_for(shape, UNIT)
    rng = np.random.default_rng(3)
    weights = {
        "expand_weight": normal(rng, hidden, 3, 3, 3, scale=0.2),
        "expand_bias": normal(rng, hidden),
        "depthwise_weight": normal(rng, hidden, 3, 3, scale=0.3),
        "depthwise_bias": normal(rng, hidden),
        "project_weight": normal(rng, 16, hidden, scale=hidden**-0.5),
        "project_bias": normal(rng, 16),
    }
    frame = rng.integers(0, 256, (size, size, 3), np.uint8)
    width = stem.padded.width
    values = {"x": frame, **padding.normalisation((0.4, 0.45, 0.5), (0.2, 0.3, 0.4), width)}
    values |= inverted_residual.pack(stages(weights), shape, tiles, UNIT)
    [block] = inverted_residual.schedule("block", shape, tiles, UNIT)
    library = compiled(block, UNIT)
    whole = run(block, values, library)
    values |= run(block, values, library, (1, 3))
    np.testing.assert_array_equal(whole["out"], values["out"])
    rgb = (frame[..., ::-1] / 255 - (0.5, 0.45, 0.4)) / (0.4, 0.3, 0.2)
    image = np.pad(rgb, ((1, 1), (1, 1), (0, 0)))
    first = np.zeros((height, height, hidden)) + weights["expand_bias"]
    for i in range(3):
        for j in range(3):
            window = image[i::2, j::2][:height, :height]
            first += window @ weights["expand_weight"][:, :, i, j].T
    plain = dataclasses.replace(shape, stem=None, expand=False, inputs=hidden)
    first = activate(shape.expand_activation, first)
    expected = reference(plain, first, first[..., :0], 0, weights)
    tolerance = 2e-5 * np.abs(expected).max()
    np.testing.assert_allclose(values["out"], expected.reshape(-1), rtol=0, atol=tolerance)
