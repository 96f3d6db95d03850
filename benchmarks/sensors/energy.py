"""Energy over some seconds: of a Jetson's board (INA3221), of a Raspberry Pi 5's rails (PMIC), of
x86 packages (RAPL). What each of them counts, and where it is documented: docs/sensors.md.

The sensor is read between turns of what is measured: 20 us for each file (on an x86-64 server; an
INA3221 makes it wait for its I2C bus besides), for vcgencmd a process.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from shiftedge.benchmarks.sensors.files import (
    NO_SENSOR,
    Files,
    MissingSensorError,
    NoPermissionError,
    SensorError,
    Vcgencmd,
    attempt,
)

INA_PERIOD_S, PMIC_PERIOD_S = 0.1, 0.5
RAPL_PERIOD_S = 20.0
"""Between readings: a counter of 65 kJ lasts for three minutes at 350 W."""
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "5V_IN")
"""Rails that feed everything on the module: of TX2, Xavier NX, Orin NX and Nano; of the Nano."""
HWMON = "sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*/in[1-3]_label"
IIO = "sys/bus/i2c/drivers/ina3221*/*/iio?device*/rail_name_[0-2]"
PMIC_LINE = re.compile(
    r"\s*(?P<rail>\w+)_(?P<unit>[AV])\s+(?:current|volt)\([0-9]+\)="
    r"(?P<value>[0-9]{1,4}(?:\.[0-9]{1,12})?)(?P=unit)\s*",
    re.ASCII,
)
WATTS_MOST = 1000.0
"""Of one package. More means that the counter was set back by someone, not that it went round."""
SLACK_S = 0.1
"""A RAPL counter moves every millisecond or so, not at every moment."""
NO_PERMISSION = (
    "no permission to read RAPL's energy_uj, which is for root alone since 2020 (CVE-2020-8694): "
    "run as root, or allow it until the next boot with "
    "`sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj`"
)

Watts = Callable[[], float]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Energy:
    """What a meter counted; where it could not, ``reason`` says why."""

    joules: float | None
    reason: str | None = None


def power_integral(watts: Watts, clock: Clock = time.monotonic) -> Iterator[float]:
    """From readings of power, by the trapezoidal rule."""
    joules, last = 0.0, None
    while True:
        begin_s = clock()
        now_watts = watts()
        now_s = (begin_s + clock()) / 2  # a reading takes its time
        if last is not None:
            joules += (now_s - last[0]) * (now_watts + last[1]) / 2
        last = (now_s, now_watts)
        yield joules


def rapl_joules(
    files: Files, zones: Sequence[str], clock: Clock = time.monotonic
) -> Iterator[float]:
    """Of some zones, given by their folders."""
    highest = {zone: files.number(f"{zone}/max_energy_range_uj") for zone in zones}
    last: dict[str, tuple[float, int]] = {}
    joules = 0.0
    while True:
        for zone, most in highest.items():
            now_s, now = clock(), files.number(f"{zone}/energy_uj")
            last_s, before = last.get(zone, (now_s, now))
            more = counted(before, now, most) / 1e6
            if more > WATTS_MOST * (now_s - last_s + SLACK_S):
                raise SensorError(
                    f"/{zone}/energy_uj went from {before} to {now} in {now_s - last_s:.3g} s: "
                    "it was set back"
                )
            joules += more
            last[zone] = (now_s, now)
        yield joules


def counted(before: int, after: int, highest: int) -> int:
    """How far a counter has come that goes from 0 to ``highest`` and begins anew.

    Raises:
        SensorError: a value is beyond its range.
    """
    if not 0 <= before <= highest or not 0 <= after <= highest:
        raise SensorError(f"the counter says {after}, which is not between 0 and {highest}")
    return (after - before) % (highest + 1)


@dataclass(frozen=True)
class EnergyMeter:
    """Counts the energy that is drawn while something runs, again and again."""

    name: str = NO_SENSOR
    scope: str = "nothing"
    """What draws the energy that it counts, for people: "the whole board"."""
    period_s: float = 0.0
    """Between readings."""
    count: Callable[[], Iterator[float]] = lambda: iter(())
    """Begins a count: joules so far, one number for each reading; raises SensorError where the
    sensor gave nothing."""
    reason: str | None = None
    """Why it counts nothing, where there is no sensor; None for a meter that counts."""

    def measure(self, seconds: float, turn: Callable[[float], None]) -> Energy:
        """What is drawn while ``turn`` is called again and again, each time for the seconds that it
        may take. A sensor that fails meanwhile is the reason in the result, and ends it."""
        if self.reason is not None:
            return Energy(None, self.reason)
        end_s, read = time.monotonic() + seconds, partial(next, self.count())
        while True:
            joules = attempt(read)
            if isinstance(joules, SensorError):
                return Energy(None, str(joules))
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                break
            turn(min(left_s, self.period_s))
        return Energy(joules) if joules > 0 else Energy(None, "the sensor counted no energy")


def find_meter(files: Files, vcgencmd: Vcgencmd) -> EnergyMeter:
    """The first that can be read, those of the whole board first; else one that counts nothing, for
    the first one's reason."""
    reasons: list[str] = []
    for find in (
        partial(_find_ina3221, files),
        partial(_find_pmic, vcgencmd),
        partial(_find_powercap, files),
    ):
        meter = attempt(find)
        if isinstance(meter, SensorError):
            reasons.append(str(meter))
        elif meter is not None:
            return meter
    return EnergyMeter(reason=reasons[0] if reasons else NO_SENSOR)


