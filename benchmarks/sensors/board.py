"""All sensors of a board behind one door."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.sensors.base import (
    NO_SENSOR,
    EnergyMeter,
    Gauge,
    NoGauge,
    NoSensor,
    SensorError,
    attempt,
)
from shiftedge.benchmarks.sensors.clocks import find_cpu_clock, find_governor, find_gpu_clock
from shiftedge.benchmarks.sensors.files import Files, Read, read_file
from shiftedge.benchmarks.sensors.ina3221 import find_ina3221
from shiftedge.benchmarks.sensors.pmic import find_pmic
from shiftedge.benchmarks.sensors.powercap import find_powercap
from shiftedge.benchmarks.sensors.programs import Run, Vcgencmd, run_program
from shiftedge.benchmarks.sensors.thermal import find_cpu_temperature, find_hottest_zone
from shiftedge.benchmarks.sensors.throttling import find_throttle_counters, find_throttle_flags

__all__ = ["Sensors", "find_sensors"]


class Sensors:
    """What a board has, found once and read as often as wanted. Reading raises nothing.

    Args:
        gauges: key of the sample -> what is read for it.
        meter: of energy.
    """

    def __init__(self, gauges: Mapping[str, Gauge], meter: EnergyMeter) -> None:
        self._gauges = dict(gauges)
        self._meter = meter

    def sample(self) -> dict[str, Any]:
        """The values of this moment, as plain JSON types.

        Keys: ``cpu_mhz`` ({"mean", "min", "max"} over the cores that this process may use),
        ``governor``, ``gpu_mhz``, ``temperature_c`` (the CPU's), ``hottest`` ({"zone",
        "temperature_c"}), ``throttled`` (list of words, empty where all is well),
        ``throttle_events`` (event -> times since the board was started). A value that could not be
        read is None, and ``reasons`` says why under the same key.

        Takes some 20 us for each file, and on a Raspberry Pi one process (vcgencmd): for the time
        between turns, not for within.
        """
        values: dict[str, Any] = {}
        reasons: dict[str, str] = {}
        for key, gauge in self._gauges.items():
            value = attempt(gauge.read)
            if isinstance(value, SensorError):
                value, reasons[key] = None, str(value)
            values[key] = value
        return {**values, "reasons": reasons}

    def energy_meter(self) -> EnergyMeter:
        """The board's; a :class:`NoSensor` with its reason where there is none to be read."""
        return self._meter

    def sources(self) -> dict[str, str | None]:
        """Key of the sample, or "energy" -> where it is read; None where nothing is."""
        found = {
            key: None if isinstance(gauge, NoGauge) else gauge.source
            for key, gauge in self._gauges.items()
        }
        meter = self._meter
        return {**found, "energy": f"{meter.name}: {meter.scope}" if not meter.reason else None}


def find_sensors(
    root: Path = Path("/"),
    *,
    run: Run = run_program,
    read: Read = read_file,
    cores: Collection[int] | None = None,
) -> Sensors:
    """Look for what the board has. Raises nothing; what is not there has its reason.

    Args:
        root: files are looked for below it.
        run: how to run a program, see :mod:`~shiftedge.benchmarks.sensors.programs`.
        read: how to read a file.
        cores: whose clocks and counters are read; None for those that this process may use.
    """
    files, vcgencmd = Files(root, read), Vcgencmd(run)
    of_cores = _usable_cores() if cores is None else cores
    gauges: dict[str, Callable[[], Gauge]] = {
        "cpu_mhz": partial(find_cpu_clock, files, of_cores),
        "governor": partial(find_governor, files, of_cores),
        "gpu_mhz": partial(find_gpu_clock, files),
        "temperature_c": partial(find_cpu_temperature, files),
        "hottest": partial(find_hottest_zone, files),
        "throttled": partial(find_throttle_flags, files, vcgencmd),
        "throttle_events": partial(find_throttle_counters, files, of_cores),
    }
    return Sensors(
        {key: _gauge(find) for key, find in gauges.items()}, _energy_meter(files, vcgencmd)
    )


def _gauge(find: Callable[[], Gauge]) -> Gauge:
    found = attempt(find)
    return NoGauge(str(found)) if isinstance(found, SensorError) else found


def _energy_meter(files: Files, vcgencmd: Vcgencmd) -> EnergyMeter:
    """The first that can be read, those of the whole board first; else the first's reason."""
    reasons: list[str] = []
    finds: tuple[Callable[[], EnergyMeter | None], ...] = (
        partial(find_ina3221, files),
        partial(find_pmic, vcgencmd),
        partial(find_powercap, files),
    )
    for find in finds:
        meter = attempt(find)
        if isinstance(meter, SensorError):
            reasons.append(str(meter))
        elif meter is not None:
            return meter
    return NoSensor(reasons[0] if reasons else NO_SENSOR)


def _usable_cores() -> Collection[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return range(os.cpu_count() or 1)
