"""Power of a Raspberry Pi 5: the rails that its PMIC measures.

Source: https://www.raspberrypi.com/documentation/computers/os.html#vcgencmd (``pmic_read_adc``).
The rails are what the PMIC gives out: without its own losses and without USB devices, which the
5 V input feeds directly. The input tells its volts only.
"""

from __future__ import annotations

import re

from shiftedge.benchmarks.sensors.base import EnergyMeter, NoSensor, shown
from shiftedge.benchmarks.sensors.sampling import PowerMeter
from shiftedge.benchmarks.sensors.vcgencmd import Vcgencmd

__all__ = ["find_pmic", "rails_w", "total_w"]

INTERVAL_S = 0.5
"""Each look is a process, on the cores that are measured: a rare one."""
# 3V3_SYS_A current(1)=0.07061870A
# 3V3_SYS_V volt(9)=3.31481200V
LINE = re.compile(r"(\S+)_([AV])\s+(current|volt)\([0-9]+\)=([0-9]{1,6}(?:\.[0-9]{1,12})?)([AV])")
KINDS = {"A": "current", "V": "volt"}


def rails_w(text: str) -> dict[str, float] | NoSensor:
    """Watts of each rail whose volts and amperes are told.

    Args:
        text: what ``vcgencmd pmic_read_adc`` printed. Volts alone are no rail (the 5 V input, the
            battery); amperes without volts mean that something is missing.
    """
    values: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for line in text.splitlines():
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None or match[3] != KINDS[match[2]] or match[5] != match[2]:
            return NoSensor(f"pmic_read_adc printed {shown(line.strip())}", present=True)
        values[match[2]][match[1]] = float(match[4])
    if not values["A"]:
        return NoSensor("pmic_read_adc told no currents", present=True)
    if lost := sorted(values["A"].keys() - values["V"].keys()):
        return NoSensor(f"pmic_read_adc told no volts of {', '.join(lost)}", present=True)
    return {rail: amperes * values["V"][rail] for rail, amperes in values["A"].items()}


def total_w(vcgencmd: Vcgencmd) -> float | NoSensor:
    """Watts of all rails together."""
    text = vcgencmd.ask("pmic_read_adc")
    rails = text if isinstance(text, NoSensor) else rails_w(text)
    return rails if isinstance(rails, NoSensor) else sum(rails.values())


def find_pmic(vcgencmd: Vcgencmd) -> EnergyMeter | NoSensor:
    """The meter of the rails."""
    first = total_w(vcgencmd)
    if isinstance(first, NoSensor):
        return first
    scope = "rails of the PMIC, without its losses and USB devices"
    return PowerMeter(scope, INTERVAL_S, lambda: total_w(vcgencmd))
