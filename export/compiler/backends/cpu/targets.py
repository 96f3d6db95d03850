"""Targets: what the compiler knows of a processor. A board more is a row more.

A target is data only. The vector unit decides which tiles exist, the core's widths and caches which
of them is chosen (``cost``), the features which machines may load the library.

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
- Boards: ``Target.source``. Bytes a cycle from caches and memory are estimates for all of them.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

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
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.process.cpu import cpu_features, machine_name

__all__ = ["TARGETS", "Core", "Target", "find_target", "precisions_of", "runs_here", "variants_of"]


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
    issue: float = math.inf
    """Instructions a cycle, where these and not the units that they need may bound a loop."""


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
    gpu: str | None = None
    """Architecture of the CUDA device, for a variant of its own; not used yet."""
    source: str = ""
    """Where the numbers of the core and the board are from."""
    others: tuple[Target, ...] = ()
    """More variants of the same bundle, for processors that lack this one's features; the first
    that fits is used."""
    precision: str = "fp32"
    """What its kernels multiply in; other than fp32 by :func:`variants_of` alone."""
    extensions: tuple[str, ...] = ()
    """Features beyond those of ``cpu``, as LLVM calls them, such as "avx512vnni"; a variant is
    named after the first."""

    @property
    def variants(self) -> tuple[Target, ...]:
        """All of the bundle, this one first."""
        return (self, *self.others)

    @property
    def variant(self) -> str:
        """Name of the library's folder in a bundle: the instructions, not the board."""
        precision = "" if self.precision == "fp32" else self.precision
        parts = (self.cpu, *self.extensions[:1], precision)
        return "-".join(part for part in parts if part)

    @property
    def glibc(self) -> str:
        """The oldest C library that its bundles run with."""
        return self.zig.rpartition("-")[2].partition(".")[2]

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
            "mtriple": self.triple,
            "mcpu": self.cpu,
            # Schedules are vectorised already. What LLVM would still make vectors of is the rows'
            # addresses, to take them apart again in the innermost loop: four times slower where
            # tiles cross the image's lines.
            "cl-opt": ["-vectorize-slp:bool=0"],
        }
        if self.architecture == "armv7l":
            # Without it the object passes floats in whole registers, and does not link.
            found |= {"mfloat-abi": "hard", "mattr": ["+neon", "+vfp4"]}
        if self.extensions:
            found["mattr"] = [f"+{each}" for each in self.extensions]
        return found


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

