"""Processors: what the compiler knows of each. A processor more is a row more.

Data only. The vector unit decides which tiles exist, the core's widths and caches which of them is
chosen (``cost``), the features which machines may load the library.

Sources of the numbers:

- Feature levels: the x86-64 psABI's micro-architecture levels, named as Linux names them in
  /proc/cpuinfo.
- Widths and latencies of the levels: the common ground of the cores that have them, after AMD's and
  Intel's optimisation manuals. 512-bit multiply-adds a cycle: 1 on Zen 4 (two passes) and on Xeons
  with one unit, 2 on others; loads a cycle: 2, on Zen 4 but for whole 512-bit vectors. Latency of a
  multiply-add: 4 cycles in all of them. With AVX2 4 instructions a cycle: Intel's from Haswell to
  Skylake rename no more.
- Caches of the levels: the smallest among server and client cores of the last ten years, 32 KiB
  and 256 KiB (Haswell) or 1 MiB (Skylake-SP, Zen 4).
- Boards' cores: ``Target.source``. Bytes a cycle from caches and memory are estimates for all.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shiftedge.export.compiler.backends.base import TargetVariant
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    AVX2,
    AVX2_VNNI,
    AVX512,
    AVX512_BF16,
    AVX512_VNNI,
    NEON,
    NEON32,
    NEON_DOT,
    NEON_PAIRS,
    VectorUnit,
)
from shiftedge.runtime.process.cpu import cpu_features, machine_name


@dataclass(frozen=True)
class CpuCore:
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
    issue: float = math.inf
    """Instructions a cycle, where these and not the units that they need may bound a loop."""


@dataclass(frozen=True)
class Cpu:
    """A processor, as kernels use it."""

    cpu: str
    """LLVM's name, which fixes the instructions that may be used."""
    features: tuple[str, ...]
    """A machine must have all of them; names as in /proc/cpuinfo."""
    unit: VectorUnit
    core: CpuCore
    extensions: tuple[str, ...] = ()
    """Features beyond those of ``cpu``, as LLVM calls them, such as "avx512vnni"; a variant is
    named after the first."""

    @property
    def name(self) -> str:
        """See :attr:`Device.name`."""
        return "-".join((self.cpu, *self.extensions[:1]))

    def facts(self) -> Mapping[str, Any]:
        """See :meth:`Device.facts`."""
        return {
            "vector_bits": 32 * self.unit.lanes,
            "l1_bytes": self.core.l1_bytes,
            "l2_bytes": self.core.l2_bytes,
        }


@dataclass(frozen=True)
class CpuVariant(TargetVariant):
    """A processor of a board in a precision: what schedules, costs and lowering are made for."""

    device: Cpu

    @property
    def unit(self) -> VectorUnit:
        return self.device.unit

    @property
    def core(self) -> CpuCore:
        return self.device.core

    def using(self, **changes: Any) -> CpuVariant:
        """The same with another ``unit`` or ``core``, or whatever a :class:`Cpu` has."""
        return replace(self, device=replace(self.device, **changes))

    @property
    def dots(self) -> tuple[str, ...]:
        """Kinds of ``Dot`` that the processor has an instruction for, of the unit's width."""
        # A stand-in has vectors of another processor: 16 lanes of pmaddwd are AVX-512's.
        wide = self.unit.lanes > 8
        found = {
            "avx512bw" if wide else "avx2": ("pmaddwd",),
            "avx512_vnni" if wide else "avx_vnni": ("vpdpbusd",),
            "avx512_bf16": ("vdpbf16ps",),
            "asimddp": ("sdot",),
            "asimd": ("smlal", "smull"),
        }
        kinds = (kinds for feature, kinds in found.items() if feature in self.features)
        return tuple(itertools.chain.from_iterable(kinds))

    def llvm(self) -> dict[str, object]:
        """As TVM takes it."""
        found: dict[str, object] = {
            "kind": "llvm",
            "mtriple": self.target.triple,
            "mcpu": self.device.cpu,
            # Schedules are vectorised already. What LLVM would still make vectors of is the rows'
            # addresses, to take them apart again in the innermost loop: four times slower where
            # tiles cross the image's lines.
            "cl-opt": ["-vectorize-slp:bool=0"],
        }
        if self.architecture == "armv7l":
            # Without it the object passes floats in whole registers, and does not link.
            found |= {"mfloat-abi": "hard", "mattr": ["+neon", "+vfp4"]}
        if self.device.extensions:
            found["mattr"] = [f"+{each}" for each in self.device.extensions]
        return found


_LEVEL_3 = (
    "pni ssse3 cx16 lahf_lm popcnt sse4_1 sse4_2 avx avx2 bmi1 bmi2 f16c fma abm movbe"
)  # fmt: skip
_V3 = tuple(_LEVEL_3.split())
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
# Raspberry Pis before the 5 lack the cryptographic instructions, so no target asks for them.
_V8 = ("asimd",)
_V82 = ("asimd", "asimddp", "asimdhp", "atomics", "fphp")
_V7 = ("neon", "vfpv4", "idiva")
_KB = 1 << 10

