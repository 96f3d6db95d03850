"""The peak kernel is built once, gives figures, and does without a compiler."""

from __future__ import annotations

import pytest

from shiftedge.benchmarks import roofline
from shiftedge.benchmarks.machine import cache_sizes, cpu_name, machine
from shiftedge.benchmarks.roofline import Roofline, build_probe, model_flops
from shiftedge.runtime.errors import CompileError, ShiftedgeError
from shiftedge.runtime.spec import ModelSpec


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A cache of its own, a moment for each figure, little memory."""
    if not list(roofline._compilers()):
        pytest.skip("no C compiler: install gcc, or  pip install ziglang")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(roofline, "SPAN_MS", 1)
    monkeypatch.setattr(roofline, "MEMORY_BYTES", 4 << 20)
    return tmp_path / "shiftedge"


def test_figures(quick):
    limit = Roofline([2])
    assert limit.threads == [1, 2]
    for threads in (1, 2, 1):
        limit.measure(threads)
    assert limit.reason is None
    assert limit.step_ms(1, None) is None
    found = limit.to_dict(10**9)
    assert found["step_ms"] == pytest.approx(1e3 / found["peak_gflops"])
    for row in found["by_threads"].values():
        assert all(value > 0 for value in row.values())
    assert len(list(quick.iterdir())) == 1


def test_the_probe_is_built_once(quick, monkeypatch):
    first = build_probe()
    stamp = first.stat().st_mtime_ns
    monkeypatch.setattr(roofline, "_compilers", list)
    assert build_probe() == first
    assert first.stat().st_mtime_ns == stamp


def test_each_kind_of_cpu_has_its_own(quick, monkeypatch):
    first = build_probe()
    monkeypatch.setattr(roofline, "cpu_identity", lambda: "another")
    assert build_probe() != first


def test_a_compiler_that_fails_is_passed_over(quick, monkeypatch):
    real = list(roofline._compilers())
    monkeypatch.setattr(roofline, "_compilers", lambda: [["false"], *real])
    assert build_probe().is_file()
    monkeypatch.setattr(roofline, "_compilers", lambda: [["false"], ["no-such-program"]])
    with pytest.raises(ShiftedgeError, match="no-such-program failed"):
        build_probe(quick / "elsewhere")
    assert list((quick / "elsewhere").iterdir()) == []


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(roofline, "_compilers", list)
    limit = Roofline([1])
    limit.measure(1)
    found = limit.to_dict(100)
    assert found["peak_gflops"] is None
    assert found["step_ms"] is None
    assert "pip install ziglang" in found["reason"]


def test_a_probe_that_fails_is_a_reason(quick, monkeypatch):
    limit = Roofline([1])
    limit._probe.write_text("#!/bin/sh\nexit 3\n")
    limit.measure(1)
    limit.measure(1)
    assert "exit status 3" in limit.to_dict(None)["reason"]


def test_flops(tiny_onnx, spec: ModelSpec):
    # 8 x 3 x 3 x 3 weights on 12 x 16 pixels, 16 x 8 x 3 x 3 and 16 x 16 on 6 x 8, 16 x 4.
    macs = 216 * 192 + 1152 * 48 + 256 * 48 + 64
    assert model_flops(tiny_onnx.read_bytes(), spec) == 2 * macs


def test_flops_of_what_the_compiler_cannot_read(make_onnx, spec):
    def change(model):
        model.graph.node[1].op_type = "Erf"

    with pytest.raises(CompileError, match="Erf"):
        model_flops(make_onnx(change=change).read_bytes(), spec)


def test_machine():
    found = machine()
    assert found["cpu"] == cpu_name() != ""
    assert found["cores"] <= found["cores_total"]
    assert all(size > 0 for size in cache_sizes().values())
    assert found["versions"]["numpy"]
