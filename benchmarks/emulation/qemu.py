"""A compiled model on an emulated ARM machine: its outputs, and the instructions of a step.

``qemu-aarch64`` and ``qemu-arm`` (QEMU's user mode) run a small C program that opens the bundle's
own ``libmodel.so`` with an ARM glibc beside it, so what is counted is what a board would execute.
A plugin of ours, compiled here when it is first needed, counts guest instructions. They are exact
and the same each time. They are no time: an emulator knows no pipeline and no cache, so a step with
fewer instructions is not always the faster one, and this module measures no seconds.

On Debian and Ubuntu: ``apt-get install qemu-user libc6-arm64-cross libc6-armhf-cross``.
"""

from __future__ import annotations

import functools
import importlib.resources
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shiftedge import __version__
from shiftedge.benchmarks.programs import program
from shiftedge.export.compiler.link.zig import ZIG_CC, zig_environment
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.capture.synthetic.moving import moving_scene
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.cpu import WITHOUT
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import work_folder

RUN_S = 600
"""Longer than any run here; under emulation a step of MobileNetV2 takes some seconds."""
LIST_S = 10
OWN = Path(str(importlib.resources.files("shiftedge.benchmarks.emulation")))
END = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
"""In place of a block's number: the section ends."""
C_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra")

_CPUS = {"cortex-a78": "cortex-a76", "cortex-a78ae": "cortex-a76", "carmel": "cortex-a76"}
"""Cores that QEMU 7.2 has not -> one with at least their instructions."""


@dataclass(frozen=True)
class Machine:
    emulator: str
    """QEMU's program."""
    root: Path
    """Folder with the guest's glibc in lib/, for QEMU's -L."""
    zig: str
    """``zig cc -target``."""
    packages: str
    """Debian's, which bring emulator and glibc."""
    clock_calls: tuple[int, ...]
    """Numbers of clock_gettime and, on 32 bits, clock_gettime64: Linux, asm-generic/unistd.h and
    arch/arm/tools/syscall.tbl."""
    step_call: int
    """Of getppid, which marks the end of a step: nothing else makes it, while libraries look at the
    clock too."""


MACHINES = {
    "aarch64": Machine(
        "qemu-aarch64", Path("/usr/aarch64-linux-gnu"), "aarch64-linux-gnu.2.27",
        "qemu-user libc6-arm64-cross", (113,), 173,
    ),
    "armv7l": Machine(
        "qemu-arm", Path("/usr/arm-linux-gnueabihf"), "arm-linux-gnueabihf.2.27",
        "qemu-user libc6-armhf-cross", (263, 403), 64,
    ),
}  # fmt: skip
"""By architecture, as ``platform.machine()`` says there; the folders are where Debian and Ubuntu
put a foreign glibc."""


def missing(architecture: str) -> str:
    """Why this machine cannot emulate that one: a sentence, or nothing."""
    machine = MACHINES.get(architecture)
    if machine is None:
        known = ", ".join(MACHINES)
        return f"There is no emulation of {architecture}; there is of {known}."
    lacking = [machine.emulator] if shutil.which(machine.emulator) is None else []
    if not (machine.root / "lib" / "libc.so.6").exists():
        lacking.append(str(machine.root))
    if not lacking:
        return ""
    return f"There is no {' and no '.join(lacking)}: run  apt-get install {machine.packages}"


def machine_of(architecture: str) -> Machine:
    """The emulated machine of an architecture.

    Raises:
        ShiftedgeError: there is none, or something it needs is not installed.
    """
    if why := missing(architecture):
        raise ShiftedgeError(why)
    return MACHINES[architecture]


@functools.cache
def emulated_cpu(emulator: str, cpu: str) -> str:
    """QEMU's name for a core that has at least the instructions of LLVM's ``cpu``."""
    line = [emulator, "-cpu", "help"]
    listed = subprocess.run(line, capture_output=True, text=True, check=False, timeout=LIST_S)
    known = listed.stdout.split()
    return next((name for name in (cpu, _CPUS.get(cpu)) if name in known), "max")


