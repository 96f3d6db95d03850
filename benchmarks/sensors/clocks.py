"""Clocks of CPU and GPU, and who sets them.

Sources:
    https://docs.kernel.org/admin-guide/pm/cpufreq.html (kHz)
    https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-devfreq (Hz)
    Jetson Linux Developer Guide, "GPU 3D Frequency Scaling": the GPU's devfreq device
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from shiftedge.benchmarks.sensors.base import Files, Gauge, NoSensor, best_reason, shown

__all__ = ["CpuClocks", "Governor", "GpuClock", "usable"]

CPUFREQ = "sys/devices/system/cpu/cpu{}/cpufreq/{}"
DEVFREQ = "sys/class/devfreq/*/cur_freq"
# 57000000.gpu (Nano), 17000000.gp10b (TX2), .gv11b (Xavier), .ga10b or .gpu (Orin), and
# gpu-gpc-0 (Thor)
GPU = re.compile(r"\.(gpu|gm20b|gp10b|gv11b|ga10b)$|^gpu")


def usable() -> list[int]:
    """Numbers of the cores that this process may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return list(range(os.cpu_count() or 1))


class CpuClocks(Gauge[dict[str, float]]):
    """MHz over the cores: ``min``, ``mean``, ``max``. Cores that are off do not count.

    Args:
        cores: by their numbers.
    """

    def __init__(self, files: Files, cores: Sequence[int]) -> None:
        self._files = files
        self._cores = cores

    def read(self) -> dict[str, float] | NoSensor:
        values, missing = [], []
        for core in self._cores:
            khz = self._files.integer(CPUFREQ.format(core, "scaling_cur_freq"))
            if isinstance(khz, NoSensor):
                missing.append(khz)
            elif khz > 0:
                values.append(khz / 1e3)
            else:
                missing.append(NoSensor(f"cpufreq tells {khz} kHz of core {core}", present=True))
        if values:
            mean = sum(values) / len(values)
            return {"min": min(values), "mean": round(mean, 1), "max": max(values)}
        return _no_cpufreq(missing)


class Governor(Gauge[str]):
    """The name of cpufreq's governor; several, with commas, where cores differ.

    Args:
        cores: by their numbers.
    """

    def __init__(self, files: Files, cores: Sequence[int]) -> None:
        self._files = files
        self._cores = cores

    def read(self) -> str | NoSensor:
        read = [self._files.text(CPUFREQ.format(n, "scaling_governor")) for n in self._cores]
        names, missing = set(), []
        for name in read:
            if isinstance(name, NoSensor):
                missing.append(name)
            elif re.fullmatch(r"\w{1,32}", name):
                names.add(name)
            else:
                missing.append(NoSensor(f"cpufreq tells {shown(name)}", present=True))
        return ", ".join(sorted(names)) if names else _no_cpufreq(missing)


class GpuClock(Gauge[float]):
    """MHz of a Jetson's GPU."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> float | NoSensor:
        for path in self._files.match(DEVFREQ):
            device = path.split("/")[-2]
            if GPU.search(device) is None:
                continue
            hertz = self._files.integer(path)
            if isinstance(hertz, NoSensor):
                return hertz
            if hertz > 0:
                return hertz / 1e6
            return NoSensor(f"the GPU {device} tells {hertz} Hz: it is off", present=True)
        return NoSensor("there is no GPU in /sys/class/devfreq")


def _no_cpufreq(missing: list[NoSensor]) -> NoSensor:
    if any(each.present for each in missing):
        return best_reason(missing)
    return NoSensor("there is no cpufreq: the clock is fixed, or a host's")
