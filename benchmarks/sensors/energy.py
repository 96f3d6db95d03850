"""Energy from a start to a stop: of a Jetson's board, of a Raspberry Pi 5's rails, of x86 packages.

**INA3221**, at the input of Jetson boards. https://docs.kernel.org/hwmon/ina3221.html:
``in[123]_label``, ``in[123]_input`` bus voltage in mV, ``curr[123]_input`` in mA. NVIDIA Jetson
Linux Developer Guide, "Software-Based Power Consumption Modeling": which rails a board has. Up to
JetPack 4.6: ``rail_name_<n>`` and ``in_power<n>_input`` in mW ("Power Management for Jetson Nano",
https://docs.nvidia.com/jetson/archives/l4t-archived/l4t-3261/). Only a rail that feeds the whole
module is used: boards without one, as AGX Orin, have several, some of which feed others, and adding
them up would be a guess. The chip averages over milliseconds and is read ten times a second, so
power that comes and goes with each frame is right over a second or more, not within one frame.

**PMIC** of the Raspberry Pi 5, by ``vcgencmd pmic_read_adc``. Recorded answers, as on
https://www.jeffgeerling.com/blog/2023/everything-ive-learned-about-raspberry-pi-5 and in
https://github.com/jfikar/RPi5-power; the two lines of a rail belong together by their names, not by
the numbers in brackets. The power is the sum of volts times amperes over the rails that have both.
It leaves out what is drawn from the 5 V input without passing the PMIC, such as USB devices, the
fan and HATs, and what the PMIC itself loses; jfikar, with a power meter at the plug, found 0.59 W
plus 1.15 times that sum. Each reading starts a process, so there are but two a second.

**RAPL** counters of x86. Documentation/ABI/testing/sysfs-class-powercap and
https://docs.kernel.org/power/powercap/powercap.html: a zone ``intel-rapl:N`` (AMD's too) has
``name`` ("package-0", "psys"), ``energy_uj``, which begins anew after ``max_energy_range_uj`` and
is for root alone since November 2020 (CVE-2020-8694, Linux 5.10). Zones below a package are parts
of it or of something else and are not added; ``intel-rapl-mmio:0`` is the same package once more.
The joules are those of cores, caches, memory controller and built-in graphics of all packages.

A thread of this process, which lives only from start to stop, reads the sensor and sleeps: 20 us
for each file (measured on an x86-64 server; an INA3221 makes it wait for its I2C bus besides), for
vcgencmd a process. The first and the last reading are taken by start and stop themselves, outside
of what is timed.
"""

from __future__ import annotations

import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from shiftedge.benchmarks.sensors.files import (
    NO_SENSOR,
    TIMEOUT_S,
    Files,
    MissingSensorError,
    NoPermissionError,
    SensorError,
    Vcgencmd,
    attempt,
)

__all__ = [
    "Accumulator",
    "Energy",
    "EnergyMeter",
    "PowerIntegral",
    "RaplCounter",
    "counted",
    "find_meter",
    "parse_pmic",
]

INA_PERIOD_S, PMIC_PERIOD_S = 0.1, 0.5
RAPL_PERIOD_S = 20.0
"""Between readings: a counter of 65 kJ lasts for three minutes at 350 W."""
PATIENCE_S = TIMEOUT_S + 1.0
"""How long stop waits for a reading that is under way."""
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


@dataclass(frozen=True)
class Energy:
    """What a meter counted between its start and its stop.

    ``joules`` is None where it could not count, and ``reason`` says why.
    """

    joules: float | None
    seconds: float
    reason: str | None = None


class Accumulator(ABC):
    """Energy so far, brought up to date by :meth:`poll`."""

    joules: float = 0.0
    """From the first poll to the last."""

    @abstractmethod
    def poll(self) -> None:
        """Read the sensor; raises SensorError where it gave nothing, and the count is over."""


class PowerIntegral(Accumulator):
    """Energy from readings of power, by the trapezoidal rule."""

    def __init__(self, watts: Watts, clock: Callable[[], float] = time.monotonic) -> None:
        self._watts = watts
        self._clock = clock
        self._last: tuple[float, float] | None = None

    def poll(self) -> None:
        begin_s = self._clock()
        watts = self._watts()
        now_s = (begin_s + self._clock()) / 2  # a reading takes its time
        if self._last is not None:
            last_s, last_watts = self._last
            self.joules += (now_s - last_s) * (watts + last_watts) / 2
        self._last = (now_s, watts)


