"""Energy of x86 processors: the counters of RAPL, through the kernel's powercap.

Sources:
    https://www.kernel.org/doc/html/latest/power/powercap/powercap.html
    https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-powercap
    Root only since Linux 5.10: https://nvd.nist.gov/vuln/detail/CVE-2020-8694
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from shiftedge.benchmarks.sensors.base import EnergyMeter, Files, NoSensor, best_reason
from shiftedge.benchmarks.sensors.sampling import SampledMeter

__all__ = ["RaplMeter", "Zone", "find_rapl", "used_uj"]

# The same packages come a second time as intel-rapl-mmio:*; AMD's come under Intel's name.
ZONES = "sys/class/powercap/intel-rapl:[0-9]*/name"
INTERVAL_S = 10.0
"""Often enough that a counter cannot wrap twice between two looks: 65 kJ would be 6.5 kW."""
PERMISSION = (
    "the processor's energy counters are for root alone: run with sudo, or allow reading until the "
    "next boot with `sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj`"
)


def used_uj(before: int, after: int, range_uj: int | None) -> int | NoSensor:
    """Microjoules between two readings of a counter that wraps once at most.

    Args:
        range_uj: the largest value, after which the counter begins at 0; None where not known.
    """
    if min(before, after) < 0 or (range_uj is not None and max(before, after) > range_uj):
        return NoSensor(f"an energy counter went from {before} to {after}", present=True)
    if after >= before:
        return after - before
    if range_uj is None:
        return NoSensor("an energy counter wrapped around at an unknown value", present=True)
    return after - before + range_uj + 1


class Zone:
    """One package's counter.

    Args:
        folder: below the root of the files.
    """

    def __init__(self, files: Files, folder: str) -> None:
        self._files = files
        self._folder = folder

    def energy_uj(self) -> int | NoSensor:
        """Microjoules since some moment."""
        value = self._files.integer(f"{self._folder}/energy_uj")
        if isinstance(value, NoSensor) and value.reason.startswith("no permission"):
            return NoSensor(PERMISSION, present=True)
        if isinstance(value, NoSensor):
            return NoSensor(value.reason, present=True)
        return value

    def range_uj(self) -> int | None:
        """The counter's largest value, microjoules."""
        value = self._files.integer(f"{self._folder}/max_energy_range_uj")
        return value if isinstance(value, int) and value > 0 else None


class RaplMeter(SampledMeter):
    """Sum over the processor packages; without memory, discs and power supply.

    Args:
        clock: seconds, ever growing.
    """

    def __init__(
        self, zones: Sequence[Zone], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        scope = "processor package" if len(zones) == 1 else f"{len(zones)} processor packages"
        super().__init__(scope, INTERVAL_S, clock)
        self._zones = [(zone, zone.range_uj()) for zone in zones]
        self._last: list[int] = []
        self._used_uj = 0

    def _reset(self) -> None:
        self._last, self._used_uj = [], 0

    def _look(self) -> NoSensor | None:
        values = []
        for zone, _ in self._zones:
            value = zone.energy_uj()
            if isinstance(value, NoSensor):
                return value
            values.append(value)
        if self._last:
            ranges = (range_uj for _, range_uj in self._zones)
            for before, after, range_uj in zip(self._last, values, ranges, strict=True):
                used = used_uj(before, after, range_uj)
                if isinstance(used, NoSensor):
                    return used
                self._used_uj += used
        self._last = values
        return None

    def _joules(self) -> float | NoSensor:
        if self._used_uj > 0:
            return self._used_uj / 1e6
        return NoSensor("the processor's energy counters stand still", present=True)


def find_rapl(files: Files) -> EnergyMeter | NoSensor:
    """The meter of all packages that can be read; all of them, or none."""
    zones = []
    for path in files.match(ZONES):
        name = files.text(path)
        if isinstance(name, str) and name.startswith("package"):
            zones.append(Zone(files, path.rpartition("/")[0]))
    if not zones:
        return NoSensor("no RAPL: there is no package in /sys/class/powercap")
    missing = [value for zone in zones if isinstance(value := zone.energy_uj(), NoSensor)]
    return best_reason(missing) if missing else RaplMeter(zones)
