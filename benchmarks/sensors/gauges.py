"""What is read at one moment: clocks, governor, temperatures, throttling; and in words.

A gauge is found once, by one of the functions in :data:`GAUGES`, and read as often as wanted. Which
files hold what on which board, and where that is documented: docs/sensors.md.
"""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.sensors.energy import EnergyMeter, find_meter
from shiftedge.benchmarks.sensors.files import (
    NO_SENSOR,
    Files,
    MissingSensorError,
    Read,
    Run,
    SensorError,
    Vcgencmd,
    attempt,
    read_file,
    readable,
    run_program,
)

CORE = "sys/devices/system/cpu/cpu{core}/{name}"
GPU_NAMES = ("gpu", "gp10b", "gv11b", "ga10b")
"""How the name of a GPU's devfreq device ends, after its address."""
CPU_ZONES = ("cpu-thermal", "cpu-therm", "bcpu-therm", "mcpu-therm", "x86-pkg-temp")
"""Types of zones, in small letters with hyphens, that are the CPU's; others begin with "cpu"."""
CPU_CHIPS = ("k10temp", "zenpower", "coretemp", "cpu_thermal")
"""Names of hwmon chips that are the CPU's."""
NOT_MEASURED = ("pmic-die",)
RANGE_C = (-55.0, 150.0)
"""Beyond, it is no temperature."""
BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage has occurred",
    17: "frequency capping has occurred",
    18: "throttling has occurred",
    19: "soft temperature limit has occurred",
}
"""Of a Raspberry Pi; the lower are of this moment, the upper since the board was started."""
THROTTLED = re.compile(r"\s*(?:throttled=0x)?([0-9a-f]{1,8})\s*", re.ASCII | re.IGNORECASE)
FIRMWARE = "sys/devices/platform/soc*/*firmware/get_throttled"
OVER_CURRENT = {
    "oc1_event_cnt": "under-voltage",
    "oc2_event_cnt": "average over-current",
    "oc3_event_cnt": "instantaneous over-current",
}


@dataclass(frozen=True)
class SensorAccess:
    files: Files
    vcgencmd: Vcgencmd
    cores: Collection[int]
    """Whose clocks and counters are read."""


@dataclass(frozen=True)
class Gauge:
    source: str | None
    """Where it is read, for the record; None where nothing is."""
    read: Callable[[], Any]
    """Gives the value as a plain JSON type; raises SensorError where there is none."""


def _of_cores(board: SensorAccess, name: str) -> list[str]:
    paths = [CORE.format(core=core, name=f"cpufreq/{name}") for core in sorted(board.cores)]
    return [path for path in paths if board.files.has(path)]


def _cpu_clock(board: SensorAccess) -> Gauge | None:
    """``{"mean", "min", "max"}`` over the cores, MHz. Cores that went offline are left out."""
    names = _of_cores(board, "scaling_cur_freq")

    def read() -> dict[str, float]:
        mhz = [khz / 1e3 for khz in readable(partial(board.files.positive, one) for one in names)]
        return {"mean": statistics.fmean(mhz), "min": min(mhz), "max": max(mhz)}

    return Gauge("cpufreq", read) if names else None


def _governor(board: SensorAccess) -> Gauge | None:
    """The governor's name; those of all cores, with commas, where they differ."""
    names = _of_cores(board, "scaling_governor")

    def read() -> str:
        said = readable(partial(board.files.text, one) for one in names)
        return ", ".join(dict.fromkeys(each[:40] for each in said))

    return Gauge("cpufreq", read) if names else None


def _gpu_clock(board: SensorAccess) -> Gauge | None:
    """MHz, of the first GPU that has one."""
    for name in board.files.glob("sys/class/devfreq/*/cur_freq"):
        if name.split("/")[-2].rpartition(".")[2] in GPU_NAMES:
            return Gauge(f"/{name}", lambda: board.files.positive(name) / 1e6)  # noqa: B023
    return None


def _cpu_temperature(board: SensorAccess) -> Gauge | None:
    """Degrees Celsius, from the CPU's thermal zones, or else from its hwmon chip; the highest where
    several are the CPU's."""
    kinds = {name: kind for name, kind in _zones(board.files).items() if _is_cpu(kind)}
    if not kinds:
        inputs = board.files.glob("sys/class/hwmon/hwmon*/temp1_input")
        chips = {name: board.files.text_or(name.replace("temp1_input", "name")) for name in inputs}
        kinds = {name: chip for name, chip in chips.items() if chip in CPU_CHIPS}
    source = ", ".join(dict.fromkeys(kinds.values()))
    return Gauge(source, lambda: _hottest(board.files, list(kinds))[0]) if kinds else None


