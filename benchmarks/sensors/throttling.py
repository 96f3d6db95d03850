"""Whether the board slows itself down: for heat, or for want of power.

Two kinds of sensor. Flags say what is so now, or has been since the board was started; counters
count events since then, so only their growth over a run says something of the run
(:func:`throttled_between`).

Sources. Raspberry Pi: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled,
bits 0 to 3 and 16 to 19; the firmware driver's ``get_throttled`` in sysfs holds the same number in
hexadecimal, but only as the kernel last saw it, and the first read of it makes the kernel log a
warning ("deprecated, use hwmon sysfs instead", drivers/firmware/raspberrypi.c), so vcgencmd is
asked first. x86: Documentation/ABI/testing/sysfs-devices-system-cpu, ``thermal_throttle/``:
``core_throttle_count``, ``package_throttle_count``, events since boot. Jetson: NVIDIA Jetson Linux
Developer Guide, Orin series, "Electrical management": ``oc1_event_cnt`` under-voltage, ``oc2``
average and ``oc3`` instantaneous over-current, of the hwmon chip soctherm_oc; and the cooling
devices ``*-throttle-alert``, whose ``cur_state`` is above 0 while a unit is throttled for heat
(https://docs.kernel.org/driver-api/thermal/sysfs-api.html).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from shiftedge.benchmarks.sensors.base import (
    Gauge,
    MissingSensorError,
    NoGauge,
    SensorError,
    attempt,
)
from shiftedge.benchmarks.sensors.files import Files
from shiftedge.benchmarks.sensors.programs import Vcgencmd

__all__ = [
    "CoolingAlerts",
    "RaspberryPiFlags",
    "ThrottleCounters",
    "find_throttle_counters",
    "find_throttle_flags",
    "parse_throttled",
    "throttled_between",
]

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
CPU = "sys/devices/system/cpu/cpu{core}/{name}"


class RaspberryPiFlags(Gauge):
    """The words of the bits that are set; an empty list where all is well."""

    def __init__(self, source: str, ask: Callable[[], str]) -> None:
        self.source = source
        self._ask = ask

    def read(self) -> list[str]:
        return parse_throttled(self._ask())


class CoolingAlerts(Gauge):
    """Words of a Jetson's units that are throttled for heat now, such as "gpu throttled"."""

    source = "cooling devices"

    def __init__(self, files: Files, types: Mapping[str, str]) -> None:
        self._files = files
        self._types = types
        """Name of the file -> type of the cooling device."""

    def read(self) -> list[str]:
        return [
            f"{kind.removesuffix('-throttle-alert')} throttled"
            for name, kind in self._types.items()
            if self._files.number(name) > 0
        ]


class ThrottleCounters(Gauge):
    """Name of an event -> how often it has occurred since the board was started."""

    def __init__(self, files: Files, source: str, names: Mapping[str, Sequence[str]]) -> None:
        self._files = files
        self.source = source
        self._names = names
        """Name of the event -> the files whose numbers are added up."""

    def read(self) -> dict[str, int]:
        return {
            event: sum(self._files.number(name) for name in names)
            for event, names in self._names.items()
        }


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


def find_throttle_flags(files: Files, vcgencmd: Vcgencmd) -> Gauge:
    """Of a Raspberry Pi or a Jetson."""
    alerts = {}
    for name in files.glob("sys/class/thermal/cooling_device*/cur_state"):
        kind = attempt(partial(files.text, name.removesuffix("cur_state") + "type"))
        if isinstance(kind, str) and kind.endswith("-throttle-alert"):
            alerts[name] = kind
    if alerts:
        return CoolingAlerts(files, alerts)
    flags = RaspberryPiFlags("vcgencmd get_throttled", partial(vcgencmd.ask, "get_throttled"))
    said = attempt(flags.read)
    if not isinstance(said, SensorError):
        return flags
    for name in files.glob(FIRMWARE):
        return RaspberryPiFlags(f"/{name}", partial(files.text, name))
    return NoGauge() if isinstance(said, MissingSensorError) else NoGauge(str(said))


def find_throttle_counters(files: Files, cores: Collection[int]) -> Gauge:
    """Of a Jetson, or of the cores of an x86 processor."""
    events: dict[str, list[str]] = {}
    for name in files.glob("sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt"):
        kind = name.rpartition("/")[2]
        events.setdefault(OVER_CURRENT.get(kind, kind.removesuffix("_event_cnt")), []).append(name)
    if events:
        return ThrottleCounters(files, "soctherm_oc", events)
    # Threads of one core show the same counter, and so do all cores of one package.
    counters: dict[tuple[str, str, str], str] = {}
    for core in sorted(cores):
        package = _topology(files, core, "physical_package_id")
        for event, unit in (("core", _topology(files, core, "core_id")), ("package", "")):
            name = CPU.format(core=core, name=f"thermal_throttle/{event}_throttle_count")
            if files.has(name):
                counters.setdefault((event, package, unit), name)
    for (event, _, _), name in counters.items():
        events.setdefault(f"{event} too hot", []).append(name)
    return ThrottleCounters(files, "thermal_throttle", events) if events else NoGauge()


def throttled_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What slowed the board down between two samples, in words; empty where nothing is known to.

    Flags of this moment count in either sample; those that stay set once they "have occurred"
    only where they were not set before; counters with the times that they were added to.

    Args:
        before, after: of :meth:`~shiftedge.benchmarks.sensors.board.Sensors.sample`.
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


def _topology(files: Files, core: int, name: str) -> str:
    try:
        return files.text(CPU.format(core=core, name=f"topology/{name}"))
    except SensorError:
        return f"cpu{core}" if name == "core_id" else ""
