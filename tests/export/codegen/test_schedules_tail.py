"""Pointwise and mean, then the dense layer, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from test_schedules_kit import activate, check, host_unit, normal, shifted

from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants
from shiftedge.export.compiler.backends.cpu.families import pointwise, tail
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise
from shiftedge.export.compiler.backends.cpu.families.tiles import Tiles
from shiftedge.export.compiler.graph.activations import Activation

UNIT = host_unit()


@settings(max_examples=10)
@given(
    pixels=st.integers(1, 50),
    inputs=st.sampled_from([1, 3, 7, 32, 97]),
    outputs=st.sampled_from([1, 3, 16, 31, 64, 97]),
    shift=st.sampled_from([0, 1, 5, -1, 97]),
    activation=st.sampled_from([Activation.NONE, Activation.RELU6, Activation.SWISH]),
    cuts=st.lists(st.integers(0, 9), max_size=2),
)
def test_any_shape_is_right_and_the_same_in_any_split(
    pixels, inputs, outputs, shift, activation, cuts
):
    shift = shifted(shift, inputs)
    shape = Pointwise(pixels, inputs, outputs, shift, activation=activation)
    tiles = tail.tiles_for(shape, UNIT)
    rng = np.random.default_rng(0)
    x, state = normal(rng, pixels, inputs), normal(rng, pixels, shift)
    weight = normal(rng, outputs, inputs, scale=inputs**-0.5)
    bias = normal(rng, outputs)
    joined = np.concatenate([state, x[:, shift:]], axis=1).astype(np.float64)
    expected = activate(activation, joined @ weight.T + bias).mean(axis=0)
    [kernel] = tail.schedule("tail", shape, tiles, UNIT)
    constants = pointwise.pack(ConvConstants(FP32, weight, bias), shape, tiles, UNIT)
    arrays = {"x": x, "state": state, **constants}
    check(kernel, arrays, UNIT, {"out": expected}, cuts)


def test_a_residual_is_refused():
    with pytest.raises(ValueError, match="no residual"):
        tail.schedule("tail", Pointwise(4, 4, 4, residual=True), Tiles(4, UNIT.lanes), UNIT)
