"""Depthwise convolution, pooling, padding and keeping states, against numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from test_schedules_kit import activate, compiled, host_unit, normal, run, shifted

from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants
from shiftedge.export.compiler.backends.cpu.families import depthwise, keep, pool
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32
from shiftedge.export.compiler.backends.cpu.families.window import Window
from shiftedge.export.compiler.graph.activations import Activation

UNIT = host_unit()
SHAPES = st.builds(
    Window,
    height=st.integers(1, 9),
    width=st.integers(1, 17),
    channels=st.sampled_from([1, 3, 7, 16, 31, 33, 97]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    shift=st.sampled_from([0, 1, 5, -1, 97]),
).map(lambda shape: dataclasses.replace(shape, shift=shifted(shape.shift, shape.channels)))


def windows(shape: Window, x, state, fill: float) -> np.ndarray:
    """(out height, out width, taps, channels), float64."""
    top, left, bottom, right = shape.padding
    joined = np.concatenate([state, x[..., shape.shift :]], axis=-1).astype(np.float64)
    joined = np.pad(joined, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    taps = []
    for i in range(shape.kernel[0]):
        for j in range(shape.kernel[1]):
            tap = joined[i :: shape.stride[0], j :: shape.stride[1]]
            taps.append(tap[: shape.out_height, : shape.out_width])
    return np.stack(taps, axis=2)


def verify(kernels, arrays, expected, cuts) -> None:
    libraries = [compiled(kernel, UNIT) for kernel in kernels]
    results = []
    for cut in ((), cuts):
        values = dict(arrays)
        for kernel, library in zip(kernels, libraries, strict=True):
            values |= run(kernel, values, library, cut)
        results.append(values["out"])
    np.testing.assert_allclose(results[0], expected.reshape(-1), rtol=0, atol=3e-5)
    np.testing.assert_array_equal(*results, err_msg="depends on the split")


@settings(max_examples=14)
@given(
    shape=SHAPES,
    residual=st.booleans(),
    activation=st.sampled_from(Activation),
    cuts=st.lists(st.integers(0, 12), max_size=2),
)
def test_depthwise(shape, residual, activation, cuts):
    if shape.out_height <= 0 or shape.out_width <= 0:
        return
    rng = np.random.default_rng(shape.channels)
    x = normal(rng, shape.height, shape.width, shape.channels)
    state = normal(rng, shape.height, shape.width, shape.shift)
    weight = normal(rng, shape.channels, 1, *shape.kernel, scale=shape.taps**-0.5)
    bias = normal(rng, shape.channels)
    more = normal(rng, shape.out_height, shape.out_width, shape.channels)
    taps = weight.reshape(shape.channels, -1).T.astype(np.float64)
    expected = (windows(shape, x, state, 0.0) * taps).sum(axis=2) + bias + residual * more
    kernels = depthwise.schedule("depthwise", shape, UNIT, activation, residual)
    constants = depthwise.pack(ConvConstants(FP32, weight, bias))
    arrays = {"x": x, "state": state, "residual": more, **constants}
    verify(kernels, arrays, activate(activation, expected), cuts)


@settings(max_examples=12)
@given(shape=SHAPES, largest=st.booleans(), cuts=st.lists(st.integers(0, 12), max_size=2))
def test_pools(shape, largest, cuts):
    rows = tuple(min(n, k - 1) for n, k in zip(shape.padding, shape.kernel * 2, strict=True))
    shape = dataclasses.replace(shape, padding=rows, shift=0)
    if shape.out_height <= 0 or shape.out_width <= 0:
        return
    x = normal(np.random.default_rng(1), shape.height, shape.width, shape.channels)
    # Padding is NaN here, which the mean leaves out, and the largest too.
    taps = windows(shape, x, x[..., :0], np.nan)
    expected = np.nanmax(taps, axis=2) if largest else np.nanmean(taps, axis=2)
    kernels = pool.schedule("pool", shape, UNIT, largest=largest)
    verify(kernels, {"x": x, **pool.pack(shape, largest=largest)}, expected, cuts)


@pytest.mark.parametrize(("vectors", "rest"), [(0, 1), (16, 7)])
def test_a_mean_along_a_border(vectors, rest):
    channels = vectors * UNIT.lanes + rest
    shape = Window(4, 5, channels, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    x = normal(np.random.default_rng(1), 4, 5, channels)
    expected = np.nanmean(windows(shape, x, x[..., :0], np.nan), axis=2)
    share = pool.pack(shape, largest=False)
    np.testing.assert_allclose(1 / share["share"], [[4, 6, 4], [6, 9, 6]])
    verify(pool.schedule("pool", shape, UNIT, largest=False), {"x": x, **share}, expected, (1,))


@pytest.mark.parametrize("padding", [(0, 3, 0, 0), (0, 0, 2, 0)])
@pytest.mark.parametrize("largest", [True, False])
def test_windows_of_nothing_but_padding_are_refused(padding, largest):
    shape = Window(8, 8, 4, kernel=(2, 3), padding=padding)
    with pytest.raises(ValueError, match="reaches past a window"):
        pool.schedule("pool", shape, UNIT, largest=largest)


@pytest.mark.parametrize(("begin", "end"), [(0, 3), (2, 7), (0, 17), (16, 17)])
def test_next_states(begin, end):
    x = normal(np.random.default_rng(2), 5, 6, 17)
    kernel = keep.schedule("keep", x.shape, begin, end)
    states = run(kernel, {"x": x}, compiled(kernel, UNIT), (2,))
    np.testing.assert_array_equal(states["state"], x[..., begin:end].reshape(-1))
