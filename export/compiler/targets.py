"""Boards to compile for, by name, and which variants each has. A board more is a row more.

What the boards' devices can do stands with their backends (``backends.cpu.devices``,
``backends.cuda.devices``). A board's processors are the last of its devices: what runs where a GPU
does not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shiftedge.export.compiler.backends.base import Backend, Device, Target, TargetVariant
from shiftedge.export.compiler.backends.cpu import devices as cpu
from shiftedge.export.compiler.backends.cpu.backend import CpuBackend
from shiftedge.export.compiler.backends.cuda import devices as cuda
from shiftedge.export.compiler.backends.cuda.backend import CudaBackend
from shiftedge.export.compiler.numerics.precision import PRECISIONS
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.process.cpu import machine_name

BACKENDS: Mapping[type, Backend[Any, Any]] = {
    cpu.Cpu: CpuBackend(),
    cuda.Gpu: CudaBackend(),
}
"""By their kind of device."""

_X86 = ("x86_64", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu.2.27")
_ARM64 = ("aarch64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu.2.27")
_ARM32 = ("armv7l", "armv7l-unknown-linux-gnueabihf", "arm-linux-gnueabihf.2.27")

_LEVELS = "psABI x86-64 micro-architecture levels; AMD's and Intel's optimisation manuals"
_LEVEL_3 = "those of x86-64-v3"
_GUIDE = "Arm's software optimisation guide of Cortex-{}"
_A57, _A76 = _GUIDE.format("A57"), _GUIDE.format("A76")
_PI3 = "LLVM's AArch64SchedA53.td; Broadcom BCM2837: 512 KiB L2"
_PI4 = f"{_GUIDE.format('A72')} (UAN 0016); Raspberry Pi documentation, BCM2711: 1 MiB L2"
_PI5 = f"{_A76} (SWOG 307215); Raspberry Pi documentation, BCM2712: 512 KiB L2 a core"
_NANO = f"{_A57} (UAN 0015); Jetson Nano data sheet: 2 MiB L2"
_TX2 = f"{_A57} (UAN 0015); Jetson TX2 data sheet: 2 MiB L2"
_XAVIER = "Jetson Xavier NX data sheet: 2 MiB L2 a pair; widths assumed, none published"
_ORIN = f"{_GUIDE.format('A78AE')}; Jetson Orin Nano data sheet: 256 KiB L2 a core"

# fmt: off
_BOARDS = (
    Target(
        "x86-64-v3", "x86-64 with AVX2: Intel since Haswell (2013), AMD since Zen (2017)",
        *_X86, (cpu.X86_64_V3,), source=_LEVELS,
    ),
    Target(
        "x86-64-v4", "x86-64 with AVX-512: Intel Xeon since 2017, AMD since Zen 4 (2022)",
        *_X86, (cpu.X86_64_V4,), source=_LEVELS,
    ),
    Target(
        "x86-64", "any x86-64 with AVX2: a variant for AVX-512 and one for AVX2",
        *_X86, (cpu.X86_64_V4, cpu.X86_64_V3), source=_LEVELS,
    ),
    Target(
        "rpi3", "Raspberry Pi 3, Zero 2 W, 64-bit system: Cortex-A53",
        *_ARM64, (cpu.CORTEX_A53,), source=_PI3,
    ),
    Target(
        "rpi3-armv7", "Raspberry Pi 3, Zero 2 W, 32-bit system: Cortex-A53 as ARMv7",
        *_ARM32, (cpu.CORTEX_A53_AS_ARMV7,), source=_PI3,
    ),
    Target(
        "rpi4", "Raspberry Pi 4, 64-bit system: Cortex-A72",
        *_ARM64, (cpu.CORTEX_A72,), source=_PI4,
    ),
    Target("rpi5", "Raspberry Pi 5: Cortex-A76", *_ARM64, (cpu.CORTEX_A76,), source=_PI5),
    Target(
        "jetson-nano", "Jetson Nano: its GPU, and Cortex-A57",
        *_ARM64, (cuda.SM_53, cpu.CORTEX_A57), source=_NANO,
    ),
    Target(
        "jetson-tx2", "Jetson TX2: its GPU, and Cortex-A57 (its Denver cores run the same code)",
        *_ARM64, (cuda.SM_62, cpu.CORTEX_A57), source=_TX2,
    ),
    Target(
        "jetson-xavier-nx", "Jetson Xavier NX: its GPU, and Carmel",
        *_ARM64, (cuda.SM_72, cpu.CARMEL), source=_XAVIER,
    ),
    Target(
        "jetson-orin-nano", "Jetson Orin Nano: its GPU, and Cortex-A78AE",
        *_ARM64, (cuda.SM_87, cpu.CORTEX_A78), cores=6, source=_ORIN,
    ),
    Target(
        "aarch64", "any 64-bit ARM with Linux: a variant for Armv8.2 and one for Armv8.0",
        *_ARM64, (cpu.CORTEX_A76, cpu.CORTEX_A72),
        source=f"those of rpi5 and rpi4: {_A76} and of A72",
    ),
    *(
        Target(
            gpu.name, f"x86-64 with {gpu.board} or another GPU of {gpu.arch}, and with AVX2",
            *_X86, (gpu, cpu.X86_64_V3), source=_LEVEL_3,
        )
        for gpu in (cuda.SM_75, cuda.SM_80, cuda.SM_86, cuda.SM_89, cuda.SM_90)
    ),
)
# fmt: on
TARGETS: Mapping[str, Target] = {target.name: target for target in _BOARDS}
"""By name. ``host`` is none of them: it is the best of them that this machine can run."""


def find_target(name: str, own: Mapping[str, Target] | None = None) -> Target:
    """The target of that name, among ours and one's ``own``; ``host`` is this machine's, with its
    own caches and cores.

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


