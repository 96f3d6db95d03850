"""``shiftedge-run --self-test``: what it proves, what it prints, and what it says when it fails."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.fake_bundle import recorded, write_bundle
from kit.fake_library import HERE, LIBRARY, RUNTIME, build, compilers
from kit.runner import SANITIZERS, Probe, Runners, build_probe, run_frames

from shiftedge.__main__ import main
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.selftest import self_test_clip

pytestmark = pytest.mark.timeout(120, method="thread")


@pytest.fixture(scope="module")
def probe(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Probe:
    path = tmp_path_factory.mktemp("probe") / "libprobe.so"
    return Probe(build_probe(compiler, path, *LIBRARY))


@pytest.fixture
def bundle(runners: Runners, fake_path: Path, tmp_path: Path) -> Path:
    """The fake model with its own logits recorded; 24 x 32 pixels, four labels."""
    return write_bundle(tmp_path / "b", fake_path, runners=runners, selftest=recorded(fake_path))


@pytest.fixture
def runner(runners: Runners, bundle: Path) -> Path:
    return runners.of(bundle)


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((bundle / "manifest.json").read_text())
    edit(document)
    (bundle / "manifest.json").write_text(json.dumps(document))


# The clip.


@pytest.mark.parametrize(
    "size", [(224, 224), (96, 128), (24, 32), (1, 1), (1, 300), (300, 1), (37, 91), (11, 13)]
)
def test_python_and_c_make_the_same_clip(probe: Probe, size: tuple[int, int]) -> None:
    assert np.array_equal(probe.clip(16, *size), self_test_clip(*size))


@settings(max_examples=60)
@given(st.integers(1, 160), st.integers(1, 160), st.integers(1, 20))
def test_the_same_clip_of_any_size(probe: Probe, height: int, width: int, frames: int) -> None:
    assert np.array_equal(probe.clip(frames, height, width), self_test_clip(height, width, frames))


def test_large_frames_are_the_same_too(probe: Probe) -> None:
    """Where 32 bits overflow."""
    assert np.array_equal(probe.clip(2, 8192, 3), self_test_clip(8192, 3, 2))
    assert np.array_equal(probe.clip(2, 3, 8192), self_test_clip(3, 8192, 2))


# The test.


def test_it_passes(bundle: Path) -> None:
    program = bundle / "bin" / "plain" / "shiftedge-run"
    run = run_frames([program, "--self-test"], b"")
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.count(b"\n") == 1
    line = json.loads(run.stdout)
    assert (line["self_test"], line["variant"], line["frames"]) == ("passed", "plain", 16)
    assert 0 <= line["worst_relative_error"] < 1e-6
    assert (line["tolerance"], line["steps"]) == (1e-4, 200)
    assert line["threads"] >= 1
    times = line["step_ms"]
    assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["max"]


def test_a_folder_and_options(runner: Path, bundle: Path) -> None:
    line = [runner, "--self-test", "--model", bundle, "--threads", "1", "--frames", "7"]
    said = json.loads(run_frames(line, b"").stdout)
    assert (said["steps"], said["threads"], said["variant"]) == (7, 1, "plain")


def test_fewer_recorded_frames(runners: Runners, fake_path: Path, tmp_path: Path) -> None:
    few = write_bundle(tmp_path / "b", fake_path, selftest=recorded(fake_path, 3))
    line = [runners.of(few), "--self-test", "--model", few, "--frames", "1"]
    assert json.loads(run_frames(line, b"").stdout)["frames"] == 3


@pytest.mark.parametrize("frame", [0, 15])
@pytest.mark.parametrize("share", [2e-4, -2e-4, 0.5])
def test_a_logit_that_differs(runners: Runners, bundle: Path, frame: int, share: float) -> None:
    """By twice what is accepted, of the largest of all."""

    def edit(document: dict[str, Any]) -> None:
        logits = document["selftest"]["logits"]
        scale = max(abs(value) for row in logits for value in row)
        smallest = min(range(4), key=lambda k: abs(logits[frame][k]))
        logits[frame][smallest] += share * scale

    change(bundle, edit)
    run = run_frames([runners.of(bundle), "--self-test", "--model", bundle], b"")
    assert run.returncode == 1
    line = json.loads(run.stdout)
    assert (line["self_test"], line["steps"], line["step_ms"]) == ("failed", 0, None)
    assert line["worst_relative_error"] == pytest.approx(abs(share), rel=0.05)
    assert f"logits of frame {frame} differ".encode() in run.stderr
    assert run.stderr.count(b"\n") == 1


def test_the_order_of_frames_counts(runners: Runners, bundle: Path) -> None:
    change(bundle, lambda document: document["selftest"]["logits"].reverse())
    assert run_frames([runners.of(bundle), "--self-test", "--model", bundle], b"").returncode == 1


def test_a_library_with_other_weights(
    runners: Runners, bundle: Path, compiler: list[str], tmp_path: Path
) -> None:
    """What is tested is the library, not whether it is the one that was packed."""
    sources = [*RUNTIME, HERE / "calm_model.c"]
    other = build(compiler, tmp_path / "calm.so", sources, *LIBRARY)
    name = "lib/plain/libmodel.so"
    shutil.copy(other, bundle / name)
    data = other.read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change(bundle, lambda document: document["files"].update({name: entry}))
    run = run_frames([runners.of(bundle), "--self-test", "--model", bundle], b"")
    assert run.returncode == 1
    assert b'"self_test": "failed"' in run.stdout


def test_without_a_record(runners: Runners, bundle: Path) -> None:
    change(bundle, lambda document: document.pop("selftest"))
    run = run_frames([runners.of(bundle), "--self-test", "--model", bundle], b"")
    assert (run.returncode, run.stdout) == (1, b"")
    assert b"has no recorded self-test; compile the model again" in run.stderr
    assert run.stderr.count(b"\n") == 1


def test_no_bundle(runner: Path, bundle: Path, tmp_path: Path) -> None:
    library = bundle / "lib" / "plain" / "libmodel.so"
    inside = run_frames([runner, "--self-test", "--model", library], b"")
    assert inside.returncode == 0, "the bundle that it lies in has the record"
    alone = tmp_path / "libmodel.so"
    shutil.copy(library, alone)
    said = run_frames([runner, "--self-test", "--model", alone], b"")
    assert said.returncode == 1
    assert b"lies in no bundle; --self-test takes the folder of a bundle" in said.stderr
    program = bundle / "bin" / "plain" / "shiftedge-run"
    (bundle / "manifest.json").unlink()
    for line in ([program, "--self-test"], [runner, "--self-test", "--model", tmp_path]):
        run = run_frames(line, b"")
        assert run.returncode == 1
        assert b"manifest.json" in run.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--self-test", "--size", "4x4"],
        ["--self-test", "--format", "nv12"],
        ["--self-test", "--fps", "3"],
        ["--self-test", "--input", "x"],
        ["--self-test", "--steps"],
        ["--self-test", "--logits", "x"],
        ["--self-test", "--frames", "0"],
        ["--self-test", "--frames", "1000000"],
        ["--self-test", "--frames", "1x"],
        ["--self-test", "--threads", "0"],
        ["--size", "4x4", "--frames", "3"],
    ],
)
def test_wrong_usage(runner: Path, options: list[str | Path]) -> None:
    run = run_frames([runner, *options], b"")
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.startswith(b"shiftedge-run: --")


def test_a_full_disk(runner: Path, bundle: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    line = ["sh", "-c", 'exec "$0" --self-test --model "$1" > /dev/full', runner, bundle]
    run = run_frames(line, b"")
    assert run.returncode == 1
    assert b"Cannot write to standard output: No space" in run.stderr


def test_sanitized(fake_path: Path, tmp_path: Path) -> None:
    command = compilers().get("gcc") or compilers().get("clang")
    if command is None:
        pytest.skip("no compiler with sanitizers: install gcc or clang")
    try:
        runners = Runners(command, tmp_path, *SANITIZERS)
    except AssertionError as error:
        pytest.skip(f"the compiler has no sanitizers: {str(error)[:200]}")
    folder = write_bundle(tmp_path / "b", fake_path, selftest=recorded(fake_path))
    line: list[str | Path] = [runners.of(folder), "--self-test", "--model", folder, "--frames", "3"]
    assert run_frames(line, b"").returncode == 0


def test_the_record_is_what_python_reads(
    bundle: Path, fake_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = Bundle.open(bundle).manifest.selftest
    assert test == recorded(fake_path)
    assert test is not None
    assert main(["inspect", str(bundle)]) == 0
    line = "self-test        16 frames of the clip drift-1, within 0.0001"
    assert line in capsys.readouterr().out.splitlines()
