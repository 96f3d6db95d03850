"""Each engine that is installed, in a process of its own, against the reference over moving frames;
one that is not says so, and one that cannot take a model as well."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from shiftedge.benchmarks import engines
from shiftedge.benchmarks.crew import Worker, WorkerError
from shiftedge.benchmarks.engines import ENGINES, HARNESS, REFERENCE
from shiftedge.benchmarks.machine import installed_bytes
from shiftedge.export.agreement import Comparison, Outputs, compare
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FRAMES = 10
TIMEOUT_S = 280.0
BUNDLED = Path(__file__).parents[2] / "runtime" / "assets" / "gestures.onnx"
SLOW = ("litert", "torch-compile")
"""To convert or compile, up to minutes on two busy cores: with the small model alone."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Conversions are made anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def needs(engine: str) -> None:
    missing = [name for name in ENGINES[engine].modules if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{engine} takes {', '.join(missing)}: pip install -e '.[peers]'")
    if engine == "torch-compile" and shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch-compile takes a C++ compiler: install g++")


def spec_of(model: Path) -> ModelSpec:
    entries = onnx.load(str(model)).metadata_props
    return ModelSpec.from_json(next(e.value for e in entries if e.key == METADATA_KEY))


def worst_of(found: list[Outputs], expected: list[Outputs]) -> Comparison:
    """The tensor that differs most."""
    return compare("expected / found", expected, found, tolerance=1e-4)[0]


def outputs(factory: str, model: Path, threads: int = 1):
    """What a worker answered when it was ready, and the tensors of its frames, twice over."""
    spec = spec_of(model)
    with Worker(factory, model, threads, spec=spec, timeout_s=TIMEOUT_S) as worker:
        ready = worker.ready()
        # The second time shows that a reset forgets everything.
        found = [worker.ask("outputs", frames=FRAMES) for _ in range(2)]
        turn = worker.ask("turn", begin=0, lead_in=1, frames=3)
    assert len(turn["step_ns"]) == 3
    assert worst_of(found[1], found[0]).relative <= ready["tolerance"]
    return ready, found[0]


@functools.cache
def expected_of(model: Path) -> list[Outputs]:
    """The reference's tensors, the same for every engine."""
    return outputs(REFERENCE, model)[1]


def agree(engine: str, model: Path, threads: int = 1) -> None:
    expected = expected_of(model)
    ready, found = outputs(ENGINES[engine].factory, model, threads)
    assert ready["settings"]["threads"] == threads
    assert ready["version"]
    assert installed_bytes(ready["packages"])
    worst = worst_of(found, expected)
    assert "next_state_0" in found[0]
    print(f"{engine}: {worst.relative:.2g} in {worst.tensor}")
    assert worst.relative <= ready["tolerance"]


PEERS = [name for name, engine in ENGINES.items() if not engine.ours]
INT8 = [name for name in PEERS if ENGINES[name].not_int8 is None]


@pytest.mark.parametrize("engine", PEERS)
def test_a_small_model(engine, tiny_onnx):
    needs(engine)
    agree(engine, tiny_onnx)


def test_the_runtimes_own_stream(tiny_onnx):
    ready, found = outputs(HARNESS["stream"].factory, tiny_onnx)
    assert ready["normalises"]
    expected = [{"logits": step["logits"]} for step in expected_of(tiny_onnx)]
    assert compare("expected / found", expected, found, tolerance=1e-4)[0].passed


@pytest.mark.parametrize("engine", [engine for engine in PEERS if engine not in SLOW])
def test_the_bundled_model(engine):
    needs(engine)
    agree(engine, BUNDLED)


@pytest.mark.parametrize("engine", INT8)
def test_an_int8_model(engine, int8):
    """With two threads, so that they are shown as well."""
    needs(engine)
    assert {state.dtype for state in spec_of(int8).states} == {"uint8"}
    expected = expected_of(int8)
    ready, found = outputs(ENGINES[engine].factory, int8, threads=2)
    worst = worst_of(found, expected)
    print(f"{engine}: {worst.relative:.2g} in {worst.tensor}, {ready['settings']}")
    assert worst.relative < 0.1
    assert ready["precision"] == "int8"
    assert ready["settings"]["threads"] == 2
    state = found[-1]["next_state_0"]
    assert (state < 0).any() or (state > 1).any()  # numbers
    if "torch" in ENGINES[engine].modules:
        kinds = [node.op_type for node in onnx.load(str(int8)).graph.node]
        assert ready["settings"]["integer_convolutions"] == kinds.count("Conv")


@pytest.mark.parametrize("engine", ["torch", "tvm", "executorch", "mnn", "ncnn"])
def test_two_threads(engine, tiny_onnx):
    needs(engine)
    agree(engine, tiny_onnx, threads=2)


def row(engine: str, model: Path, spec: ModelSpec) -> WorkerError:
    factory = ENGINES[engine].factory
    worker = Worker(factory, model, 1, spec=spec, timeout_s=TIMEOUT_S)
    with worker, pytest.raises(WorkerError) as caught:
        worker.ready()
    return caught.value


@pytest.mark.parametrize("engine", PEERS)
def test_what_is_not_installed(engine, tiny_onnx, spec, tmp_path, monkeypatch):
    """A folder before all others, whose packages are not to be found."""
    for name in ENGINES[engine].modules[:1]:
        absent = f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n"
        (tmp_path / f"{name}.py").write_text(absent)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    error = row(engine, tiny_onnx, spec)
    assert error.status == "unavailable"
    assert "pip install" in str(error)


@pytest.mark.parametrize("engine", PEERS)
def test_an_operator_that_nobody_knows(engine, make_onnx, spec):
    def change(model):
        model.graph.node[1].op_type = "Sparkle"

    needs(engine)
    error = row(engine, make_onnx(change=change), spec)
    assert error.status == "failed"
    assert "\n" not in str(error)
    if "torch" in ENGINES[engine].modules:
        assert "Sparkle" in str(error)


def test_torch_compile_without_a_compiler(tiny_onnx, spec, monkeypatch):
    needs("torch-compile")
    monkeypatch.setenv("CXX", "no-such-compiler")
    error = row("torch-compile", tiny_onnx, spec)
    assert error.status == "unavailable"
    assert "C++ compiler" in str(error)


def test_a_conversion_is_kept(tiny_onnx, cache):
    needs("ncnn")
    outputs(ENGINES["ncnn"].factory, tiny_onnx)
    (made,) = (cache / "shiftedge" / "converted" / "ncnn").iterdir()
    times = {file.name: file.stat().st_mtime_ns for file in made.iterdir()}
    outputs(ENGINES["ncnn"].factory, tiny_onnx)
    assert {file.name: file.stat().st_mtime_ns for file in made.iterdir()} == times


def test_what_runs_by_default(monkeypatch):
    monkeypatch.setattr(engines, "_installed", lambda engine: engine in ("mnn", "tvm"))
    names, sentences = engines.by_default()
    assert names == ["native", "onnxruntime", "mnn"]
    absent, slow = sentences
    assert absent.startswith("Not installed: openvino, openvino-default, executorch, ncnn, litert")
    assert "pip install -e '.[bench,peers]'" in absent
    assert "tvm" in slow
    assert "litert" not in slow


def test_every_peer_is_told_what_it_imports():
    assert all(ENGINES[name].modules for name in PEERS)
