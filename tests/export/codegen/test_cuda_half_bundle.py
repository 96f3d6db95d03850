"""A bundle with half precision for a GPU, on the same driver."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("cv2", reason="the film is drawn with OpenCV")

from kit.gpu_board import TOLERANCE, Board, board_of, board_with, in_python

from shiftedge.__main__ import main
from shiftedge.export.compiler.compile import compile_model, prepare
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.kernel_ir.interpret import run
from shiftedge.export.compiler.sources import read_sources
from shiftedge.export.compiler.targets import variants_of
from shiftedge.export.compiler.verify.proof import proof_of
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import BundleError, CompileError, VerificationError
from shiftedge.runtime.loading import load


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Board:
    """With half precision on the GPU too."""
    return board_with(tiny_onnx, tmp_path_factory.mktemp("halves"), "fp16,fp32")


def test_what_a_bundle_with_halves_says(halves: Board, capsys: pytest.CaptureFixture[str]) -> None:
    """Half precision first, on the GPU alone, with what it loses."""
    manifest = Bundle.open(halves.folder).manifest
    names = ["cuda-sm_75-fp16", "cuda-sm_75", halves.processor]
    assert [each.name for each in manifest.variants] == names
    assert [(each.precision, each.device) for each in manifest.variants] == [
        ("fp16", "cuda"), ("fp32", "cuda"), ("fp32", "cpu"),
    ]  # fmt: skip
    assert list(manifest.builds) == ["fp16", "fp32"]
    assert {state.dtype for state in manifest.spec.states} == {"float16"}
    assert manifest.gpus["cuda-sm_75-fp16"]["kernels"] == list(manifest.kernels)
    report = manifest.numerics
    assert (report["verified"], report["kernels"]) == (True, "bit for bit")
    assert (report["code"], report["frames"]) == ("on the emulated GPU", 3)
    (logits,) = (row for row in report["comparisons"] if row["tensor"] == "logits")
    assert 0 < logits["worst"] < 1e-2 * logits["scale"]
    assert main(["inspect", str(halves.folder)]) == 0
    text = capsys.readouterr().out
    assert "\nprecisions       fp16, fp32\n" in text
    assert "  cuda-sm_75-fp16  fp16, " in text
    assert "float16\n" in text


def test_halves_from_python(halves: Board) -> None:
    """The quickest first; float32 for who asks, and on the processor, whose answers they have."""
    theirs, _ = in_python(halves, "cpu")
    assert (theirs["device"], theirs["precision"]) == ("cpu", "fp32")
    expected = np.array(theirs["logits"])
    far = {}
    for precision, got in (("", "fp16"), ("fp16", "fp16"), ("fp32", "fp32")):
        ours, said = in_python(halves, "cuda", precision=precision)
        assert (ours["device"], ours["precision"], said) == ("cuda", got, "")
        far[got] = np.abs(np.array(ours["logits"]) - expected).max() / np.abs(expected).max()
    assert far["fp32"] < TOLERANCE < far["fp16"] < 1e-2
    ours, said = in_python(halves, "auto", 4, devices=0)  # no GPU: float32
    assert (ours["device"], ours["precision"]) == ("cpu", "fp32")
    assert "on the processor, as" in said
    ours, said = in_python(halves, "auto", 4, precision="fp16", devices=0)
    assert "DeviceError: " in said
    with pytest.raises(BundleError, match=r"In fp16 .* has code for GPUs alone: leave"):
        load(halves.folder, device="cpu", precision="fp16")


def test_a_self_test_of_halves(halves: Board) -> None:
    """Each program of its own variant; where the GPU is none, the processor's."""
    for name in ("cuda-sm_75-fp16", "cuda-sm_75"):
        line = [halves.program(name), "--self-test", "--frames", 1]
        for device, variant in (("auto", name), ("cuda", name), ("cpu", halves.processor)):
            done = halves.run([*line, "--device", device])
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)
            assert (said["self_test"], said["variant"]) == ("passed", variant)
        done = halves.run(line, devices=0)
        assert json.loads(done.stdout)["variant"] == halves.processor
        assert "on the processor, as" in done.stderr


