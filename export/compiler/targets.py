"""Targets: what the compiler knows of a processor. A board more is a row more.

A target is data only. The vector unit decides which tiles exist, the core's widths and caches which
of them is chosen (``cost``), the features which machines may load the library.

Sources of the numbers:

- Feature levels: the x86-64 psABI's micro-architecture levels, named as Linux names them in
  /proc/cpuinfo.
- Widths and latencies of the levels: the common ground of the cores that have them, after AMD's and
  Intel's optimisation manuals. 512-bit multiply-adds a cycle: 1 on Zen 4 (two passes) and on Xeons
  with one unit, 2 on others; loads a cycle: 2, on Zen 4 but for whole 512-bit vectors. Latency of a
  multiply-add: 4 cycles in all of them.
- Caches of the levels: the smallest among server and client cores of the last ten years, 32 KiB
  and 256 KiB (Haswell) or 1 MiB (Skylake-SP, Zen 4).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from shiftedge.export.compiler.schedules.tiles import AVX2, AVX512, VectorUnit
from shiftedge.runtime.bundle import cpu_features
from shiftedge.runtime.errors import CompileError

__all__ = ["TARGETS", "Core", "Target", "find_target"]


@dataclass(frozen=True)
class Core:
    """What one core does a cycle, and what lies close to it."""

    fmas: float
    """Vector multiply-adds a cycle."""
    loads: float
    """Vector loads (a broadcast is one) a cycle."""
    fma_latency: int
    """Cycles until a sum may be added to again."""
    l1_bytes: int
    """Data cache of a core."""
    l2_bytes: int
    """Of a core."""
    l2_bytes_per_cycle: float
    """Sustained, with prefetching."""
    broadcast_operands: bool
    """Whether a multiply-add can broadcast a number from memory. LLVM then lets each of a row's
    multiply-adds load it; otherwise one load a row, into a register, serves all."""
    memory_bytes_per_cycle: float
    """Sustained by one core from beyond its second-level cache."""


@dataclass(frozen=True)
class Target:
    """A processor to compile for."""

    name: str
    description: str
    architecture: str
    """As ``platform.machine()`` says there."""
    cpu: str
    """LLVM's name, which fixes the instructions that may be used."""
    triple: str
    """LLVM's, for the kernels."""
    zig: str
    """``zig cc -target``: for the C parts, with the oldest glibc to run on."""
    features: tuple[str, ...]
    """A processor must have all of them; names as in /proc/cpuinfo."""
    unit: VectorUnit
    core: Core
    cores: int
    """To plan for; how many threads run is chosen when the model is opened."""

    @property
    def variant(self) -> str:
        """Name of the library's folder in a bundle: the instructions, not the board."""
        return self.cpu

    def llvm(self) -> dict[str, object]:
        """As TVM takes it."""
        return {"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu}


_V3 = (
    "pni",
    "ssse3",
    "cx16",
    "lahf_lm",
    "popcnt",
    "sse4_1",
    "sse4_2",
    "avx",
    "avx2",
    "bmi1",
    "bmi2",
    "f16c",
    "fma",
    "abm",
    "movbe",
)
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="x86-64-v3",
            description="x86-64 with AVX2: Intel since Haswell (2013), AMD since Zen (2017)",
            architecture="x86_64",
            cpu="x86-64-v3",
            triple="x86_64-unknown-linux-gnu",
            zig="x86_64-linux-gnu.2.27",
            features=_V3,
            unit=AVX2,
            core=Core(2, 2, 4, 32 << 10, 256 << 10, 24, False, 8),
            cores=4,
        ),
        Target(
            name="x86-64-v4",
            description="x86-64 with AVX-512: Intel Xeon since 2017, AMD since Zen 4 (2022)",
            architecture="x86_64",
            cpu="x86-64-v4",
            triple="x86_64-unknown-linux-gnu",
            zig="x86_64-linux-gnu.2.27",
            features=_V4,
            unit=AVX512,
            core=Core(1, 2, 4, 32 << 10, 1 << 20, 24, True, 8),
            cores=4,
        ),
    )
}
"""By name. ``host`` is none of them: it is the best of them that this machine can run."""


def find_target(name: str) -> Target:
    """The target of that name; ``host`` is this machine's, with its own caches and cores.

    Raises:
        CompileError: unknown, or ``host`` on a machine that no target fits.
    """
    if name == "host":
        return _host()
    try:
        return TARGETS[name]
    except KeyError:
        known = ", ".join(("host", *TARGETS))
        raise CompileError(f"There is no target {name!r}; known are {known}.") from None


def _host() -> Target:
    machine, features = platform.machine(), cpu_features()
    fitting = [
        target
        for target in TARGETS.values()
        if target.architecture == machine and features.issuperset(target.features)
    ]
    if not fitting:
        raise CompileError(
            f"No target fits this machine ({machine}); known are {', '.join(TARGETS)}: name the "
            "one to compile for."
        )
    best = max(fitting, key=lambda target: len(target.features))
    core = replace(
        best.core,
        l1_bytes=_cache_bytes(1) or best.core.l1_bytes,
        l2_bytes=_cache_bytes(2) or best.core.l2_bytes,
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else best.cores
    return replace(best, name="host", description="this machine", core=core, cores=cores)


_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def _cache_bytes(level: int) -> int | None:
    """The data cache of that level of the first core, where Linux tells it."""
    for folder in sorted(_CACHES.glob("index*")):
        try:
            kind = (folder / "type").read_text().strip()
            found = int((folder / "level").read_text())
            size = (folder / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if found == level and kind in ("Data", "Unified") and size.endswith("K"):
            return int(size[:-1]) << 10
    return None
