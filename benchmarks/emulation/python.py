"""A Python for aarch64 in a folder, run by ``qemu-aarch64``: for what is Python on a board.

Debian's own packages are fetched with apt-get and unpacked, numpy and ONNX Runtime are the wheels
that a board would install. Nothing of this machine's packages is touched. It needs Debian 12 or
another system whose apt-get sources have python3.11 for arm64, and the network the first time.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import shiftedge
from shiftedge.benchmarks.emulation.blocks import read_recording
from shiftedge.benchmarks.emulation.qemu import Counts, machine_of, run
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.files import cache_folder, output_folder, work_folder

FETCH_S = 240
"""For apt-get and pip each; some 40 MB."""
VERSION = "3.11"
"""Debian 12's."""
PACKAGES = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11", "libc6",
    "libgcc-s1", "libstdc++6", "libexpat1", "zlib1g", "libffi8", "libssl3", "libbz2-1.0",
    "liblzma5", "libsqlite3-0", "libuuid1", "libcrypt1",
)  # fmt: skip
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
"""Of wheels that run with Debian 12's glibc, 2.36."""
CPU = "cortex-a72"

# ONNX Runtime asks this file for the kind of core, through QEMU's prefix; with an x86's it crashes.
CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""

COUNTED = """\
import os
import sys
from pathlib import Path
import numpy as np
from shiftedge.benchmarks.engines.onnxruntime import OnnxRuntimeContender
contender = OnnxRuntimeContender(Path(sys.argv[1]), 1, None)
contender.prepare(np.full((contender.spec.height, contender.spec.width, 3), 99, np.uint8))
for _ in range(int(sys.argv[2])):
    contender.step()
    os.getppid()
print(contender.version)
"""


@dataclass(frozen=True)
class EmulatedPython:
    root: Path
    """Its system, for QEMU's -L."""
    site: Path
    """Its packages."""

    def run(
        self, words: Sequence[str | Path], *, recorded: Path | None = None, at: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run it on an emulated Cortex-A72, with this installation of shiftedge on its path.

        Raises:
            ShiftedgeError: it failed; its last line is in the message.
        """
        program = self.root / "usr" / "bin" / f"python{VERSION}"
        path = f"{Path(shiftedge.__file__).parents[1]}{os.pathsep}{self.site}"
        own = {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        return run(
            machine_of("aarch64"), CPU, [program, *words],
            root=self.root, recorded=recorded, at=at, environment=own,
        )  # fmt: skip


def emulated_python(folder: Path | None = None) -> EmulatedPython:
    """The emulated Python with numpy and ONNX Runtime, in this machine's version where it has one,
    fetched and unpacked the first time and kept in ``folder`` or the user's cache.

    Raises:
        ShiftedgeError: this machine cannot emulate one, or it could not be fetched.
    """
    machine_of("aarch64")
    folder = output_folder(folder or cache_folder() / "emulated-python")
    wanted = ["numpy", "onnxruntime"]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        wanted[-1] += f"=={importlib.metadata.version('onnxruntime')}"
    root, site = folder / f"debian-python{VERSION}", folder / "-".join(["site", *wanted])
    for part, unpack in ((root, _unpack_debian), (site, partial(_unpack_wheels, wanted))):
        if not part.exists():
            with work_folder(folder) as scratch:
                unpack(scratch, scratch / "made")
                os.replace(scratch / "made", part)
    return EmulatedPython(root, site)


def count_onnxruntime(model: Path, frames: int = 1, folder: Path | None = None) -> Counts:
    """Count the guest instructions of one step of ONNX Runtime's aarch64 build.

    One thread, every graph optimisation, inputs and outputs bound; the frame is normalised before.
    Counted from the end of the first step on: Python's own start is not the same each time.

    Raises:
        ShiftedgeError: it cannot be run here.
    """
    python = emulated_python(folder)
    with work_folder() as scratch:
        words: list[str | Path] = ["-c", COUNTED, model.resolve(), str(1 + frames)]
        file, call = scratch / "recorded", machine_of("aarch64").step_call
        done = python.run(words, recorded=file, at=[call])
        found = read_recording(file)
    marked = len(found.sections) - 1
    if marked != frames + 1:
        raise ShiftedgeError(f"{marked} steps were marked; expected {frames + 1}.")
    return Counts(done.stdout.strip(), frames, found.between(0, frames))


def _unpack_debian(scratch: Path, root: Path) -> None:
    for name in ("apt-get", "dpkg"):
        if shutil.which(name) is None:
            raise ShiftedgeError(f"There is no {name}, which fetches a Python for aarch64.")
    (scratch / "lists" / "partial").mkdir(parents=True)
    options = ["-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64", "-oDebug::NoLocking=1"]
    options += [f"-oDir::State::Lists={scratch / 'lists'}", "-oAPT::Sandbox::User="]
    _fetch(["apt-get", *options, "update", "-qq"], scratch)
    _fetch(["apt-get", *options, "download", "-qq", *PACKAGES], scratch)
    for package in sorted(scratch.glob("*.deb")):
        _fetch(["dpkg", "-x", str(package), str(root)], scratch)
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(CPUINFO)


def _unpack_wheels(wanted: Sequence[str], scratch: Path, site: Path) -> None:
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    line += ["--only-binary=:all:", "--python-version", VERSION, "--implementation", "cp"]
    line += [word for name in PLATFORMS for word in ("--platform", name)]
    _fetch([*line, "--disable-pip-version-check", "--target", str(site), *wanted], scratch)


def _fetch(line: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(
            line, cwd=folder, capture_output=True, text=True, check=True, timeout=FETCH_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines() or ["no message"]
        raise ShiftedgeError(
            f"A Python for aarch64 could not be fetched: {Path(line[0]).name}: {said[-1]}"
        ) from error
