"""What this machine's processor can do, less what the environment takes away.

``SHIFTEDGE_CPU_WITHOUT="avx512f avx512_vnni"`` makes a processor look poorer to everything here: to
the choice of a bundle's variant, to the compiler and to the benchmarks, and, since child processes
inherit it, to ``libmodel.so`` and ``shiftedge-run`` (``native/cpu/cpu_features.c``). So one machine
shows what another one would do. It adds nothing, and other libraries (numpy, ONNX Runtime, torch)
choose their own code as always.
"""

from __future__ import annotations

import operator
import os
import platform
import struct
from collections.abc import Mapping
from pathlib import Path

from shiftedge.runtime.errors import ModelError, SettingError
from shiftedge.runtime.words import shown

WITHOUT = "SHIFTEDGE_CPU_WITHOUT"
"""The environment variable: names as in /proc/cpuinfo, with spaces between."""
CPUINFO = Path("/proc/cpuinfo")

_X86 = (
    *("sse", "sse2", "pni", "pclmulqdq", "ssse3", "fma", "cx16", "sse4_1", "sse4_2", "movbe"),
    *("popcnt", "aes", "xsave", "avx", "f16c", "bmi1", "avx2", "bmi2", "avx512f", "avx512dq"),
    *("avx512ifma", "avx512cd", "avx512bw", "avx512vl", "avx512vbmi", "avx512_vbmi2"),
    *("avx512_vnni", "avx512_bitalg", "avx512_vpopcntdq", "avx512_fp16", "avx_vnni"),
    *("avx512_bf16", "lahf_lm", "abm"),
)
_ARM64 = (
    *("fp", "asimd", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp", "asimdhp"),
    *("asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "asimddp", "sha512", "sve"),
    *("asimdfhm", "dit", "uscat", "ilrcpc", "flagm", "ssbs", "sb", "paca", "pacg", "dcpodp"),
    *("sve2", "flagm2", "frint", "svei8mm", "svebf16", "i8mm", "bf16", "bti"),
)
_ARM32 = (
    *("half", "thumb", "fastmult", "vfp", "edsp", "neon", "vfpv3", "vfpv3d16", "tls", "vfpv4"),
    *("idiva", "idivt", "vfpd32", "lpae", "fphp", "asimdhp", "asimddp", "asimdfhm", "asimdbf16"),
    *("i8mm", "aes", "pmull", "sha1", "sha2", "crc32"),
)
KNOWN: Mapping[str, tuple[str, ...]] = {
    "x86_64": _X86,
    "i686": _X86,
    "aarch64": _ARM64,
    "armv7l": _ARM32,
}
"""By architecture, the features that :data:`WITHOUT` may name: those of cpu_features.c."""


def machine_name() -> str:
    """Architecture of this process, as ``platform.machine()`` names the CPU's own.

    A 32-bit system on a 64-bit kernel, as Raspberry Pi OS may be, loads 32-bit libraries, whatever
    the kernel says.
    """
    return architecture_of(platform.machine(), bits=8 * struct.calcsize("P"))


def architecture_of(machine: str, *, bits: int) -> str:
    """Whose libraries a system loads, as a variant names it.

    Args:
        machine: what ``uname -m`` says there, which is the kernel's.
    """
    if bits == 32:
        return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(machine, machine)
    return machine


ARMV8_IN_32_BIT = frozenset(
    ("half", "thumb", "fastmult", "vfp", "edsp", "neon", "vfpv3", "tls", "vfpv4", "idiva", "idivt")
)
"""What every 64-bit ARM core with NEON has when it runs 32-bit code, and a 64-bit kernel does not
list (arch/arm64/kernel/cpuinfo.c, compat_hwcap_str)."""


def cpu_features(path: str | Path | None = None) -> frozenset[str]:
    """What a CPU can do, by Linux's names ("avx2", "asimddp"); empty where Linux does not tell.

    Where cores differ, only what all of them can do: a thread may run on any.

    Args:
        path: a file in the form of /proc/cpuinfo; None is this machine's, less :func:`taken_away`.

    Raises:
        SettingError: as for :func:`taken_away`.
    """
    without = taken_away() if path is None else frozenset()
    try:
        text = Path(path or CPUINFO).read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, or a container that hides it
        return frozenset()
    return features_of(text, bits=8 * struct.calcsize("P")) - without


def taken_away() -> frozenset[str]:
    """The features that the environment takes away from this machine's CPU, see :data:`WITHOUT`.

    Raises:
        SettingError: it names something that no CPU of this architecture has.
    """
    words = frozenset(os.environ.get(WITHOUT, "").split())
    known = KNOWN.get(machine_name(), ())
    for word in sorted(words.difference(known)):
        import difflib

        near = difflib.get_close_matches(word, known, 3, 0.5)
        raise SettingError(
            f"{WITHOUT} names {word[:100]!r}, which is no CPU feature that is known on "
            f"{machine_name()}: expected names as in /proc/cpuinfo with spaces between, such as "
            f"{', '.join(near or known[-3:]) or 'those of another architecture'}."
        )
    return words


def features_of(text: str, *, bits: int) -> frozenset[str]:
    """:func:`cpu_features` of a text, such as another machine's /proc/cpuinfo, whose programs'
    addresses have 32 or 64 bits."""
    cores: list[frozenset[str]] = []
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):  # x86's word and ARM's
            cores.append(frozenset(value.split()))
    if not cores:
        return frozenset()
    common = frozenset.intersection(*cores)
    if bits == 32 and "asimd" in common:
        common |= ARMV8_IN_32_BIT
    return common


THREADS_MOST = 4
"""One frame is a small problem: past four cores a step gains little and the rest of the board
starves."""


def usable_cores() -> int:
    """Cores that this process may use, at least 1."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def chosen_threads(threads: object = None) -> int:
    """Threads for one step.

    Args:
        threads: as asked for, a whole number from 1; more than the cores that this process may use
            are lowered to them, as the compiled library does: they would only wait for each other.
            None: those cores, at most 4.

    Raises:
        ModelError: not such a number.
    """
    if threads is None:
        return min(THREADS_MOST, usable_cores())
    try:
        number = 0 if isinstance(threads, bool) else operator.index(threads)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise ModelError(f"threads is {shown(threads)}; expected a whole number from 1, or None.")
    return min(number, usable_cores())
