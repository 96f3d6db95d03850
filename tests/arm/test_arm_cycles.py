"""Cycles predicted with llvm-mca: known latencies, what cannot be simulated, and failures."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from shiftedge.benchmarks.emulation.cycles import predict
from shiftedge.benchmarks.emulation.mca import Core, Mca, disassembled, find_mca, parsed, simulate
from shiftedge.benchmarks.emulation.qemu import Instruction
from shiftedge.runtime.errors import ShiftedgeError

A57 = Core("aarch64", "cortex-a57")
FMLA = b"\x20\x10\xa2\x4f"
"""fmla v0.4s, v1.4s, v2.s[1]"""
FMLA_3 = b"\x23\x10\xa2\x4f"
"""fmla v3.4s, v1.4s, v2.s[1]"""
BACK_1, BACK_2 = b"\xe1\xff\xff\x54", b"\xc1\xff\xff\x54"
"""b.ne one and two instructions back."""
INVALID = b"\xff\xff\xff\xff"


@pytest.fixture(scope="module")
def mca() -> Mca:
    try:
        return find_mca()
    except ShiftedgeError as error:
        pytest.skip(str(error))


def cycles(mca: Mca, *texts: str, core: Core = A57) -> float:
    [timing] = simulate(mca, core, [texts]).timings
    assert timing.modelled == len(texts)
    return timing.cycles


def test_known_latencies(mca: Mca) -> None:
    """Of the Cortex-A57, after Arm's software optimisation guide: a multiply-add of 4 numbers takes
    10 cycles, 4 until its sum can be added to, and one starts each cycle; an addition takes 1."""
    chain = "fmla v0.4s, v1.4s, v2.s[1]"
    assert cycles(mca, chain) == pytest.approx(4)
    assert cycles(mca, "fmla v1.4s, v1.4s, v2.4s") == pytest.approx(10)
    free = [f"fmla v{i}.4s, v30.4s, v31.s[1]" for i in range(8)]
    assert cycles(mca, *free) == pytest.approx(8)
    assert cycles(mca, "add x0, x0, x1") == pytest.approx(1)
    simulation = simulate(mca, A57, [[chain]])
    assert (simulation.model, simulation.width) == ("cortex-a57", 3)
    assert simulation.timings[0].bound == pytest.approx(1)


def test_a_store_does_not_hold_up_its_address(mca: Mca) -> None:
    """An array changed in place: a turn does not wait for what the turn before stores."""
    body = ["ldr q6, [x0]", "fmax v6.4s, v30.4s, v6.4s", "fmin v6.4s, v28.4s, v6.4s"]
    assert cycles(mca, *body, "str q6, [x0], #16") < 8
    assert cycles(mca, "stp x29, x30, [sp, #-16]!", "ldp x29, x30, [sp], #16") < 8


def test_the_model_of_another_core_is_named(mca: Mca) -> None:
    assert simulate(mca, Core("aarch64", "cortex-a72"), []).model == "cortex-a57"
    assert simulate(mca, Core("aarch64", "cortex-a53"), []).model == "cortex-a53"
    assert simulate(mca, Core("aarch64", "cortex-a76"), []).model in ("cortex-a57", "neoverse-n1")
    assert simulate(mca, Core("armv7l", "cortex-a15"), []).model == "cortex-a57"
    with pytest.raises(ShiftedgeError, match="unable to find instruction-level scheduling"):
        simulate(mca, Core("aarch64", "carmel"), [])


def test_32_bits(mca: Mca) -> None:
    core = Core("armv7l", "cortex-a15")
    code = {b"\x50\x0c\x02\xf2", b"\x01\x20\x81\xe2", b"\xfb\xff\xff\x1a"}
    assert set(disassembled(mca, core, code).values()) == {
        "vfma.f32 q0, q1, q0", "add r2, r1, #1", "bne #-20"
    }  # fmt: skip
    assert cycles(mca, "vfma.f32 q0, q1, q2", core=core) > 1
    assert cycles(mca, "vst1.32 {d16, d17}, [r0]!", "add r1, r1, #1", core=core) < 5


def test_what_is_not_an_instruction(mca: Mca) -> None:
    texts = disassembled(mca, A57, [FMLA, INVALID, BACK_1])
    assert texts == {FMLA: "fmla v0.4s, v1.4s, v2.s[1]", BACK_1: "b.ne #-4"}
    assert disassembled(mca, A57, []) == {}


def test_what_has_no_model_is_left_out(mca: Mca) -> None:
    blocks = [["add x0, x0, x1", "frobnicate x1", "frobnicate x2"], ["frobnicate x3"], []]
    first, second, third = simulate(mca, A57, blocks).timings
    assert (first.modelled, first.cycles) == (1, pytest.approx(1))
    assert (second.modelled, third.modelled) == (0, 0)


def loop(*codes: bytes, at: int, times: int) -> dict[Instruction, int]:
    return {Instruction(at + 4 * i, code): times for i, code in enumerate(codes)}


def test_a_loop_and_what_is_none(mca: Mca) -> None:
    """A loop waits for its sums; other code takes what its units take."""
    around = loop(FMLA, at=0x1000, times=100)
    inner = loop(FMLA, BACK_1, at=0x2000, times=10_000)
    prediction = predict(mca, A57, [inner, around, {}])
    body, once, nothing = prediction.sections
    assert (body.instructions, body.cycles) == (20_000, pytest.approx(40_000))
    assert (once.instructions, once.cycles) == (100, pytest.approx(100))
    assert body.busiest[1] == pytest.approx(1 / 4)
    assert (nothing.instructions, nothing.cycles, nothing.busiest) == (0, 0, ("", 0))
    assert (prediction.coverage, prediction.model) == (1, "cortex-a57")
    assert prediction.version == mca.version


def test_a_core_that_does_not_reorder_waits_everywhere(mca: Mca) -> None:
    core = Core("aarch64", "cortex-a53")
    [once] = predict(mca, core, [loop(FMLA, at=0x1000, times=100)]).sections
    assert once.cycles >= 2 * max(once.units.values())


def test_two_loops_one_behind_the_other(mca: Mca) -> None:
    """With as many turns each: two chains, not one body with two chains side by side."""
    both = loop(FMLA, BACK_1, FMLA_3, BACK_1, at=0, times=50)
    [found] = predict(mca, A57, [both]).sections
    assert found.cycles == pytest.approx(50 * (4 + 4))


def test_what_is_not_simulated_costs_a_slot_and_is_said(mca: Mca) -> None:
    code = loop(FMLA, INVALID, BACK_2, at=0, times=30) | {Instruction(0x9000, b"\x00\xbf"): 30}
    prediction = predict(mca, A57, [code])
    assert prediction.coverage == pytest.approx(60 / 120)
    assert prediction.sections[0].cycles == pytest.approx(30 * 4 + 60 / 3)


# Which llvm-mca, and what it may do wrong.


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def install(folder: Path, name: str, version: str, script: str = "exit 1") -> Path:
    folder.mkdir(exist_ok=True)
    script = f'[ "$1" = --version ] && echo "  Debian LLVM version {version}" && exit\n{script}'
    program(folder / name, script)
    program(folder / name.replace("llvm-mca", "llvm-mc"), script)
    return folder / name


def test_both_of_its_programs_are_found(tmp_path: Path) -> None:
    found = install(tmp_path, "llvm-mca", "22.1.8")
    assert find_mca(str(tmp_path)) == Mca(found, found.with_name("llvm-mc"), "22.1.8")
    found.with_name("llvm-mc").unlink()
    with pytest.raises(ShiftedgeError, match="There is no llvm-mca"):
        find_mca(str(tmp_path))


def test_none_or_too_old(tmp_path: Path) -> None:
    with pytest.raises(ShiftedgeError, match="run  apt-get install llvm"):
        find_mca(str(tmp_path))
    install(tmp_path, "llvm-mca", "11.0.1")
    with pytest.raises(ShiftedgeError, match=r"11\.0\.1, which is too old"):
        find_mca(str(tmp_path))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", "ended with status -11: it said nothing"),
        ("echo 'error: no such thing' >&2; exit 1", "status 1: no such thing"),
        ("echo nonsense", "cannot be understood"),
        ("echo '{}'", "cannot be understood"),
        ("echo '[1]'", "cannot be understood"),
        ("true", "cannot be understood"),
        (r"printf '\377\376'", "cannot be understood"),
    ],
)
def test_failures_are_sentences(script: str, message: str, tmp_path: Path) -> None:
    tool = install(tmp_path, "llvm-mca", "14.0.6", script)
    with pytest.raises(ShiftedgeError, match=message):
        simulate(find_mca(str(tool.parent)), A57, [["add x0, x0, x1"]])


def test_a_program_that_is_gone(tmp_path: Path) -> None:
    gone = Mca(tmp_path / "llvm-mca", tmp_path / "llvm-mc", "14.0.6")
    with pytest.raises(ShiftedgeError, match="llvm-mc did not run"):
        disassembled(gone, A57, [FMLA])
    install(tmp_path, "llvm-mca", "14.0.6", "echo text")
    with pytest.raises(ShiftedgeError, match="gave 1 of 2 instructions"):
        disassembled(gone, A57, [FMLA, BACK_1])


RECORDED = {
    "CodeRegions": [
        {
            "Instructions": ["fmla\tv0.4s, v1.4s, v2.s[1]", "add\tx0, x0, x1"],
            "Name": "7",
            "ResourcePressureView": {
                "ResourcePressureInfo": [
                    {"InstructionIndex": 0, "ResourceIndex": 6, "ResourceUsage": 1},
                    {"InstructionIndex": 0, "ResourceIndex": 7, "ResourceUsage": 1},
                    {"InstructionIndex": 1, "ResourceIndex": 1, "ResourceUsage": 0.5},
                    {"InstructionIndex": 1, "ResourceIndex": 2, "ResourceUsage": 0.5},
                    {"InstructionIndex": 2, "ResourceIndex": 1, "ResourceUsage": 0.5},
                    {"InstructionIndex": 2, "ResourceIndex": 2, "ResourceUsage": 0.5},
                    {"InstructionIndex": 2, "ResourceIndex": 6, "ResourceUsage": 1},
                    {"InstructionIndex": 2, "ResourceIndex": 7, "ResourceUsage": 1},
                ]
            },
            "SummaryView": {
                "BlockRThroughput": 1,
                "DispatchWidth": 3,
                "IPC": 0.46,
                "Instructions": 48,
                "Iterations": 24,
                "TotalCycles": 105,
                "TotaluOps": 48,
                "uOpsPerCycle": 0.46,
            },
        }
    ],
    "TargetInfo": {
        "CPUName": "cortex-a72",
        "Resources": [
            "A57UnitB", "A57UnitI.\0", "A57UnitI.\1", "A57UnitL", "A57UnitM", "A57UnitS",
            "A57UnitW", "A57UnitX",
        ],
    },
}  # fmt: skip
"""What llvm-mca 14.0.6 prints with --json, without what is not read."""


def test_recorded_output() -> None:
    output = parsed(json.dumps(RECORDED))
    assert (output.model, output.width) == ("cortex-a57", 3)
    [(name, region)] = output.regions.items()
    assert (name, region.cycles, region.micro_operations) == ("7", 105, 48)
    assert region.units == {"A57UnitI.0": 0.5, "A57UnitI.1": 0.5, "A57UnitW": 1, "A57UnitX": 1}


def test_an_unknown_model_keeps_its_name() -> None:
    changed = json.dumps(RECORDED).replace("A57Unit", "M9Unit")
    assert parsed(changed).model == "M9"
