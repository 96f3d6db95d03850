"""Tiles by prediction, and what is told about them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.compiled import prepared
from kit.onnx_files import SPEC, model

from shiftedge.export.compiler.backends.cpu import choose as choosing
from shiftedge.export.compiler.backends.cpu import explain
from shiftedge.export.compiler.backends.cpu.choose import choose
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import (
    conv,
    inverted_residual,
    pointwise,
    tail,
)
from shiftedge.export.compiler.backends.cpu.families.conv import ConvShape
from shiftedge.export.compiler.backends.cpu.families.inverted_residual import BlockShape
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise
from shiftedge.export.compiler.backends.cpu.families.tiles import NEON, Tiles
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.targets import find_variant

V3 = find_variant("x86-64-v3")
UNITS = (V3, find_variant("x86-64-v4"), V3.using(unit=NEON))
on_every_unit = pytest.mark.parametrize("target", UNITS, ids=lambda each: each.name)
few = settings(max_examples=12)


def fits(kernel: Kernel, target: CpuVariant) -> bool:
    """Accumulators, one step's weights and what they are multiplied with are in registers."""
    for tile in kernel.tiles():
        product = any(s.weight is not None and not s.by_column for s in tile.segments)
        weights = len({part.column for part in tile.vectors}) if product else 0
        if len(tile.vectors) + weights + 1 > target.unit.registers:
            return False
    return True


def tiles_of(shape: Pointwise, target: CpuVariant) -> Tiles:
    return choose(shape, target, pointwise.candidates, pointwise.schedule)


@on_every_unit
@given(st.integers(1, 200), st.integers(1, 130), st.integers(1, 130), st.integers(0, 5))
@few
def test_pointwise(target: CpuVariant, pixels: int, inputs: int, outputs: int, shift: int) -> None:
    shape = Pointwise(pixels, inputs, outputs, min(shift, inputs - 1))
    tiles = choose(shape, target, pointwise.candidates, pointwise.schedule)
    [kernel] = pointwise.schedule("k", shape, tiles, target.unit)
    assert fits(kernel, target)
    assert 1 <= tiles.rows <= pixels
    lanes = target.unit.lanes
    if tiles.folded:  # two inputs a step, half a vector more a block
        assert shape.shift % 2 == inputs % 2 == 0
        assert tiles.columns % lanes == lanes // 2
        assert outputs % tiles.columns == 0
    else:
        assert tiles.columns % lanes == 0


@on_every_unit
@given(st.integers(4, 20), st.sampled_from([3, 8, 24, 33]), st.sampled_from([8, 24, 40]))
@few
def test_dense_conv(target: CpuVariant, side: int, inputs: int, outputs: int) -> None:
    shape = ConvShape(
        side, side + 1, inputs, outputs, kernel=(3, 3), stride=(2, 1), padding=(1, 1, 1, 1)
    )
    tiles = choose(shape, target, conv.candidates, conv.schedule)
    assert all(fits(kernel, target) for kernel in conv.schedule("k", shape, tiles, target.unit))


@on_every_unit
@pytest.mark.parametrize("hidden", [24, 48, 144])
@pytest.mark.parametrize("shift", [0, 2, 3])
def test_blocks_and_tails(target: CpuVariant, hidden: int, shift: int) -> None:
    block = BlockShape(
        height=14, width=14, inputs=24, hidden=hidden, outputs=24, stride=1, kernel=3,
        expand=True, stem=None, shift=shift, residual=True,
        expand_activation=Activation.RELU6, depthwise_activation=Activation.RELU6,
    )  # fmt: skip
    tiles = choose(block, target, inverted_residual.candidates, inverted_residual.schedule)
    kernels = inverted_residual.schedule("k", block, tiles, target.unit)
    assert all(fits(kernel, target) for kernel in kernels)
    assert not (tiles.expand.folded and shift % 2)
    end = Pointwise(49, 24, hidden, shift)
    found = choose(end, target, tail.candidates, tail.schedule)
    [kernel] = tail.schedule("k", end, found, target.unit)
    assert fits(kernel, target)


@on_every_unit
def test_the_same_every_time(target: CpuVariant) -> None:
    shape = Pointwise(49, 24, 96, 4)
    first = tiles_of(shape, target)
    choosing._chosen.cache_clear()
    assert tiles_of(shape, target) == first


def test_odd_inputs_are_never_folded() -> None:
    """24 channels on 16 lanes are one vector and a half: folded where inputs come in pairs."""
    wide = find_variant("x86-64-v4")
    assert tiles_of(Pointwise(196, 144, 24), wide).folded
    assert not tiles_of(Pointwise(196, 143, 24), wide).folded
    assert not tiles_of(Pointwise(196, 144, 24, 17), wide).folded


# explain


def test_rows_are_plain_json() -> None:
    step, _ = prepared(model(), SPEC, V3)
    rows = explain.rows(step, V3)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == [call.name for call in step.calls]
    for row, call in zip(rows, step.calls, strict=True):
        assert row["family"] == call.family
        assert row["flops"] == call.kernel.flops
        assert 0 <= row["predicted_share_of_peak"] <= 1
        assert row["predicted_cycles"] > 0
    assert {row["bound"] for row in rows} <= {"arithmetic", "edges", "memory"}


def test_the_table_has_a_line_for_each_kernel() -> None:
    step, _ = prepared(model(), SPEC, V3)
    rows = explain.rows(step, V3)
    lines = explain.table(rows, V3).splitlines()
    assert len(lines) == len(rows) + 2
    assert "predicted" not in lines[0]
    assert lines[-1].startswith("all ")
    for line, row in zip(lines[1:-1], rows, strict=True):
        assert line.startswith(row["name"])
        assert line.endswith(row["bound"])
    timed = explain.table(rows, V3, [1e-6] * len(rows), 1e11).splitlines()
    assert "measured" in timed[0]
    assert all("1.0 us" in line for line in timed[1:-1])
    assert f"{len(rows):.1f} us" in timed[-1]
