"""libmodel.so for ARM as a file, and the code in it; nothing is run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")

from kit.compiled import prepared
from kit.elf import Elf

from shiftedge.export.compiler.backends.cpu.llvm.lower import compile_kernels
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.targets import TARGETS, find_target, find_variant, variants_of
from shiftedge.runtime.bundle import Bundle

Get = Callable[[str], Path]
Bundles = Callable[[str, str], Path]
OLDEST_GLIBC = (2, 27)


@pytest.fixture(params=["rpi4", "rpi3-armv7", "rpi5"])
def elf(request: pytest.FixtureRequest, bundles: Bundles) -> Elf:
    bundle = Bundle.open(bundles("gestures", request.param))
    [variant] = bundle.manifest.variants
    found = Elf(bundle.folder / variant.library)
    expected = Elf.AARCH64 if variant.architecture == "aarch64" else Elf.ARM
    assert (found.machine, found.wide) == (expected, variant.architecture == "aarch64")
    assert expected != Elf.ARM or found.flags & Elf.ARM_HARD_FLOAT
    return found


def test_it_needs_the_c_library_alone(elf: Elf) -> None:
    allowed = re.compile(r"lib[cm]\.so\.6|libpthread\.so\.0|ld-linux[\w.-]*\.so\.\d")
    assert elf.needed()
    assert all(allowed.fullmatch(name) for name in elf.needed()), elf.needed()


def test_it_runs_with_an_old_c_library(elf: Elf) -> None:
    versions = elf.versions()
    assert versions
    for name in versions:
        found = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", name)
        assert found, f"{name} is of another library"
        assert (int(found[1]), int(found[2])) <= OLDEST_GLIBC, name


def test_nothing_of_it_is_writable_and_executable(elf: Elf) -> None:
    flags = dict(elf.segments)
    assert flags[elf.GNU_STACK] & 1 == 0, "an executable stack"
    assert elf.GNU_RELRO in flags
    assert not elf.writes_to_its_code()
    for kind, flag in elf.segments:
        assert kind != elf.LOAD or flag & 3 != 3, "a segment to write to and to run"


@pytest.mark.parametrize("target", [name for name in TARGETS if not name.startswith("x86")])
def test_every_board_has_its_bundle(target: str, bundles: Bundles) -> None:
    """It compiles and links, for the machine that it says."""
    bundle = Bundle.open(bundles("gestures", target))
    chosen = variants_of(find_target(target), "fp32")
    assert len(bundle.manifest.variants) == len(chosen)
    for variant, of in zip(bundle.manifest.variants, chosen, strict=True):
        assert (variant.architecture, variant.features) == (of.architecture, of.features)
        assert bundle.variant(of.architecture, of.features) == variant
        machine = Elf(bundle.folder / variant.library).machine
        assert machine == (Elf.AARCH64 if of.architecture == "aarch64" else Elf.ARM)
    assert bundle.manifest.numerics["verified"] is False


# The code.


def innermost_loops(assembly: str) -> list[list[str]]:
    """The lines of each loop that holds no other: from a label to a branch back to it."""
    lines = assembly.splitlines()
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        if found := re.match(r"(\.L\w+):", line):
            labels[found[1]] = number
        elif re.match(r"\s+(b|b\.\w+|cbn?z|tbn?z)\s", line):
            target = line.split("//")[0].split(",")[-1].split()[-1]
            if target in labels:
                loops.append((labels[target], number))
    inner = [
        (begin, end)
        for begin, end in loops
        if not any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in loops)
    ]
    return [lines[begin : end + 1] for begin, end in inner]


def test_innermost_loops_are_found() -> None:
    text = ".L0:\n\tadd\n.L1:\n\tfmla v0\n\tb.ne\t.L1\n\tcbnz\tw1, .L0\n\tb\t.L2\n.L2:\n\tret\n"
    assert innermost_loops(text) == [[".L1:", "\tfmla v0", "\tb.ne\t.L1"]]


def stack_lines(code: str, loop: list[str]) -> list[str]:
    """The lines of a loop that read or write the stack. x29 is a register like the others where the
    function's entry does not make it the frame pointer."""
    framed = re.search(r"(?m)^\s+(mov|add)\s+x29, sp\b", code) is not None
    base = r"\[(sp|x29)\b" if framed else r"\[sp\b"
    return [line for line in loop if re.search(base, line)]


def test_lines_of_the_stack_are_told() -> None:
    loop = ["\tldp\tq1, q2, [x29, #-64]", "\tldr\tq3, [sp]", "\tldr\tq4, [x2]"]
    assert stack_lines("\tldr\tx0, [x1]\n", loop) == loop[1:2]
    assert stack_lines("\tadd\tx29, sp, #16\n", loop) == loop[:2]
    assert stack_lines("\tmov\tx29, sp\n", loop) == loop[:2]


@pytest.mark.parametrize(("name", "most"), [("gestures", 41), ("mobilenet-1.0@224x224", 0)])
def test_inner_loops_keep_their_sums_in_registers(name: str, most: int, exported: Get) -> None:
    """An accumulator that LLVM puts on the stack costs a load and a store a step.

    ``most`` is what is left, in lines of assembly: sums so short (8 channels) that LLVM writes them
    out whole and keeps the weights of the next tile, too, on the stack. Lower it when it can be
    lower.
    """
    target = find_variant("rpi4")
    data, spec = read_model(exported(name))
    step, _ = prepared(data, spec, target)
    assembly = compile_kernels(step.kernels, target.llvm(), target.unit.lanes).text("asm")
    found, loops = [], 0
    parts = re.split(r"(?m)^(k\w+):.*$", assembly)
    for kernel, code in zip(parts[1::2], parts[2::2], strict=True):
        for loop in innermost_loops(code):
            if any("fmla" in line for line in loop):
                loops += 1
                spilled = stack_lines(code, loop)
                found += [(kernel, len(spilled), len(loop))] if spilled else []
    assert loops >= len(step.calls) / 2
    assert sum(lines for _, lines, _ in found) <= most, found
