"""A Python for aarch64 in a folder, run by ``qemu-aarch64``: for what is Python on a board. The
folder is what ``python.sh`` makes; nothing is fetched here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shiftedge
from shiftedge.benchmarks.emulation.qemu import OWN, Counts, machine_of, read_recording, run
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.files import cache_folder, work_folder

CPU = "cortex-a72"
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
        path = f"{Path(shiftedge.__file__).parents[1]}{os.pathsep}{self.site}"
        own = {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        return run(
            machine_of("aarch64"), CPU, [self.root / "usr" / "bin" / "python3.11", *words],
            root=self.root, recorded=recorded, at=at, environment=own,
        )  # fmt: skip


def emulated_python(folder: Path | None = None) -> EmulatedPython:
    """The one in ``folder``, or in the user's cache.

    Raises:
        ShiftedgeError: there is none, or this machine cannot emulate it.
    """
    machine_of("aarch64")
    folder = folder or cache_folder() / "emulated-python"
    if not (folder / "site" / "onnxruntime").is_dir():
        raise ShiftedgeError(
            f"There is no Python for aarch64 in {folder}: run  sh {OWN / 'python.sh'}  which has "
            "apt-get and pip fetch one."
        )
    return EmulatedPython(folder / "root", folder / "site")


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
