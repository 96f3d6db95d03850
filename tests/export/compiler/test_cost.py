"""The cost model: what must hold of any prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftedge.export.compiler.backends.cpu.cost import Cost, kernel_cost
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import conv, elementwise, pointwise, pool
from shiftedge.export.compiler.backends.cpu.families.conv import ConvShape
from shiftedge.export.compiler.backends.cpu.families.elementwise import Elementwise
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise
from shiftedge.export.compiler.backends.cpu.families.tiles import Tiles
from shiftedge.export.compiler.backends.cpu.families.window import Window
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.targets import TARGETS, find_variant

V3, V4 = find_variant("x86-64-v3"), find_variant("x86-64-v4")
SIZES = st.integers(1, 90)


def cost(shape: Pointwise, target: CpuVariant, tiles: Tiles | None = None) -> Cost:
    tiles = tiles or pointwise.tiles_for(shape, target.unit)
    [kernel] = pointwise.schedule("k", shape, tiles, target.unit)
    return kernel_cost(kernel, target)


def peak(target: CpuVariant) -> float:
    """Operations a cycle."""
    return 2 * target.unit.lanes * target.core.fmas


@pytest.mark.parametrize("target", [*map(find_variant, TARGETS)], ids=TARGETS)
@given(pixels=SIZES, inputs=SIZES, outputs=SIZES)
@settings(max_examples=25)
def test_no_prediction_is_faster_than_the_machine(
    target: CpuVariant, pixels: int, inputs: int, outputs: int
) -> None:
    shape = Pointwise(pixels, inputs, outputs)
    found = cost(shape, target)
    assert found.cycles >= 2 * pixels * inputs * outputs / peak(target)
    assert found.cycles >= found.arithmetic + found.edges
    assert found.cycles >= found.memory > 0
    assert found.bytes >= 4 * (pixels * (inputs + outputs) + inputs * outputs + outputs)
    assert found.bound in ("arithmetic", "edges", "memory")


@pytest.mark.parametrize("target", [*map(find_variant, TARGETS)], ids=TARGETS)
@given(pixels=SIZES, inputs=SIZES, outputs=SIZES)
@settings(max_examples=25)
def test_more_work_of_the_same_tiling_is_never_cheaper(
    target: CpuVariant, pixels: int, inputs: int, outputs: int
) -> None:
    tiles = Tiles(4, target.unit.lanes)
    # Where numbers are taken from lanes, what is left of four inputs costs more than four.
    step = 4 if target.unit.by_lane else 1
    shape = Pointwise(4 * pixels, step * inputs, outputs)
    before = cost(shape, target, tiles).cycles
    for more in (
        replace(shape, pixels=shape.pixels + 4),
        replace(shape, inputs=shape.inputs + step),
        replace(shape, outputs=outputs + target.unit.lanes),
        replace(shape, residual=True),
        replace(shape, activation=Activation.SWISH),
    ):
        assert cost(more, target, tiles).cycles >= before, more


def test_a_cheaper_function_is_predicted_cheaper() -> None:
    def of(kind: Activation) -> float:
        shape = Elementwise(400, 32, activation=kind)
        return kernel_cost(elementwise.schedule("k", shape, V3.unit), V3).edges

    order = [Activation.RELU, Activation.RELU6, Activation.HARD_SWISH, Activation.SWISH]
    assert [of(kind) for kind in order] == sorted(of(kind) for kind in order)
    assert of(Activation.RELU) < of(Activation.SWISH)


def test_wider_vectors_and_more_units_help() -> None:
    shape = Pointwise(196, 96, 96)
    narrow = Tiles(6, 16)
    once = cost(shape, V3, narrow).cycles
    twice = V3.using(core=replace(V3.core, fmas=4, loads=4))
    assert cost(shape, twice, narrow).cycles < once
    slow = V3.using(core=replace(V3.core, fma_latency=40))
    assert cost(shape, slow, narrow).cycles > once


def test_pixels_that_share_a_set_of_the_cache() -> None:
    """1,024 channels are 4 KiB: more rows than the cache has ways fall on one another."""
    tall, low = Tiles(14, 32), Tiles(7, 32)

    def of_one(inputs: int, tiles: Tiles) -> float:
        return cost(Pointwise(196, inputs, 64), V4, tiles).arithmetic / inputs

    assert of_one(1024, tall) > 1.15 * of_one(1008, tall)
    assert of_one(1024, low) == pytest.approx(of_one(1008, low), rel=0.02)


def test_weights_that_arrive_from_memory_bound_a_small_map() -> None:
    found = cost(Pointwise(1, 1024, 1024), V4)
    assert found.bound == "memory"
    assert found.memory >= 4 * 1024 * 1024 / V4.core.memory_bytes_per_cycle
    assert cost(Pointwise(784, 64, 64), V4).bound != "memory"


def test_every_family_has_a_prediction() -> None:
    dense = ConvShape(12, 12, 8, 16, kernel=(3, 3), padding=(1, 1, 1, 1))
    window = Window(12, 12, 8, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    kernels = (
        *conv.schedule("k", dense, conv.tiles_for(dense, V3.unit), V3.unit),
        *pool.schedule("k", window, V3.unit, largest=True),
        *pool.schedule("k", window, V3.unit, largest=False),
        elementwise.schedule("k", Elementwise(9, 5), V3.unit),
    )
    for kernel in kernels:
        found = kernel_cost(kernel, V3)
        assert found.cycles >= kernel.flops / peak(V3)
        assert found.cycles > 0
