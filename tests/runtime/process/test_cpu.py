"""What the processor can do: as Linux tells it, and less what the environment takes away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.__main__ import main
from shiftedge.runtime.engines.onnxruntime import EXACT_INT8, VNNI, ask_for_exact_int8
from shiftedge.runtime.errors import SettingError
from shiftedge.runtime.process import cpu
from shiftedge.runtime.process.cpu import KNOWN, WITHOUT, cpu_features, machine_name, taken_away

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
flags\t\t: fpu sse2 pni fma sse4_2 avx avx2
bogomips\t: 4000.0
processor\t: 1
flags\t\t: fpu sse2 pni fma sse4_2 avx avx2 avx512f
"""
AARCH64 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41

processor\t: 1
Features\t: fp asimd evtstrm crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
Hardware\t: Raspberry Pi 5
"""
ARMV7 = """processor\t: 0
model name\t: ARMv7 Processor rev 3 (v7l)
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
"""


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        (X86, {"avx2", "fma", "pni"}, {"avx512f", "asimd", "GenuineIntel"}),
        (AARCH64, {"asimd", "asimddp", "atomics"}, {"i8mm", "avx2", "0x41"}),
        (ARMV7, {"neon", "vfpv4"}, {"asimd"}),
        ("", set(), {"avx2"}),
        ("flags\nflags:\n: x\n", set(), {"x"}),
    ],
)
def test_cpu_features(tmp_path: Path, text: str, present: set[str], absent: set[str]) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    found = cpu_features(path)
    assert present <= found
    assert not absent & found


def test_cpu_features_where_linux_does_not_tell(tmp_path: Path) -> None:
    assert cpu_features(tmp_path / "absent") == frozenset()
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    assert cpu_features(tmp_path / "binary") == frozenset()


def test_a_32_bit_system_on_a_64_bit_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(AARCH64)
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    assert machine_name() == "aarch64"
    assert "neon" not in cpu_features(path)
    monkeypatch.setattr(cpu.struct, "calcsize", lambda letter: 4)
    assert machine_name() == "armv7l"
    assert {"neon", "vfpv4", "asimddp"} <= cpu_features(path)


# What the environment takes away.


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An x86-64 machine with AVX-512 and VNNI, whatever this one is."""
    path = tmp_path / "cpuinfo"
    path.write_text("flags\t: fpu sse2 avx2 fma avx512f avx512_vnni erms\n")
    monkeypatch.setattr(cpu, "CPUINFO", path)
    monkeypatch.setattr(cpu, "machine_name", lambda: "x86_64")
    monkeypatch.delenv(WITHOUT, raising=False)


@pytest.mark.hosts
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("", {"fpu", "sse2", "avx2", "fma", "avx512f", "avx512_vnni", "erms"}),
        ("avx512_vnni", {"fpu", "sse2", "avx2", "fma", "avx512f", "erms"}),
        (" avx512f\tavx512_vnni\navx512f ", {"fpu", "sse2", "avx2", "fma", "erms"}),
        # What it has not cannot be taken away, and nothing is added.
        ("avx512_bf16 avx_vnni", {"fpu", "sse2", "avx2", "fma", "avx512f", "avx512_vnni", "erms"}),
    ],
)
def test_features_are_taken_away(
    words: str, left: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WITHOUT, words)
    assert cpu_features() == left


@pytest.mark.usefixtures("machine")
def test_another_machines_features_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "another"
    path.write_text(X86)
    monkeypatch.setenv(WITHOUT, "avx2")
    assert "avx2" in cpu_features(path)
    assert "avx2" not in cpu_features()


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("avx512_vnni avx512vnni", r"names 'avx512vnni', which .* such as avx512_vnni"),
        ("avx512", r"names 'avx512', which .* such as avx512"),
        ("avx512f,avx512_vnni", r"names 'avx512f,avx512_vnni', .* with spaces between"),
        ("asimd", r"names 'asimd', which is no CPU feature that is known on x86_64: expected"),
        ("-avx2", r"names '-avx2', which .* such as avx2"),
        ("\x1b[31m", r"names '\\x1b\[31m', which"),
        ("x" * 100_000, r"names 'x{100}', which"),
    ],
)
def test_a_name_that_nobody_knows(
    words: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WITHOUT, words)
    with pytest.raises(SettingError, match=f"^{WITHOUT} {message}") as error:
        cpu_features()
    assert str(error.value).count("\n") == 0
    assert len(str(error.value)) < 400


@pytest.mark.usefixtures("machine")
@given(st.lists(st.sampled_from([*KNOWN["x86_64"], "avx512", "AVX2", "fma4"])))
def test_only_what_is_named(words: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WITHOUT, " ".join(words))
        if set(words) <= set(KNOWN["x86_64"]):
            assert taken_away() == set(words)
        else:
            with pytest.raises(SettingError):
                taken_away()


@pytest.mark.usefixtures("machine")
def test_the_engine_asks_for_exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    options = pytest.importorskip("onnxruntime").SessionOptions
    for words, asked in (("", False), (" ".join(VNNI), True)):
        monkeypatch.setenv(WITHOUT, words)
        chosen = options()
        ask_for_exact_int8(chosen)
        if asked:
            assert chosen.get_session_config_entry(EXACT_INT8[0]) == EXACT_INT8[1]
        else:
            with pytest.raises(RuntimeError, match="x64quantprecision"):
                chosen.get_session_config_entry(EXACT_INT8[0])


def test_the_command_line_says_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a list of targets, which begins with this machine."""
    monkeypatch.setenv(WITHOUT, "quantum")
    assert main(["compile", "--list-targets"]) == 1
    [said] = capsys.readouterr().err.splitlines()
    assert re.search(rf"{WITHOUT} names 'quantum', which is no CPU feature", said)