_X86 = ("x86_64", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu.2.27")
_ARM64 = ("aarch64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu.2.27")
_ARM32 = ("armv7l", "armv7l-unknown-linux-gnueabihf", "arm-linux-gnueabihf.2.27")
_KB = 1 << 10

# Multiply-adds and loads of a vector a cycle, latency, caches, their bytes a cycle, broadcasts from
# memory, bytes a cycle from beyond.
_A53 = Core(0.5, 0.5, 4, 32 * _KB, 512 * _KB, 8, False, 2)
_A57 = Core(1, 1, 5, 32 * _KB, 2048 * _KB, 16, False, 4)
_A72 = Core(1, 1, 4, 32 * _KB, 1024 * _KB, 16, False, 4)
_A76 = Core(2, 2, 4, 64 * _KB, 512 * _KB, 24, False, 6)
_A78 = Core(2, 2, 4, 64 * _KB, 256 * _KB, 24, False, 6)
_CARMEL = Core(1, 2, 5, 64 * _KB, 2048 * _KB, 16, False, 6)

_LEVELS = "psABI x86-64 micro-architecture levels; AMD's and Intel's optimisation manuals"
_GUIDE = "Arm's software optimisation guide of Cortex-{}"
_PI3 = "LLVM's AArch64SchedA53.td; Broadcom BCM2837: 512 KiB L2"
_PI4 = f"{_GUIDE.format('A72')} (UAN 0016); Raspberry Pi documentation, BCM2711: 1 MiB L2"
_PI5 = (
    f"{_GUIDE.format('A76')} (SWOG 307215); Raspberry Pi documentation, BCM2712: 512 KiB L2 a core"
)
_NANO = f"{_GUIDE.format('A57')} (UAN 0015); Jetson Nano data sheet: 2 MiB L2"
_TX2 = f"{_GUIDE.format('A57')} (UAN 0015); Jetson TX2 data sheet: 2 MiB L2"
_XAVIER = "Jetson Xavier NX data sheet: 2 MiB L2 a pair; widths assumed, none published"
_ORIN = f"{_GUIDE.format('A78AE')}; Jetson Orin Nano data sheet: 256 KiB L2 a core"

# As Linux names them. Raspberry Pis before the 5 lack the cryptographic instructions, so no target
# asks for them.
_V8 = ("asimd",)
_V82 = ("asimd", "asimddp", "asimdhp", "atomics", "fphp")
_V7 = ("neon", "vfpv4", "idiva")


def _board(
    name: str,
    description: str,
    place: tuple[str, str, str],
    cpu: str,
    features: tuple[str, ...],
    unit: VectorUnit,
    core: Core,
    source: str,
    cores: int = 4,
    gpu: str | None = None,
) -> Target:
    architecture, triple, zig = place
    return Target(
        name, description, architecture, cpu, triple, zig, features, unit, core, cores, gpu, source
    )


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        _board(
            "x86-64-v3",
            "x86-64 with AVX2: Intel since Haswell (2013), AMD since Zen (2017)",
            _X86,
            "x86-64-v3",
            _V3,
            AVX2,
            Core(2, 2, 4, 32 * _KB, 256 * _KB, 24, False, 8, issue=4),
            _LEVELS,
        ),
        _board(
            "x86-64-v4",
            "x86-64 with AVX-512: Intel Xeon since 2017, AMD since Zen 4 (2022)",
            _X86,
            "x86-64-v4",
            _V4,
            AVX512,
            Core(1, 2, 4, 32 * _KB, 1024 * _KB, 24, True, 8),
            _LEVELS,
        ),
        _board(
            "rpi3",
            "Raspberry Pi 3, Zero 2 W, 64-bit system: Cortex-A53",
            _ARM64,
            "cortex-a53",
            _V8,
            NEON,
            _A53,
            _PI3,
        ),
        _board(
            "rpi3-armv7",
            "Raspberry Pi 3, Zero 2 W, 32-bit system: Cortex-A53 as ARMv7",
            _ARM32,
            "cortex-a15",
            _V7,
            NEON32,
            _A53,
            _PI3,
        ),
        _board(
            "rpi4",
            "Raspberry Pi 4, 64-bit system: Cortex-A72",
            _ARM64,
            "cortex-a72",
            _V8,
            NEON,
            _A72,
            _PI4,
        ),
        _board("rpi5", "Raspberry Pi 5: Cortex-A76", _ARM64, "cortex-a76", _V82, NEON, _A76, _PI5),
        _board(
            "jetson-nano",
            "Jetson Nano: Cortex-A57",
            _ARM64,
            "cortex-a57",
            _V8,
            NEON,
            _A57,
            _NANO,
            gpu="sm_53",
        ),
        _board(
            "jetson-tx2",
            "Jetson TX2: Cortex-A57 (its two Denver cores run the same code)",
            _ARM64,
            "cortex-a57",
            _V8,
            NEON,
            _A57,
            _TX2,
            gpu="sm_62",
        ),
        _board(
            "jetson-xavier-nx",
            "Jetson Xavier NX: Carmel",
            _ARM64,
            "carmel",
            ("asimd", "atomics"),
            NEON,
            _CARMEL,
            _XAVIER,
            gpu="sm_72",
        ),
        _board(
            "jetson-orin-nano",
            "Jetson Orin Nano: Cortex-A78AE",
            _ARM64,
            "cortex-a78",
            _V82,
            NEON,
            _A78,
            _ORIN,
            cores=6,
            gpu="sm_87",
        ),
        replace(
            _board(
                "aarch64",
                "any 64-bit ARM with Linux: a variant for Armv8.2 and one for Armv8.0",
                _ARM64,
                "cortex-a76",
                _V82,
                NEON,
                _A76,
                f"those of rpi5 and rpi4: {_GUIDE.format('A76')} and of A72",
            ),
            others=(_board("aarch64", "Armv8.0", _ARM64, "cortex-a72", _V8, NEON, _A72, _PI4),),
        ),
    )
}
"""By name. ``host`` is none of them: it is the best of them that this machine can run."""


