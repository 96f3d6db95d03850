"""``llvm-mca``, LLVM's machine code analyser: cycles of straight code on a named core.

It simulates a core's dispatch, its execution units and the dependencies between registers, with the
widths and latencies of LLVM's scheduling models. It knows no caches (each load hits), no branches
that are predicted wrongly, no aliases between stores and loads. For many cores LLVM takes the model
of another one; which, the names of the units in its output say: see :data:`MODELS`.

On Debian and Ubuntu: ``apt-get install llvm`` (14 or newer).
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shiftedge.runtime.errors import ShiftedgeError

OLDEST = 14
"""Its JSON holds several regions; before, it was not valid."""
RUN_S = 600
ITERATIONS = (24, 88)
"""What the longer run takes more is the steady state: filling and draining the pipeline is in
both. A loop whose timing repeats after 2, 4, ... 64 turns is met exactly."""
_ADVANCING = re.compile(
    r"(?P<store>v?st[\w.]* .*\[(?P<base>\w+)[^\]]*\])(?:!|, (?:#-?\d+|[xr]\d+))"
)
"""A store that changes its address afterwards or before."""
IN_ORDER = frozenset({"cortex-a53"})
"""Cores that do not reorder."""
REJECTIONS = 40
"""Runs of the check; each finds at least one kind of instruction that has no model."""

STAND_INS: Mapping[str, str] = {
    "cortex-a76": "neoverse-n1",
    "cortex-a78": "neoverse-n1",
    "cortex-a78ae": "neoverse-n1",
    "cortex-a15": "cortex-a57",
}
"""Cores -> another one to ask for, with the same or the nearest pipeline that has a model of its
own: docs/performance.md says which LLVM takes. An A78 dispatches more than an N1, with as many
vector units. In 32 bits LLVM takes the Cortex-A9's model for A15 (llvm/lib/Target/ARM/ARM.td),
which lacks instructions and makes llvm-mca 14 divide by zero; the A57's has them all."""

MODELS: Mapping[str, str] = {
    "A53": "cortex-a53",
    "A57": "cortex-a57",
    "A9": "cortex-a9",
    "CortexA55": "cortex-a55",
    "CortexA510": "cortex-a510",
    "N1": "neoverse-n1",
}
"""Prefix of a model's units -> the core it was written for. Of the targets' cores A53 and A57 have
their own, A72 has the A57's, Carmel has none; others see :data:`STAND_INS`."""


class Isa(NamedTuple):
    """An instruction set, for LLVM."""

    options: tuple[str, ...]
    """Beside the triple's."""
    triple: str
    """In 32 bits, ARM's instructions and not Thumb's."""
    any: str
    """An instruction of every model: where no block is left, it still tells model and width."""
    ahead: int
    """Bytes from a branch to where its distance is counted from."""


ISAS = {
    "aarch64": Isa((), "aarch64-linux-gnu", "add x0, x0, x0", 0),
    "armv7l": Isa(("-mattr=+neon,+vfp4",), "armv7-linux-gnueabihf", "add r0, r0, r0", 8),
}
"""By architecture, as ``platform.machine()`` says there."""


class Core(NamedTuple):
    architecture: str
    cpu: str
    """LLVM's name; its stand-in is looked up here."""

    @property
    def in_order(self) -> bool:
        """Whether it executes instructions in their order."""
        return self.cpu in IN_ORDER

    @property
    def isa(self) -> Isa:
        return ISAS[self.architecture]


class Mca(NamedTuple):
    program: Path
    disassembler: Path
    """llvm-mc of the same version."""
    version: str


class Timing(NamedTuple):
    """Of a block of code, when it is repeated for long."""

    cycles: float
    """A repetition."""
    modelled: int
    """Instructions that took part; what LLVM has no model of was left out."""
    units: Mapping[str, float]
    """Cycles of a repetition for which each unit is busy. ``dispatch`` is the width at which
    micro-operations are handed to the units."""

    @property
    def bound(self) -> float:
        """Cycles that the busiest unit takes: as if nothing waited for another's result."""
        return max(self.units.values(), default=0.0)


class Region(NamedTuple):
    """What llvm-mca printed of a block, repeated some times."""

    cycles: int
    micro_operations: int
    units: Mapping[str, float]


