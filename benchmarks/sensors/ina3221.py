"""Power of Jetson boards: the INA3221 monitors, through hwmon or the older IIO driver.

Sources:
    https://docs.kernel.org/hwmon/ina3221.html
    Jetson Linux Developer Guide, "Software-Based Power Consumption Modeling": JetPack 5 and later
    (https://docs.nvidia.com/jetson/archives/r35.4.1/DeveloperGuide/text/SD/
    PlatformPowerAndPerformance.html), and JetPack 4 with its ``ina3221x`` driver
    (https://docs.nvidia.com/jetson/l4t/, power_management_nano and power_management_jetson_xavier)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shiftedge.benchmarks.sensors.base import EnergyMeter, Files, NoSensor
from shiftedge.benchmarks.sensors.sampling import PowerMeter

__all__ = ["Watts", "find_ina3221", "hwmon_rails", "iio_rails"]

Watts = Callable[[], "float | NoSensor"]

HWMON = "sys/class/hwmon/hwmon*/name"
IIO = "sys/bus/iio/devices/iio:device*/rail_name_[0-9]"
IIO_BY_DRIVER = "sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_[0-9]"
INTERVAL_S = 0.1
WHOLE = ("VDD_IN", "POM_5V_IN")
"""What flows into the whole board or module: Orin Nano and NX, Xavier NX, TX1, TX2; Nano."""
SUMS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin; its fourth rail comes from the third
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
"""Boards without such a rail: those that together are the module's."""


def find_ina3221(files: Files) -> EnergyMeter | NoSensor:
    """The meter of the whole board, or of the rails that make up the module."""
    rails = hwmon_rails(files) or iio_rails(files)
    if not rails:
        return NoSensor("no INA3221: neither in /sys/class/hwmon nor among the IIO devices")
    chosen = _whole(rails)
    if not chosen:
        found = ", ".join(rails)
        return NoSensor(f"no rail of the INA3221 is the whole board's: {found}", present=True)
    watts = [rails[label] for label in chosen]

    def total() -> float | NoSensor:
        sum_w = 0.0
        for read in watts:
            value = read()
            if isinstance(value, NoSensor):
                return value
            sum_w += value
        return sum_w

    if isinstance(first := total(), NoSensor):
        return first
    return PowerMeter(f"power rails {' + '.join(chosen)}", INTERVAL_S, total)


def _whole(rails: Mapping[str, Watts]) -> tuple[str, ...]:
    for label in WHOLE:
        if label in rails:
            return (label,)
    return next((labels for labels in SUMS if set(labels) <= set(rails)), ())


def hwmon_rails(files: Files) -> dict[str, Watts]:
    """Label -> its power. Each channel tells mV and mA; channels 4 to 7 are of the shunts."""
    rails: dict[str, Watts] = {}
    for path in files.match(HWMON):
        if files.text(path) != "ina3221":
            continue
        folder = path.rpartition("/")[0]
        for channel in (1, 2, 3):
            label = files.text(f"{folder}/in{channel}_label")
            if isinstance(label, str):
                volts, amperes = f"{folder}/in{channel}_input", f"{folder}/curr{channel}_input"
                rails.setdefault(label.upper(), _product(files, volts, amperes))
    return rails


def iio_rails(files: Files) -> dict[str, Watts]:
    """Label -> its power, of the driver in JetPack 4, which tells mW."""
    rails: dict[str, Watts] = {}
    for path in files.match(IIO) or files.match(IIO_BY_DRIVER):
        label = files.text(path)
        folder, _, channel = path.rpartition("/rail_name_")
        if isinstance(label, str):
            milliwatts = f"{folder}/in_power{channel}_input"
            rails.setdefault(label.upper(), _milliwatts(files, milliwatts))
    return rails


def _product(files: Files, millivolts: str, milliamperes: str) -> Watts:
    def watts() -> float | NoSensor:
        factors = [files.integer(millivolts), files.integer(milliamperes)]
        product = 1e-6
        for factor in factors:
            if isinstance(factor, NoSensor):
                return NoSensor(factor.reason, present=True)
            product *= factor
        return product

    return watts


def _milliwatts(files: Files, path: str) -> Watts:
    def watts() -> float | NoSensor:
        value = files.integer(path)
        if isinstance(value, NoSensor):
            return NoSensor(value.reason, present=True)
        return value / 1e3

    return watts
