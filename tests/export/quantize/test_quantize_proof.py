"""Drift, ranking, and layers that go back to float."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from kit.quantized_files import clips, painful, quantized_to, small, spec, write

import shiftedge
from shiftedge.export.quantize import QuantizeSettings, quantize
from shiftedge.export.quantize.accuracy import LayerError, keep_until
from shiftedge.export.quantize.drift import BLOCKS, stream_both, student, trend
from shiftedge.export.quantize.source import proof_images
from shiftedge.export.stepper import Stepper
from shiftedge.runtime.capture.synthetic.moving import MovingScene
from shiftedge.runtime.errors import NumericsError, VerificationError
from shiftedge.runtime.spec import ModelSpec

FloatFile = Callable[[str], tuple[bytes, ModelSpec]]
QUICK = QuantizeSettings(lengths=(40, 80), max_accuracy_drop=100.0)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("net") / "small.onnx", small, spec())


def test_the_error_is_flat_over_3000_frames(net: Path) -> None:
    found = quantize(net, clips(), QuantizeSettings(max_accuracy_drop=100.0))
    short, long = found.report.drift
    assert (short.frames, long.frames) == (300, 3000)
    assert [row.tensor for row in long.trends] == ["logits", "state_0", "state_1"]
    assert long.flat
    assert found.report.flat
    for row, early in zip(long.trends, short.trends, strict=True):
        assert 0 < row.error < 0.05 * row.scale
        assert row.error == pytest.approx(early.error, rel=0.25)
        assert row.low < row.slope < row.high
    assert long.agreement > 0.9


def test_the_proof_is_of_what_was_calibrated_on() -> None:
    """A user's folder may have any name; a rendered source gives another film of its kind."""
    own = dataclasses.replace(clips(2, 3), source="synthetic_hands")
    shown = [image.tobytes() for clip in own.clips for image in clip]
    found = [image.tobytes() for image in proof_images(own, spec(), 8)]
    assert found == [*shown, *shown[:2]]
    rendered = dataclasses.replace(own, film="moving")
    assert not {image.tobytes() for image in proof_images(rendered, spec(), 3)} & set(shown)


class Drifting(Stepper):
    """A stepper whose logits wander off."""

    count = 0

    def step(self, image: Any) -> Any:
        self.count += 1
        return super().step(image) + 1e-3 * self.count * np.array([1, -1, 1, -1], np.float32)


def test_an_error_that_grows_is_seen(net: Path) -> None:
    reference = Stepper(net.read_bytes(), spec())
    scene = MovingScene(3, height=24, width=32)
    (drift,) = stream_both(
        reference, Drifting(net.read_bytes(), spec()), map(scene.frame_at, range(200)), 200,
        lengths=(200,),
    )  # fmt: skip
    logits, *states = drift.trends
    assert not logits.flat
    assert logits.slope == pytest.approx(1.0, rel=1e-3)  # 1e-3 a frame
    assert all(row.flat for row in states)
    assert not drift.flat


class Broken(Stepper):
    """A stepper that overflows in the end."""

    count = 0

    def step(self, image: Any) -> Any:
        self.count += 1
        return super().step(image) * np.float32(np.nan if self.count > 5 else 1.0)


def test_nan_in_the_proof_is_named(net: Path) -> None:
    scene = MovingScene(3, height=24, width=32)
    with pytest.raises(NumericsError, match="logits is not finite at frame 5"):
        stream_both(
            Stepper(net.read_bytes(), spec()), Broken(net.read_bytes(), spec()),
            map(scene.frame_at, range(40)), 40, lengths=(40,),
        )  # fmt: skip


def test_the_interval_holds_the_slope_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(400):
        errors = 1.0 + rng.normal(0, 0.1, 50 * BLOCKS)
        row = trend("t", errors, scale=1.0, worst=1.0)
        missed += not row.low <= 0.0 <= row.high
    assert 5 <= missed <= 40  # 5% of 400 is 20


@pytest.mark.parametrize(
    ("share", "freedom", "value"), [(0.975, 18, 2.1009), (0.995, 18, 2.8784), (0.975, 10, 2.2281)]
)
def test_students_quantiles_are_those_of_the_tables(
    share: float, freedom: int, value: float
) -> None:
    assert student(share, freedom) == pytest.approx(value, rel=5e-3)


