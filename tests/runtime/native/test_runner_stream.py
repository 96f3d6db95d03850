"""shiftedge-run over input that is long, slow, or none: right, and in constant memory."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kit.runner import run_frames

pytestmark = pytest.mark.timeout(240, method="thread")

WIDTH, HEIGHT = 1920, 1080
FRAME_BYTES = 3 * WIDTH * HEIGHT
FRAMES = -(-(10**10) // FRAME_BYTES)
"""10 GB of them."""
PIECES = (1, 65_537, 777, 131_071, 4096, 262_139, 30_011)
"""Bytes of the writes, in turn; few of them end where a frame does."""
GROWTH_KB, MOST_KB = 1024, 30_000


def start(runner: Path, model: Path, size: str, *options: str) -> subprocess.Popen[bytes]:
    line = [str(runner), "--model", str(model), "--size", size, "--fps", "12", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)


def peak_kb(process: subprocess.Popen[bytes]) -> int:
    """Not ru_maxrss: for a child that counts what its parent had before the exec too."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def feed(process: subprocess.Popen[bytes], data: bytes, total: int) -> None:
    """Write ``total`` bytes, from ``data`` over and over, in uneven pieces."""
    assert process.stdin is not None
    pipe, view = process.stdin.fileno(), memoryview(data)
    pieces = itertools.cycle(PIECES)
    while total > 0:
        total -= os.write(pipe, view[: min(next(pieces), total)])


def finish(process: subprocess.Popen[bytes], status: int = 0) -> tuple[bytes, str]:
    """(lines, summary)."""
    out, err = process.communicate()
    assert process.returncode == status, err
    return out, err.decode()


def test_ten_gigabytes_of_zeros(runner: Path, small_path: Path) -> None:
    zeros = bytes(max(PIECES))
    size = f"{WIDTH}x{HEIGHT}"
    few, many = (start(runner, small_path, size) for _ in range(2))
    feed(few, zeros, 3 * FRAME_BYTES)
    # The pipe holds less than a frame, so the first two have been stepped by now.
    expected = peak_kb(few)
    assert "3 frames, 3 steps" in finish(few)[1]
    feed(many, zeros, FRAMES * FRAME_BYTES + 777)
    peak = peak_kb(many)
    out, said = finish(many, status=1)
    assert f"{FRAMES} frames, {FRAMES} steps, 0 events" in said
    assert f"inside a frame: {FRAMES * FRAME_BYTES + 777} bytes in all are no whole" in said
    assert out == b""
    assert peak - expected <= GROWTH_KB
    assert peak <= MOST_KB + FRAME_BYTES // 1024


def slow_pieces(data: bytes) -> Iterator[bytes]:
    sizes, at = itertools.cycle((1, 3, 511, 4095, 4097, 2, 1021)), 0
    while at < len(data):
        size = next(sizes)
        yield data[at : at + size]
        at += size


def test_a_slow_pipe(runner: Path, small_path: Path) -> None:
    """The smallest pipe that there is, and pieces down to a byte: the same lines."""
    frame_bytes = 96 * 64 * 3
    generator = np.random.default_rng(4)
    frames = generator.integers(0, 256, (40, frame_bytes), np.uint8).tobytes()
    line: list[str | Path] = [runner, "--model", small_path, "--size", "96x64", "--fps", "12"]
    expected = run_frames([*line, "--steps"], frames)
    assert expected.returncode == 0
    process = start(runner, small_path, "96x64", "--steps")
    assert process.stdin is not None
    assert process.stdout is not None
    pipe = process.stdin.fileno()
    os.write(pipe, frames[:frame_bytes])
    first = process.stdout.readline()
    # By now it has asked for a pipe of a frame's size, which is empty and may be cut again.
    assert fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096) == 4096
    rest: list[bytes] = []
    reader = threading.Thread(target=lambda: rest.extend(process.stdout or ()))
    reader.start()
    for piece in slow_pieces(frames[frame_bytes:]):
        view = memoryview(piece)
        while view:
            view = view[os.write(pipe, view) :]
    process.stdin.close()
    reader.join()
    assert process.wait() == 0
    assert first + b"".join(rest) == expected.stdout
    assert len(rest) == 39 == sum(json.loads(text)["step"] for text in rest)
    assert process.stderr is not None
    assert b"40 frames, 40 steps" in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


def test_no_bytes_at_all(runner: Path, small_path: Path, tmp_path: Path) -> None:
    """From a pipe whose other end closes, an empty file and /dev/null."""
    (tmp_path / "empty").write_bytes(b"")
    for path in (None, tmp_path / "empty", Path("/dev/null")):
        process = start(runner, small_path, "96x64", *(["--input", str(path)] if path else []))
        out, err = process.communicate(b"")
        assert (process.returncode, out) == (1, b"")
        assert err.splitlines()[-1] == b"shiftedge-run: The input ended without a frame."
