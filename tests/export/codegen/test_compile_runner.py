"""The runner over a compiled model: the events that ``shiftedge run`` sees in the same frames."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("cv2", reason="the film is drawn with OpenCV")

from kit.compiled import GESTURES, environment

from shiftedge.export.agreement import normalised, onnx_outputs
from shiftedge.export.compiler.compile import compile_cached, compile_model
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.verify import proof
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.capture import open_source
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.selftest import CLIP, self_test_clip

WIDTH, HEIGHT, RATE_HZ = 320, 240, 30


@pytest.fixture(scope="module")
def runner() -> Path:
    """The bundle's own."""
    bundle = Bundle.open(compile_cached(GESTURES))
    return bundle.folder / "bin" / bundle.variant().name / "shiftedge-run"


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


def test_the_self_test_of_a_bundle() -> None:
    """The manifest has ONNX Runtime's logits to the bit; the bundle's own runner computes them."""
    bundle = Bundle.open(compile_cached(GESTURES))
    data, spec = read_model(GESTURES)
    test = bundle.manifest.selftest
    assert test is not None
    assert (test.clip, test.tolerance, len(test.logits)) == (CLIP, 1e-4, 16)
    clip = normalised(self_test_clip(spec.height, spec.width), spec)
    expected = np.stack([outputs["logits"][0] for outputs in onnx_outputs(data, spec, clip)])
    assert np.array_equal(np.array(test.logits, np.float32), expected)
    program = bundle.folder / "bin" / bundle.variant().name / "shiftedge-run"
    done = subprocess.run([program, "--self-test"], capture_output=True, text=True, check=True)
    line = json.loads(done.stdout)
    assert (line["self_test"], line["variant"]) == ("passed", bundle.variant().name)
    assert line["worst_relative_error"] <= 1e-5


def test_without_verification_there_is_none(tiny_onnx: Path, tmp_path: Path) -> None:
    compiled = compile_model(tiny_onnx, tmp_path / "b", verify=False, use_cache=False)
    assert compiled.bundle.manifest.selftest is None
    (program,) = (tmp_path / "b" / "bin").glob("*/shiftedge-run")
    done = subprocess.run([program, "--self-test"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no recorded self-test; compile the model again" in done.stderr


@pytest.mark.parametrize("target", ["host", "rpi4"])
def test_a_self_test_that_would_fail_is_not_written(
    target: str, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*arguments: Any) -> Any:
        test = record(*arguments)
        return dataclasses.replace(test, logits=test.logits[::-1])

    record = proof.Proof.self_test
    monkeypatch.setattr(proof.Proof, "self_test", other)
    with pytest.raises(VerificationError, match="logits differs between reference / self-test"):
        compile_model(tiny_onnx, tmp_path / "b", target=target, use_cache=False)
    assert not (tmp_path / "b").exists()
