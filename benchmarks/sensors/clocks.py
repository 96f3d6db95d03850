"""Clocks of CPU and GPU, and the CPU's governor.

Sources: https://docs.kernel.org/admin-guide/pm/cpufreq.html ("Policy Interface in sysfs"):
``scaling_cur_freq``, kHz, "current frequency of all of the CPUs belonging to this policy", which on
most drivers is what was last asked for and need not be what the hardware does; drivers that do not
know say ``<unknown>``. ``scaling_governor``: its name.
https://docs.kernel.org/driver-api/devfreq.html and Documentation/ABI/testing/sysfs-class-devfreq:
``cur_freq``, Hz. NVIDIA's names of the GPU below /sys/class/devfreq: ``57000000.gpu`` (Nano),
``17000000.gp10b`` (TX2), ``17000000.gv11b`` (Xavier), ``17000000.ga10b`` or ``17000000.gpu``
(Orin).

A clock of a virtual machine in /proc/cpuinfo is a constant, and so no reading: it is not used.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from functools import partial

from shiftedge.benchmarks.sensors.base import Gauge, NoGauge, SensorError, readable
from shiftedge.benchmarks.sensors.files import Files

__all__ = [
    "CpuClock",
    "Governor",
    "GpuClock",
    "find_cpu_clock",
    "find_governor",
    "find_gpu_clock",
]

CPUFREQ = "sys/devices/system/cpu/cpu{core}/cpufreq/{name}"
GPU_NAMES = ("gpu", "gp10b", "gv11b", "ga10b")
"""How the name of a GPU's devfreq device ends, after its address."""


class CpuClock(Gauge):
    """``{"mean", "min", "max"}`` over the cores, MHz. Cores that went offline are left out."""

    source = "cpufreq"

    def __init__(self, files: Files, names: Sequence[str]) -> None:
        self._files = files
        self._names = names

    def read(self) -> dict[str, float]:
        khz = readable(partial(_positive, self._files, name) for name in self._names)
        mhz = [value / 1e3 for value in khz]
        return {"mean": statistics.fmean(mhz), "min": min(mhz), "max": max(mhz)}


class Governor(Gauge):
    """The governor's name; those of all cores, with commas, where they differ."""

    source = "cpufreq"

    def __init__(self, files: Files, names: Sequence[str]) -> None:
        self._files = files
        self._names = names

    def read(self) -> str:
        names = readable(partial(self._files.text, name) for name in self._names)
        return ", ".join(dict.fromkeys(name[:40] for name in names))


class GpuClock(Gauge):
    """The GPU's clock, MHz."""

    def __init__(self, files: Files, name: str) -> None:
        self._files = files
        self._name = name
        self.source = f"/{name}"

    def read(self) -> float:
        return _positive(self._files, self._name) / 1e6


def find_cpu_clock(files: Files, cores: Collection[int]) -> Gauge:
    """Of the cores that are given."""
    names = _of_cores(files, cores, "scaling_cur_freq")
    return CpuClock(files, names) if names else NoGauge()


def find_governor(files: Files, cores: Collection[int]) -> Gauge:
    """Of the cores that are given."""
    names = _of_cores(files, cores, "scaling_governor")
    return Governor(files, names) if names else NoGauge()


def find_gpu_clock(files: Files) -> Gauge:
    """Of the first GPU that has one."""
    for name in files.glob("sys/class/devfreq/*/cur_freq"):
        device = name.split("/")[-2]
        if device.rpartition(".")[2] in GPU_NAMES:
            return GpuClock(files, name)
    return NoGauge()


def _of_cores(files: Files, cores: Collection[int], name: str) -> list[str]:
    paths = [CPUFREQ.format(core=core, name=name) for core in sorted(cores)]
    return [path for path in paths if files.has(path)]


def _positive(files: Files, name: str) -> int:
    number = files.number(name)
    if number <= 0:
        raise SensorError(f"/{name} says {number}: it is switched off")
    return number
