"""The guard against the wrong CPU: a sentence instead of SIGILL."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.fake_library import HERE, NATIVE, Fake, build, compilers, run_program

from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.cpu import KNOWN, WITHOUT, cpu_features

OK, ARGUMENT, PROGRAM, CPU = 0, 1, 8, 9
NAMES = sorted(set(re.findall(r'\{"(\w+)", ', (NATIVE / "cpu/cpu_features.c").read_text())))
GUARD = [NATIVE / "cpu/cpu_features.c", NATIVE / "error.c", HERE / "guard.c"]
ALIASES = {"sse3": "pni", "lzcnt": "abm"}
"""What LLVM calls differently from Linux."""
X86_64_V4 = (
    *("pni", "ssse3", "cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "avx", "avx2", "bmi1"),
    *("bmi2", "f16c", "fma", "abm", "movbe", "avx512f", "avx512bw", "avx512cd", "avx512dq"),
    *("avx512vl", "avx512_vnni", "avx512_bf16", "lzcnt", "sse3"),
)


def asks_for(*features: str) -> str:
    return f'-DFAKE_CPU_FEATURES="{" ".join(features)}"'


@pytest.fixture(scope="module")
def guard(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that says what features.c says of the names on its command line."""
    path = tmp_path_factory.mktemp("guard") / "guard"
    build(compiler, path, GUARD)
    return path


@pytest.fixture(scope="module")
def answers(guard: Path) -> dict[str, str]:
    """What features.c says of every name that it knows on some architecture."""
    lines = run_program([guard, *NAMES]).stdout.splitlines()
    assert lines[-1].startswith(f"{PROGRAM} ")  # names of all architectures
    return dict(line.split() for line in lines[:-1])


@pytest.mark.hosts
def test_every_answer_is_the_kernels(answers: dict[str, str]) -> None:
    listed = cpu_features()
    assert listed, "there is no /proc/cpuinfo here"
    known = {name: answer for name, answer in answers.items() if answer != "unknown"}
    assert len(known) > 20
    for name, answer in known.items():
        assert answer == ("yes" if ALIASES.get(name, name) in listed else "no"), name


def test_the_names_that_targets_use(answers: dict[str, str]) -> None:
    names = {
        "x86_64": X86_64_V4,
        "aarch64": ("asimd", "asimddp", "fphp", "asimdhp", "atomics", "i8mm", "bf16"),
        "armv7l": ("neon", "vfpv4", "idiva"),
    }
    for name in names.get(platform.machine(), ()):
        assert answers[name] != "unknown"


def test_a_cpu_that_has_it_all(build_fake: Callable[..., Path], answers: dict[str, str]) -> None:
    mine = [name for name, answer in answers.items() if answer == "yes"]
    fake = Fake(build_fake(asks_for(*mine)))
    fake.close(fake.open(2))
    for blank in ("", "   "):
        fake = Fake(build_fake(asks_for(blank)))
        fake.close(fake.open())


