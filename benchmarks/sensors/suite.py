"""All sensors of a machine, as the benchmark asks for them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.sensors.base import EnergyMeter, Files, Gauge, NoSensor, best_reason
from shiftedge.benchmarks.sensors.clocks import CpuClocks, Governor, GpuClock, usable
from shiftedge.benchmarks.sensors.ina3221 import find_ina3221
from shiftedge.benchmarks.sensors.pmic import find_pmic
from shiftedge.benchmarks.sensors.powercap import find_rapl
from shiftedge.benchmarks.sensors.thermal import CpuTemperature, HottestTemperature
from shiftedge.benchmarks.sensors.throttling import (
    CoolingThrottling,
    IntelThrottling,
    JetsonThrottling,
    PiThrottling,
    Throttle,
    Throttling,
)
from shiftedge.benchmarks.sensors.vcgencmd import Run, Vcgencmd
from shiftedge.benchmarks.sensors.wording import describe, throttled_since

__all__ = ["Sensors", "find_sensors"]

THROTTLED = "throttled"


class Sensors:
    """What a machine can tell. Nothing here raises; a missing value has its reason.

    Args:
        gauges: key of a sample -> what gives its value, of plain JSON types.
        throttling: for the keys ``throttled`` and ``throttle_counts``.
        meter: of the energy, or why there is none.
    """

    def __init__(
        self,
        gauges: Mapping[str, Gauge[Any]],
        throttling: Gauge[Throttle],
        meter: EnergyMeter | NoSensor,
    ) -> None:
        self._gauges = gauges
        self._throttling = throttling
        self._meter = meter

    def sample(self) -> dict[str, Any]:
        """Everything now, as plain JSON types.

        ``cpu_mhz`` (``min``, ``mean``, ``max`` over the cores), ``governor``, ``gpu_mhz``,
        ``temperature_c`` of the CPU, ``hottest_c`` of the board, ``throttled`` in words,
        ``throttle_counts`` since the machine's start; None where there is no sensor, and then
        ``reasons`` has a text under the same key.
        """
        found: dict[str, Any] = {}
        reasons = {}
        for key, gauge in self._gauges.items():
            value = _safely(gauge.read)
            found[key] = None if isinstance(value, NoSensor) else value
            if isinstance(value, NoSensor):
                reasons[key] = f"no sensor: {value.reason}"
        throttle = _safely(self._throttling.read)
        if isinstance(throttle, NoSensor):
            found |= {THROTTLED: None, "throttle_counts": None}
            reasons[THROTTLED] = f"no sensor: {throttle.reason}"
        else:
            found |= {THROTTLED: throttle.words, "throttle_counts": throttle.counts}
        return {**found, "reasons": reasons}

    def energy_meter(self) -> EnergyMeter | NoSensor:
        """The one meter of this machine, for one turn after another; its ``scope`` says of what."""
        return self._meter

    @staticmethod
    def throttled_since(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        """See :func:`~shiftedge.benchmarks.sensors.wording.throttled_since`."""
        return throttled_since(before, after)

    @staticmethod
    def describe(
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        joules_per_frame: float | NoSensor | None = None,
    ) -> str:
        """See :func:`~shiftedge.benchmarks.sensors.wording.describe`."""
        return describe(before, after, joules_per_frame)


def find_sensors(
    root: Path = Path("/"), run: Run = subprocess.run, cores: Sequence[int] | None = None
) -> Sensors:
    """Look for all sensors.

    Args:
        root: where ``sys`` and ``proc`` are.
        run: starts ``vcgencmd``, like :func:`subprocess.run`.
        cores: whose clocks count; None for those that this process may use.
    """
    files, vcgencmd = Files(root), Vcgencmd(run)
    numbers = usable() if cores is None else list(cores)
    return Sensors(
        {
            "cpu_mhz": CpuClocks(files, numbers),
            "governor": Governor(files, numbers),
            "gpu_mhz": GpuClock(files),
            "temperature_c": CpuTemperature(files),
            "hottest_c": HottestTemperature(files),
        },
        Throttling(
            [
                PiThrottling(vcgencmd),
                IntelThrottling(files),
                JetsonThrottling(files),
                CoolingThrottling(files),
            ]
        ),
        _find_meter(files, vcgencmd),
    )


def _find_meter(files: Files, vcgencmd: Vcgencmd) -> EnergyMeter | NoSensor:
    """The one that covers most of the machine."""
    ways: list[Callable[[], EnergyMeter | NoSensor]] = [
        lambda: find_ina3221(files),
        lambda: find_pmic(vcgencmd),
        lambda: find_rapl(files),
    ]
    missing = []
    for way in ways:
        meter = _safely(way)
        if isinstance(meter, EnergyMeter):
            return meter
        missing.append(meter)
    return best_reason(missing)


def _safely(read: Callable[[], Any]) -> Any:
    """A sensor that fails in a way nobody thought of is none."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - no sensor ends a measurement
        return NoSensor(f"it failed: {error!r}", present=True)
