"""The bundled ONNX file is the export of the bundled checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.networks import from_checkpoint

from shiftedge.export.models import StreamingModel
from shiftedge.export.verify import verify_onnx
from shiftedge.runtime.loading import load

ROOT = Path(__file__).parents[2]


def test_the_shipped_model_is_the_shipped_checkpoint():
    net, spec = from_checkpoint(ROOT / "export" / "assets" / "gestures.pt", name="gestures")
    # Which labels are silent is a set; the file was written when its order was another.
    assert set(load().spec.silent_labels) == set(spec.silent_labels)
    assert replace(load().spec, silent_labels=spec.silent_labels) == spec
    shipped = (ROOT / "runtime" / "assets" / "gestures.onnx").read_bytes()
    verify_onnx(StreamingModel(net), shipped, spec).require_passed()