class Output(NamedTuple):
    """What it printed of a run; made by :func:`parsed`."""

    model: str
    """The core whose model was used."""
    width: int
    """Micro-operations dispatched a cycle."""
    regions: Mapping[str, Region]


class Simulation(NamedTuple):
    model: str
    width: int
    """As of :class:`Output`."""
    timings: tuple[Timing, ...]
    """One for each block."""


def find_mca(path: str | None = None) -> Mca:
    """llvm-mca as it is installed.

    Raises:
        ShiftedgeError: there is none that can be used; the sentence says what to install.
    """
    program, disassembler = (shutil.which(name, path=path) for name in ("llvm-mca", "llvm-mc"))
    found = None
    if program and disassembler:
        with contextlib.suppress(ShiftedgeError):
            said = _run([program, "--version"], "").stdout
            found = re.search(r"LLVM version (\d+)[.\d]*", said)
    if not program or not disassembler or not found:
        raise ShiftedgeError("There is no llvm-mca: run  apt-get install llvm")
    version = found[0].rpartition(" ")[2]
    if int(found[1]) < OLDEST:
        raise ShiftedgeError(
            f"llvm-mca is of version {version}, which is too old: install LLVM {OLDEST} or newer"
        )
    return Mca(Path(program), Path(disassembler), version)


def disassembled(mca: Mca, core: Core, codes: Collection[bytes]) -> dict[bytes, str]:
    """The text of each instruction; branches have distances. What is not one has no entry.

    Raises:
        ShiftedgeError: the disassembler failed.
    """
    every = list(dict.fromkeys(codes))
    lines = "\n".join(" ".join(f"{byte:#04x}" for byte in code) for code in every)
    # A core's own name fixes the instructions that it knows.
    options = [f"-triple={core.isa.triple}", f"-mcpu={core.cpu}", *core.isa.options]
    done = _run([mca.disassembler, "--disassemble", *options], lines + "\n")
    said = re.findall(r"<stdin>:(\d+):\d+: \w+: invalid instruction", done.stderr)
    valid = [code for number, code in enumerate(every, 1) if str(number) not in said]
    texts = [_plain(line) for line in done.stdout.splitlines() if not line.startswith("\t.")]
    texts = [text for text in texts if text]
    if len(texts) != len(valid):
        raise ShiftedgeError(
            f"{mca.disassembler.name} gave {len(texts)} of {len(valid)} instructions."
        )
    return dict(zip(valid, texts, strict=True))


def simulate(mca: Mca, core: Core, blocks: Sequence[Sequence[str]]) -> Simulation:
    """The cycles of each block, repeated for long.

    Raises:
        ShiftedgeError: LLVM has no model for the core, or llvm-mca failed.
    """
    pieces = {text: _pieces(text, core) for block in blocks for text in block}
    unknown = _without_model(mca, core, {one for parts in pieces.values() for one in parts})
    kept = [[text for text in block if unknown.isdisjoint(pieces[text])] for block in blocks]
    source = _marked("any", [core.isa.any]) + "".join(
        _marked(str(number), [one for text in texts for one in pieces[text]])
        for number, texts in enumerate(kept)
        if texts
    )
    short, long = (parsed(_simulated(mca, core, source, count).stdout) for count in ITERATIONS)
    turns, timings = ITERATIONS[1] - ITERATIONS[0], []
    for number, texts in enumerate(kept):
        if not texts:
            timings.append(Timing(0.0, 0, {}))
            continue
        before, after = (found.regions.get(str(number)) for found in (short, long))
        if before is None or after is None:
            raise ShiftedgeError(f"llvm-mca left out a block of {len(kept)}.")
        dispatch = (after.micro_operations - before.micro_operations) / turns / long.width
        cycles = (after.cycles - before.cycles) / turns
        timings.append(Timing(cycles, len(texts), {**after.units, "dispatch": dispatch}))
    return Simulation(long.model, long.width, tuple(timings))


