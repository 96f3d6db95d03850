"""Power of Jetson boards: the INA3221 at the board's input.

Sources: https://docs.kernel.org/hwmon/ina3221.html: ``in[123]_label``, ``in[123]_input`` bus
voltage in mV, ``curr[123]_input`` in mA. NVIDIA Jetson Linux Developer Guide, "Platform Power and
Performance", "Software-Based Power Consumption Modeling": the same files below
/sys/bus/i2c/drivers/ina3221/<address>/hwmon/hwmon<n>, and which rails a board has. Up to JetPack
4.6 (L4T 32): /sys/bus/i2c/drivers/ina3221x/<address>/iio:device<n>/ with ``rail_name_<n>`` and
``in_power<n>_input`` in mW; `"Power Management for Jetson Nano"
<https://docs.nvidia.com/jetson/archives/l4t-archived/l4t-3261/>`_.

Only a rail that feeds the whole module is used: POM_5V_IN of the Nano, VDD_IN of TX2, Xavier NX,
Orin NX and Orin Nano. Boards without one, as AGX Orin, have several rails, some of which feed
others; adding them up would be a guess, so there the reason names them.

The chip averages over milliseconds and is read ten times a second: power that comes and goes with
each frame is right on average over a second or more, not within one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from shiftedge.benchmarks.sensors.base import EnergyMeter, SensorError
from shiftedge.benchmarks.sensors.files import Files
from shiftedge.benchmarks.sensors.sampling import PowerIntegral, SampledMeter

__all__ = ["find_ina3221"]

PERIOD_S = 0.1
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "5V_IN")
"""Rails that feed everything on the module."""
HWMON = "sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*/in[1-3]_label"
IIO = "sys/bus/i2c/drivers/ina3221*/*/iio?device*/rail_name_[0-2]"

Watts = Callable[[], float]


def find_ina3221(files: Files) -> EnergyMeter | None:
    """The meter of the whole board; None where there is no INA3221.

    Raises:
        SensorError: there is one, and it cannot be read or does not see the whole board.
    """
    rails: dict[str, Watts] = {}
    for name in files.glob(HWMON):
        folder, channel = name.rpartition("/")[0], name[-len("1_label")]
        rails.setdefault(files.text(name), _from_hwmon(files, folder, channel))
    for name in files.glob(IIO):
        folder, channel = name.rpartition("/")[0], name[-1]
        rails.setdefault(files.text(name), _from_iio(files, folder, channel))
    if not rails:
        return None
    for rail in WHOLE_BOARD:
        if rail in rails:
            watts = rails[rail]
            watts()
            return SampledMeter(
                "INA3221", f"the whole board ({rail})", PERIOD_S, partial(PowerIntegral, watts)
            )
    raise SensorError(f"no sensor of the whole board, only of {', '.join(sorted(rails))}")


def _from_hwmon(files: Files, folder: str, channel: str) -> Watts:
    def watts() -> float:
        millivolts = files.number(f"{folder}/in{channel}_input")
        milliamperes = files.number(f"{folder}/curr{channel}_input")
        return millivolts * milliamperes / 1e6

    return watts


def _from_iio(files: Files, folder: str, channel: str) -> Watts:
    return lambda: files.number(f"{folder}/in_power{channel}_input") / 1e3
