"""Grouped convolutions against numpy: any groups, multipliers, shifts and splits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from test_schedules_kit import (
    X86_64_V3,
    activate,
    compiled,
    every_unit,
    host_unit,
    normal,
    run,
    shifted,
)

from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants
from shiftedge.export.compiler.backends.cpu.families import conv
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32
from shiftedge.export.compiler.backends.cpu.families.conv import ConvShape
from shiftedge.export.compiler.backends.cpu.families.tiles import AVX2, AVX512, NEON, Tiles
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import Conv
from shiftedge.export.compiler.verify.evaluate import run_operator

UNIT = host_unit()


def reference(shape: ConvShape, x, state, residual, weight, bias) -> np.ndarray:
    joined = np.concatenate([state, x[..., shape.shift :]], axis=-1).astype(np.float64)
    conv = Conv(
        "conv", ("x",), "y", weight, bias, shape.stride, shape.padding, groups=shape.groups
    )  # fmt: skip
    total = run_operator(conv, {"x": joined})
    return activate(shape.activation, total + shape.residual * residual)


def verify(shape: ConvShape, cuts=(), tiles=None, unit=UNIT) -> None:
    rng = np.random.default_rng(shape.outputs)
    tiles = tiles or conv.tiles_for(shape, unit)
    weight = normal(rng, shape.outputs, shape.group_inputs, *shape.kernel, scale=shape.depth**-0.5)
    bias = normal(rng, shape.outputs)
    x = normal(rng, shape.height, shape.width, shape.inputs)
    state = normal(rng, shape.height, shape.width, shape.shift)
    residual = normal(rng, shape.out_height, shape.out_width, shape.outputs)
    arrays = {"x": x, "state": state, "residual": residual}
    arrays |= conv.pack(ConvConstants(FP32, weight, bias), shape, tiles, unit)
    kernels = conv.schedule("conv", shape, tiles, unit)
    libraries = [compiled(kernel, unit) for kernel in kernels]
    results = []
    for cut in ((), cuts):
        values = dict(arrays)
        for kernel, library in zip(kernels, libraries, strict=True):
            values |= run(kernel, values, library, cut)
        results.append(values["out"])
    expected = reference(shape, x, state, residual, weight, bias).reshape(-1)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=2e-5 * scale)
    np.testing.assert_array_equal(*results, err_msg="depends on the split")


def shape_of(groups, into, out, shift, **rest) -> ConvShape:
    inputs = groups * into
    return ConvShape(
        inputs=inputs, outputs=groups * out, groups=groups, shift=shifted(shift, inputs), **rest
    )


SHAPES = st.builds(
    shape_of,
    groups=st.integers(1, 7),
    into=st.sampled_from([1, 2, 3, 7, 16]),
    out=st.sampled_from([1, 2, 3, 7, 17, 24, 97]),
    shift=st.sampled_from([0, 0, 1, -1, 112]),
    height=st.integers(1, 7),
    width=st.integers(1, 9),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    residual=st.booleans(),
    activation=st.sampled_from([Activation.NONE, Activation.RELU6, Activation.SWISH]),
)


@settings(max_examples=14)
@given(shape=SHAPES, cuts=st.lists(st.integers(0, 100), max_size=3))
def test_any_shape_is_right_and_the_same_in_any_split(shape, cuts):
    if shape.out_height > 0 and shape.out_width > 0:
        verify(shape, cuts)


@settings(max_examples=6)
@given(shape=SHAPES, rows=st.integers(1, 9), vectors=st.integers(1, 3), outer=st.booleans())
@example(  # several blocks of a group's channels, the last one narrower
    shape=shape_of(3, 2, 97, 0, height=4, width=4, kernel=(2, 2)), rows=5, vectors=2, outer=True
)
def test_any_tile_is_right(shape, rows, vectors, outer):
    if shape.out_height > 0 and shape.out_width > 0:
        lanes = UNIT.lanes  # of one group whole vectors, of several no wider than they need
        if shape.groups > 1:
            lanes = min(lanes, 1 << (shape.group_outputs - 1).bit_length())
        verify(shape, (2, 5), Tiles(rows, vectors * lanes, blocks_outer=outer))


@pytest.mark.parametrize("unit", every_unit(), ids=lambda unit: f"{unit.lanes}lanes")
@pytest.mark.parametrize(
    ("groups", "into", "out", "kernel"),
    [(32, 4, 4, 3), (3, 8, 20, 1), (5, 1, 2, 3), (2, 24, 12, 3)],
    ids=["resnext", "shufflenet", "multiplier", "half a vector more"],
)
def test_known_networks_on_every_vector_unit_of_this_machine(unit, groups, into, out, kernel):
    shape = shape_of(
        groups, into, out, 3, height=6, width=5, kernel=(kernel,) * 2, padding=(kernel // 2,) * 4
    )
    verify(shape, (7,), unit=unit)


def test_what_needs_no_border_is_read_as_it_is():
    shape = shape_of(4, 3, 5, 0, height=5, width=5, kernel=(1, 1), stride=(2, 2))
    [kernel] = conv.schedule("conv", shape, conv.tiles_for(shape, UNIT), UNIT)
    assert kernel.buffers[0].name == "x"
    verify(shape)


def test_vectors_are_as_wide_as_a_group_and_fit_the_registers():
    for unit in (AVX512, AVX2, NEON):
        for out in (1, 2, 3, 4, 6, 8, 12, 24, 32, 97):
            shape = shape_of(8, 4, out, 0, height=14, width=14, kernel=(3, 3))
            tiles = conv.tiles_for(shape, unit)
            [tile, *_] = conv.schedule("conv", shape, tiles, unit)[-1].tiles()
            lanes = {part.lanes for part in tile.vectors}
            assert max(lanes) <= unit.lanes
            assert max(lanes) < 2 * max(out, 1)
            assert len(tile.vectors) < unit.registers


def test_groups_that_do_not_divide_are_refused():
    shape = dataclasses.replace(shape_of(2, 3, 4, 0, height=3, width=3, kernel=(1, 1)), groups=4)
    with pytest.raises(ValueError, match="expected a divisor of both"):
        conv.schedule("conv", shape, Tiles(2, UNIT.lanes), UNIT)


def test_folded_tiles_are_refused():
    shape = shape_of(2, 4, 24, 0, height=3, width=3, kernel=(1, 1))
    with pytest.raises(ValueError, match="no folded tiles"):
        conv.schedule("conv", shape, Tiles(2, 24, folded=True), AVX512)


def test_compiles_for_avx2_and_neon():
    shape = shape_of(32, 4, 4, 0, height=14, width=14, kernel=(3, 3), padding=(1, 1, 1, 1))
    for unit, target in (
        (AVX2, X86_64_V3),
        (NEON, {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"}),
    ):
        tiles = conv.tiles_for(shape, unit)
        tir.compile_kernels(conv.schedule("conv", shape, tiles, unit), target, unit.lanes)
