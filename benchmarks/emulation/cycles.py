"""Cycles of what was executed, predicted for a named core with ``llvm-mca``; nothing is timed.

QEMU translates blocks that overlap, end at pages and are translated twice, so their counts are
first spread over the instructions in them. Code is then cut into straight runs; each costs its
cycles, times how often it was executed.

- A run that branches back to its own beginning, the body of an inner loop, costs the cycles of a
  turn in steady repetition, with everything that waits for a result of the turn before.
- Any other run has other code before and behind it. On a core that reorders it costs what its
  busiest unit takes (or the dispatch), as if it overlapped with that code entirely: a lower bound.
  Repeating it would make its first instructions wait for its last, which they do not. On a core
  that does not reorder it is repeated all the same, since its own waiting counts there.
- What is not simulated costs a slot of the dispatch an instruction, which is the least.

Caches, wrongly predicted branches and loads that wait for a store are not in it, so a real core
takes longer; by how much is not known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from shiftedge.benchmarks.emulation.mca import Core, Mca, Timing, disassembled, simulate
from shiftedge.benchmarks.emulation.qemu import Executions

COVERED = 0.999
"""Of each section's instructions: the hottest runs that make them up are simulated."""
PAGE = 4096
"""Bytes; code is ARM's or Thumb's a page at a time."""

_CONDITIONS = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al"
_BRANCH = re.compile(rf"(?:b(?:\.?(?:{_CONDITIONS}))?|cbn?z|tbn?z) (?:.*, )?#(-?\d+)")


class Run(NamedTuple):
    """Code that was executed from its first instruction to its last."""

    address: int
    code: list[bytes]
    times: int
    """How often."""


class Cycles(NamedTuple):
    instructions: int
    """Executed; counted, not predicted."""
    cycles: float
    """Predicted."""
    covered: int
    """Of the instructions, those that were simulated."""
    units: Mapping[str, float]
    """For how many cycles each unit of the core is busy; see
    :attr:`shiftedge.benchmarks.emulation.mca.Timing.units`."""

    @property
    def busiest(self) -> tuple[str, float]:
        """The unit that is busy for most of the cycles, and for which part of them."""
        name = max(self.units, key=lambda unit: self.units[unit], default="")
        return name, self.units[name] / self.cycles if name else 0.0


class Prediction(NamedTuple):
    version: str
    """Of llvm-mca."""
    model: str
    """The core whose scheduling model was used; often not the one that was asked for."""
    sections: tuple[Cycles, ...]

    @property
    def coverage(self) -> float:
        """The part of all instructions that was simulated."""
        every = sum(section.instructions for section in self.sections)
        return sum(section.covered for section in self.sections) / every if every else 1.0


def predict(mca: Mca, core: Core, sections: Sequence[Executions]) -> Prediction:
    """Predict the cycles of each section.

    Raises:
        ShiftedgeError: LLVM has no model for the core, or llvm-mca failed.
    """
    codes = {code: "" for section in sections for _, code in section if len(code) == 4}
    texts = disassembled(mca, core, codes)
    hot = [_hot(section, texts, core) for section in sections]
    blocks = list(dict.fromkeys(tuple(run.code) for runs in hot for run in runs))
    known = [[texts[code] for code in block if code in texts] for block in blocks]
    found = simulate(mca, core, known)
    at = {block: number for number, block in enumerate(blocks)}
    summed = []
    for section, runs in zip(sections, hot, strict=True):
        timed = []
        for run in runs:
            timing = found.timings[at[tuple(run.code)]]
            repeats = core.in_order or _is_loop(run, texts, core.isa.ahead)
            timed.append((run.times, timing, timing.cycles if repeats else timing.bound))
        summed.append(_summed(sum(section.values()), timed, found.width))
    return Prediction(mca.version, found.model, tuple(summed))


def straight_runs(executions: Executions, cuts: AbstractSet[int] = frozenset()) -> list[Run]:
    """The executions as runs: neighbours in memory with the same count.

    Args:
        executions: of each instruction.
        cuts: addresses at which a run begins in any case. Two loops, one after the other, that
            happen to have as many turns are told apart by the target of a branch back and by what
            follows it.
    """
    runs: list[Run] = []
    end = -1
    for instruction in sorted(executions):
        times, (address, code) = executions[instruction], instruction
        if times == 0:
            continue
        if address == end and times == runs[-1].times and address not in cuts:
            runs[-1].code.append(code)
        else:
            runs.append(Run(address, [code], times))
        end = address + len(code)
    return runs


def loop_cuts(executions: Executions, texts: Mapping[bytes, str], ahead: int = 0) -> set[int]:
    """Where loops begin and end: the targets of branches back, and what follows those branches.
    ``ahead`` is the bytes from a branch to where its distance is counted from."""
    cuts = set()
    for address, code in executions:
        target = _target(address, texts.get(code, ""), ahead)
        if target is not None and target <= address:
            cuts |= {target, address + len(code)}
    return cuts


def _target(address: int, text: str, ahead: int) -> int | None:
    """Where a branch goes to; None for other instructions."""
    found = _BRANCH.fullmatch(text)
    return address + ahead + int(found[1]) if found else None


def _is_loop(run: Run, texts: Mapping[bytes, str], ahead: int) -> bool:
    last = run.address + sum(map(len, run.code[:-1]))
    return _target(last, texts.get(run.code[-1], ""), ahead) == run.address


def _hot(section: Executions, texts: Mapping[bytes, str], core: Core) -> list[Run]:
    """The runs that make up COVERED of the section, without Thumb's."""
    thumb = {address // PAGE for address, code in section if len(code) != 4}
    runs = straight_runs(section, loop_cuts(section, texts, core.isa.ahead))
    runs.sort(key=lambda run: (-run.times * len(run.code), run.address))
    left = COVERED * sum(section.values())
    hot = []
    for run in runs:
        if left <= 0:
            break
        left -= run.times * len(run.code)
        if run.address // PAGE not in thumb:
            hot.append(run)
    return hot


def _summed(instructions: int, runs: Sequence[tuple[int, Timing, float]], width: int) -> Cycles:
    """Of a section: executions, what was simulated and the cycles taken for it, of each run."""
    covered = sum(times * timing.modelled for times, timing, _ in runs)
    cycles = sum(times * taken for times, _, taken in runs) + (instructions - covered) / width
    units: defaultdict[str, float] = defaultdict(float)
    for times, timing, _ in runs:
        for unit, busy in timing.units.items():
            units[unit] += times * busy
    return Cycles(instructions, cycles, covered, units)
