"""Lowering and code generation: the C interface, registers, activations, text."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tvm")

from test_schedules_kit import activate, check, generated, host_unit, normal, run

from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.kernel_ir.index import Const, Var
from shiftedge.export.compiler.kernel_ir.kernel import (
    COLUMN,
    ROW,
    UNIT,
    Buffer,
    Copy,
    Fill,
    If,
    Kernel,
    Loop,
    Segment,
    SegmentLoop,
    Tile,
    folded_grid,
    grid,
    pieces,
)
from shiftedge.export.compiler.targets import find_variant

UNIT_OF_HOST = host_unit()


def pointless(activation: Activation, size: int = 5) -> Kernel:
    """out = activation(x)."""
    x, out = Buffer("x", size), Buffer("out", size, "output")
    tile = Tile(
        grid(1, size, 8), size, (x.at(COLUMN),), (), out.at(ROW * size + COLUMN), activation
    )
    return Kernel(f"apply_{activation.name}", (x, out), 1, (tile,))


@pytest.mark.parametrize("activation", Activation)
def test_activations(activation):
    x = np.array([*np.linspace(-30, 30, 2001), -1e30, -200, -100, -88, 88, 100, 200, 1e30])
    x = x.astype(np.float32)
    kernel = pointless(activation, len(x))
    out = run(kernel, {"x": x}, generated(kernel, UNIT_OF_HOST))["out"]
    with np.errstate(over="ignore"):
        expected = activate(activation, x.astype(np.float64))
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


def test_an_object_is_plain_c_without_any_symbol_of_tvm(tmp_path):
    code = tir.compile_kernels([pointless(Activation.SWISH)], find_variant("host").llvm(), 8)
    code.write(tmp_path / "k.o")
    command = [sys.executable, "-m", "ziglang", "ld.lld", "-shared", "--no-undefined"]
    linked = [*command, "-o", str(tmp_path / "k.so"), str(tmp_path / "k.o")]
    subprocess.run(linked, check=True, capture_output=True)
    assert b"TVMBackend" not in (tmp_path / "k.o").read_bytes()


def test_two_kernels_of_one_name_are_refused():
    kernel = pointless(Activation.RELU)
    with pytest.raises(ValueError, match="one name"):
        tir.compile_kernels([kernel, kernel], find_variant("host").llvm(), 8)


def test_a_buffer_of_the_wrong_size_is_refused():
    kernel = pointless(Activation.NONE)
    library = generated(kernel, UNIT_OF_HOST)
    arrays = {"x": np.zeros(4, np.float32), "out": np.zeros(5, np.float32)}
    with pytest.raises(ValueError, match="buffer x takes 5 float32, got 4 float32"):
        library.prepare(kernel, arrays)


def test_runs_conditions_and_scratch():
    """Long and short runs, bytes to floats, both branches, a scratch buffer behind another."""
    x, table = Buffer("x", 3 * 100, dtype="uint8"), Buffer("table", 100, "weight")
    out = Buffer("out", 3 * 100, "output")
    gap, line = Buffer("gap", 3, "scratch"), Buffer("line", 100, "scratch")
    place = UNIT * 100
    body = (
        Fill(line.at(0), 100, 0.5),
        If(
            UNIT.equals(1),
            (Copy(line.at(0), out.at(place), 100),),
            (Copy(x.at(place), out.at(place), 100, table.at(0), table.at(0)),),
        ),
    )
    kernel = Kernel("runs", (x, table, out), 3, body, scratch=(gap, line))
    assert kernel.scratch_size == 16 + 112
    rng = np.random.default_rng(0)
    values, tables = rng.integers(0, 256, (3, 100), np.uint8), normal(rng, 100)
    expected = values * tables.astype(np.float64) + tables
    expected[1] = 0.5
    arrays = {"x": values, "table": tables}
    check(kernel, arrays, UNIT_OF_HOST, {"out": expected}, cuts=(1,), made=generated)


def test_the_text_of_a_kernel():
    x, weight = Buffer("x", 12), Buffer("weight", 32, "weight")
    out = Buffer("out", 48, "output")
    k = Var("k")
    segment = Segment(
        (SegmentLoop(k, 2),), x.at((UNIT * 2 + ROW) * 2 + k), weight.at(k * 16 + COLUMN)
    )
    tile = Tile(grid(2, 8, 8), 8, (), (segment,), out.at((UNIT * 2 + ROW) * 8 + COLUMN))
    kernel = Kernel("small", (x, weight, out), 3, (Loop(Var("i"), Const(0), UNIT, (tile,)),))
    assert kernel.text() == (
        "kernel small(input x[12], weight weight[32], output out[48])\n"
        "  for unit in begin .. end of 3:\n"
        "    for i in 0 .. unit:\n"
        "      tile of 2 rows x 8 columns, 2 accumulators:\n"
        "        start 0\n"
        "        add x[(unit*2 + row)*2 + k] * weight[k*16 + column] for k < 2\n"
        "        store out[(unit*2 + row)*8 + column] = none(sum)\n"
    )


def test_the_prototype_of_a_kernel():
    x, table = Buffer("x", 3, dtype="uint8"), Buffer("table", 3, "weight")
    kernel = Kernel("frame", (x, table, Buffer("out", 3, "output")), 1, ())
    assert kernel.prototype() == (
        "void frame(const uint8_t *x, const float *table, float *out, "
        "float *scratch, int32_t begin, int32_t end);"
    )


def test_accumulators_cover_each_element_once():
    for parts, rows, columns in ((grid(3, 40, 16), 3, 48), (folded_grid(5, 40, 16), 5, 40)):
        cells = [(part.row, part.column + lane) for part in parts for lane in range(part.width)]
        assert sorted(cells) == [(row, column) for row in range(rows) for column in range(columns)]


def test_pieces():
    assert pieces(39, 16) == [(0, 16), (16, 16), (32, 4), (36, 2), (38, 1)]
    assert pieces(0, 8) == []
