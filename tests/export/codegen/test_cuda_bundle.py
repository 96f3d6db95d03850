"""A bundle with a variant for a GPU, from the compiler to events, on a libcuda.so.1 that computes:
what the processor's variant sees in the same film, from C and from Python; and the processor in its
place where the GPU fails."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("cv2", reason="the film is drawn with OpenCV")

from kit.compiled import GESTURES
from kit.fake_cuda import NOTHING, read_report
from kit.gpu_board import (
    FRAMES,
    HEIGHT,
    RATE_HZ,
    TOLERANCE,
    WIDTH,
    Board,
    board_of,
    board_with,
    in_python,
    streamed,
)

from shiftedge.__main__ import main
from shiftedge.export.compiler.compile import compile_model
from shiftedge.export.compiler.targets import TARGETS, backend_of, precisions_of, variants_of
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.capture import open_source
from shiftedge.runtime.errors import BundleError, CompileError, DeviceError, ModelError
from shiftedge.runtime.loading import load


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return board_with(GESTURES, tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's gestures as raw bgr24."""
    path = tmp_path_factory.mktemp("film") / "frames"
    seconds = FRAMES // RATE_HZ
    text = f"synthetic:gestures?seconds={seconds}&fps={RATE_HZ}&size={WIDTH}x{HEIGHT}"
    with open_source(text) as source, path.open("wb") as file:
        for frame in source:
            file.write(frame.image.tobytes())
    assert path.stat().st_size == FRAMES * WIDTH * HEIGHT * 3
    return path


def test_what_the_bundle_says(board: Board) -> None:
    manifest = Bundle.open(board.folder).manifest
    gpu, cpu = manifest.variants
    assert (gpu.name, gpu.device, gpu.features) == ("cuda-sm_75", "cuda", ("cuda_sm_75",))
    assert (cpu.name, cpu.device) == (board.processor, "cpu")
    facts = manifest.gpus["cuda-sm_75"]
    assert (facts["numerics"]["verified"], facts["numerics"]["code"]) == (
        True, "on the emulated GPU",
    )  # fmt: skip
    assert facts["memory"]["state_bytes"] == manifest.memory["state_bytes"]
    assert len(facts["kernels"]) > len(manifest.kernels)
    library = (board.folder / gpu.library).read_bytes()
    assert b".target sm_75" in library
    assert len(library) <= 1.2 * facts["memory"]["weights_bytes"] + (1 << 20)