def test_the_report_of_a_self_test(halves: Board, tmp_path: Path) -> None:
    """What is to be run on a board: every variant for its GPU, each kernel beside its prediction;
    the times of the driver of the tests are none."""
    file = tmp_path / "report.json"
    line = [sys.executable, "-m", "shiftedge", "selftest", halves.folder, "--steps", 1]
    done = halves.run([*line, "--device", "cuda", "--report", file])
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["passed"]
    half, whole = report["variants"]
    assert [half["name"], whole["name"]] == ["cuda-sm_75-fp16", "cuda-sm_75"]
    manifest = Bundle.open(halves.folder).manifest
    for row in (half, whole):
        assert (row["passed"], row["frames"], row["same_argmax"]) == (True, 16, True)
        assert 0 < row["relative_error"] <= row["accepted"]
        rows = manifest.gpus.get(row["name"], manifest.others["fp32"].gpus.get(row["name"]))
        expected = [each["predicted_microseconds"] for each in rows["kernels"]]
        assert [each["predicted_microseconds"] for each in row["kernels"]] == expected
        assert row["predicted_microseconds"] == pytest.approx(sum(expected), abs=0.01)
        assert 0 < row["step_ms"]["p50"] <= row["step_ms"]["p99"]
        assert f"{row['name']}: passed, 16 frames within " in done.stdout
    assert whole["relative_error"] < TOLERANCE < half["relative_error"]
    done = halves.run([*line, "--json"], fail="cuLaunchKernel:3:719")  # the processor's too
    assert done.returncode == 1
    *failed, processor = json.loads(done.stdout)["variants"]
    assert (processor["name"], processor["passed"]) == (halves.processor, True)
    assert not failed[0]["passed"]
    assert "The GPU failed in a first step" in failed[0]["failed"]


def test_rows_of_the_benchmark(halves: Board, tiny_onnx: Path, tmp_path: Path) -> None:
    """Ours in both precisions, held against ONNX Runtime and timed."""
    pytest.importorskip("scipy", reason="the bench extra is not installed")
    file = tmp_path / "report.json"
    line = [sys.executable, "-m", "shiftedge", "bench", tiny_onnx, "--bundle", halves.folder]
    line += ["--device", "cuda", "--engines", "native-cuda,native-cuda-fp16"]
    done = halves.run([*line, "--frames", 2, "--starts", 1, "--json", file])
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["results"]
    assert [(row["engine"], row["precision"], row["status"]) for row in rows] == [
        ("native-cuda", "fp32", "ok"), ("native-cuda-fp16", "fp16", "ok"),
    ]  # fmt: skip


def test_halves_are_refused_to_processors(tiny_onnx: Path, tmp_path: Path) -> None:
    for target, precision, words in (
        ("rpi4", "fp16", "fp16 code is for GPUs, and rpi4"),
        ("host", "fp16,fp32", "fp16 code is for GPUs, and host"),
        ("jetson-nano", "fp16", "ask for fp32 too, with --precision fp16,fp32"),
    ):
        with pytest.raises(CompileError, match=words):
            compile_model(tiny_onnx, tmp_path / "b", target=target, precision=precision)
        assert not (tmp_path / "b").exists()


def test_what_halves_must_not_lose(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is further off than rounding, and code that is not its schedule, are refused."""
    (source,) = read_sources([tiny_onnx], "fp16")
    variant, *_ = variants_of(board_of("sm_75"), "fp16")
    graph = read_onnx(source.data, source.spec)
    step, _ = prepare(graph, source.spec, variant)
    proof = proof_of(source, graph, step)
    assert proof.emulated(step, variant)["kernels"] == "bit for bit"
    monkeypatch.setattr("shiftedge.export.compiler.verify.proof.HALF", 1e-6)
    with pytest.raises(VerificationError, match="differs between ONNX Runtime / emulated"):
        proof.emulated(step, variant)
    name = next(key for key, each in step.constants.items() if each.dtype == np.float16)
    wrong = replace(step, constants={**step.constants, name: step.constants[name] * 2})
    with pytest.raises(VerificationError, match="differs between the graph / its kernels"):
        proof_of(source, graph, wrong)

    def other(*given: Any, **_: Any) -> None:
        run(*given)
        given[1]["out"][0] += 1

    monkeypatch.setattr("shiftedge.export.compiler.verify.gpu.step.interpret.run", other)
    with pytest.raises(VerificationError, match="makes other numbers than its schedule"):
        proof.emulated(step, variant)
