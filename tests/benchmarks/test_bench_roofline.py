"""The peak kernel is built once, gives figures, and does without a compiler; a step's work."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace

import pytest

from shiftedge.benchmarks import programs, roofline, work
from shiftedge.benchmarks.bench import spec_by_onnx
from shiftedge.benchmarks.machine import cache_sizes, cpu_name, machine
from shiftedge.benchmarks.roofline import Roofline, build_probe
from shiftedge.benchmarks.work import step_work
from shiftedge.runtime import bundle as bundles
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.manifest import MEMORY_KEYS, FileEntry, Manifest, Variant
from shiftedge.runtime.process.cpu import CPUINFO, KNOWN, WITHOUT, cpu_features, machine_name
from shiftedge.runtime.spec import ModelSpec


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A cache of its own, a moment for each figure, little memory."""
    if not list(programs.compilers()):
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
    found = limit.to_dict({"fp32": {"float32": 10**9}})
    for row in found["by_threads"].values():
        assert list(row["peaks_gops"]) == ["float32"]
        assert row["steps_ms"] == pytest.approx({"fp32": 1e3 / row["peaks_gops"]["float32"]})
        assert row["l2_gb_s"] > 0
        assert row["memory_gb_s"] > 0
    assert len(list(quick.iterdir())) == 1


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The program, for tests that do not ask how it comes about."""
    if not list(programs.compilers()):
        pytest.skip("no C compiler: install gcc, or  pip install ziglang")
    return build_probe(tmp_path_factory.mktemp("peak"))


@pytest.fixture
def ready(built, monkeypatch):
    """A roofline finds the program built, and takes a moment for each figure."""
    monkeypatch.setattr(roofline, "build_probe", lambda: built)
    monkeypatch.setattr(roofline, "SPAN_MS", 1)
    monkeypatch.setattr(roofline, "MEMORY_BYTES", 4 << 20)
    return built


INSTRUCTIONS = {
    "vpdpbusd": {"avx512f", "avx512_vnni"},
    "vpmaddwd-512": {"avx512f", "avx512bw"},
    "vpmaddwd": {"avx2"},
    "vdpbf16ps": {"avx512f", "avx512_bf16"},
    "sdot": {"asimd", "asimddp"},
    "smlal-pairs": {"asimd"},
    "smlal": {"asimd"},
}
"""And the features that each needs, by Linux's names: what the probe asks the CPU itself."""


@pytest.mark.hosts
def test_each_instruction_is_measured_or_refused_in_a_sentence(ready):
    limit = Roofline([1], [*INSTRUCTIONS, "fma4"])
    limit.measure(1)
    assert limit.reason is None
    peaks = limit.to_dict({})["by_threads"]["1"]["peaks_gops"]
    had = cpu_features()
    for name, features in INSTRUCTIONS.items():
        if features <= had:
            assert peaks[name] > 0, name
            assert name not in limit.refused
        else:
            assert name not in peaks
            lacking = features - had
            said = limit.refused[name]
            assert any(f"This CPU has no {feature}, which {name}" in said for feature in lacking)
            assert "it can run " in said
            assert said.count("\n") == 0
            assert said.endswith(".")
    assert limit.refused["fma4"].startswith("There is no instruction fma4 here; known are vpdpbusd")
    assert set(peaks) | set(limit.refused) == {"float32", "fma4", *INSTRUCTIONS}


def test_a_step_takes_each_part_at_its_own_peak(ready):
    limit = Roofline([1])
    limit._peaks[1] = {"float32": 100.0, "vpdpbusd": 400.0}
    work = {"vpdpbusd": 4 * 10**8, "float32": 5 * 10**7}
    assert limit.step_ms(1, work) == pytest.approx(1.0 + 0.5)
    assert limit.step_ms(1, {**work, "sdot": 1}) is None
    assert limit.step_ms(1, None) is None
    found = limit.to_dict({"int8": work, "fp32": {"float32": 10**8}})
    assert found["by_threads"]["1"]["steps_ms"] == pytest.approx({"int8": 1.5, "fp32": 1.0})


