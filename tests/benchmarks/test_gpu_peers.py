"""Peers on a GPU: without one each says so in its row, and on the processor in its place they are
the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from shiftedge.__main__ import main
from shiftedge.benchmarks.engines import ON_GPU
from shiftedge.benchmarks.engines.base import Contender
from shiftedge.benchmarks.engines.gpu_peers import OnnxRuntimeCudaContender, TorchCudaContender
from shiftedge.benchmarks.engines.onnxruntime import ReferenceContender
from shiftedge.export.agreement import moving_images


class OnnxRuntimeHere(OnnxRuntimeCudaContender):
    providers = ("cpu",)


class TorchHere(TorchCudaContender):
    device = "cpu"


@pytest.mark.parametrize("kind", [OnnxRuntimeHere, TorchHere])
def test_a_peer_is_the_model(kind: type[Contender], tiny_onnx: Path) -> None:
    if kind is TorchHere:
        pytest.importorskip("torch", reason="torch is not installed")
    reference = ReferenceContender(tiny_onnx, 1, None)
    peer = kind(tiny_onnx, 1, reference.spec)
    images = moving_images(reference.spec, 3)
    first = None
    for image in images:
        for each in (reference, peer):
            each.prepare(image)
            each.step()
        np.testing.assert_allclose(peer.logits(), reference.logits(), rtol=0, atol=1e-3)
        states = zip(peer.states() or (), reference.states() or (), strict=True)
        for ours, theirs in states:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
        first = peer.logits().copy() if first is None else first
    peer.reset()
    peer.prepare(images[0])
    peer.step()
    np.testing.assert_array_equal(peer.logits(), first)


def test_each_has_a_row(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That says why it cannot run, where no GPU is seen."""
    pytest.importorskip("scipy", reason="the bench extra is not installed")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    report = tmp_path / "report.json"
    words = ["bench", tiny_onnx, "--device", "cuda", "--frames", 2, "--json", report]
    main([*map(str, words)])
    rows = {row["engine"]: row for row in json.loads(report.read_text())["results"]}
    assert rows.keys() == ON_GPU.keys()
    assert all(row["status"] != "ok" and row["reason"] for row in rows.values())
    assert rows["native-cuda"]["reason"].startswith("It runs a bundle that holds code for a GPU")
