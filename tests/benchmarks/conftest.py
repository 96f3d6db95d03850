"""Worker processes of tests find the checkout and the contenders beside this file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shiftedge.benchmarks.bench import Bench
from shiftedge.benchmarks.entry import BenchSettings, Candidate
from shiftedge.runtime.spec import ModelSpec

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "src"


@pytest.fixture(autouse=True)
def worker_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """sys.path of worker processes."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(SRC), str(HERE.parent))))


@pytest.fixture
def spec_file(tmp_path: Path, spec: ModelSpec) -> Path:
    """The model file of the faulty contenders."""
    file = tmp_path / "model.json"
    file.write_text(spec.to_json())
    return file


@pytest.fixture
def make_bench(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """A bench of contenders by name, with ``Good`` as its reference and no roofline."""
    monkeypatch.setattr("shiftedge.benchmarks.programs.compilers", list)
    monkeypatch.setenv("XDG_CACHE_HOME", str(spec_file.parent))

    def make(*names: str, reference: str = "Good", settings: BenchSettings | None = None) -> Bench:
        return Bench(
            [
                Candidate(name, f"kit.faulty_contenders:{name}", spec_file, peer=name != "Hidden")
                for name in names
            ],
            settings or BenchSettings(frames=12, rounds=3, timeout_s=20.0),
            onnx=spec_file,
            reference=f"kit.faulty_contenders:{reference}",
        )

    return make


@pytest.fixture(scope="session")
def int8(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with codes for states."""
    from shiftedge.export.quantize import QuantizeSettings, quantize
    from shiftedge.export.quantize.source import Clips
    from shiftedge.runtime.capture.synthetic.moving import moving_scene

    clip = moving_scene(1, frames=64, height=24, width=32)
    settings = QuantizeSettings(lengths=(40, 80), max_accuracy_drop=100.0)
    path = tmp_path_factory.mktemp("int8") / "tiny-int8.onnx"
    path.write_bytes(quantize(tiny_onnx, Clips("scene", (clip,)), settings).model)
    return path