def run(
    machine: Machine,
    cpu: str,
    words: Sequence[str | Path],
    *,
    root: Path | None = None,
    recorded: Path | None = None,
    at: Sequence[int] = (),
    check: bool = True,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program of the emulated machine.

    Args:
        cpu: LLVM's name of the core.
        words: the program and its arguments.
        root: where the guest's libraries lie, if not in ``machine.root``.
        recorded: receives what was executed, see :func:`read_recording`; None does not count.
        at: numbers of system calls, two at most, at which the recording has a mark.
        environment: of the guest, set beside this process's.

    Raises:
        ShiftedgeError: it failed, or took longer than ten minutes.
    """
    line: list[str | Path] = [machine.emulator, "-cpu", emulated_cpu(machine.emulator, cpu)]
    line += ["-L", root or machine.root]
    if recorded is not None:
        line += ["-plugin", ",".join([f"{plugin()},out={recorded}", *(f"at={n}" for n in at)])]
    # What is taken away is taken from this machine, which the guest is not.
    variables = {**os.environ, WITHOUT: "", **(environment or {})}
    try:
        done = subprocess.run(
            [*line, *words],
            capture_output=True, text=True, check=False, timeout=RUN_S, env=variables,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ShiftedgeError(f"{machine.emulator} did not run: {error}") from error
    if check and done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ShiftedgeError(
            f"{Path(words[0]).name} under {machine.emulator} ended with status "
            f"{done.returncode}: {said[-1]}"
        )
    return done


def stream(
    library: Path,
    images: NDArray[np.uint8],
    classes: int,
    machine: Machine,
    cpu: str,
    *,
    threads: int = 1,
    output: Path | None = None,
    recorded: Path | None = None,
    profile: bool = False,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Step a libmodel.so in the emulated machine.

    Args:
        images: uint8 (frames, height, width, 3), blue first.
        classes: logits of a step.
        threads: started even where there are fewer cores.
        output: receives each step's logits and state block.
        recorded: as for :func:`run`; at the end of each step, with ``profile`` at each look at the
            clock instead.
        profile: look at the clock around each kernel.

    Raises:
        ShiftedgeError: it failed, or cannot be emulated here.
    """
    with work_folder() as folder:
        frames = folder / "frames"
        frames.write_bytes(images.tobytes())
        height, width = images.shape[1:3]
        words: list[str | Path] = [driver(machine), library.resolve(), str(threads)]
        words += [str(len(images)), frames, str(height), str(width), str(classes)]
        words += [output or "-", *(["profile"] if profile else [])]
        at = machine.clock_calls if profile else (machine.step_call,)
        return run(machine, cpu, words, recorded=recorded, at=at, check=check)


class Instruction(NamedTuple):
    address: int
    """In the guest."""
    code: bytes
    """As it lies in memory; 2 or 4 bytes."""


Executions = Mapping[Instruction, int]
"""How often each instruction was executed."""


@dataclass(frozen=True)
class Recording:
    sections: tuple[NDArray[np.uint64], ...]
    """What was executed up to each of the plugin's marks, of which the last is the end of the run:
    rows of a block's number and its executions since the mark before."""
    blocks: Mapping[int, tuple[Instruction, ...]]

    def between(self, first: int, last: int) -> Executions:
        sums: Counter[int] = Counter()
        for section in self.sections[first + 1 : last + 1]:
            for number, count in section.tolist():
                sums[number] += count
        return spread((self.blocks[number], count) for number, count in sums.items())


def read_recording(file: Path) -> Recording:
    """Read what the plugin wrote.

    Raises:
        ShiftedgeError: it is not whole.
    """
    words = np.fromfile(file, np.uint64)
    pairs = words[: len(words) // 2 * 2].reshape(-1, 2)
    ends = np.flatnonzero(pairs[:, 0] == END)
    starts = [0, *(ends + 1)]
    sections = tuple(pairs[begin:end] for begin, end in zip(starts, ends, strict=False))
    needed = {int(number) for section in sections for number in np.unique(section[:, 0])}
    rest = words[2 * starts[-1] :].tolist()
    blocks: dict[int, tuple[Instruction, ...]] = {}
    at = 0
    while at + 3 <= len(rest):
        number, address, size = rest[at : at + 3]
        if number in needed:
            blocks[number] = _instructions(address, rest[at + 3 : at + 3 + size])
        at += 3 + size
    if at != len(rest) or not sections or needed - blocks.keys():
        raise ShiftedgeError("The emulator's record of blocks is not whole; is the disk full?")
    return Recording(sections, blocks)


def spread(blocks: Iterable[tuple[Sequence[Instruction], int]]) -> Executions:
    """The executions of each instruction, of blocks that may share instructions."""
    sums: Counter[Instruction] = Counter()
    for instructions, count in blocks:
        for instruction in instructions:
            sums[instruction] += count
    return sums


def _instructions(address: int, words: Sequence[int]) -> tuple[Instruction, ...]:
    found = []
    for word in words:
        size = word >> 32
        found.append(Instruction(address, (word & 0xFFFF_FFFF).to_bytes(4, "little")[:size]))
        address += size
    return tuple(found)


@dataclass(frozen=True)
class Counts:
    version: str
    """Of what was counted."""
    frames: int
    executions: Executions = field(repr=False)
    """How often each instruction was executed in all of the frames, from the end of the step before
    them to the end of the last."""
    kernels: tuple[tuple[str, Executions], ...] = field(default=(), repr=False)
    """The same of each kernel in one frame, by name and in order, from a run of its own."""

    @property
    def frame(self) -> int:
        """Instructions of one, on the average."""
        return instructions(self.executions) // self.frames


def instructions(executions: Executions) -> int:
    return sum(executions.values())


def count_instructions(bundle: Bundle, target: str | None = None, frames: int = 2) -> Counts:
    """Count the guest instructions of one step with one thread; the first step is left out.

    Args:
        bundle: compiled for an ARM target.
        target: a name from ``targets.TARGETS``: whose core is emulated, and which of the bundle's
            libraries is taken; None is the bundle's own.
        frames: steps to count.

    Raises:
        ShiftedgeError: this machine cannot emulate it, or it failed.
    """
    from shiftedge.export.compiler.targets import find_variant

    chosen = find_variant(target or bundle.manifest.target)
    machine = machine_of(chosen.architecture)
    spec = bundle.manifest.spec
    library = bundle.folder / bundle.variant(chosen.architecture, chosen.features).library
    images = moving_scene(0, frames=frames + 1, height=spec.height, width=spec.width)
    with work_folder() as folder:
        file, given = folder / "recorded", (spec.classes, machine, chosen.device.name)
        stream(library, images, *given, recorded=file)
        executions = read_recording(file).between(0, frames)
        done = stream(library, images[:2], *given, recorded=file, profile=True)
        names = done.stdout.split()
        looks = read_recording(file)
    # One look at the clock before the first kernel, one after each; the last mark is the end.
    first = len(looks.sections) - 2 - len(names)
    kernels = ((name, looks.between(at, at + 1)) for at, name in enumerate(names, first))
    return Counts(__version__, frames, executions, tuple(kernels))


def plugin() -> Path:
    """The counting plugin, compiled for this machine's QEMU.

    Raises:
        ShiftedgeError: there is no C compiler, or it failed.
    """
    return program(
        "count.so", [OWN / "count.c"], [*C_FLAGS, "-shared", "-fPIC", "-fvisibility=hidden"]
    )


def driver(machine: Machine) -> Path:
    """The program that :func:`stream` runs, compiled for the emulated machine.

    Raises:
        ShiftedgeError: ziglang is not installed, or it failed.
    """
    require("ziglang")
    native = Path(str(importlib.resources.files("shiftedge.runtime.native")))
    flags = [*C_FLAGS, "-target", machine.zig, f"-I{native}", "-ldl", "-lpthread"]
    zig = (list(ZIG_CC), zig_environment())
    headers = [native / "shiftedge.h"]
    return program("stream", [OWN / "stream.c"], flags, headers=headers, by=[zig])