def test_events_are_the_processors(board: Board, film: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    theirs, expected = streamed(board, film, "cpu", tmp_path / "cpu")
    ours, made = streamed(board, film, "cuda", tmp_path / "cuda", report=report)
    assert len(theirs) > 3
    times = [(each["time_s"], each["label"]) for each in theirs]
    assert [(each["time_s"], each["label"]) for each in ours] == times
    assert np.abs(made - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert made.tobytes() != expected.tobytes()  # they are not the processor's own
    done = read_report(report)
    assert (done["held"], done["first_fault"]) == (NOTHING, "")
    assert done["replays"] == FRAMES


def test_a_self_test_on_the_gpu(board: Board) -> None:
    line = [board.program(), "--self-test", "--frames", 1, "--model", board.folder]
    for device, variant in (("auto", "cuda-sm_75"), ("cpu", board.processor)):
        done = board.run([*line, "--device", device])
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["self_test"], said["variant"]) == ("passed", variant)
        assert done.stderr == ""


def test_from_python(board: Board) -> None:
    """With a snapshot on the way; the second stream is another of the same model."""
    theirs, said = in_python(board, "cpu")
    assert (theirs["device"], said) == ("cpu", "")
    expected = np.array(theirs["logits"])
    for device in ("cuda:0", "auto"):
        ours, said = in_python(board, device)
        assert (ours["device"], said) == ("cuda", "")
        made = np.array(ours["logits"])
        assert np.abs(made - expected).max() <= TOLERANCE * np.abs(expected).max()
        assert (made != expected).any()


def test_the_command_takes_a_device(board: Board, film: Path) -> None:
    size = f"{WIDTH}x{HEIGHT}"
    frames = 18 * WIDTH * HEIGHT * 3
    source = f"pipe:[size={size},format=bgr24,fps={RATE_HZ},live=no] "
    source += f"head -c {frames} {shlex.quote(str(film))}"
    seen = {}
    for device in ("cpu", "cuda"):
        words = ["run", board.folder, "--device", device, "--steps", "--source", source]
        done = board.run([sys.executable, "-m", "shiftedge", *words])
        assert done.returncode == 0, done.stderr
        rows = [json.loads(row) for row in done.stdout.splitlines()]
        seen[device] = [(row["time_s"], row["label"]) for row in rows]
    assert seen["cpu"] == seen["cuda"]
    assert len(seen["cpu"]) >= 18
    done = board.run([sys.executable, "-m", "shiftedge", "run", board.folder, "--device", "gpu"])
    assert (done.returncode, "There is no device 'gpu'; expected cpu" in done.stderr) == (1, True)


FAILS = {
    "no device": ({"devices": 0}, "no CUDA-capable device is detected"),
    "an old driver": ({"version": 10020}, "is of CUDA 10.2, and the model needs one of 11.0"),
    "an old device": ({"capability": 72}, "7.2, and the model was compiled for 7.5 or higher"),
    "no memory": ({"memory": 1 << 20}, "has no room for a model of"),
    "it cannot run it": ({"fail": "cuLaunchKernel:3:209"}, "The GPU failed in a first step: "),
    "no such code": ({"programs": "/nowhere"}, "its compiler says: ptxas application ptx input"),
}


@pytest.mark.parametrize("case", FAILS)
def test_the_processor_in_its_place(board: Board, case: str) -> None:
    """In one line that says why; who asks for the GPU gets that as an error."""
    settings, words = FAILS[case]
    made, said = in_python(board, "auto", 4, **settings)
    assert made["device"] == "cpu"
    assert said.startswith(f"shiftedge: on the processor, as {board.processor}: ")
    assert (words in said, said.count("\n")) == (True, 1)
    made, said = in_python(board, "cuda", **settings)
    assert (made, "DeviceError" in said, words in said) == ({}, True, True)
    line = [board.program(), "--self-test", "--frames", 1]
    done = board.run(line, **settings)
    assert json.loads(done.stdout)["variant"] == board.processor
    assert (words in done.stderr, done.stderr.count("\n")) == (True, 1)
    done = board.run([*line, "--device", "cuda"], **settings)
    assert (done.returncode, done.stdout, words in done.stderr) == (1, "", True)


def test_without_a_driver(board: Board) -> None:
    """As on this machine."""
    line = [board.program(board.processor), "--self-test", "--frames", 1]
    done = board.run(line, driver=False)
    assert (json.loads(done.stdout)["variant"], done.stderr) == (board.processor, "")
    done = board.run([*line, "--device", "cuda"], driver=False)
    assert (done.returncode, "There is no NVIDIA driver" in done.stderr) == (1, True)
    done = board.run([board.program(), "--self-test", "--frames", 1], driver=False)
    assert json.loads(done.stdout)["variant"] == board.processor
    assert "on the processor, as" in done.stderr
    done = board.run([*line, "--device", "cuda:x"], driver=False)
    assert (done.returncode, "--device cuda:x: expected cpu, cuda" in done.stderr) == (2, True)
    with pytest.raises(DeviceError, match="There is no NVIDIA driver"):
        load(board.folder, device="cuda")
    assert load(board.folder, device="cpu").device == "cpu"


@pytest.mark.parametrize("fail", ["cuGraphLaunch:4:719", "cuStreamSynchronize:6:700"])
def test_a_gpu_that_is_lost(board: Board, fail: str) -> None:
    """In the fourth step: the states of the third stay, and so does the sentence."""
    made, _ = in_python(board, "cuda", 5, fail=fail)
    whole, _ = in_python(board, "cpu", 3)
    expected = np.array(whole["logits"])
    assert np.abs(made["logits"] - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert len(made["said"]) == 2
    assert all("The GPU failed in a step: " in said for said in made["said"])


def test_a_device_that_is_none(board: Board, tiny_onnx: Path) -> None:
    for device in ("gpu", "cuda:", "cuda:-1", "", None, 0):
        with pytest.raises(ModelError, match=r"There is no device .*; expected cpu, cuda, c"):
            load(board.folder, device=device)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"providers=\['cuda'\]"):
        load(tiny_onnx, device="cuda")
    assert load(tiny_onnx, device="cpu").device == "cpu"


def test_a_bundle_without_code_for_gpus(
    tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compile_model(tiny_onnx, tmp_path / "b", verify=False)
    with pytest.raises(BundleError, match="has no code for a GPU of this machine"):
        load(tmp_path / "b", device="cuda")
    assert load(tmp_path / "b").device == "cpu"
    for words, said in (
        (["--device", "cuda"], "has no code for a GPU of this machine"),
        (["--device", "gpu"], "There is no device 'gpu'"),
        (["--report", tmp_path / "absent" / "r.json"], "its folder does not exist"),
    ):
        assert main(["selftest", *map(str, (tmp_path / "b", *words))]) == 1
        assert said in capsys.readouterr().err
    assert main(["selftest", str(tmp_path / "b"), "--steps", "1"]) == 1
    assert "no self-test was recorded: compile" in capsys.readouterr().out


def test_what_has_no_code_for_gpus_keeps_the_processors(
    tmp_path: Path,
    tiny_onnx: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A board's bundle is made all the same, and a line says what it lacks."""
    target = board_of("sm_75")

    def refuse(*_: object) -> None:
        raise CompileError("Conv (node 'x') has no code for GPUs yet.")

    monkeypatch.setattr("shiftedge.export.compiler.backends.cuda.backend.lower", refuse)
    made = compile_model(tiny_onnx, tmp_path / "b", target=target, verify=False, use_cache=False)
    assert [each.device for each in made.bundle.manifest.variants] == ["cpu"]
    assert "cuda-sm_75 is left out: Conv (node 'x') has no code" in capsys.readouterr().err
    assert not (tmp_path / "b" / "bin" / "cuda-sm_75").exists()


def test_explained_and_dumped(
    tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The GPU's launches behind the processor's kernels."""
    words = ["compile", tiny_onnx, "--target", "jetson-nano", "--no-verify", "--explain"]
    words += ["--output", tmp_path / "b", "--dump", tmp_path / "stages"]
    assert main([*map(str, words), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["explain"]["variant"] == "cortex-a57"
    (gpu,) = found["explain_others"]
    assert (gpu["variant"], gpu["seconds"]) == ("cuda-sm_53", None)
    assert all(row["threads"] >= 1 and row["units"] >= 1 for row in gpu["kernels"])
    assert found["builds"]["fp32"]["gpus"]["cuda-sm_53"]["numerics"]["verified"] is False
    assert ".target sm_53" in (tmp_path / "stages" / "cuda-sm_53" / "kernels.ptx").read_text()
    assert main(list(map(str, words))) == 0
    captured = capsys.readouterr()
    assert "\nfp32, cuda-sm_53\n" in captured.out
    assert "kernels for its GPU as cuda-sm_53, libmodel.so" in captured.err


def test_counted_by_the_benchmark(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kernel's instructions on the emulated GPU, beside what the cost model says of it."""
    words = ["bench", str(tiny_onnx), "--target", "jetson-nano", "--emulate", "--device", "cuda"]
    assert main([*words, "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["gpu"]["arch"] == "sm_53"
    assert [each["precision"] for each in report["variants"]] == ["fp32", "fp16"]
    for variant in report["variants"]:
        for row in variant["kernels"]:
            counted, said = row["counted"], sum(row["instructions"].values())
            assert counted["instructions"] == pytest.approx(said, rel=0.25, abs=1500)
            assert counted["bytes"] >= counted["bytes_asked"] > 0
            assert row["predicted_microseconds"] > 0
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "cuda-sm_53-fp16, Jetson Nano: " in text
    assert "Nothing was timed" in text
    assert main([*words[:2], "--target", "rpi4", *words[4:]]) == 1
    assert "rpi4 has no GPU" in capsys.readouterr().err


def test_every_board_with_a_gpu() -> None:
    """Its first variant in float32 is the GPU's, its last the processor's."""
    for name, arch in (
        ("jetson-nano", "sm_53"), ("jetson-tx2", "sm_62"), ("jetson-xavier-nx", "sm_72"),
        ("jetson-orin-nano", "sm_87"), *((f"cuda-sm_{n}", f"sm_{n}") for n in (75, 80, 86, 89, 90)),
    ):  # fmt: skip
        assert precisions_of(TARGETS[name])[-2:] == ("fp16", "fp32")
        (half,) = variants_of(TARGETS[name], "fp16")
        first, *_, last = variants_of(TARGETS[name], "fp32")
        assert (first.name, half.name) == (f"cuda-{arch}", f"cuda-{arch}-fp16")
        assert last.device == TARGETS[name].devices[-1]
        assert backend_of(first.device).executor == "cuda"
