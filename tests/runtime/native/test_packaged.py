"""The bundled model, compiled, as a wheel for this machine has it."""

from __future__ import annotations

import importlib.resources
import platform
import sys
from pathlib import Path
from typing import Any

import pytest
from kit.fake_bundle import write_bundle

from shiftedge.runtime import packaged
from shiftedge.runtime.errors import BundleError, MissingExtraError, ModelError
from shiftedge.runtime.loading import BUNDLED_NAME, load


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the package's model, with the .onnx file that there is."""
    real = importlib.resources.files

    def files(name: Any) -> Any:
        return tmp_path if name == packaged.ASSETS else real(name)

    (tmp_path / BUNDLED_NAME).write_bytes((real(packaged.ASSETS) / BUNDLED_NAME).read_bytes())
    monkeypatch.setattr(importlib.resources, "files", files)
    return tmp_path


def test_it_is_taken(assets: Path, fake_path: Path) -> None:
    write_bundle(assets / packaged.FOLDER, fake_path)
    for engine in (None, "native"):
        model = load(engine=engine)
        assert (model.engine.name, model.spec.name) == ("native", "fake")


def test_onnx_runtime_where_it_is_asked_for(assets: Path, fake_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra (onnxruntime) is not installed")
    write_bundle(assets / packaged.FOLDER, fake_path)
    assert load(engine="onnxruntime").engine.name == "onnxruntime"
    assert load(providers="cpu").engine.name == "onnxruntime"


def test_a_cpu_that_is_too_old(
    assets: Path, fake_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra (onnxruntime) is not installed")
    here = write_bundle(
        assets / packaged.FOLDER,
        fake_path,
        variants=[("new", platform.machine(), ("not_a_feature",))],
    )
    assert load().engine.name == "onnxruntime"
    assert "run by ONNX Runtime instead" in capsys.readouterr().err
    with pytest.raises(BundleError, match="not_a_feature"):
        load(engine="native")
    assert here.is_dir()


def test_neither(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"\[onnx\].*make wheels.*shiftedge compile"):
        load()
    (assets / BUNDLED_NAME).unlink()
    with pytest.raises(ModelError, match="has no bundled model"):
        load()
