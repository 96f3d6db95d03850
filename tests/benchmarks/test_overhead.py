"""The overhead benchmark runs, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from shiftedge.benchmarks.overhead import main


def test_json(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny_onnx), "--steps", "5", "--threads", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["threads"] == 1
    assert set(figures["ms"]) == {"run", "binding", "stream", "camera", "fit", "normalise"}
    assert all(row["p10"] <= row["p50"] <= row["p90"] for row in figures["ms"].values())
    assert set(figures["overhead"]) == {"binding", "stream", "camera"}


def test_table(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny_onnx), "--steps", "2", "--threads", "1"]) == 0
    assert "p50" in capsys.readouterr().out


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.onnx")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no model file" in captured.err
    with pytest.raises(SystemExit) as caught:
        main(["model.onnx", "--steps", "0"])
    assert caught.value.code == 2
