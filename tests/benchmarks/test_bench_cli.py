"""``shiftedge bench`` as a user meets it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from shiftedge.benchmarks import commands, engines
from shiftedge.runtime.errors import ModelError, OutputError

pytest.importorskip("onnxruntime")

QUICK = ("native", "onnxruntime")
"""Engines to run where none is named, so that this is quick whatever is installed."""


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch, tmp_path):
    """The peak has tests of its own."""
    monkeypatch.setattr("shiftedge.benchmarks.programs.compilers", list)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def bench(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="shiftedge")
    commands.add_commands(parser.add_subparsers())
    options = parser.parse_args(["bench", *map(str, arguments)])
    return int(options.handler(options))


def test_json_alone_on_stdout(tiny_onnx, capsys):
    arguments = ("--engines", "onnxruntime", "--frames", 8, "--rounds", 2, "--json", "-")
    assert bench(tiny_onnx, *arguments) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.err == ""
    (row,) = report["results"]
    assert (row["engine"], row["status"], row["frames"]) == ("onnxruntime", "ok", 8)
    assert row["agreement"]["states_compared"]
    assert row["max_abs_error"] < 1e-3
    assert report["model"]["flops"] > 0


def test_the_bundled_model_on_all_engines(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "_compile", lambda onnx: (None, "There is no compiler."))
    monkeypatch.setattr(engines, "_installed", lambda engine: engine in QUICK)
    file = tmp_path / "out.json"
    assert bench("--frames", 6, "--rounds", 2, "--threads", "1,2", "--json", file) == 0
    table = capsys.readouterr().out
    report = json.loads(file.read_text())
    rows = {(row["engine"], row["threads"]): row for row in report["results"]}
    assert set(rows) == {(e, t) for e in QUICK for t in (1, 2)}
    assert rows["native", 1]["status"] == "unavailable"
    assert rows["onnxruntime", 2]["status"] == "ok"
    assert "Not installed: openvino, openvino-default, executorch" in " ".join(report["notes"])
    assert "There is no compiler." in table
    assert "p50 ms" in table
    assert "Roofline: The peak was not measured" in table


def test_rows_of_engines_that_have_no_int8(int8, capsys):
    arguments = ("--engines", "onnxruntime,ncnn,torch", "--frames", 4, "--rounds", 2, "--json", "-")
    assert bench(int8, *arguments) == 0
    rows = {row["engine"]: row for row in json.loads(capsys.readouterr().out)["results"]}
    assert (rows["onnxruntime"]["status"], rows["onnxruntime"]["precision"]) == ("ok", "int8")
    for engine, word in (("ncnn", "pnnx does not know QuantizeLinear"), ("torch", "torch-compile")):
        assert rows[engine]["status"] != "ok"
        assert rows[engine]["reason"].startswith("It has no int8 here: ")
        assert word in rows[engine]["reason"]


def test_the_compiler_is_called_where_there_is_no_bundle(tiny_onnx, monkeypatch, capsys):
    """Whatever it says ends up in the row."""

    def failing(onnx, *, target):
        assert (onnx, target) == (tiny_onnx, "host")
        raise RuntimeError("no registers left\nand more")

    name = "shiftedge.export.compiler.compile"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(compile_cached=failing))
    assert bench(tiny_onnx, "--engines", "native", "--frames", 2) == 1
    captured = capsys.readouterr()
    assert "no registers left" in captured.out
    assert "no engine could be measured" in captured.err
    assert "and more" not in captured.err


def test_a_native_row_of_something_that_is_no_bundle(tiny_onnx, tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    arguments = ("--engines", "native,onnxruntime", "--frames", 2, "--json", "-")
    assert bench(tiny_onnx, "--bundle", tmp_path / "bundle", *arguments) == 0
    native, peer = json.loads(capsys.readouterr().out)["results"]
    assert native["status"] == "failed"
    assert native["reason"]
    assert peer["status"] == "ok"


def test_a_compiled_model_by_itself(tmp_path, monkeypatch, capsys):
    """The native tests' fake model, in place of one that the compiler made."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "runtime" / "native"))
    from kit import fake_library

    compilers = fake_library.compilers()
    if not compilers:
        pytest.skip("no C compiler: install gcc, or  pip install ziglang")
    sources = [*fake_library.RUNTIME, *fake_library.FAKE]
    command = next(iter(compilers.values()))
    library = fake_library.build(command, tmp_path / "libmodel.so", sources, *fake_library.LIBRARY)
    assert bench(library, "--frames", 6, "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    native, *peers = report["results"]
    assert native["status"] == "ok"
    assert native["normalises"] is True
    assert native["max_abs_error"] is None
    assert any("Not checked" in note for note in report["notes"])
    assert {row["status"] for row in peers} == {"unavailable"}
    assert report["roofline"]["by_threads"]["1"]["steps_ms"] == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--engines", "tflite"],
        ["--engines", ""],
        ["--threads", "0"],
        ["--threads", "1,x"],
        ["--frames", "0"],
        ["--frames", "3", "--rounds", "4"],
        ["/tmp", "--bundle", "/tmp"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        bench(*arguments)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_what_cannot_be_done(tmp_path, tiny_onnx):
    with pytest.raises(ModelError, match="no model file"):
        bench(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="no bundle"):
        bench(tiny_onnx, "--bundle", tmp_path / "absent")
    checkpoint = tmp_path / "model.pth"
    checkpoint.touch()
    with pytest.raises(ModelError, match="neither"):
        bench(checkpoint)
    with pytest.raises(OutputError, match="does not exist"):
        bench(tiny_onnx, "--json", tmp_path / "absent" / "out.json")


def test_a_broken_model_ends_the_run(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    from shiftedge.runtime.errors import ShiftedgeError

    with pytest.raises(ShiftedgeError, match=r"broken\.onnx"):
        bench(broken, "--engines", "onnxruntime", "--frames", 2)


def test_a_disagreement_is_a_failure(capsys):
    row = {"status": "disagrees", "reason": "It differs."}
    report = {"interrupted": False, "results": [row, {"status": "ok", "reason": None}]}
    assert commands._status(report) == 1
    assert "1 of 2" in capsys.readouterr().err
    assert commands._status({**report, "results": report["results"][1:]}) == 0
    assert commands._status({**report, "interrupted": True}) == 130


def test_ctrl_c_prints_and_leaves_nothing(tiny_onnx, tmp_path):
    program = (
        "import argparse, sys\n"
        "from shiftedge.benchmarks import commands, programs\n"
        "programs.compilers = list\n"
        "parser = argparse.ArgumentParser()\n"
        "commands.add_commands(parser.add_subparsers())\n"
        "options = parser.parse_args(sys.argv[1:])\n"
        "sys.exit(options.handler(options))\n"
    )
    arguments = ["bench", tiny_onnx, "--engines", "onnxruntime", "--frames", 10**6, "--json", "-"]
    parent = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children: set[int] = set()
    end = time.monotonic() + 60
    while len(children) < 2 and time.monotonic() < end:  # the reference, then the engine
        children.update(workers_of(parent.pid))
        time.sleep(0.01)
    os.killpg(parent.pid, signal.SIGINT)
    try:
        out, err = parent.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(parent.pid, signal.SIGKILL)  # a million frames would slow all tests that follow
        raise
    assert parent.returncode == 130, err
    assert json.loads(out)["interrupted"] is True
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def workers_of(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


@pytest.mark.parametrize(
    ("engine", "holds"),
    [
        ("native-bf16", "bf16"),
        ("native-cuda", "code for a GPU"),
        ("native-cuda-fp16", "code of half"),
    ],
)
def test_a_variant_that_the_bundle_has_not(engine, holds, tiny_onnx, tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    arguments = (
        "--engines",
        f"onnxruntime,{engine}",
        "--frames",
        4,
        "--rounds",
        2,
        "--json",
        "-",
    )
    assert bench(tiny_onnx, "--bundle", tmp_path / "bundle", *arguments) == 0
    _, row = json.loads(capsys.readouterr().out)["results"]
    assert row["engine"] == engine
    assert row["reason"].startswith(f"It runs a bundle that holds {holds}")


def test_bf16_of_a_bundle_that_holds_it(tiny_onnx, tmp_path, monkeypatch):
    """A row of its own beside float32's, of the bundle's own variant, and no peer of ours."""
    manifest = SimpleNamespace(builds={"bf16": None, "fp32": None})
    gpu = SimpleNamespace(precision="fp32")
    opened = SimpleNamespace(manifest=manifest, gpu_variants=lambda: [gpu])
    monkeypatch.setattr("shiftedge.runtime.bundle.Bundle.open", lambda folder: opened)
    names = ["native", "native-bf16", "native-cuda", "onnxruntime"]
    found, _ = commands._candidates(names, tiny_onnx, tmp_path)
    assert [(each.engine, each.path, each.peer) for each in found] == [
        ("native", tmp_path, False),
        ("native-bf16", tmp_path, False),
        ("native-cuda", tmp_path, False),
        ("onnxruntime", tiny_onnx, True),
    ]
    assert all(each.reason is None for each in found)


def test_bf16_is_loaded_in_bf16(tiny_onnx, tmp_path, monkeypatch):
    from kit.fake_engine import FakeEngine

    from shiftedge.benchmarks.bench import spec_by_onnx
    from shiftedge.benchmarks.engines import native
    from shiftedge.benchmarks.engines.native import NativeBf16Contender

    spec = spec_by_onnx(tiny_onnx)
    asked = []

    def load(path, *, precision, **others):
        asked.append(precision)
        return SimpleNamespace(engine=FakeEngine(replace(spec, precision=precision)))

    monkeypatch.setattr(native, "load", load)
    contender = NativeBf16Contender(tmp_path, 1, spec)
    assert asked == ["bf16"]
    assert contender.precision == "bf16"
    assert contender.tolerance > native.NativeContender.tolerance