def find_target(name: str, own: Mapping[str, Target] | None = None) -> Target:
    """The target of that name; ``host`` is this machine's, with its own caches and cores.

    Args:
        name: of a target.
        own: more targets, from ``targets_file``.

    Raises:
        CompileError: unknown, or ``host`` on a machine that no target fits.
    """
    if name == "host":
        return _host()
    every = {**TARGETS, **(own or {})}
    try:
        return every[name]
    except KeyError:
        known = ", ".join(("host", *every))
        raise CompileError(f"There is no target {name!r}; known are {known}.") from None


def variants_of(target: Target, precision: str) -> tuple[Target, ...]:
    """What a model of a precision is compiled for, best first: a bundle's variants.

    Args:
        target: from :func:`find_target`.
        precision: one of ``spec.PRECISIONS``.

    Raises:
        CompileError: no processor of the target is quicker with it than with float32.
    """
    if precision == "fp32":
        return target.variants
    narrowed = {"int8": _int8_variants, "bf16": _bf16_variants}[precision]
    found = [each for variant in target.variants for each in narrowed(variant)]
    if target.name == "host":
        found = [each for each in found if runs_here(each)][:1]
    if not found and precision == "bf16":
        raise CompileError(
            f"{_called(target)} has no instruction that multiplies bf16 (AVX512_BF16 is what is "
            "used: Intel Xeon since 2023, AMD since Zen 4), and without one float32 is quicker: "
            "compile in fp32, or name a target that has it, such as x86-64-v4."
        )
    if not found:
        raise CompileError(
            f"The model is quantised, and for {target.name} ({target.cpu}) there is no {precision} "
            "code that is quicker than float32: compile the float32 model for it."
        )
    return tuple(found)


def precisions_of(target: Target) -> tuple[str, ...]:
    """That a model can be compiled in, the quickest first."""
    return tuple(name for name in ("int8", "bf16", "fp32") if _has(target, name))


def _has(target: Target, precision: str) -> bool:
    try:
        return bool(variants_of(target, precision))
    except CompileError:
        return False


def _called(target: Target) -> str:
    return "This machine" if target.name == "host" else f"{target.name} ({target.cpu})"


def _bf16_variants(target: Target) -> tuple[Target, ...]:
    """The variants that multiply bf16, for processors with a target's features and AVX512_BF16."""
    if target.unit is not AVX512:
        return ()
    wanted = replace(target, precision="bf16", others=())
    return (_with(wanted, AVX512_BF16, ("avx512_bf16",), ("avx512bf16",)),)


def _int8_variants(target: Target) -> tuple[Target, ...]:
    """The variants that count in integers for processors with a target's features, best first."""
    wanted = replace(target, precision="int8", others=())
    if target.unit is AVX512:
        # The depthwise stage shifts over two registers, which processors with VNNI have but for
        # the first ones (Cascade Lake, Cooper Lake): those multiply pairs of 16 bits.
        more = _with(
            wanted, AVX512_VNNI, ("avx512_vnni", "avx512_vbmi2"), ("avx512vnni", "avx512vbmi2")
        )
    elif target.unit is AVX2:
        more = _with(wanted, AVX2_VNNI, ("avx_vnni",), ("avxvnni",))
    else:
        unit = _int8_unit(target)
        return (replace(wanted, unit=unit),) if unit.dot is not None else ()
    return (more,) if set(more.features) <= set(target.features) else (more, wanted)


def _with(
    target: Target, unit: VectorUnit, features: tuple[str, ...], extensions: tuple[str, ...]
) -> Target:
    """The target with features that not all of its processors have, as we and as LLVM call them."""
    known = (each for each in target.features if each not in features)
    return replace(target, features=(*known, *features), unit=unit, extensions=extensions)


_PAIRS = ("cortex-a53", "cortex-a57", "cortex-a72")
"""Without a dot product, and yet quicker than float32 by codes; see decision 11."""


def _int8_unit(target: Target) -> VectorUnit:
    """The vector unit as a variant that counts in integers uses it; without ``dot``, not at all."""
    if target.unit is NEON and "asimddp" in target.features:
        return NEON_DOT
    if target.unit is NEON and target.cpu in _PAIRS:
        return NEON_PAIRS
    return target.unit


def runs_here(target: Target) -> bool:
    """Whether this machine can run code for the target."""
    return target.architecture == machine_name() and cpu_features().issuperset(target.features)


def _host() -> Target:
    fitting = [target for target in TARGETS.values() if runs_here(target)]
    if not fitting:
        raise CompileError(
            f"No target fits this machine ({machine_name()}); known are {', '.join(TARGETS)}: "
            "name the one to compile for."
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