def test_the_program_says_how_it_is_called(built):
    probe = str(built)
    for line in ([], ["1"], ["0", "1", "vpmaddwd"], ["65", "1", "0", "0"]):
        assert subprocess.run([probe, *line], check=False).returncode == 2


def test_the_probe_is_built_once(quick, monkeypatch):
    first = build_probe()
    stamp = first.stat().st_mtime_ns
    monkeypatch.setattr(programs, "compilers", list)
    assert build_probe() == first
    assert first.stat().st_mtime_ns == stamp


def test_each_kind_of_cpu_has_its_own(quick, monkeypatch):
    first = build_probe()
    monkeypatch.setattr(programs, "cpu_identity", lambda: "another")
    assert build_probe() != first


def test_a_report_says_what_was_taken_away(monkeypatch):
    monkeypatch.setenv(WITHOUT, "")
    whole = cpu_name()
    had = sorted(cpu_features() & set(KNOWN.get(machine_name(), ())))
    monkeypatch.setenv(WITHOUT, f"{had[0]} {had[-1]}")
    assert cpu_name() == f"{whole}, taken for one without {had[0]} {had[-1]}"


@pytest.mark.hosts
def test_the_probe_keeps_to_what_is_left(quick, monkeypatch):
    """No instructions in it that the environment takes away, with each compiler there is."""
    compilers = list(programs.compilers())
    here = cpu_features(CPUINFO)
    wide = {name for name in KNOWN.get(machine_name(), ()) if name.startswith("avx512")}
    monkeypatch.setenv(WITHOUT, " ".join(wide))
    flags = roofline._flags()
    assert len(flags) - len(roofline.FLAGS) == len(wide & here)
    for compiler, environment in compilers:
        line = [*compiler, *flags, "-E", "-dM", "-x", "c", "/dev/null"]
        done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
        assert "__AVX512" not in done.stdout, compiler
    probe = build_probe()
    monkeypatch.setenv(WITHOUT, "")
    assert (build_probe() == probe) is not bool(cpu_features() & wide)


def test_a_compiler_that_fails_is_passed_over(quick, monkeypatch):
    real = list(programs.compilers())
    monkeypatch.setattr(programs, "compilers", lambda: [(["false"], None), *real])
    assert build_probe().is_file()
    monkeypatch.setattr(
        programs, "compilers", lambda: [(["false"], None), (["no-such-program"], None)]
    )
    with pytest.raises(ShiftedgeError, match="no-such-program failed"):
        build_probe(quick / "elsewhere")
    assert list((quick / "elsewhere").iterdir()) == []


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(programs, "compilers", list)
    limit = Roofline([1])
    limit.measure(1)
    found = limit.to_dict({"fp32": {"float32": 100}})
    assert found["by_threads"]["1"] == {
        "peaks_gops": {}, "steps_ms": {"fp32": None}, "l2_gb_s": None, "memory_gb_s": None
    }  # fmt: skip
    assert "pip install ziglang" in found["reason"]


def test_a_probe_that_fails_is_a_reason(quick, monkeypatch):
    limit = Roofline([1])
    limit._probe.write_text("#!/bin/sh\nexit 3\n")
    limit.measure(1)
    limit.measure(1)
    assert "exit status 3" in limit.to_dict({})["reason"]


def test_work_of_a_file(tiny_onnx, spec: ModelSpec):
    # 8 x 3 x 3 x 3 weights on 12 x 16 pixels, 16 x 8 x 3 x 3 and 16 x 16 on 6 x 8, 16 x 4.
    macs = 216 * 192 + 1152 * 48 + 256 * 48 + 64
    found = step_work(tiny_onnx, spec, None)
    assert found.works == {"fp32": {"float32": 2 * macs}}
    assert found.flops("fp32") == 2 * macs
    assert found.flops("int8") is None
    assert found.reason is None
    assert found.measured == ()