def _hottest_zone(board: SensorAccess) -> Gauge | None:
    """``{"zone", "temperature_c"}`` of the hottest thermal zone that can be read."""
    zones = _zones(board.files)

    def read() -> dict[str, float | str]:
        temperature_c, name = _hottest(board.files, list(zones))
        return {"zone": zones[name], "temperature_c": temperature_c}

    return Gauge("thermal zones", read) if zones else None


def _zones(files: Files) -> dict[str, str]:
    """Name of the file -> type of the zone."""
    found = {}
    for name in files.glob("sys/class/thermal/thermal_zone*/temp"):
        kind = files.text_or(name.removesuffix("temp") + "type", name.split("/")[-2])
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


def _throttle_flags(board: SensorAccess) -> Gauge | None:
    """Words of what is set, of a Raspberry Pi or a Jetson; an empty list where all is well."""
    files = board.files
    devices = files.glob("sys/class/thermal/cooling_device*/cur_state")
    kinds = {name: files.text_or(name.removesuffix("cur_state") + "type") for name in devices}
    alerts = {name: kind for name, kind in kinds.items() if kind.endswith("-throttle-alert")}

    def read_alerts() -> list[str]:
        return [
            f"{kind.removesuffix('-throttle-alert')} throttled"
            for name, kind in alerts.items()
            if files.number(name) > 0
        ]

    if alerts:
        return Gauge("cooling devices", read_alerts)
    ask = partial(board.vcgencmd.ask, "get_throttled")
    flags = Gauge("vcgencmd get_throttled", lambda: parse_throttled(ask()))
    said = attempt(flags.read)
    if not isinstance(said, SensorError):
        return flags
    for name in files.glob(FIRMWARE):
        return Gauge(f"/{name}", lambda: parse_throttled(files.text(name)))  # noqa: B023
    if isinstance(said, MissingSensorError):
        return None
    raise said


def parse_throttled(answer: str) -> list[str]:
    """The words of ``throttled=0x50005``, or of the bare ``50005`` of sysfs.

    Raises:
        SensorError: it is something else.
    """
    found = THROTTLED.fullmatch(answer)
    if found is None:
        raise SensorError(f"get_throttled says {answer.strip()[:60]!r}, which is not throttled=0x0")
    bits = int(found[1], 16)
    return [BITS.get(bit, f"bit {bit}") for bit in range(32) if bits >> bit & 1]


def _throttle_counters(board: SensorAccess) -> Gauge | None:
    """Name of an event -> how often it has occurred since the board was started, of a Jetson, or of
    the cores of an x86 processor."""
    files = board.files
    source = "soctherm_oc"
    events: dict[str, list[str]] = {}
    """And the files whose numbers are added up."""
    for name in files.glob("sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt"):
        kind = name.rpartition("/")[2]
        events.setdefault(OVER_CURRENT.get(kind, kind.removesuffix("_event_cnt")), []).append(name)
    if not events:
        source = "thermal_throttle"
        # Threads of one core show the same counter, and so do all cores of one package.
        counters: dict[tuple[str, str, str], str] = {}
        for core in sorted(board.cores):
            package = files.text_or(CORE.format(core=core, name="topology/physical_package_id"))
            own = files.text_or(CORE.format(core=core, name="topology/core_id"), f"cpu{core}")
            for event, unit in (("core", own), ("package", "")):
                name = CORE.format(core=core, name=f"thermal_throttle/{event}_throttle_count")
                if files.has(name):
                    counters.setdefault((event, package, unit), name)
        for (event, _, _), name in counters.items():
            events.setdefault(f"{event} too hot", []).append(name)

    def read() -> dict[str, int]:
        return {event: sum(map(files.number, names)) for event, names in events.items()}

    return Gauge(source, read) if events else None


GAUGES: dict[str, Callable[[SensorAccess], Gauge | None]] = {
    "cpu_mhz": _cpu_clock,
    "governor": _governor,
    "gpu_mhz": _gpu_clock,
    "temperature_c": _cpu_temperature,
    "hottest": _hottest_zone,
    "throttled": _throttle_flags,
    "throttle_events": _throttle_counters,
}
"""Key of the sample -> what finds its gauge; None where there is none, and a SensorError where
nobody may read it."""


class Sensors:
    """What a board has, found once and read as often as wanted. Reading raises nothing.

    Args:
        gauges: key of the sample -> what is read for it.
        meter: of energy; its ``reason`` says why where there is none to be read.
    """

    def __init__(self, gauges: Mapping[str, Gauge], meter: EnergyMeter) -> None:
        self._gauges, self.meter = gauges, meter

    def sample(self) -> dict[str, Any]:
        """The values of this moment, as plain JSON types, under the keys of :data:`GAUGES`. A value
        that could not be read is None, and ``reasons`` says why under the same key.

        Takes some 20 us for each file, and on a Raspberry Pi one process (vcgencmd): for the time
        between turns, not for within.
        """
        found = {key: attempt(gauge.read) for key, gauge in self._gauges.items()}
        reasons = {key: str(one) for key, one in found.items() if isinstance(one, SensorError)}
        return {**found, **dict.fromkeys(reasons), "reasons": reasons}

    def sources(self) -> dict[str, str | None]:
        """Key of the sample, or "energy" -> where it is read; None where nothing is."""
        meter = self.meter
        energy = None if meter.reason else f"{meter.name}: {meter.scope}"
        return {**{key: gauge.source for key, gauge in self._gauges.items()}, "energy": energy}


