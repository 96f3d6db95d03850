"""Sums, products and activations against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from test_schedules_kit import activate, check, host_unit, normal

from shiftedge.export.compiler.backends.cpu.families import elementwise
from shiftedge.export.compiler.backends.cpu.families.elementwise import Elementwise, Operation
from shiftedge.export.compiler.graph.activations import Activation

UNIT = host_unit()


@settings(max_examples=16)
@given(
    pixels=st.integers(1, 80),
    channels=st.sampled_from([1, 3, 7, 16, 33, 97]),
    operation=st.sampled_from(Operation),
    by_channel=st.booleans(),
    activation=st.sampled_from(Activation),
    cuts=st.lists(st.integers(0, 80), max_size=2),
)
def test_any_shape_is_right_and_the_same_in_any_split(
    pixels, channels, operation, by_channel, activation, cuts
):
    rng = np.random.default_rng(0)
    x = normal(rng, pixels, channels)
    y = normal(rng, channels) if by_channel else normal(rng, pixels, channels)
    wide = x.astype(np.float64)
    value = {Operation.NOTHING: wide, Operation.ADD: wide + y, Operation.MULTIPLY: wide * y}
    shape = Elementwise(pixels, channels, operation, by_channel, activation)
    kernel = elementwise.schedule("elementwise", shape, UNIT)
    expected = activate(activation, value[operation])
    check(kernel, {"x": x, "y": y}, UNIT, {"out": expected}, cuts)