def _find_ina3221(files: Files) -> EnergyMeter | None:
    rails: dict[str, Watts] = {}
    for name in files.glob(HWMON):
        folder, channel = name.rpartition("/")[0], name[-len("1_label")]
        rails.setdefault(files.text(name), partial(_from_hwmon, files, folder, channel))
    for name in files.glob(IIO):
        power = f"{name.rpartition('/')[0]}/in_power{name[-1]}_input"
        rails.setdefault(files.text(name), lambda power=power: files.number(power) / 1e3)  # type: ignore[misc]
    if not rails:
        return None
    for rail in WHOLE_BOARD:
        if rail in rails:
            watts = rails[rail]
            watts()
            scope = f"the whole board ({rail})"
            return EnergyMeter("INA3221", scope, INA_PERIOD_S, partial(power_integral, watts))
    raise SensorError(f"no sensor of the whole board, only of {', '.join(sorted(rails))}")


def _from_hwmon(files: Files, folder: str, channel: str) -> float:
    millivolts = files.number(f"{folder}/in{channel}_input")
    return millivolts * files.number(f"{folder}/curr{channel}_input") / 1e6


def _find_pmic(vcgencmd: Vcgencmd) -> EnergyMeter | None:
    def watts() -> float:
        return parse_pmic(vcgencmd.ask("pmic_read_adc"))

    try:
        watts()
    except MissingSensorError:
        return None
    scope = "the board's rails, without USB and fan"
    return EnergyMeter("PMIC", scope, PMIC_PERIOD_S, partial(power_integral, watts))


def parse_pmic(answer: str) -> float:
    """Watts of all rails with a current and a voltage.

    Raises:
        SensorError: it is something else, or a rail has a current and no voltage, as where it was
            cut short.
    """
    found: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for match in map(PMIC_LINE.fullmatch, answer.splitlines()):
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


def _find_powercap(files: Files) -> EnergyMeter | None:
    zones = [
        name.removesuffix("/energy_uj")
        for name in files.glob("sys/class/powercap/intel-rapl:*/energy_uj")
        if re.search(r"/intel-rapl:[0-9]+/", name)
    ]
    packages = [zone for zone in zones if files.text(f"{zone}/name").startswith("package")]
    if not packages:
        return None
    count = partial(rapl_joules, files, packages)
    try:
        next(count())
    except NoPermissionError as error:
        raise SensorError(NO_PERMISSION) from error
    scope = "CPU package" if len(packages) == 1 else f"{len(packages)} CPU packages"
    return EnergyMeter("RAPL", scope, RAPL_PERIOD_S, count)