def find_sensors(
    root: Path = Path("/"),
    *,
    run: Run = run_program,
    read: Read = read_file,
    cores: Collection[int] | None = None,
) -> Sensors:
    """Look for what the board has. Raises nothing; what is not there has its reason."""
    if cores is None:
        try:
            cores = os.sched_getaffinity(0)
        except AttributeError:  # not Linux
            cores = range(os.cpu_count() or 1)
    board = SensorAccess(Files(root, read), Vcgencmd(run), cores)
    gauges = {}
    for key, find in GAUGES.items():
        found = attempt(partial(find, board)) or MissingSensorError()
        gauges[key] = found if isinstance(found, Gauge) else Gauge(None, partial(_refuse, found))
    return Sensors(gauges, find_meter(board.files, board.vcgencmd))


def _refuse(reason: SensorError) -> None:
    raise reason


def throttled_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What slowed the board down between two samples, in words; empty where nothing is known to.

    Flags of this moment count in either sample; those that stay set once they "have occurred"
    only where they were not set before; counters with the times that they were added to.
    """
    earlier, later = before.get("throttled") or [], after.get("throttled") or []
    words = [word for word in earlier if not word.endswith("has occurred")]
    words += [word for word in later if word not in earlier]
    counted = before.get("throttle_events") or {}
    for event, count in (after.get("throttle_events") or {}).items():
        more = count - counted.get(event, count)
        if more > 0:
            words.append(f"{event} ({more} {'time' if more == 1 else 'times'})")
    return words


NAMES = {
    "cpu_mhz": "the CPU's clock",
    "governor": "its governor",
    "gpu_mhz": "the GPU's clock",
    "temperature_c": "temperature",
    "throttling": "throttling",
}


def describe(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What the board did between two samples, such as "CPU 1.50 GHz (1.50 to 1.50), governor
    ondemand, 58.0 to 62.3 °C, not throttled".

    The clock is the mean of both samples' means, with the least and the most of any core; the
    hottest zone is told where it is hotter than the CPU. What neither sample has comes last, reason
    by reason.
    """

    def both(key: str) -> list[Any]:
        return [sample[key] for sample in (before, after) if sample.get(key) is not None]

    def texts(key: str, form: str, scale: float = 1.0) -> str:
        return " to ".join(dict.fromkeys(format(each * scale, form) for each in both(key)))

    parts = []
    if clocks := both("cpu_mhz"):
        ghz = [
            sum(each["mean"] for each in clocks) / len(clocks) / 1e3,
            min(each["min"] for each in clocks) / 1e3,
            max(each["max"] for each in clocks) / 1e3,
        ]
        parts.append("CPU {:.2f} GHz ({:.2f} to {:.2f})".format(*ghz))
    if names := dict.fromkeys(both("governor")):
        parts.append(f"governor {', then '.join(names)}")
    if gpu := texts("gpu_mhz", ".2f", 1e-3):
        parts.append(f"GPU {gpu} GHz")
    if degrees := texts("temperature_c", ".1f"):
        parts.append(f"{degrees} °C")
    hottest = max(both("hottest"), key=lambda each: float(each["temperature_c"]), default=None)
    if hottest and hottest["temperature_c"] > max(both("temperature_c"), default=-273.15):
        parts.append(f"hottest {hottest['zone']} {hottest['temperature_c']:.1f} °C")
    if both("throttled") or both("throttle_events"):
        words = throttled_between(before, after)
        parts.append(f"throttled: {' and '.join(words)}" if words else "not throttled")
        ago = [word for word in before.get("throttled") or [] if word.endswith("has occurred")]
        if ago:
            parts.append(f"before, since the board was started: {' and '.join(ago)}")
    ends = [", ".join(parts)] if parts else []
    reasons = {**before["reasons"], **after["reasons"]}
    why = {key: reasons[key] for key in NAMES if key in reasons}
    flags, events = reasons.get("throttled"), reasons.get("throttle_events")
    if flags is not None and events is not None:
        why["throttling"] = flags if events == NO_SENSOR else events
    ends += [
        f"{reason}: {', '.join(NAMES[key] for key in why if why[key] == reason)}"
        for reason in dict.fromkeys(why.values())
    ]
    return "; ".join(ends)
