"""shiftedge-run and raw frames of another size, format, range or row: as ``shiftedge run``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from kit.runner import run_frames
from test_runner import TALL, WIDE, arguments, bundle, calm, film, python_lines, runner

from shiftedge.__main__ import main

__all__ = ["bundle", "calm", "runner"]  # fixtures

pytestmark = pytest.mark.timeout(120, method="thread")


def test_frames_of_another_size_or_format(
    runner: Path, calm: Path, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same sentence from both programs, and exit status 1, after the frames."""
    frames = film(9, form="yuv420p")
    run = run_frames([*arguments(runner, calm), "--steps"], frames)
    assert run.returncode == 1
    assert run.stdout.count(b"\n") == 4
    ours = run.stderr.decode().splitlines()[-1].partition("ended inside a frame: ")[2]
    assert "9 frames of 96x64 yuv420p" in ours
    (tmp_path / "frames").write_bytes(frames)
    source = f"pipe:[size={WIDE}x{TALL},format=bgr24,live=no] cat {tmp_path / 'frames'}"
    assert main(["run", str(bundle), "--threads", "1", "--source", source]) == 1
    theirs = capfd.readouterr().err.splitlines()[-1]
    assert theirs.endswith(f"ended inside a frame: {ours}")


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "bgr24"])
def test_padded_rows_and_full_range(
    runner: Path,
    bundle: Path,
    form: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("cv2", reason="the runner repeats OpenCV's numbers")
    halved = form != "bgr24"
    stride = (WIDE if halved else 3 * WIDE) + 32
    lines = np.frombuffer(film(30, form=form), np.uint8).reshape(30, -1)
    planes = [(TALL, WIDE if halved else 3 * WIDE, stride)]
    if form == "yuv420p":
        planes.append((TALL, WIDE // 2, stride // 2))
    elif form == "nv12":
        planes.append((TALL // 2, WIDE, stride))
    parts, at = [], 0
    for rows, row, padded in planes:
        plane = lines[:, at : at + rows * row].reshape(30, rows, row)
        at += rows * row
        wide = np.full((30, rows, padded), 255, np.uint8)
        wide[..., :row] = plane
        parts.append(wide.reshape(30, -1))
    frames = np.concatenate(parts, axis=1).tobytes()
    full = ",range=full" if halved else ""
    options = f"size={WIDE}x{TALL},format={form},fps=12,stride={stride}{full}"
    expected = python_lines(bundle, options, frames, tmp_path, capfd)
    line = [*arguments(runner, bundle), "--format", form, "--stride", str(stride), "--steps"]
    run = run_frames([*line, *(["--range", "full"] if halved else [])], frames)
    assert run.returncode == 0, run.stderr
    got = [json.loads(text) for text in run.stdout.splitlines()]
    assert [(a["time_s"], a["label"]) for a in got] == [(b["time_s"], b["label"]) for b in expected]
    assert len(got) >= 30
    for ours, theirs in zip(got, expected, strict=True):
        assert abs(ours["confidence"] - float(str(theirs["confidence"]))) <= 1.01e-4


def test_a_rate_at_which_nothing_can_be_seen_is_said(runner: Path, calm: Path) -> None:
    slow = [runner, "--model", calm, "--size", f"{WIDE}x{TALL}", "--fps", "0.5"]
    run = run_frames(slow, film(3))
    assert run.returncode == 0
    assert run.stderr.count(b"With --fps 0.5 frames lie 2 s apart, and after 1 s without") == 1
    assert b"frames lie" not in run_frames(arguments(runner, calm), film(3)).stderr
