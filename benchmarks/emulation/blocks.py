"""Which instructions were executed, and how often: what the plugin ``count.c`` recorded.

QEMU translates blocks that overlap, end at pages and are translated twice, so their counts are
first spread over the instructions in them; straight runs of code are then cut anew from
instructions that follow each other and were executed equally often. No sum changes on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import ShiftedgeError

END = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
"""In place of a block's number: the section ends."""


class Instruction(NamedTuple):
    address: int
    """In the guest."""
    code: bytes
    """As it lies in memory; 2 or 4 bytes."""


Executions = Mapping[Instruction, int]
"""How often each instruction was executed."""


class Run(NamedTuple):
    """Code that was executed from its first instruction to its last."""

    address: int
    code: list[bytes]
    times: int
    """How often."""


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


def _instructions(address: int, words: Sequence[int]) -> tuple[Instruction, ...]:
    found = []
    for word in words:
        size = word >> 32
        found.append(Instruction(address, (word & 0xFFFF_FFFF).to_bytes(4, "little")[:size]))
        address += size
    return tuple(found)
