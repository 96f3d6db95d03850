"""Power of the Raspberry Pi 5: its PMIC, by ``vcgencmd pmic_read_adc``.

Sources: recorded answers, as on https://www.jeffgeerling.com/blog/2023/everything-ive-learned-about-raspberry-pi-5
and in https://github.com/jfikar/RPi5-power: lines such as ``3V3_SYS_A current(1)=0.06245952A`` and
``3V3_SYS_V volt(9)=3.30632200V``; the two lines of a rail are told to belong together by their
names, not by the numbers in brackets. Boards before the 5 answer "Command not registered".

The power is the sum of volts times amperes over the rails that have both. It leaves out what is
drawn from the 5 V input (EXT5V, of which only the voltage is measured) without passing the PMIC,
such as USB devices, the fan and HATs, and what the PMIC itself loses; jfikar, comparing with a
power meter at the plug, found 0.59 W plus 1.15 times that sum.

Each reading starts a process, so there are but two a second: of turns shorter than some seconds
the figure is rough.
"""

from __future__ import annotations

import re
from functools import partial

from shiftedge.benchmarks.sensors.base import EnergyMeter, MissingSensorError, SensorError
from shiftedge.benchmarks.sensors.programs import Vcgencmd
from shiftedge.benchmarks.sensors.sampling import PowerIntegral, SampledMeter

__all__ = ["find_pmic", "parse_pmic"]

PERIOD_S = 0.5
LINE = re.compile(
    r"\s*(?P<rail>\w+)_(?P<unit>[AV])\s+(?:current|volt)\([0-9]+\)="
    r"(?P<value>[0-9]{1,4}(?:\.[0-9]{1,12})?)(?P=unit)\s*",
    re.ASCII,
)


def parse_pmic(answer: str) -> float:
    """Watts of all rails with a current and a voltage.

    Raises:
        SensorError: it is something else, or a rail has a current and no voltage, as where it was
            cut short.
    """
    found: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for line in answer.splitlines():
        match = LINE.fullmatch(line)
        if match is not None:
            found[match["unit"]][match["rail"]] = float(match["value"])
    amperes, volts = found["A"], found["V"]
    if not amperes:
        start = answer.strip()[:60]
        raise SensorError(f"pmic_read_adc says {start!r}, which holds no current of a rail")
    lacking = sorted(amperes.keys() - volts.keys())
    if lacking:
        raise SensorError(f"pmic_read_adc tells no voltage of {', '.join(lacking)}")
    return sum(amperes[rail] * volts[rail] for rail in amperes)


def find_pmic(vcgencmd: Vcgencmd) -> EnergyMeter | None:
    """The meter of the PMIC's rails; None where there is none.

    Raises:
        SensorError: there may be one, and it cannot be read.
    """

    def watts() -> float:
        return parse_pmic(vcgencmd.ask("pmic_read_adc"))

    try:
        watts()
    except MissingSensorError:
        return None
    return SampledMeter(
        "PMIC", "the board's rails, without USB and fan", PERIOD_S, partial(PowerIntegral, watts)
    )
