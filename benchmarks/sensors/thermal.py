"""Temperatures: the CPU's, and the hottest of the board.

Sources: https://docs.kernel.org/driver-api/thermal/sysfs-api.html: below /sys/class/thermal,
``thermal_zone*/type`` is a name and ``temp`` millidegrees Celsius.
https://docs.kernel.org/hwmon/sysfs-interface.html: ``name``, and ``temp1_input`` in millidegrees;
https://docs.kernel.org/hwmon/k10temp.html: temp1 is Tctl, the one that the fan goes by, of AMD
processors; coretemp's temp1 is "Package id". Names of zones: NVIDIA Jetson Linux Developer Guide,
"Platform Power and Performance", and the kernel's device trees (bcm2711, bcm2712: cpu-thermal).

Left out: PMIC-Die of Jetson boards, which says 100.0 °C at all times, and readings no silicon could
have, such as the -256 °C of a Jetson's GPU that is switched off.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from shiftedge.benchmarks.sensors.base import Gauge, NoGauge, SensorError, attempt, readable
from shiftedge.benchmarks.sensors.files import Files

__all__ = ["CpuTemperature", "HottestZone", "find_cpu_temperature", "find_hottest_zone"]

CPU_ZONES = ("cpu-thermal", "cpu-therm", "bcpu-therm", "mcpu-therm", "x86-pkg-temp")
"""Types of zones, in small letters with hyphens, that are the CPU's; others begin with "cpu"."""
CPU_CHIPS = ("k10temp", "zenpower", "coretemp", "cpu_thermal")
"""Names of hwmon chips that are the CPU's."""
NOT_MEASURED = ("pmic-die",)
RANGE_C = (-55.0, 150.0)
"""Beyond, it is no temperature."""


class CpuTemperature(Gauge):
    """Degrees Celsius; the highest where several are the CPU's."""

    def __init__(self, files: Files, names: Sequence[str], source: str) -> None:
        self._files = files
        self._names = names
        self.source = source

    def read(self) -> float:
        return _hottest(self._files, self._names)[0]


class HottestZone(Gauge):
    """``{"zone", "temperature_c"}`` of the hottest thermal zone that can be read."""

    source = "thermal zones"

    def __init__(self, files: Files, types: dict[str, str]) -> None:
        self._files = files
        self._types = types
        """Name of the file -> type of the zone."""

    def read(self) -> dict[str, float | str]:
        temperature_c, name = _hottest(self._files, list(self._types))
        return {"zone": self._types[name], "temperature_c": temperature_c}


def find_cpu_temperature(files: Files) -> Gauge:
    """From the CPU's thermal zones, or else from its hwmon chip."""
    zones = {name: kind for name, kind in _zones(files).items() if _is_cpu(kind)}
    if zones:
        return CpuTemperature(files, list(zones), ", ".join(dict.fromkeys(zones.values())))
    chips = {}
    for name in files.glob("sys/class/hwmon/hwmon*/temp1_input"):
        chip = _text(files, name.removesuffix("temp1_input") + "name")
        if chip in CPU_CHIPS:
            chips[name] = chip
    if chips:
        return CpuTemperature(files, list(chips), ", ".join(dict.fromkeys(chips.values())))
    return NoGauge()


def find_hottest_zone(files: Files) -> Gauge:
    """Of all thermal zones."""
    zones = _zones(files)
    return HottestZone(files, zones) if zones else NoGauge()


def _zones(files: Files) -> dict[str, str]:
    found = {}
    for name in files.glob("sys/class/thermal/thermal_zone*/temp"):
        kind = _text(files, name.removesuffix("temp") + "type") or name.split("/")[-2]
        if kind.lower() not in NOT_MEASURED:
            found[name] = kind[:40]
    return found


def _is_cpu(kind: str) -> bool:
    kind = kind.lower().replace("_", "-")
    return kind in CPU_ZONES or kind.startswith("cpu")


def _hottest(files: Files, names: Sequence[str]) -> tuple[float, str]:
    """The highest temperature, degrees Celsius, and its file. Zones that do not answer, as those
    of units that are switched off, are passed over as long as one does."""
    return max(readable(partial(_temperature, files, name) for name in names))


def _temperature(files: Files, name: str) -> tuple[float, str]:
    temperature_c = files.number(name) / 1e3
    if not RANGE_C[0] <= temperature_c <= RANGE_C[1]:
        raise SensorError(f"/{name} says {temperature_c:g} °C, which cannot be")
    return temperature_c, name


def _text(files: Files, name: str) -> str | None:
    text = attempt(partial(files.text, name))
    return None if isinstance(text, SensorError) else text
