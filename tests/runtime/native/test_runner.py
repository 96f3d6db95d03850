"""shiftedge-run as a program: the same lines as ``shiftedge run``, and every way to end."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.fake_bundle import write_bundle
from kit.fake_library import HERE, LIBRARY, RUNTIME, build, compilers
from kit.runner import SANITIZERS, Runners, run_frames

from shiftedge.__main__ import main
from shiftedge.runtime.capture.rawvideo import HALVED, RawVideo

pytestmark = pytest.mark.timeout(120, method="thread")

WIDE, TALL = 96, 64
"""Pixels of the test's camera."""


@pytest.fixture(scope="module")
def calm(calm_path: Path) -> Path:
    return calm_path


@pytest.fixture(scope="module")
def bundle(calm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "calm", calm)


@pytest.fixture(scope="module")
def runner(runners: Runners, bundle: Path) -> Path:
    return runners.of(bundle)


def film(count: int = 150, seed: int = 0, form: str = "bgr24") -> bytes:
    """Frames whose left and right grow bright in turns, with noise and, at times, a new scene."""
    generator = np.random.default_rng(seed)
    place = np.linspace(0, 3, WIDE)
    frames = []
    for i in range(count):
        if i % 50 == 0:
            scene = generator.integers(60, 190, (TALL // 4, WIDE // 4)).repeat(4, 0).repeat(4, 1)
        level = 60 * np.sin(i / 9 + place)
        grey = np.clip(scene + level + generator.normal(0, 5, (TALL, WIDE)), 0, 255)
        if form in ("yuv420p", "nv12"):
            colours = generator.integers(118, 138, TALL * WIDE // 2)
            frames.append(np.concatenate([grey.ravel(), colours]))
        else:
            channels = {"gray": 1, "bgrx": 4}.get(form, 3)
            tint = 1 - 0.1 * np.arange(channels)
            frames.append((grey[..., None] * tint).ravel())
    return np.stack(frames).astype(np.uint8).tobytes()


def python_lines(
    bundle: Path, options: str, frames: bytes, folder: Path, capfd: pytest.CaptureFixture[str]
) -> list[dict[str, object]]:
    path = folder / "frames"
    path.write_bytes(frames)
    source = f"pipe:[{options},live=no] cat {shlex.quote(str(path))}"
    assert main(["run", str(bundle), "--threads", "1", "--steps", "--source", source]) == 0
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


@pytest.mark.parametrize("form", ["bgr24", "rgb24", "bgrx", "gray", "yuv420p", "nv12"])
@pytest.mark.parametrize("rate", ["30", "12", "30000/1001", "5", "0.5"])
def test_the_same_lines_as_the_command(
    runner: Path,
    bundle: Path,
    form: str,
    rate: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("cv2", reason="the runner repeats OpenCV's numbers")
    frames = film(form=form)
    options = f"size={WIDE}x{TALL},format={form},fps={rate}"
    expected = python_lines(bundle, options, frames, tmp_path, capfd)
    line = [runner, "--model", bundle, "--size", f"{WIDE}x{TALL}", "--format", form]
    run = run_frames([*line, "--fps", rate, "--steps"], frames)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(text) for text in run.stdout.splitlines()]
    assert [(a["time_s"], a["label"], a.get("step")) for a in lines] == [
        (b["time_s"], b["label"], b.get("step")) for b in expected
    ]
    # A step's share is computed in float there, in double here.
    for ours, theirs in zip(lines, expected, strict=True):
        slack = 1.01e-4 if "step" in ours else 0
        assert abs(ours["confidence"] - float(str(theirs["confidence"]))) <= slack
    assert any("step" not in line for line in lines) or rate == "0.5"
    told = run.stderr.decode()
    assert f"150 frames, {sum('step' in line for line in lines)} steps" in told or rate != "12"


def arguments(runner: Path, model: Path) -> list[str | Path]:
    return [runner, "--model", model, "--size", f"{WIDE}x{TALL}", "--fps", "12"]


def test_logits_steps_and_input(runner: Path, calm: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.write_bytes(film(40))
    line = arguments(runner, calm)
    run = run_frames([*line, "--steps", "--input", frames, "--logits", tmp_path / "l"], b"")
    assert run.returncode == 0
    logits = np.fromfile(tmp_path / "l", np.float32).reshape(-1, 4)
    steps = [json.loads(text) for text in run.stdout.splitlines() if b"step" in text]
    assert len(steps) == len(logits) == 40
    labels = ["No gesture", "Left", "Right", "Stop"]
    assert [step["label"] for step in steps] == [labels[row.argmax()] for row in logits]


def test_it_finds_its_model(runner: Path, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundle, folder)
    program = folder / "bin" / "plain" / "shiftedge-run"
    program.parent.mkdir(parents=True)
    shutil.copy(runner, program)
    line = [program, "--size", f"{WIDE}x{TALL}", "--fps", "12"]
    assert run_frames(line, film(20)).returncode == 0
    shutil.rmtree(folder / "lib")
    run = run_frames(line, film(20))
    assert run.returncode == 1
    assert b"libmodel.so; use --model" in run.stderr


def test_a_cpu_that_lacks_a_feature(
    runner: Path, build_fake: Callable[..., Path], tmp_path: Path
) -> None:
    poor = build_fake('-DFAKE_CPU_FEATURES="nosuchfeature"')
    run = run_frames(arguments(runner, poor), film(2))
    assert run.returncode == 1
    assert b"nosuchfeature" in run.stderr


USAGE = ["--fps", "12"], ["--size", "0x4"], ["--size", "640"], ["--size", "16385x4"]
MORE_USAGE = (
    ["--size", "4x4", "--fps", "0"],
    ["--size", "4x4", "--fps", "30/0"],
    ["--size", "4x4", "--fps", "nan"],
    ["--size", "4x4", "--fps", "1001"],
    ["--size", "4x4", "--format", "mp4"],
    ["--size", "3x4", "--format", "nv12"],
    ["--size", "4x4", "--range", "full"],
    ["--size", "4x4", "--format", "nv12", "--range", "wide"],
    ["--size", "4x4", "--stride", "11"],
    ["--size", "4x4", "--stride", "0"],
    ["--size", "4x4", "--stride", "131073"],
    ["--size", "4x4", "--format", "nv12", "--stride", "7"],
    ["--self-test", "--stride", "64"],
    ["--size", "4x4", "--threads", "0"],
    ["--size", "4x4", "--threads", "99999999999"],
    ["--size", "4x4", "word"],
    ["--size", "4x4", "--strange"],
    ["--size"],
)


def test_more_threads_than_cores_are_lowered_to_them(runner: Path, bundle: Path) -> None:
    run = run_frames([*arguments(runner, bundle), "--threads", "100000000"], film(2))
    assert (run.returncode, run.stderr.count(b"2 frames")) == (0, 1)


@pytest.mark.parametrize("options", [*USAGE, *MORE_USAGE])
def test_wrong_usage(runner: Path, options: list[str | Path]) -> None:
    run = run_frames([runner, *options], b"")
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.startswith(b"shiftedge-run: ")


def test_help_and_version(runner: Path) -> None:
    run = run_frames([runner, "--help"], b"")
    assert run.returncode == 0
    assert all(len(line) <= 90 for line in run.stdout.splitlines())
    assert run_frames([runner, "--version"], b"").stdout == b"shiftedge-run 1.2.3\n"


@pytest.mark.parametrize("model", ["/nowhere", "/", "/etc/passwd"])
def test_no_model(runner: Path, model: str) -> None:
    run = run_frames(arguments(runner, Path(model)), film(1))
    assert run.returncode == 1
    assert run.stderr.count(b"\n") == 1


def test_no_input(runner: Path, calm: Path) -> None:
    for path, said in (("/nowhere", b"Cannot open"), ("/", b"Cannot read")):
        run = run_frames([*arguments(runner, calm), "--input", path], b"")
        assert run.returncode == 1
        assert said in run.stderr


def test_endings_of_the_input(runner: Path, calm: Path) -> None:
    line = arguments(runner, calm)
    empty, part = run_frames(line, b""), run_frames(line, b"abc")
    assert empty.returncode == part.returncode == 1
    assert b"without a frame" in empty.stderr
    assert b"inside a frame: 3 bytes in all are no whole number of frames" in part.stderr
    cut = run_frames(line, film(20)[:-1])
    assert cut.returncode == 1
    assert b"inside a frame: 368639 bytes in all are no whole number of frames" in cut.stderr
    assert b"19 frames" in cut.stderr


def start(line: list[str | Path], **more: object) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words = [str(word) for word in line]
    return subprocess.Popen(words, **{**pipes, **more})  # type: ignore[call-overload,no-any-return]


def test_short_reads_and_lines_at_once(runner: Path, calm: Path) -> None:
    """Each line comes as soon as its frame is whole, whatever pieces that came in."""
    process = start([*arguments(runner, calm), "--steps"])
    assert process.stdin is not None
    assert process.stdout is not None
    frames, size = film(3), 3 * WIDE * TALL
    for i in range(3):
        frame = frames[i * size : (i + 1) * size]
        for place in (0, 1, 777, 18000):
            end = {0: 1, 1: 777, 777: 18000, 18000: size}[place]
            process.stdin.write(frame[place:end])
            process.stdin.flush()
            process.send_signal(signal.SIGCONT)  # EINTR, were a call to sleep
        assert json.loads(process.stdout.readline())["step"] is True
    process.stdin.close()
    assert process.wait() == 0
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it(runner: Path, calm: Path, number: signal.Signals) -> None:
    process = start([*arguments(runner, calm), "--steps"])
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(film(1))
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(number)
    process.wait(timeout=20)  # its input is still open
    out, err = process.communicate()
    assert process.returncode == (0 if number == signal.SIGINT else 128 + number)
    assert out == b""
    assert b"1 frames, 1 steps" in err


def test_a_signal_though_there_is_always_input(runner: Path, calm: Path) -> None:
    process = start([*arguments(runner, calm), "--input", "/dev/zero", "--steps"])
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    lines = process.stdout.read().splitlines()  # not communicate: it forgets what is buffered
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert all(json.loads(line) for line in lines)


def test_a_signal_before_anybody_writes(runner: Path, calm: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = start([*arguments(runner, calm), "--input", tmp_path / "fifo"])
    time.sleep(0.2)  # whether it waits by then or not
    process.terminate()
    assert process.wait(timeout=20) == 143
    process.communicate()


def test_a_signal_while_nobody_reads(runner: Path, calm: Path) -> None:
    process = start([*arguments(runner, calm), "--steps"])
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    frames = film(50)
    stuck_s = time.monotonic()
    while time.monotonic() < stuck_s + 0.5:  # until its output, and so its input, is full
        with contextlib.suppress(BlockingIOError):
            os.write(process.stdin.fileno(), frames)
            stuck_s = time.monotonic()
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    out = process.communicate()[0]
    assert all(json.loads(line) for line in out.splitlines())


def test_the_reader_goes_away(runner: Path, calm: Path) -> None:
    process = start([*arguments(runner, calm), "--steps"])
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    err = process.communicate(film(3))[1]
    assert process.returncode == 0
    assert err.count(b"\n") == 1  # the summary


def test_a_full_disk(runner: Path, calm: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "wb") as full:
        process = start([*arguments(runner, calm), "--steps"], stdout=full)
        err = process.communicate(film(3))[1]
    assert process.returncode == 1
    assert b"Cannot write to standard output: No space" in err
    run = run_frames([*arguments(runner, calm), "--logits", "/dev/full"], film(3))
    assert run.returncode == 1
    assert b"Cannot write /dev/full" in run.stderr


def test_times_of_arrival(runner: Path, calm: Path) -> None:
    run = run_frames([runner, "--model", calm, "--size", f"{WIDE}x{TALL}", "--steps"], film(3))
    assert run.returncode == 0
    assert json.loads(run.stdout.splitlines()[0])["time_s"] == 0.0


def sanitized(tmp_path: Path) -> tuple[list[str], Path]:
    command = compilers().get("gcc") or compilers().get("clang")
    if command is None:
        pytest.skip("no compiler with sanitizers: install gcc or clang")
    try:
        return command, Runners(command, tmp_path, *SANITIZERS).bare
    except AssertionError as error:
        pytest.skip(f"the compiler has no sanitizers: {str(error)[:200]}")


def test_sanitized_streams(tmp_path: Path) -> None:
    """Every format and scale, input cut anywhere; the library is instrumented like the runner."""
    command, program = sanitized(tmp_path)
    sources = [*RUNTIME, HERE / "calm_model.c"]
    calm = build(command, tmp_path / "calm.so", sources, *LIBRARY, *SANITIZERS)

    def check(line: list[str | Path], data: bytes) -> subprocess.CompletedProcess[bytes]:
        run = run_frames(line, data)
        assert run.returncode in (0, 1, 2), run.stderr.decode()
        assert b"Sanitizer" not in run.stderr
        assert b"runtime error" not in run.stderr
        return run

    for form in ("bgr24", "rgb24", "rgbx", "gray", "yuv420p", "nv12"):
        for size in ("96x64", "32x24", "30x20", "200x30", "2x2", "640x480"):
            width, height = map(int, size.split("x"))
            data = RawVideo(width, height, form).frame_bytes
            line = [program, "--model", calm, "--size", size, "--format", form, "--steps"]
            noise = np.random.default_rng(1).integers(0, 256, 2 * data + 7, np.uint8).tobytes()
            assert check([*line, "--fps", "8"], noise[:-7]).returncode == 0
            more = ["--range", "full"] if form in HALVED else []
            if size in ("30x20", "2x2"):
                stride = str(RawVideo(width, height, form).row_bytes + 2)
                check([*line, *more, "--fps", "8", "--stride", stride], noise)
    frames = film(3)
    for end in (0, 1, 18431, 18432, 18433, 40000):
        check(arguments(program, calm), frames[:end])


def peak_kb(process: subprocess.Popen[bytes]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_memory_does_not_grow(runner: Path, calm: Path) -> None:
    """The peak after 2,000 frames is that of the first 100."""
    process = start(arguments(runner, calm))
    assert process.stdin is not None
    frames = film(100)
    process.stdin.write(frames)  # a pipe holds fewer than four of them
    process.stdin.flush()
    first = peak_kb(process)
    for _ in range(19):
        process.stdin.write(frames)
    process.stdin.flush()
    assert peak_kb(process) - first < 200
    process.communicate()
    assert process.returncode == 0
