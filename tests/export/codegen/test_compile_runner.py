"""The runner over a compiled model: the events that ``shiftedge run`` sees in the same frames."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("cv2", reason="the film is drawn with OpenCV")

from compile_kit import GESTURES, ROOT, environment

from shiftedge.export.compiler.compile import compile_cached
from shiftedge.runtime.capture import open_source

NATIVE = ROOT / "runtime" / "native"
FLAGS = "-std=c11 -O2 -ffp-contract=off -fno-sanitize=all -pthread -Wl,--no-as-needed -ldl -lm"
WIDTH, HEIGHT, RATE_HZ = 320, 240, 30


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runner") / "shiftedge-run"
    sources = sorted((NATIVE / "runner").glob("*.c"))
    line = [sys.executable, "-m", "ziglang", "cc", *FLAGS.split(), f"-I{NATIVE}", *sources]
    subprocess.run([*map(str, line), "-o", str(output)], check=True, env=environment())
    return output


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 seconds of a person's gestures as raw bgr24."""
    path = tmp_path_factory.mktemp("film") / "frames"
    text = f"synthetic:gestures?seconds=20&fps={RATE_HZ}&size={WIDTH}x{HEIGHT}"
    with open_source(text) as source, path.open("wb") as file:
        for frame in source:
            file.write(frame.image.tobytes())
    return path


@pytest.mark.parametrize("threads", [1, 2])
def test_events_are_those_of_the_command(runner: Path, film: Path, threads: int) -> None:
    bundle = compile_cached(GESTURES)
    size = f"{WIDTH}x{HEIGHT}"
    source = f"pipe:[size={size},format=bgr24,fps={RATE_HZ},live=no] cat {shlex.quote(str(film))}"
    command = [sys.executable, "-m", "shiftedge", "run", str(bundle), "--engine", "native"]
    python = subprocess.run(
        [*command, "--threads", str(threads), "--source", source],
        capture_output=True,
        check=True,
        env=environment(),
    )
    line = [runner, "--model", bundle, "--size", size, "--fps", RATE_HZ, "--threads", threads]
    ours = subprocess.run([*map(str, line), "--input", str(film)], capture_output=True, check=True)
    assert ours.stdout == python.stdout
    events = [json.loads(text) for text in ours.stdout.splitlines()]
    assert len({event["label"] for event in events}) > 1


def test_memory(runner: Path, film: Path) -> None:
    """30 MB at most, after 600 frames. Not of ru_maxrss, which for a child counts what its parent
    had before the exec too."""
    line = [runner, "--model", compile_cached(GESTURES), "--size", f"{WIDTH}x{HEIGHT}"]
    process = subprocess.Popen(
        [str(word) for word in [*line, "--fps", RATE_HZ]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(film.read_bytes())
    process.stdin.flush()  # a pipe holds fewer than five of them
    status = Path(f"/proc/{process.pid}/status").read_text()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out
    assert int(status.split("VmHWM:")[1].split()[0]) <= 30_000
