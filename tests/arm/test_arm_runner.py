"""The standalone runner on the emulated machine: the lines and logits of this one's."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from kit import hosts

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("cv2", reason="the film is drawn with OpenCV")

from kit.arm import ROOT
from kit.elf import Elf
from numpy.typing import NDArray

from shiftedge.benchmarks.emulation import qemu
from shiftedge.export.compiler.targets import find_target, find_variant
from shiftedge.runtime.capture import open_source
from shiftedge.runtime.errors import CompileError

Bundles = Callable[[str, str], Path]

WIDTH, HEIGHT, RATE_HZ, FRAMES = 320, 240, 24, 300
FILM = f"synthetic:gestures?seconds=12.5&seed=18&size={WIDTH}x{HEIGHT}&fps={RATE_HZ}"
"""Four gestures. Every second frame is stepped, of which one takes a quarter of a second there."""
FEW = 70
"""Frames of the film in another format, to the end of its first gesture."""
TOLERANCE = 1e-4
"""Of a logit, relative to the largest; of a confidence."""
RUNS = [("rpi4", "bgr24"), ("rpi3-armv7", "bgr24"), ("rpi3-armv7", "yuv420p")]
"""(target, format)"""


@dataclass(frozen=True)
class Run:
    """What a runner gave."""

    lines: list[dict[str, object]]
    logits: NDArray[np.float32]
    summary: str


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's gestures as raw bgr24; its beginning as yuv420p beside it."""
    import cv2

    path = tmp_path_factory.mktemp("film") / "bgr24"
    with (
        open_source(FILM) as source,
        path.open("wb") as file,
        path.with_name("yuv420p").open("wb") as few,
    ):
        for count, frame in enumerate(source):
            file.write(frame.image.tobytes())
            if count < FEW:
                few.write(cv2.cvtColor(frame.image, cv2.COLOR_BGR2YUV_I420).tobytes())
    assert path.stat().st_size == FRAMES * 3 * WIDTH * HEIGHT
    return path


def arguments(bundle: Path, film: Path, form: str, logits: Path) -> list[str | Path]:
    """The program that lies in the bundle, which finds its model itself."""
    [program] = bundle.glob("bin/*/shiftedge-run")
    line: list[str | Path] = [program, "--size", f"{WIDTH}x{HEIGHT}", "--fps", str(RATE_HZ)]
    line += ["--threads", "1", "--format", form, "--input", film.with_name(form)]
    return [*line, "--logits", logits]


def result(done: subprocess.CompletedProcess[str], logits: Path) -> Run:
    assert done.returncode == 0, done.stderr
    rows = np.fromfile(logits, np.float32)
    return Run([json.loads(line) for line in done.stdout.splitlines()], rows, done.stderr)


@pytest.fixture(scope="module")
def emulated(
    film: Path, bundles: Bundles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Run]]:
    """A function that gives the run of a target and a format.

    All of RUNS are started with the first, two at a time: they take most of a minute.
    """
    folder = tmp_path_factory.mktemp("logits")
    started: dict[tuple[str, str], Future[Run]] = {}

    def run(target: str, form: str) -> Run:
        chosen, logits = find_variant(target), folder / f"{target}-{form}"
        machine = qemu.machine_of(chosen.architecture)
        line = arguments(bundles("gestures", target), film, form, logits)
        return result(qemu.run(machine, chosen.device.name, line, check=False), logits)

    with ThreadPoolExecutor(2) as pool:

        def get(target: str, form: str) -> Run:
            if why := qemu.missing(find_target(target).architecture):
                pytest.skip(why)
            for name, other in RUNS if not started else ():
                bundles("gestures", name)  # not in two threads
                started[name, other] = pool.submit(run, name, other)
            return started[target, form].result()

        yield get
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def here(
    film: Path, bundles: Bundles, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Run]:
    """A function that gives this machine's run of a format."""
    try:
        find_target("host")
    except CompileError as error:
        hosts.leave_out(str(error))

    def get(form: str) -> Run:
        logits = tmp_path_factory.mktemp("host") / form
        line = arguments(bundles("gestures", "host"), film, form, logits)
        words = [str(word) for word in line]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        return result(done, logits)

    return get


@pytest.mark.parametrize(("target", "form"), RUNS)
def test_the_same_events_and_logits(
    target: str, form: str, emulated: Callable[[str, str], Run], here: Callable[[str], Run]
) -> None:
    ours, theirs = emulated(target, form), here(form)
    frames, events = (FRAMES, 3) if form == "bgr24" else (FEW, 1)
    assert f"{frames} frames, {frames // 2} steps, {len(theirs.lines)} events" in ours.summary
    assert len(theirs.lines) >= events
    assert [(line["time_s"], line["label"]) for line in ours.lines] == [
        (line["time_s"], line["label"]) for line in theirs.lines
    ]
    for our, their in zip(ours.lines, theirs.lines, strict=True):
        assert our["confidence"] == pytest.approx(their["confidence"], abs=TOLERANCE)
    assert len(ours.logits) == len(theirs.logits) > 0
    most = np.abs(theirs.logits).max()
    assert np.abs(ours.logits - theirs.logits).max() <= TOLERANCE * most


@pytest.mark.parametrize("target", ["rpi4", "rpi3-armv7", "rpi5"])
def test_the_program_as_a_file(target: str, bundles: Bundles) -> None:
    """It needs an old C library alone, and no stack to run code from."""
    [program] = bundles("gestures", target).glob("bin/*/shiftedge-run")
    elf = Elf(program)
    wide = find_target(target).architecture == "aarch64"
    assert (elf.machine, elf.wide) == (Elf.AARCH64 if wide else Elf.ARM, wide)
    assert wide or elf.flags & Elf.ARM_HARD_FLOAT
    loader = "ld-linux-aarch64.so.1" if wide else "ld-linux-armhf.so.3"
    known = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", loader}
    assert {"libc.so.6"} <= elf.needed() <= known
    for name in elf.versions():
        assert name.startswith("GLIBC_"), f"{name} is of another library"
        assert tuple(map(int, name.removeprefix("GLIBC_").split("."))) <= (2, 27), name
    assert dict(elf.segments)[elf.GNU_STACK] & 1 == 0, "an executable stack"
    assert not elf.writes_to_its_code()
    for kind, flag in elf.segments:
        assert kind != elf.LOAD or flag & 3 != 3, "a segment to write to and to run"


@pytest.mark.parametrize("architecture", ["aarch64", "armv7l"])
def test_checksums(architecture: str, tmp_path: Path) -> None:
    """Of every length to some blocks, with the processor's instructions for it and without."""
    if why := qemu.missing(architecture):
        pytest.skip(why)
    machine = qemu.machine_of(architecture)
    runner = ROOT / "runtime" / "native" / "runner"
    program = tmp_path / "digests"
    line = [sys.executable, "-m", "ziglang", "cc", "-target", machine.zig, "-std=c11", "-O2"]
    sources = [Path(__file__).with_name("digests.c"), runner / "sha256.c"]
    line += ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-fno-sanitize=all", "-g0"]
    line += [f"-I{runner}", *map(str, sources)]
    subprocess.run([*line, "-o", str(program)], check=True, timeout=300)
    data = bytes(7 * i % 256 for i in range(400))
    said = qemu.run(machine, "cortex-a72", [program, str(len(data))]).stdout.splitlines()
    ways = 2 if architecture == "aarch64" else 1  # the emulated core has them, not every A72
    assert len(said) == len(data)
    for length, text in enumerate(said):
        assert text.split() == [hashlib.sha256(data[:length]).hexdigest()] * ways