def test_the_layer_that_hurts_goes_back_to_float(tmp_path: Path) -> None:
    path = write(tmp_path / "painful.onnx", painful, spec())
    output = tmp_path / "int8.onnx"
    settings = QuantizeSettings(lengths=(100, 200), max_accuracy_drop=5.0)
    report = quantized_to(path, clips(), output, settings)
    assert report.ranking[0].layer == "fine"
    assert report.ranking[0].error > 5 * report.ranking[1].error
    assert report.accuracy["quantised"] < 0.95 <= report.accuracy["after"]
    assert [entry.layer for entry in report.kept] == ["fine"]
    assert "number 1 of 10 layers" in report.kept[0].why
    assert "top-1 agreement was" in report.kept[0].why
    assert report.layers == len(report.ranking) - 1
    import onnx

    model = onnx.load(str(output))
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert constants["fine.weight"] == onnx.TensorProto.FLOAT
    assert "large.weight" not in constants
    # the same with more allowed leaves it in int8
    loose = QuantizeSettings(lengths=(40, 80), max_accuracy_drop=100.0)
    assert not quantize(path, clips(), loose).report.kept


def test_keeping_stops_at_the_bound_and_refuses_in_the_end() -> None:
    ranking = [
        LayerError(name, error) for name, error in zip("abcd", (4.0, 3.0, 2.0, 1.0), strict=True)
    ]
    asked: list[tuple[str, ...]] = []

    def accuracy(kept: Any) -> float:
        asked.append(tuple(kept))
        return 0.8 + 0.05 * len(kept)

    kept = keep_until(ranking, accuracy, before=0.9, after=0.8, most_drop=0.5, what="clip accuracy")
    assert [entry.layer for entry in kept] == ["a", "b"]
    assert asked == [("a",), ("a", "b")]
    with pytest.raises(
        VerificationError, match=r"all layers but one in float.*Nothing was written"
    ):
        keep_until(
            ranking, lambda kept: 0.5, before=0.9, after=0.5, most_drop=0.5, what="clip accuracy"
        )


def test_the_report_is_plain_json_and_a_table(net: Path, tmp_path: Path) -> None:
    import json

    report = quantized_to(net, clips(), tmp_path / "int8.onnx", QUICK)
    document = json.loads(json.dumps(report.to_dict()))
    assert document["schema"] == 1
    assert document["layers"] == 9
    assert document["flat"] is True
    assert document["events"] is None
    assert document["accuracy"]["what"] == "top-1 agreement"
    assert document["drift"][1]["trends"][0]["tensor"] == "logits"
    assert set(document["tensors"]["frame"]) == {
        "scale", "zero_point", "method", "rms_error", "low", "high",
    }  # fmt: skip
    text = report.table()
    for word in (
        "calibrated",
        "top-1 agreement",
        "80 frames, one stream",
        "slope",
        "block0.expand",
    ):
        assert word in text
    assert document["bytes_after"] == os.path.getsize(tmp_path / "int8.onnx")


def test_a_network_as_a_user_might_bring_it(tmp_path: Path, float_file: FloatFile) -> None:
    """Squeeze and excite, hard swish, SiLU, pooling, groups, a branch."""
    pytest.importorskip("torch", reason="the export extra (torch) is not installed")
    pytest.importorskip("onnxscript", reason="the export extra (onnxscript) is not installed")
    import onnx

    path = tmp_path / "own.onnx"
    path.write_bytes(float_file("own")[0])
    found = quantize(path, clips(height=64, width=32), QUICK)
    # squeeze and excite see a mean, one pixel, and stay as they were
    assert {row.layer for row in found.report.ranking} == {
        "net.stem.0", "net.a", "net.b.net", "net.c.net",
    }  # fmt: skip
    assert found.report.float_states == ()
    for row in found.report.drift[-1].trends:
        assert row.error < 0.05 * row.scale, row
    graph = onnx.load_model_from_string(found.model).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    quantized = {makers[n.input[0]] for n in graph.node if n.op_type == "QuantizeLinear" if
                 n.input[0] in makers}  # fmt: skip
    assert quantized == {"HardSwish", "MaxPool", "Relu", "Mul", "Conv"}


def test_a_trained_networks_states_stream_as_in_torch(
    tmp_path: Path, float_file: FloatFile
) -> None:
    """MobileNetV2 with batch norm statistics as training leaves them, through the whole command."""
    pytest.importorskip("torch", reason="the export extra (torch) is not installed")
    pytest.importorskip("onnxscript", reason="the export extra (onnxscript) is not installed")
    path = tmp_path / "mobile.onnx"
    path.write_bytes(float_file("mobilenet_v2")[0])
    large = clips(height=64, width=32)
    report = quantized_to(path, large, tmp_path / "int8.onnx", QUICK)
    assert report.layers == 52
    assert report.float_states == ()
    logits, *states = report.drift[-1].trends
    assert logits.error < 0.3 * logits.scale
    assert all(row.error < 0.3 * row.scale for row in states)
    loaded = shiftedge.load(tmp_path / "int8.onnx")
    assert {state.dtype for state in loaded.spec.states} == {"uint8"}
    assert np.isfinite(loaded.stream().step(large.clips[0][0])).all()
