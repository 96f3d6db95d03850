"""A bundle with a variant for a GPU, from the compiler to events, on a libcuda.so.1 that computes:
what the processor's variant sees in the same film, from C and from Python; and the processor in its
place where the GPU fails."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("cv2", reason="the film is drawn with OpenCV")

from kit.compiled import GESTURES, environment
from kit.fake_cuda import NOTHING, FakeCuda, read_report
from kit.fake_library import compilers

from shiftedge.__main__ import main
from shiftedge.export.compiler.backends.base import Target
from shiftedge.export.compiler.backends.cuda.devices import GPUS
from shiftedge.export.compiler.compile import compile_model, prepare
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.kernel_ir.interpret import run
from shiftedge.export.compiler.sources import read_sources
from shiftedge.export.compiler.targets import (
    TARGETS,
    backend_of,
    find_target,
    precisions_of,
    variants_of,
)
from shiftedge.export.compiler.verify.proof import proof_of
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.capture import open_source
from shiftedge.runtime.errors import (
    BundleError,
    CompileError,
    DeviceError,
    ModelError,
    VerificationError,
)
from shiftedge.runtime.model import load

WIDTH, HEIGHT, RATE_HZ, FRAMES = 160, 120, 12, 300
TOLERANCE = 1e-4
"""Of logits on the GPU and the processor, relative to the largest."""


@dataclass
class Board:
    """A machine like this one with a GPU, a bundle for it, and its driver."""

    folder: Path
    cuda: FakeCuda
    processor: str
    """The variant for it."""

    def program(self, variant: str = "cuda-sm_75") -> Path:
        return self.folder / "bin" / variant / "shiftedge-run"

    def environment(self, **settings: Any) -> dict[str, str]:
        here = environment()
        found = self.cuda.environment(**settings)
        return {**found, "PYTHONPATH": here["PYTHONPATH"]}

    def run(
        self, line: list[object], *, driver: bool = True, **settings: Any
    ) -> subprocess.CompletedProcess[str]:
        where = self.environment(**settings) if driver else environment()
        words = list(map(str, line))
        return subprocess.run(
            words, env=where, capture_output=True, text=True, timeout=900, check=False
        )


def board_of(gpu: str) -> Target:
    """This machine with a GPU."""
    host = find_target("host")
    return replace(host, name="board", devices=(GPUS[gpu], *host.devices))


def board_with(model: Path, folder: Path, precision: str = "fp32") -> Board:
    found = compilers()
    command = found.get("gcc") or found["zig"]
    target = board_of("sm_75")
    compile_model(model, folder / "bundle", target=target, precision=precision)
    cuda = FakeCuda.built(command, folder / "cuda")
    for source in read_sources([model], precision):
        variant, *_ = variants_of(target, source.precision)
        step, _ = prepare(read_onnx(source.data, source.spec), source.spec, variant)
        (text,) = backend_of(variant.device).text(step.kernels, variant).values()
        cuda.knows(text, step.kernels)
    return Board(folder / "bundle", cuda, variants_of(target, "fp32")[-1].name)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return board_with(GESTURES, tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Board:
    """With half precision on the GPU too."""
    return board_with(tiny_onnx, tmp_path_factory.mktemp("halves"), "fp16,fp32")


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


def streamed(
    board: Board, film: Path, device: str, logits: Path, **settings: Any
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Events and logits of the runner."""
    line = [board.program(), "--size", f"{WIDTH}x{HEIGHT}", "--fps", RATE_HZ, "--device", device]
    done = board.run([*line, "--input", film, "--logits", logits], **settings)
    assert done.returncode == 0, done.stderr
    numbers = np.fromfile(logits, np.float32).reshape(FRAMES, -1)
    return [json.loads(row) for row in done.stdout.splitlines()], numbers


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


IN_PYTHON = """
import json, sys
import numpy as np
from shiftedge.export.agreement import moving_images
from shiftedge.runtime.errors import DeviceError, ModelError
from shiftedge.runtime.model import load
folder, device, frames, precision = *sys.argv[1:3], int(sys.argv[3]), sys.argv[4] or None
try:
    model = load(folder, device=device, precision=precision)
except DeviceError as error:
    sys.exit(f"DeviceError: {error}")
stream, kept, said, rows = model.stream(), b"", [], []
images = moving_images(model.spec, frames)
for number, image in enumerate(images):
    before = stream.snapshot()
    try:
        rows.append(stream.step(image).tolist())
    except DeviceError as error:
        said.append(str(error))
        assert stream.snapshot() == before
    kept = stream.snapshot() if number == 2 else kept
again = model.stream()
if not said and frames > 3:
    again.restore(kept)
    assert [again.step(image).tolist() for image in images[3:]] == rows[3:]
    assert again.snapshot() == stream.snapshot()
if not said and frames > 3:
    group = model.stream_group(2)
    for number in range(2):
        made = group.step([images[number], images[number]])
        assert [row.tolist() for row in made] == [rows[number]] * 2
    assert group.streams[0].snapshot() == group.streams[1].snapshot()
if not said and frames > 3 and model.spec.precision == "fp32":
    # A state of one device is none of the other's.
    other = load(folder, device="cpu").engine.open_session()
    try:
        other.load(model.engine.open_session().save())  # an empty one is anybody's
        other.step(images[0])
        other.load(stream._session.save())
        other.step(images[0])
        assert model.device == "cpu"
    except ModelError as error:
        assert model.device == "cuda" and "is of another model" in str(error), error
found = {"device": model.device, "precision": model.spec.precision}
print(json.dumps({**found, "logits": rows, "said": said}))
"""


def in_python(
    board: Board, device: str, frames: int = 5, precision: str = "", **settings: Any
) -> tuple[dict[str, Any], str]:
    """What a program saw, and what it said for people."""
    line = [sys.executable, "-c", IN_PYTHON, board.folder, device, frames, precision]
    done = board.run(line, **settings)
    return (json.loads(done.stdout) if done.returncode == 0 else {}), done.stderr


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
    line = [halves.program("cuda-sm_75-fp16"), "--self-test", "--frames", 1]
    done = halves.run(line)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["self_test"], said["variant"]) == ("passed", "cuda-sm_75-fp16")


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
