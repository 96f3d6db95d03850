"""Dense and first convolutions against numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from test_schedules_kit import X86_64_V3, activate, compiled, host_unit, normal, run, shifted

from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants
from shiftedge.export.compiler.backends.cpu.families import conv, padding
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32
from shiftedge.export.compiler.backends.cpu.families.conv import ConvShape
from shiftedge.export.compiler.backends.cpu.families.tiles import AVX2, AVX512
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.graph.activations import Activation

UNIT = host_unit()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # R, G, B


def reference(shape: ConvShape, x, state, residual, weight, bias) -> np.ndarray:
    """float64, straight from the definition."""
    if shape.frame:
        x = (x[..., ::-1] / 255.0 - MEAN) / STD
    joined = np.concatenate([state, x[..., shape.shift :]], axis=-1).astype(np.float64)
    top, left, bottom, right = shape.padding
    joined = np.pad(joined, ((top, bottom), (left, right), (0, 0)))
    total = np.zeros((shape.out_height, shape.out_width, shape.outputs)) + bias
    for i in range(shape.kernel[0]):
        for j in range(shape.kernel[1]):
            window = joined[i :: shape.stride[0], j :: shape.stride[1]]
            window = window[: shape.out_height, : shape.out_width]
            total += window @ weight[:, :, i, j].T
    return activate(shape.activation, total + shape.residual * residual)


def verify(shape: ConvShape, cuts=(), tiles=None) -> None:
    rng = np.random.default_rng(shape.outputs)
    tiles = tiles or conv.tiles_for(shape, UNIT)
    weight = normal(rng, shape.outputs, shape.inputs, *shape.kernel, scale=shape.depth**-0.5)
    bias = normal(rng, shape.outputs)
    x = normal(rng, shape.height, shape.width, shape.inputs)
    if shape.frame:
        x = rng.integers(0, 256, x.shape, np.uint8)
    state = normal(rng, shape.height, shape.width, shape.shift)
    residual = normal(rng, shape.out_height, shape.out_width, shape.outputs)
    arrays = {"x": x, "state": state, "residual": residual}
    arrays |= conv.pack(ConvConstants(FP32, weight, bias), shape, tiles, UNIT)
    if shape.frame:
        arrays |= padding.normalisation(MEAN[::-1], STD[::-1], shape.padded.width)
    kernels = conv.schedule("conv", shape, tiles, UNIT)
    libraries = [compiled(kernel, UNIT) for kernel in kernels]
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


SHAPES = st.builds(
    ConvShape,
    height=st.integers(1, 10),
    width=st.integers(1, 17),
    inputs=st.sampled_from([1, 3, 7, 16, 33, 97]),
    outputs=st.sampled_from([1, 3, 7, 16, 24, 64, 97]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    shift=st.sampled_from([0, 1, 5, -1, 97]),
    residual=st.booleans(),
    activation=st.sampled_from([Activation.NONE, Activation.RELU, Activation.HARD_SWISH]),
).map(lambda shape: dataclasses.replace(shape, shift=shifted(shape.shift, shape.inputs)))


@settings(max_examples=14)
@given(shape=SHAPES, cuts=st.lists(st.integers(0, 100), max_size=3))
def test_any_shape_is_right_and_the_same_in_any_split(shape, cuts):
    if shape.out_height > 0 and shape.out_width > 0:
        verify(shape, cuts)


@pytest.mark.parametrize("kernel", [(1, 1), (1, 7), (7, 1)])
@pytest.mark.parametrize("inputs", [1, 97])
def test_a_map_of_one_pixel(kernel, inputs):
    sides = (kernel[0] // 2, kernel[1] // 2) * 2
    shape = ConvShape(
        1, 1, inputs, 7, kernel=kernel, stride=(2, 2), padding=sides, shift=inputs - 1
    )
    verify(shape, (1,))


@pytest.mark.parametrize("size", [7, 8])
def test_the_shortcut_of_a_strided_block(size):
    """1 x 1 of stride 2, as ResNet halves a map; an odd size leaves no row over."""
    shape = ConvShape(
        size, size, 32, 48, kernel=(1, 1), stride=(2, 2), residual=True, activation=Activation.RELU
    )
    assert shape.out_height == shape.out_width == 4
    verify(shape, (1, 2))


@pytest.mark.parametrize(("size", "outputs", "kernel"), [(14, 32, 3), (15, 24, 3), (21, 8, 7)])
def test_the_first_convolution_reads_bytes(size, outputs, kernel):
    shape = ConvShape(
        size, size, 3, outputs, kernel=(kernel, kernel), stride=(2, 2), padding=(kernel // 2,) * 4,
        frame=True, activation=Activation.RELU6,
    )  # fmt: skip
    verify(shape, (3,))


def test_what_needs_no_border_is_read_as_it_is():
    shape = ConvShape(8, 8, 16, 32, kernel=(1, 1), stride=(2, 2))
    [kernel] = conv.schedule("down", shape, conv.tiles_for(shape, UNIT), UNIT)
    assert kernel.buffers[0].name == "x"
    verify(shape)


def test_addresses_of_a_tile_of_whole_rows_are_plain():
    shape = ConvShape(7, 7, 512, 512, kernel=(3, 3), padding=(1, 1, 1, 1))
    tiles = conv.tiles_for(shape, AVX512)
    assert tiles.rows == 14
    _, kernel = conv.schedule("conv", shape, tiles, AVX512)
    [whole, rest] = kernel.tiles()
    assert (whole.rows, rest.rows) == (14, 7)


def test_compiles_for_avx2():
    shape = ConvShape(14, 14, 64, 64, kernel=(3, 3), padding=(1, 1, 1, 1))
    tiles = conv.tiles_for(shape, AVX2)
    tir.compile_kernels(conv.schedule("conv", shape, tiles, AVX2), X86_64_V3, AVX2.lanes)
