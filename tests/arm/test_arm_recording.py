"""What the counting plugin records, spread over instructions and cut into runs."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.benchmarks.emulation.cycles import loop_cuts, straight_runs
from shiftedge.benchmarks.emulation.qemu import Instruction, read_recording, spread
from shiftedge.runtime.errors import ShiftedgeError

END = 0xFFFF_FFFF_FFFF_FFFF


@st.composite
def overlapping_blocks(draw: st.DrawFn) -> list[tuple[list[Instruction], int]]:
    """Blocks of one piece of code with instructions of 2 and 4 bytes, and their executions."""
    sizes = draw(st.lists(st.sampled_from([2, 4]), min_size=1, max_size=30))
    places = [0x1000 + sum(sizes[:i]) for i in range(len(sizes))]
    code = [
        Instruction(place, bytes([i] * size))
        for i, (place, size) in enumerate(zip(places, sizes, strict=True))
    ]
    found = []
    for _ in range(draw(st.integers(0, 12))):
        begin = draw(st.integers(0, len(code) - 1))
        end = draw(st.integers(begin + 1, len(code)))
        found.append((code[begin:end], draw(st.integers(0, 5))))
    return found


@given(overlapping_blocks(), st.sets(st.integers(0x1000, 0x1080)))
def test_no_execution_is_lost_or_added(
    blocks: list[tuple[list[Instruction], int]], cuts: set[int]
) -> None:
    expected: Counter[Instruction] = Counter()
    for block, count in blocks:
        expected.update(dict.fromkeys(block, count))
    executions = spread(blocks)
    assert +Counter(executions) == +expected
    found: Counter[Instruction] = Counter()
    begins = set()
    for run in straight_runs(executions, cuts):
        begins.add(run.address)
        address = run.address
        for code in run.code:
            assert address == run.address or address not in cuts
            found[Instruction(address, code)] += run.times
            address += len(code)
    assert found == +expected
    assert cuts & {instruction.address for instruction in +expected} <= begins


@given(overlapping_blocks())
def test_runs_are_as_long_as_they_can_be(blocks: list[tuple[list[Instruction], int]]) -> None:
    runs = straight_runs(spread(blocks))
    for run, following in itertools.pairwise(runs):
        end = run.address + sum(map(len, run.code))
        assert end < following.address or run.times != following.times


def test_two_loops_with_as_many_turns_are_told_apart() -> None:
    """Their counts are the same; the branches back are not."""
    texts = {b"0000": "add", b"1111": "b.ne #-4", b"2222": "mul", b"3333": "b.lo #-4"}
    executions = {Instruction(4 * i, code): 9 for i, code in enumerate(texts)}
    assert len(straight_runs(executions)) == 1
    cuts = loop_cuts(executions, texts)
    assert cuts == {0, 8, 16}
    assert [run.address for run in straight_runs(executions, cuts)] == [0, 8]


@pytest.mark.parametrize("text", ["b #8", "bl #-8", "blx #-8", "bic r0, r1, #-8", "tbz w0, #3, #4"])
def test_what_is_no_branch_back(text: str) -> None:
    assert loop_cuts({Instruction(64, b"....."): 1}, {b".....": text}) == set()


@pytest.mark.parametrize("text", ["b #-8", "b.ne #-8", "cbnz x1, #-8", "tbz w0, #3, #-8"])
def test_branches_back(text: str) -> None:
    assert loop_cuts({Instruction(64, b"...."): 1}, {b"....": text}) == {56, 68}


def written(folder: Path, words: list[int]) -> Path:
    file = folder / "blocks"
    file.write_bytes(np.array(words, np.uint64).tobytes())
    return file


BLOCKS = [7, 0x100, 2, 4 << 32 | 0x04030201, 2 << 32 | 0x0605, 9, 0x104, 1, 2 << 32 | 0x0605]


def test_a_recording(tmp_path: Path) -> None:
    sections = [7, 3, END, 6, 9, 5, 7, 1, END, 13, END, 13]
    recording = read_recording(written(tmp_path, sections + BLOCKS))
    assert len(recording.sections) == 3
    first, second = Instruction(0x100, b"\1\2\3\4"), Instruction(0x104, b"\5\6")
    assert recording.between(0, 1) == {first: 1, second: 6}
    assert recording.between(0, 2) == recording.between(0, 1)
    assert recording.between(-1, 1) == {first: 4, second: 9}


@pytest.mark.parametrize("lost", [1, 3, 5, 10, 12, 14])
def test_a_recording_that_is_cut_short(lost: int, tmp_path: Path) -> None:
    words = [7, 3, END, 6, 9, 1, END, 7, *BLOCKS]
    read_recording(written(tmp_path, words))
    with pytest.raises(ShiftedgeError):
        read_recording(written(tmp_path, words[:-lost]))