# Multiply-adds and loads of a vector a cycle, latency, caches, their bytes a cycle, broadcasts from
# memory, bytes a cycle from beyond.
_A53 = CpuCore(0.5, 0.5, 4, 32 * _KB, 512 * _KB, 8, False, 2)

X86_64_V3 = Cpu(
    "x86-64-v3", _V3, AVX2, CpuCore(2, 2, 4, 32 * _KB, 256 * _KB, 24, False, 8, issue=4)
)  # fmt: skip
X86_64_V4 = Cpu("x86-64-v4", _V4, AVX512, CpuCore(1, 2, 4, 32 * _KB, 1024 * _KB, 24, True, 8))
CORTEX_A53 = Cpu("cortex-a53", _V8, NEON, _A53)
CORTEX_A53_AS_ARMV7 = Cpu("cortex-a15", _V7, NEON32, _A53)
CORTEX_A57 = Cpu("cortex-a57", _V8, NEON, CpuCore(1, 1, 5, 32 * _KB, 2048 * _KB, 16, False, 4))
CORTEX_A72 = Cpu("cortex-a72", _V8, NEON, CpuCore(1, 1, 4, 32 * _KB, 1024 * _KB, 16, False, 4))
CORTEX_A76 = Cpu("cortex-a76", _V82, NEON, CpuCore(2, 2, 4, 64 * _KB, 512 * _KB, 24, False, 6))
CORTEX_A78 = Cpu("cortex-a78", _V82, NEON, CpuCore(2, 2, 4, 64 * _KB, 256 * _KB, 24, False, 6))
CARMEL = Cpu(
    "carmel", ("asimd", "atomics"), NEON, CpuCore(1, 2, 5, 64 * _KB, 2048 * _KB, 16, False, 6)
)  # fmt: skip


# In other precisions.


@dataclass(frozen=True)
class _More:
    """Instructions that not all processors of a level have."""

    unit: VectorUnit
    features: tuple[str, ...]
    extensions: tuple[str, ...]
    """The same as LLVM calls them."""


_MORE: Mapping[tuple[str, VectorUnit], _More] = {
    # The depthwise stage shifts over two registers, which processors with VNNI have but for the
    # first ones (Cascade Lake, Cooper Lake): those multiply pairs of 16 bits.
    ("int8", AVX512): _More(
        AVX512_VNNI, ("avx512_vnni", "avx512_vbmi2"), ("avx512vnni", "avx512vbmi2")
    ),
    ("int8", AVX2): _More(AVX2_VNNI, ("avx_vnni",), ("avxvnni",)),
    ("bf16", AVX512): _More(AVX512_BF16, ("avx512_bf16",), ("avx512bf16",)),
}
"""By precision and the unit of float32: what multiplies best. int8 without it is quicker than
float32 all the same, bf16 is not."""
_PAIRS = ("cortex-a53", "cortex-a57", "cortex-a72")
"""Without a dot product, and yet quicker than float32 in int8; see decision 11."""


def in_precision(cpu: Cpu, precision: str) -> tuple[Cpu, ...]:
    """What machines with a processor's features may be, in a precision; best first."""
    if precision == "fp32":
        return (cpu,)
    if precision == "int8" and cpu.unit is NEON:
        if "asimddp" in cpu.features:
            return (replace(cpu, unit=NEON_DOT),)
        return (replace(cpu, unit=NEON_PAIRS),) if cpu.cpu in _PAIRS else ()
    more = _MORE.get((precision, cpu.unit))
    if more is None:
        return ()
    known = (each for each in cpu.features if each not in more.features)
    better = replace(
        cpu, features=(*known, *more.features), unit=more.unit, extensions=more.extensions
    )
    every_one_has_it = set(more.features) <= set(cpu.features)
    return (better,) if precision == "bf16" or every_one_has_it else (better, cpu)


# This machine.


def runs_here(architecture: str, features: tuple[str, ...]) -> bool:
    """Whether this machine can run code that uses these features."""
    return architecture == machine_name() and cpu_features().issuperset(features)


def with_own_caches(cpu: Cpu) -> Cpu:
    """The processor with the caches of this machine's first core, where Linux tells them."""
    l1_bytes, l2_bytes = (_cache_bytes(level) for level in (1, 2))
    core = replace(
        cpu.core, l1_bytes=l1_bytes or cpu.core.l1_bytes, l2_bytes=l2_bytes or cpu.core.l2_bytes
    )
    return replace(cpu, core=core)


_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def _cache_bytes(level: int) -> int | None:
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


def nearest(name: str, known: Sequence[str]) -> str:
    """What to say behind the name of a processor or a feature that is unknown."""
    found = difflib.get_close_matches(name.lower(), known, n=20, cutoff=0.5)
    # The same characters in another order first, which difflib does not count as near.
    found.sort(key=lambda each: sorted(each) != sorted(name.lower()))
    return f"the nearest are {', '.join(found[:5])}" if found else "none of those is near it"