def find_variant(name: str, precision: str = "fp32") -> TargetVariant:
    """The best variant of a target's processors.

    Raises:
        CompileError: as :func:`find_target` and :func:`variants_of`.
    """
    target = find_target(name)
    found = variants_of(target, precision)
    return next(each for each in found if isinstance(each.device, type(target.devices[-1])))


def variants_of(target: Target, precision: str) -> tuple[TargetVariant, ...]:
    """What a model of a precision is compiled for, best first: a bundle's variants.

    Raises:
        CompileError: no device of the target is quicker with it than with float32.
    """
    found = _variants(target, precision)
    if not found:
        raise CompileError(backend_of(target.devices[-1]).refusal(target, precision))
    return found


def precisions_of(target: Target) -> tuple[str, ...]:
    """That a model can be compiled in, the quickest first."""
    return tuple(name for name in PRECISIONS if _variants(target, name))


def _variants(target: Target, precision: str) -> tuple[TargetVariant, ...]:
    found = tuple(
        variant
        for device in target.devices
        for variant in backend_of(device).variants(target, device, precision)
    )
    return tuple(filter(runs_here, found))[:1] if target.name == "host" else found


def backend_of(device: Device) -> Backend[Any, Any]:
    """Who makes the code for a device."""
    return BACKENDS[type(device)]


def runs_here(variant: TargetVariant) -> bool:
    """Whether this machine can run the variant's code."""
    return backend_of(variant.device).runs_here(variant)


def check(target: Target) -> None:
    """Refuse a target with a device that its code generator does not know.

    Raises:
        CompileError: it is unknown; the nearest names are in the message.
        MissingExtraError: the code generator is not installed.
    """
    for device in target.devices:
        backend_of(device).check(target, device)


def _host() -> Target:
    fitting = [
        (target, device)
        for target in TARGETS.values()
        for device in target.devices
        for variant in backend_of(device).variants(target, device, "fp32")
        if runs_here(variant)
    ]
    if not fitting:
        raise CompileError(
            f"No target fits this machine ({machine_name()}); known are {', '.join(TARGETS)}: "
            "name the one to compile for."
        )
    best, device = max(fitting, key=lambda pair: len(pair[1].features))
    return replace(
        best,
        name="host",
        description="this machine",
        devices=(backend_of(device).here(device),),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else best.cores,
    )