class RaplCounter(Accumulator):
    """The joules of some zones, given by their folders."""

    def __init__(
        self, files: Files, zones: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = files
        self._clock = clock
        self._highest = {zone: files.number(f"{zone}/max_energy_range_uj") for zone in zones}
        self._last: dict[str, tuple[float, int]] = {}

    def poll(self) -> None:
        for zone, highest in self._highest.items():
            now_s, now = self._clock(), self._files.number(f"{zone}/energy_uj")
            if zone in self._last:
                last_s, last = self._last[zone]
                joules = counted(last, now, highest) / 1e6
                if joules > WATTS_MOST * (now_s - last_s + SLACK_S):
                    raise SensorError(
                        f"/{zone}/energy_uj went from {last} to {now} in {now_s - last_s:.3g} s: "
                        "it was set back"
                    )
                self.joules += joules
            self._last[zone] = (now_s, now)


def counted(before: int, after: int, highest: int) -> int:
    """How far a counter has come that goes from 0 to ``highest`` and begins anew.

    Raises:
        SensorError: a value is beyond its range.
    """
    if not 0 <= before <= highest or not 0 <= after <= highest:
        raise SensorError(f"the counter says {after}, which is not between 0 and {highest}")
    return (after - before) % (highest + 1)


class EnergyMeter:
    """Counts the energy drawn from :meth:`start` to :meth:`stop`, again and again.

    Args:
        name: of the sensor.
        scope: what draws the energy that it counts, for people: "the whole board".
        period_s: between readings.
        accumulator: makes a fresh one for each count; the sensor is first read by its first poll.
        reason: why it counts nothing, where there is no sensor; None for a meter that counts.
    """

    def __init__(
        self,
        name: str = NO_SENSOR,
        scope: str = "nothing",
        period_s: float = 0.0,
        accumulator: Callable[[], Accumulator] | None = None,
        reason: str | None = None,
    ) -> None:
        self.name, self.scope, self.reason = name, scope, reason
        self._period_s, self._accumulator = period_s, accumulator
        self._count: _Count | None = None

    def start(self) -> None:
        """Begin to count. A count that was begun and not stopped is dropped."""
        if self._count is not None:
            self._count.over.set()
        if self._accumulator is not None:
            self._count = _Count(self._accumulator, self._period_s)

    def stop(self) -> Energy:
        """What was drawn since :meth:`start`. A sensor that failed meanwhile is the reason in it.

        Raises:
            RuntimeError: it was not started.
        """
        if self.reason is not None:
            return Energy(None, 0.0, self.reason)
        if self._count is None:
            raise RuntimeError("stop() of an energy meter that was not started")
        count, self._count = self._count, None
        return count.finish()


class _Count:
    """From one start to its stop. An object of its own, so that a thread that hangs and wakes up
    later finds nothing to disturb."""

    def __init__(self, accumulator: Callable[[], Accumulator], period_s: float) -> None:
        self._period_s = period_s
        self.over = threading.Event()
        self._reason: str | None = None
        self._thread: threading.Thread | None = None
        self._begin_s = time.monotonic()
        """When the first reading was there, once it is."""
        made = attempt(accumulator)
        if isinstance(made, SensorError):
            self._reason = str(made)
            return
        self._accumulator = made
        going = self._poll()
        self._begin_s = time.monotonic()
        if going:
            thread = threading.Thread(target=self._watch, name="shiftedge-energy", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._reason = f"no thread to read the sensor with ({error})"
            else:
                self._thread = thread

    def finish(self) -> Energy:
        self.over.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
            if self._thread.is_alive():
                self._reason = f"the sensor gave no answer within {PATIENCE_S:g} s"
        seconds = time.monotonic() - self._begin_s
        if self._reason is None:
            self._poll()
        if self._reason is not None:
            return Energy(None, seconds, self._reason)
        if not self._accumulator.joules > 0:
            return Energy(None, seconds, "the sensor counted no energy")
        return Energy(self._accumulator.joules, seconds)

    def _watch(self) -> None:
        while not self.over.wait(self._period_s):
            if not self._poll():
                return

    def _poll(self) -> bool:
        """Whether there was something to read; else the reason is set."""
        failure = attempt(self._accumulator.poll)
        if failure is not None:
            self._reason = str(failure)
        return failure is None


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
            return EnergyMeter("INA3221", scope, INA_PERIOD_S, partial(PowerIntegral, watts))
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
    return EnergyMeter("PMIC", scope, PMIC_PERIOD_S, partial(PowerIntegral, watts))


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
    counter = partial(RaplCounter, files, packages)
    try:
        counter().poll()
    except NoPermissionError as error:
        raise SensorError(NO_PERMISSION) from error
    scope = "CPU package" if len(packages) == 1 else f"{len(packages)} CPU packages"
    return EnergyMeter("RAPL", scope, RAPL_PERIOD_S, counter)
