"""Temperatures: the CPU's, and the hottest of the board.

Sources:
    https://docs.kernel.org/driver-api/thermal/sysfs-api.html (millidegrees)
    https://docs.kernel.org/hwmon/k10temp.html, https://docs.kernel.org/hwmon/coretemp.html
    Jetson Linux Developer Guide, "Thermal Management in Linux": names of zones
"""

from __future__ import annotations

from shiftedge.benchmarks.sensors.base import Files, Gauge, NoSensor, best_reason

__all__ = ["CpuTemperature", "HottestTemperature", "zones_c"]

ZONES = "sys/class/thermal/thermal_zone*/type"
HWMON = "sys/class/hwmon/hwmon*/name"
HWMON_CPU = ("k10temp", "zenpower", "coretemp")
"""Drivers whose first temperature is the processor's."""
UNREAL = ("PMIC-Die", "thermal-fan-est", "iwlwifi")
"""Zones that are no sensor of the board: a Jetson's fixed 100 degrees, its fan's estimate, a
radio's."""
LOWEST_C, HIGHEST_C = -60.0, 150.0
"""Outside, a value means that the sensor is off: a Jetson tells -256 then."""


class CpuTemperature(Gauge[float]):
    """Degrees Celsius of the CPU; the hottest where it has several zones."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> float | NoSensor:
        zones = zones_c(self._files)
        package = [value for kind, value in zones if kind == "x86_pkg_temp"]
        by_name = [value for kind, value in zones if "cpu" in kind.lower()]
        missing = []
        for values in (package, by_name, _hwmon_c(self._files)):
            temperatures = [value for value in values if not isinstance(value, NoSensor)]
            if temperatures:
                return max(temperatures)
            missing += [value for value in values if isinstance(value, NoSensor)]
        return best_reason(missing or [NoSensor("no thermal zone names the CPU")])


class HottestTemperature(Gauge[float]):
    """Degrees Celsius of the hottest zone."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> float | NoSensor:
        values = [value for _, value in zones_c(self._files)] + _hwmon_c(self._files)
        temperatures = [value for value in values if not isinstance(value, NoSensor)]
        if temperatures:
            return max(temperatures)
        missing = [value for value in values if isinstance(value, NoSensor)]
        return best_reason(missing or [NoSensor("there are no thermal zones")])


def zones_c(files: Files) -> list[tuple[str, float | NoSensor]]:
    """Type and degrees Celsius of each zone that is a sensor."""
    zones = []
    for path in files.match(ZONES):
        kind = files.text(path)
        if isinstance(kind, str) and not kind.startswith(UNREAL):
            zones.append((kind, _celsius(files, path.removesuffix("type") + "temp")))
    return zones


def _hwmon_c(files: Files) -> list[float | NoSensor]:
    return [
        _celsius(files, path.removesuffix("name") + "temp1_input")
        for path in files.match(HWMON)
        if files.text(path) in HWMON_CPU
    ]


def _celsius(files: Files, path: str) -> float | NoSensor:
    millidegrees = files.integer(path)
    if isinstance(millidegrees, NoSensor):
        return millidegrees
    celsius = millidegrees / 1e3
    if millidegrees == 0 or not LOWEST_C <= celsius <= HIGHEST_C:
        return NoSensor(f"/{path} tells {celsius:g} °C: it is off", present=True)
    return celsius