@pytest.mark.hosts
def test_a_cpu_that_lacks_something(
    build_fake: Callable[..., Path], answers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [name for name, answer in answers.items() if answer == "yes"]
    taken = mine[-1]
    monkeypatch.setenv(WITHOUT, f"{taken} {os.environ.get(WITHOUT, '')}")
    path = build_fake(asks_for(mine[0], taken, mine[1]))
    fake = Fake(path)
    sentence = (
        f"This libmodel.so needs a CPU with {taken}, which this one has not: compile the "
        "model for another target."
    )
    assert fake.try_open() == (CPU, None)
    assert fake.error() == sentence
    with pytest.raises(ModelError, match=re.escape(f"{path}: {sentence}")):
        NativeEngine(path)


@pytest.mark.parametrize("name", ["quantum", "avx22", "av", "x" * 31, "x" * 32, "x" * 400])
def test_a_name_that_nobody_knows(build_fake: Callable[..., Path], name: str) -> None:
    fake = Fake(build_fake(asks_for("", name), "-O0"))
    assert fake.try_open() == (PROGRAM, None)
    assert f"the CPU feature {name[:100]}, which is not known on" in fake.error()
    assert fake.error().endswith("compile the model again.")


def test_both_languages_know_the_same_names() -> None:
    """What the environment may name; C has two bits under a second name."""
    tables = re.findall(
        r"feature features\[\] = {\n(.*?)\n};", (NATIVE / "cpu/cpu_features.c").read_text(), re.S
    )
    in_c = [set(re.findall(r'\{"(\w+)"', table)) - set(ALIASES) for table in tables]
    assert in_c == [set(KNOWN[name]) for name in ("x86_64", "aarch64", "armv7l")]
    assert KNOWN["i686"] == KNOWN["x86_64"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are x86's")
@pytest.mark.hosts
@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ("sse2", {"sse2"}),
        ("  avx2\tsse4_2\n", {"avx2", "sse4_2"}),
        ("pni", {"pni", "sse3"}),
        ("lzcnt", {"abm", "lzcnt"}),
        ("avx512_fp16", {"avx512_fp16"}),
    ],
)
def test_what_the_environment_takes_away(
    words: str,
    gone: set[str],
    answers: dict[str, str],
    guard: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not there, all else is as it was, and a library that needs it does not open."""
    monkeypatch.setenv(WITHOUT, f"{os.environ.get(WITHOUT, '')} {words}")
    *lines, _ = run_program([guard, *NAMES]).stdout.splitlines()
    expected = {name: "no" if name in gone else answer for name, answer in answers.items()}
    assert dict(line.split() for line in lines) == expected
    *_, last = run_program([guard, "sse", *sorted(gone)]).stdout.splitlines()
    assert last.startswith(f"{CPU} This libmodel.so needs a CPU with {min(gone)}, which this")


@pytest.mark.parametrize("word", ["avx22", "avx512", "avx2,fma", "-avx2", "x" * 400])
def test_the_environment_names_what_nobody_knows(
    word: str, build_fake: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said when a model is opened, and again each time; a later model opens once it is right."""
    fake = Fake(build_fake(asks_for()))
    monkeypatch.setenv(WITHOUT, f"{os.environ.get(WITHOUT, '')} {word} sse2")
    for _ in range(2):
        assert fake.try_open() == (ARGUMENT, None)
        assert f"{WITHOUT} names {word[:100]}, which is no CPU feature" in fake.error()
    monkeypatch.setenv(WITHOUT, "")
    fake.close(fake.open())


EMULATED = [
    ("x86_64", "qemu64", ("cx16", "pni"), "avx2"),
    ("x86_64", "Nehalem", ("sse4_2", "popcnt"), "avx"),
    ("x86_64", "max", ("avx2", "fma", "bmi2", "abm"), "avx512f"),
    ("aarch64", "cortex-a53", ("asimd", "crc32"), "asimddp"),
    ("aarch64", "cortex-a76", ("asimddp", "asimdhp", "atomics"), "i8mm"),
    ("aarch64", "max", ("asimddp", "i8mm", "bf16", "sve"), ""),
    ("arm", "cortex-a7", ("neon", "vfpv4", "idiva"), "asimddp"),
    ("arm", "cortex-a9", ("neon", "vfpv3"), "vfpv4"),
]


@pytest.mark.parametrize(("architecture", "cpu", "features", "missing"), EMULATED)
def test_other_cpus(
    tmp_path: Path, architecture: str, cpu: str, features: tuple[str, ...], missing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Under QEMU, which emulates one CPU after another."""
    monkeypatch.delenv(WITHOUT, raising=False)  # of this machine, not of those
    qemu = shutil.which(f"qemu-{architecture}-static") or shutil.which(f"qemu-{architecture}")
    command = compilers().get("zig")
    if qemu is None or command is None:
        pytest.skip("needs QEMU's user emulation (qemu-user-static) and ziglang")
    suffix = "eabihf" if architecture == "arm" else ""
    flags = ["-target", f"{architecture}-linux-musl{suffix}", "-static"]
    path = build(command, tmp_path / "guard", GUARD, *flags)
    words = [*features, *missing.split()]
    lines = run_program([qemu, "-cpu", cpu, path, *words]).stdout.splitlines()
    assert lines[: len(features)] == [f"{name} yes" for name in features]
    if missing:
        assert lines[-1].startswith(f"{CPU} This libmodel.so needs a CPU with {missing}, which")
    else:
        assert lines[-1].startswith(f"{OK} ")