def test_work_of_a_quantised_file(int8, spec: ModelSpec, monkeypatch):
    """All but the dense layer behind the mean counts."""
    macs = 216 * 192 + 1152 * 48 + 256 * 48
    spec = spec_by_onnx(int8)
    monkeypatch.setattr(work, "cpu_features", lambda: frozenset({"avx2", "avx512_vnni"}))
    found = step_work(int8, spec, None)
    assert found.works == {"int8": {"vpdpbusd": 2 * macs, "float32": 2 * 64}}
    assert found.measured == ("vpdpbusd",)
    monkeypatch.setattr(work, "cpu_features", lambda: frozenset({"avx2"}))
    assert step_work(int8, spec, None).measured == ("vpmaddwd",)
    monkeypatch.setattr(work, "cpu_features", frozenset)
    without = step_work(int8, spec, None)
    assert without.works == {}
    assert "no instruction for int8" in without.reason


def a_bundle(folder, spec: ModelSpec, rows, *variants):
    """An int8 bundle of variants by name and features, whose libraries are never loaded."""
    listed, files = [], {}
    for name, features in variants:
        path = f"lib/{name}/libmodel.so"
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(b"none")
        files[path] = FileEntry(hashlib.sha256(b"none").hexdigest(), 4)
        listed.append(Variant(name, path, machine_name(), features, "int8"))
    manifest = Manifest(
        spec=replace(spec, precision="int8", std=(0.25, 0.25, 0.25)),
        target="plain",
        variants=tuple(listed),
        files=files,
        numerics={},
        memory=dict.fromkeys(MEMORY_KEYS, 0),
        tools={},
        source_sha256="a" * 64,
        kernels=rows,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


def test_work_of_a_bundle_is_its_variants(tmp_path, spec: ModelSpec, monkeypatch):
    """What multiplies is the variant's that runs, whatever else the CPU has and whichever variant
    the rows were written for."""
    rows = (
        {"name": "a", "operations": {"packed": 600, "float32": 100}},
        {"name": "b", "operations": {"float32": 7}},
        {"name": "c"},
    )
    vnni = ("vnni", ("avx2", "avx512_vnni"))
    older = ("older", ("avx2",))
    both = a_bundle(tmp_path / "both", spec, rows, vnni, older)
    one = a_bundle(tmp_path / "one", spec, rows, older)

    def found(folder, *features):
        monkeypatch.setattr(bundles, "cpu_features", lambda: frozenset(features))
        return step_work(None, None, folder)

    had = ("avx2", "avx512_vnni")
    assert found(both, *had).works == {"int8": {"vpdpbusd": 600, "float32": 107}}
    assert found(both, "avx2").works == {"int8": {"vpmaddwd": 600, "float32": 107}}
    assert found(one, *had).works == {"int8": {"vpmaddwd": 600, "float32": 107}}
    assert found(one, *had).flops("int8") == 707
    assert [row["name"] for row in found(one, *had).kernels["int8"]] == ["a", "b", "c"]
    assert found(one).works == {}


def test_work_of_what_the_compiler_cannot_read(make_onnx, spec, tmp_path):
    def change(model):
        model.graph.node[1].op_type = "Sparkle"

    found = step_work(make_onnx(change=change), spec, None)
    assert "Sparkle" in found.reason
    assert found.works == {}
    found = step_work(None, spec, tmp_path)
    assert found.reason.startswith("The bundle's kernels are not known")
    assert step_work(None, None, None).reason == "operations are counted from the .onnx file"


def test_machine():
    found = machine()
    assert found["cpu"] == cpu_name() != ""
    assert found["cores"] <= found["cores_total"]
    assert all(size > 0 for size in cache_sizes().values())
    assert found["versions"]["numpy"]
