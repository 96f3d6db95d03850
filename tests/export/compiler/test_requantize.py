"""The constants of an integer kernel's end, against the numbers that the codes stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import Add, Conv, Mean, Quantization
from shiftedge.export.compiler.numerics.requantize import (
    classes_of,
    mean_scale,
    quantize_frame_constants,
    requantize,
    requantize_frame,
    requantize_sum,
)
from shiftedge.export.compiler.verify.evaluate import integer_sums, run_operator
from shiftedge.runtime.errors import CompileError

SCALES = st.floats(1e-3, 10.0).map(lambda value: float(np.float32(value)))
CODES = st.builds(Quantization, SCALES, st.integers(0, 255))


@st.composite
def convolutions(draw, inputs: int | None = None):
    """A convolution with codes, grouped or not, padded unevenly; and its input's size."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    groups = 1 if inputs else draw(st.integers(1, 3))
    share, each = inputs or draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = tuple(draw(st.integers(0, size - 1)) for size in kernel * 2)
    size = tuple(draw(st.integers(size, size + 5)) for size in kernel)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = generator.integers(-128, 128, (groups * each, share, *kernel)).astype(np.int8)
    steps = generator.uniform(1e-4, 1.0, groups * each).astype(np.float32)
    bias = generator.normal(0, 10, groups * each).astype(np.float32)
    weight = codes.astype(np.float32) * steps[:, None, None, None]
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    conv = Conv("c", ("x",), "y", weight, bias, stride, padding, groups, codes, steps)
    x = generator.integers(0, 256, (*size, share * groups)).astype(np.uint8)
    return conv, x


def numbers(x, codes):
    return (x.astype(np.float64) - codes.zero_point) * codes.scale


def exact(conv, x):
    """With weights of more than float32's precision."""
    return run_operator(conv, {"x": x})


@settings(max_examples=60)
@given(convolutions(), CODES, CODES, CODES)
def test_a_sum_of_codes_is_the_number_in_steps(made, source, out, residual):
    conv, x = made
    constants = requantize(conv, source, out, Activation.NONE, residual)
    acc = integer_sums(conv, x, source.zero_point)
    added = np.random.default_rng(0).integers(0, 256, acc.shape)
    scale = constants.scale.astype(np.float64)
    offset = np.zeros(len(scale)) if constants.offset is None else constants.offset
    ours = (acc + constants.start.astype(np.float64)) * scale + offset
    ours += (added - residual.zero_point) * np.float64(constants.residual)
    wanted = (exact(conv, numbers(x, source)) + numbers(added, residual)) / out.scale
    # Every constant and weight is off by half a float32 step at most; a bias that sums begin at by
    # half of theirs.
    magnitude = np.abs(acc * scale).max() + np.abs(constants.start * scale).max()
    magnitude += np.abs(offset).max() + 255 * 1e4
    half_steps = 0 if constants.offset is not None else 0.5 * scale.max()
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-6 * magnitude + half_steps)
    stage = constants.stage
    assert (stage.low, stage.high, stage.zero) == (0, 255, out.zero_point)
    assert stage.rounded
    assert stage.far or np.abs(ours).max() < 2**31


def test_a_bias_that_sums_cannot_hold_is_an_offset():
    source, out = Quantization(1.0, 0), Quantization(1.0, 0)
    small, large, huge = (
        requantize(one_by_one(bias=np.array([bias], np.float32)), source, out)
        for bias in (3.0, 2.0**25, 2.0**31)
    )
    assert (small.start.tolist(), small.offset) == ([3 * 64], None)
    assert (large.start.tolist(), large.offset.tolist()) == ([0], [2.0**25])
    assert [each.stage.far for each in (small, large, huge)] == [False, False, True]


def test_a_file_s_whole_biases_are_taken_exactly():
    steps = np.float32(0.013)
    bias = np.array([float(np.float32(0.5) * steps) * 12345], np.float32)
    conv = replace(one_by_one(bias=bias), weight_scale=np.array([steps]))
    assert requantize(conv, Quantization(0.5, 3), Quantization(0.1, 0)).start.tolist() == [
        12345 - 3 * 64
    ]  # fmt: skip


@settings(max_examples=60)
@given(
    convolutions(inputs=3),
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.floats(0.01, 1.0),
    CODES,
)
def test_the_frame_is_padded_with_zeros_and_not_with_a_pixel(made, mean, std, out):
    conv, pixels = made
    constants = requantize_frame(conv, *pixels.shape[:2], mean, std, out)
    acc = integer_sums(conv, pixels, 0)
    offset = constants.offset_at().astype(np.float64)
    ours = acc * constants.scale.astype(np.float64) + offset
    wanted = exact(conv, (pixels / 255 - np.array(mean)) / std) / out.scale
    magnitude = np.abs(acc * constants.scale).max() + np.abs(offset).max() + 255
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-6 * magnitude)


