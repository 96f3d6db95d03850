"""Files of the contract, taught a branch, taken apart, and taught again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra (ONNX Runtime) is not installed")

import onnx
from kit.onnx_files import SPEC, Builder, model

from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.export.personalise.features import FeatureModel
from shiftedge.export.personalise.onnx_branch import Branch, Parts, state_of, take_apart
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.loading import load
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec


def net(b: Builder, x: str) -> str:
    """A sum of maps, their mean and the last layer."""
    y = b.op("Add", x, b.conv(x, 8, 8))
    mean = b.op("GlobalAveragePool", y)
    flat = b.op("Flatten", mean)
    return b.op("Gemm", flat, b.random(4, 8), b.random(4), transB=1)


def written(path: Path, body: Callable[[Builder, str], str] = net) -> Path:
    """A model of the contract whose logits are what ``body`` makes."""

    def named(document: Any) -> None:
        same = document.graph.node.pop()
        document.graph.node[-1].output[0] = same.output[0]
        onnx.helper.set_model_props(document, {METADATA_KEY: SPEC.to_json()})

    path.write_bytes(model(features=body, change=named))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "m.onnx")


def branch_of(parts: Parts, sizes: list[int], classes: int, seed: int = 1) -> Branch:
    rng = np.random.default_rng(seed)
    weights = tuple(rng.normal(0, 0.3, (classes, size)).astype(np.float32) for size in sizes)
    return Branch(weights, rng.normal(0, 1, classes).astype(np.float32), 0.75)


def taught(file: Path, labels: tuple[str, ...], seed: int = 1) -> tuple[bytes, ModelSpec]:
    """The file with a random branch and those labels behind its own."""
    found = FeatureModel(file)
    spec, parts = found.spec, found.parts
    base = dataclasses.replace(spec, states=found.base_states)
    names = (*spec.labels, *labels)
    weight = np.zeros((len(names), parts.weight.shape[1]), np.float32)
    weight[: spec.classes] = parts.weight
    bias = np.full(len(names), -2.0, np.float32)
    bias[: spec.classes] = parts.bias
    states = (*found.base_states, state_of(base, len(names)))
    after = dataclasses.replace(spec, labels=names, states=states)
    return parts.taught(weight, bias, branch_of(parts, found.sizes, len(names), seed), after), after


def frames(spec: ModelSpec, count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, spec.height, spec.width, 3), np.uint8)


def test_what_is_read_is_what_the_last_layer_reads(file: Path) -> None:
    found = FeatureModel(file)
    assert found.sizes == [8 * 6 * 5, 8]
    images = frames(found.spec)
    session = load(file).engine.open_session()
    wanted = np.stack([session.step(image) for image in images])
    np.testing.assert_allclose(found.logits(found.features(images)), wanted, atol=1e-5)


def test_a_file_with_a_branch_is_onnx_and_computes_it(file: Path, tmp_path: Path) -> None:
    data, spec = taught(file, ("own",))
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    (tmp_path / "taught.onnx").write_bytes(data)
    model = load(tmp_path / "taught.onnx")
    assert model.spec.labels == spec.labels
    assert len(model.spec.states) == 2
    images = frames(spec)
    session = model.engine.open_session()
    got = np.stack([session.step(image) for image in images])
    after = FeatureModel(tmp_path / "taught.onnx")
    np.testing.assert_allclose(got, after.logits(after.features(images)), atol=1e-5)
    before = FeatureModel(file)
    known = before.logits(before.features(images))
    assert np.abs(got[:, :4] - known).max() > 0.1  # the branch does something
    session.reset()
    np.testing.assert_array_equal(session.step(images[0]), got[0])


def test_a_taught_file_is_taken_apart_and_taught_again(file: Path, tmp_path: Path) -> None:
    once, spec = taught(file, ("own",))
    (tmp_path / "once.onnx").write_bytes(once)
    parts = take_apart(once, "it")
    first = take_apart(file.read_bytes(), "it")
    assert parts.digest() == first.digest()
    assert parts.branch is not None
    assert parts.branch.keep == pytest.approx(0.75)
    assert parts.taught(parts.weight, parts.bias, parts.branch, spec) == once
    twice, _ = taught(tmp_path / "once.onnx", ("more",), seed=2)
    (tmp_path / "twice.onnx").write_bytes(twice)
    assert load(tmp_path / "twice.onnx").spec.labels == ("a", "b", "c", "d", "own", "more")
    assert len(load(tmp_path / "twice.onnx").spec.states) == 2
    assert take_apart(twice, "it").digest() == first.digest()


def test_the_compiler_takes_a_branch(file: Path) -> None:
    data, spec = taught(file, ("own",))
    images = frames(spec)
    evaluator = Evaluator(read_onnx(data, spec), spec)
    got = np.stack([evaluator.step(image).logits for image in images])
    (file.parent / "taught.onnx").write_bytes(data)
    session = load(file.parent / "taught.onnx").engine.open_session()
    wanted = np.stack([session.step(image) for image in images])
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_other_weights_are_other_features(tmp_path: Path) -> None:
    def other(b: Builder, x: str) -> str:
        b.rng = np.random.default_rng(7)
        return net(b, x)

    one = take_apart(written(tmp_path / "1.onnx").read_bytes(), "it")
    two = take_apart(written(tmp_path / "2.onnx", other).read_bytes(), "it")
    assert one.digest() != two.digest()


@pytest.mark.parametrize("turned", [False, True])
def test_a_weight_is_read_as_it_is_stored(tmp_path: Path, turned: bool) -> None:
    def body(b: Builder, x: str) -> str:
        flat = b.op("Flatten", b.op("GlobalAveragePool", x))
        shape = (4, 8) if turned else (8, 4)
        return b.op("Gemm", flat, b.random(*shape), b.random(4), transB=int(turned))

    found = FeatureModel(written(tmp_path / "m.onnx", body))
    assert found.parts.weight.shape == (4, 8)
    assert found.sizes == [8]
    data, spec = taught(tmp_path / "m.onnx", ("own",))
    (tmp_path / "t.onnx").write_bytes(data)
    session = load(tmp_path / "t.onnx").engine.open_session()
    after = FeatureModel(tmp_path / "t.onnx")
    images = frames(spec, 2)
    got = np.stack([session.step(image) for image in images])
    np.testing.assert_allclose(got, after.logits(after.features(images)), atol=1e-5)


def _matmul(b: Builder, x: str) -> str:
    flat = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.op("MatMul", flat, b.random(8, 4))


def _scaled(b: Builder, x: str) -> str:
    flat = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.op("Gemm", flat, b.random(4, 8), b.random(4), transB=1, alpha=0.5)


def _without_bias(b: Builder, x: str) -> str:
    flat = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.op("Gemm", flat, b.random(4, 8), transB=1)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (_matmul, "its logits are made by MatMul"),
        (_scaled, "scales or turns"),
        (_without_bias, "no weights and bias of its own"),
    ],
)
def test_another_last_layer_is_refused(tmp_path: Path, body: Any, why: str) -> None:
    path = written(tmp_path / "m.onnx", body)
    with pytest.raises(ModelError, match=f"cannot be personalised: .*{why}"):
        FeatureModel(path)


def test_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a compiled bundle"):
        FeatureModel(tmp_path)
