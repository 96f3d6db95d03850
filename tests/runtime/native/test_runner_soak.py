"""A month of steps, scaled down: memory is taken while opening, never for a step."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest
from kit.fake_library import HERE, LIBRARY, RUNTIME, build

pytestmark = [
    pytest.mark.timeout(120, method="thread"),
    pytest.mark.skipif(
        platform.libc_ver()[0] != "glibc", reason="allocations are counted around glibc's functions"
    ),
]

WIDE, TALL = 32, 24


@pytest.fixture(scope="module")
def built(
    compiler: list[str], runner: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The runner, a model and the counting library."""
    folder = tmp_path_factory.mktemp("soak")
    model = folder / "libmodel.so"
    counter = folder / "count.so"
    return {
        "runner": runner,
        "model": build(compiler, model, [*RUNTIME, HERE / "calm_model.c"], *LIBRARY),
        "counter": build(compiler, counter, [HERE / "count_malloc.c"], "-fPIC", "-shared"),
    }


def allocations(built: dict[str, Path], folder: Path, frames: int, threads: int) -> int:
    """Of a run over so many frames that blink, each a step whose line is printed."""
    dark, light = bytes(WIDE * TALL * 3), b"\xff" * (WIDE * TALL * 3)
    blink = (dark * 30 + light * 30) * (frames // 60)
    line = [built["runner"], "--model", built["model"], "--size", f"{WIDE}x{TALL}", "--fps", "12"]
    counted = folder / "count"
    done = subprocess.run(
        [*map(str, line), "--threads", str(threads), "--steps"],
        input=blink,
        capture_output=True,
        check=True,
        timeout=100,
        env={**os.environ, "LD_PRELOAD": str(built["counter"]), "COUNT_MALLOC": str(counted)},
    )
    assert done.stdout.count(b'"step"') == frames
    assert f"{frames} frames, {frames} steps" in done.stderr.decode()
    return int(counted.read_text())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_allocates_nothing(built: dict[str, Path], tmp_path: Path, threads: int) -> None:
    few, many = (allocations(built, tmp_path, frames, threads) for frames in (60, 12_000))
    assert 0 < few == many, "what opening takes, whatever the length of the stream"