def parsed(text: str) -> Output:
    """What llvm-mca printed with ``--json``.

    Raises:
        ShiftedgeError: it cannot be understood.
    """
    try:
        said: dict[str, Any] = json.loads(text)
        # Units there are several of have a number, as a byte, at the end of their name.
        units = [
            "".join(letter if letter.isprintable() else str(ord(letter)) for letter in name)
            for name in said["TargetInfo"]["Resources"]
        ]
        regions = {}
        for one in said["CodeRegions"]:
            summary, total = one["SummaryView"], len(one["Instructions"])
            pressure = {
                units[int(row["ResourceIndex"])]: float(row["ResourceUsage"])
                for row in one["ResourcePressureView"]["ResourcePressureInfo"]
                if row["InstructionIndex"] == total
            }
            cycles, micro_operations = int(summary["TotalCycles"]), int(summary["TotaluOps"])
            regions[str(one["Name"])] = Region(cycles, micro_operations, pressure)
        width = int(said["CodeRegions"][0]["SummaryView"]["DispatchWidth"])
        prefix = next((name.partition("Unit")[0] for name in units if "Unit" in name), "")
        model = MODELS.get(prefix, prefix or str(said["TargetInfo"]["CPUName"]))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ShiftedgeError(
            f"llvm-mca printed what cannot be understood ({type(error).__name__}: {error})."
        ) from error
    return Output(model, width, regions)


def _without_model(mca: Mca, core: Core, texts: Collection[str]) -> set[str]:
    """Those that llvm-mca refuses; it names but the first of them, so it is asked again."""
    left, refused = sorted(texts), set[str]()
    for _ in range(REJECTIONS):
        if not left:
            return refused
        source = _marked("check", left)
        done = _simulated(mca, core, source, 1, check=False)
        lines = ["", *source.splitlines()]
        # Which cannot be read, and the first that has no model.
        read = re.findall(r"<stdin>:(\d+):\d+: error:", done.stderr)
        wrong = [lines[int(number)] for number in read if int(number) < len(lines)]
        wrong += re.findall(r"note: instruction:(.*)", done.stderr)
        if done.returncode == 0 and not wrong:
            return refused
        shapes = {_shape(_plain(text)) for text in wrong}
        found = {text for text in left if _shape(text) in shapes}
        if not found:
            raise ShiftedgeError(_failure(done))
        refused |= found
        left = [text for text in left if text not in found]
    raise ShiftedgeError(f"llvm-mca has no model of {len(refused)} instructions and more.")


def _pieces(text: str, core: Core) -> list[str]:
    """The instruction as llvm-mca gets it: one, or a store and the advance of its address.

    llvm-mca starts an instruction when all it reads is there, so an address that a store advances
    would wait for the stored number, and a loop over an array in place would seem to take the
    latency of its whole computation each turn. Cores that reorder make the advance an operation of
    its own (Arm, Cortex-A57 and A72 software optimisation guides, chapter 4.8), which reads the
    address alone.
    """
    found = _ADVANCING.fullmatch(text)
    if found is None or core.in_order:
        return [text]
    return [found["store"], f"add {found['base']}, {found['base']}, #16"]


def _marked(name: str, texts: Sequence[str]) -> str:
    return "\n".join((f"# LLVM-MCA-BEGIN {name}", *texts, f"# LLVM-MCA-END {name}", ""))


def _plain(text: str) -> str:
    return " ".join(text.split())


def _shape(text: str) -> str:
    """The instruction without its numbers: an operation and its kinds of operands."""
    return re.sub(r"-?\d+", "0", text)


def _simulated(
    mca: Mca, core: Core, source: str, iterations: int, check: bool = True
) -> subprocess.CompletedProcess[str]:
    options = [f"-mtriple={core.isa.triple}", f"-mcpu={STAND_INS.get(core.cpu, core.cpu)}"]
    options += ["--json", f"--iterations={iterations}", "--instruction-info=0"]
    done = _run([mca.program, *core.isa.options, *options], source)
    if check and done.returncode != 0:
        raise ShiftedgeError(_failure(done))
    return done


def _run(words: Sequence[str | Path], source: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, input=source, capture_output=True, text=True, check=False,
            timeout=RUN_S, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ShiftedgeError(f"{Path(words[0]).name} did not run: {error}") from error


def _failure(done: subprocess.CompletedProcess[str]) -> str:
    name = Path(done.args[0]).name
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    said = lines[0].partition("error:")[2].strip() if lines else "it said nothing"
    return f"{name} ended with status {done.returncode}: {said}"