@given(
    st.integers(1, 20), st.integers(1, 7), st.integers(1, 4), st.integers(0, 6), st.integers(0, 6)
)  # fmt: skip
def test_classes_say_which_taps_lie_inside(size, kernel, stride, before, after):
    if size + before + after < kernel:
        return
    classes = classes_of(size, kernel, stride, before, after)
    padded = np.pad(np.ones(size, bool), (before, after))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel)[::stride]
    np.testing.assert_array_equal(classes.inside[classes.of], windows)
    assert len({row.tobytes() for row in classes.inside}) == len(classes.inside)
    first = [int(np.argmax(classes.of == index)) for index in range(len(classes.inside))]
    assert first == sorted(first), "numbered as they first occur"


def test_a_stride_of_two_over_an_even_image_has_two_classes():
    classes = classes_of(224, 3, 2, 1, 1)
    assert classes.inside.tolist() == [[False, True, True], [True, True, True]]
    assert classes.of.tolist() == [0, *[1] * 111]


def one_by_one(**changes):
    codes = np.array([[[[64]]]], np.int8)
    steps = np.array([1 / 64], np.float32)
    values = {"weight": codes * steps, "bias": np.zeros(1, np.float32)} | changes
    return Conv(
        "c", ("x",), "y", values["weight"], values["bias"], (1, 1), (0,) * 4, 1, codes, steps
    )  # fmt: skip


def test_clamps_are_zero_and_six_in_steps():
    source, out = Quantization(1.0, 0), Quantization(0.05, 10)
    none, relu, relu6 = (
        requantize(one_by_one(), source, out, kind).stage
        for kind in (Activation.NONE, Activation.RELU, Activation.RELU6)
    )
    assert (none.low, none.high) == (0, 255)
    assert (relu.low, relu.high) == (10, 255)
    assert (relu6.low, relu6.high) == (10, 6 / 0.05 + 10)
    assert (
        requantize(one_by_one(), source, Quantization(0.02, 0), Activation.RELU6).stage.high == 255
    )
    floats = requantize(one_by_one(), source, None, Activation.RELU6).stage
    assert (floats.low, floats.high, floats.rounded) == (0, 6, False)


def test_other_activations_are_of_numbers():
    source, out = Quantization(0.5, 3), Quantization(0.25, 7)
    constants = requantize(one_by_one(), source, out, Activation.HARD_SWISH, Quantization(0.125, 4))
    assert constants.scale == 0.5 / 64
    assert constants.start == -3 * 64
    assert constants.residual == 0.125
    assert constants.stage.activation is Activation.HARD_SWISH
    assert (constants.stage.scale, constants.stage.zero) == (4.0, 7)


@given(CODES, CODES, CODES)
def test_a_sum_of_two_maps(first, second, out):
    one, two, _ = requantize_sum(Add("a", ("x", "y"), "z"), first, second, out)
    a, b = np.meshgrid(np.arange(0, 256, 51), np.arange(0, 256, 51))
    ours = (a - first.zero_point) * np.float64(one)
    ours += (b - second.zero_point) * np.float64(two)
    wanted = (numbers(a, first) + numbers(b, second)) / out.scale
    magnitude = 255 * (first.scale + second.scale) / out.scale + 255
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-6 * magnitude)


@given(CODES, st.integers(1, 60_000))
def test_a_mean(source, count):
    total = (100 - source.zero_point) * count
    ours = np.float32(total) * mean_scale(Mean("m", ("x",), "y"), source, count)
    assert ours == pytest.approx((100 - source.zero_point) * source.scale, rel=1e-6)


@given(st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(0.05, 1.0)] * 3), CODES)
def test_codes_of_the_frame(mean, std, out):
    scale, offset = quantize_frame_constants(mean, std, out)
    pixels = np.arange(256)[:, None]
    wanted = (pixels / 255 - np.array(mean)) / np.array(std) / out.scale
    magnitude = np.abs(wanted).max() + np.abs(offset).max()
    np.testing.assert_allclose(
        pixels * scale.astype(np.float64) + offset, wanted, rtol=0, atol=1e-6 * magnitude
    )


def test_scales_that_leave_float32():
    with pytest.raises(CompileError, match="'c' has scales so far apart"):
        requantize(one_by_one(), Quantization(1e30, 0), Quantization(1e-30, 0))
    with pytest.raises(CompileError, match="'m' is over 10000000 values"):
        mean_scale(Mean("m", ("x",), "y"), Quantization(1.0, 0), 10_000_000)
