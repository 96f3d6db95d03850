"""Whether something holds the machine back: heat, a weak power supply, too much current.

Sources:
    https://www.raspberrypi.com/documentation/computers/os.html#vcgencmd (``get_throttled``)
    https://docs.kernel.org/admin-guide/thermal/intel_thermal_throttle.html
    Jetson Linux Developer Guide, Orin, "Over-Current Throttling": ``oc*_event_cnt``
    https://docs.kernel.org/driver-api/thermal/sysfs-api.html (cooling devices)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shiftedge.benchmarks.sensors.base import Files, Gauge, NoSensor, best_reason, shown
from shiftedge.benchmarks.sensors.vcgencmd import Vcgencmd

__all__ = [
    "OCCURRED",
    "CoolingThrottling",
    "IntelThrottling",
    "JetsonThrottling",
    "PiThrottling",
    "Throttle",
    "Throttling",
    "throttle_words",
]

OCCURRED = " has occurred"
"""Ends the words for what was seen since the start of the machine and may be over."""
BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
"""Of get_throttled; 16 higher, the same has occurred since the start."""
SINCE = 16
ANSWER = re.compile(r"throttled=0x([0-9a-fA-F]{1,8})")

CORES = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/{}_throttle_count"
EVENTS = "sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt"
ORIN_EVENTS = {
    1: "under-voltage",
    2: "average over-current",
    3: "instantaneous over-current",
}
"""Other Jetsons number theirs in other ways."""
COOLING = "sys/class/thermal/cooling_device*/type"
COOLING_KINDS = {
    "thermal-cpufreq": "CPU clock limited by heat",
    "cpufreq": "CPU clock limited by heat",
    "Processor": "CPU clock limited by heat",
    "thermal-devfreq": "GPU clock limited by heat",
    "devfreq": "GPU clock limited by heat",
}
"""Beginning of a cooling device's type -> what it means that it is at work."""


@dataclass(frozen=True)
class Throttle:
    """What holds the machine back.

    Args:
        words: what is so now; with :data:`OCCURRED` at the end, what was since the machine's start.
        counts: how often each thing happened since the machine's start.
    """

    words: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def throttle_words(text: str) -> list[str] | NoSensor:
    """What ``vcgencmd get_throttled`` says. Bits without a documented meaning are named."""
    match = ANSWER.fullmatch(text.strip())
    if match is None:
        return NoSensor(f"get_throttled printed {shown(text.strip())}", present=True)
    value = int(match[1], 16)
    words = []
    for bit in range(32):
        if value >> bit & 1:
            now = BITS.get(bit) or f"bit {bit}"
            then = BITS.get(bit - SINCE)
            words.append(now if then is None else then + OCCURRED)
    return words


class PiThrottling(Gauge[Throttle]):
    """A Raspberry Pi's flags."""

    def __init__(self, vcgencmd: Vcgencmd) -> None:
        self._vcgencmd = vcgencmd

    def read(self) -> Throttle | NoSensor:
        text = self._vcgencmd.ask("get_throttled")
        words = text if isinstance(text, NoSensor) else throttle_words(text)
        return words if isinstance(words, NoSensor) else Throttle(words)


class IntelThrottling(Gauge[Throttle]):
    """Thermal events of x86 cores and packages, counted by the kernel."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> Throttle | NoSensor:
        counts, missing = {}, []
        for kind in ("core", "package"):
            values = [self._files.integer(path) for path in self._files.match(CORES.format(kind))]
            numbers = [value for value in values if not isinstance(value, NoSensor)]
            missing += [value for value in values if isinstance(value, NoSensor)]
            if numbers:
                # Each core of a package tells the package's number.
                total = sum(numbers) if kind == "core" else max(numbers)
                counts[f"thermal throttling of a {kind}"] = total
        if counts:
            return _counted(counts)
        return best_reason(missing or [NoSensor("there are no thermal_throttle counters")])


class JetsonThrottling(Gauge[Throttle]):
    """A Jetson's over-current and under-voltage events."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> Throttle | NoSensor:
        compatible = self._files.text("proc/device-tree/compatible")
        names: Mapping[int, str] = {}
        if isinstance(compatible, str) and "nvidia,tegra234" in compatible:
            names = ORIN_EVENTS
        counts, missing = {}, []
        for path in self._files.match(EVENTS):
            number = int(re.findall(r"[0-9]+", path.rpartition("/oc")[2])[0])
            value = self._files.integer(path)
            if isinstance(value, NoSensor):
                missing.append(value)
            else:
                counts[names.get(number, f"over-current event OC{number}")] = value
        if counts:
            return _counted(counts)
        return best_reason(missing or [NoSensor("there are no over-current counters")])


class CoolingThrottling(Gauge[Throttle]):
    """Cooling devices that lower a clock; fans are none."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> Throttle | NoSensor:
        words: dict[str, None] = {}
        missing, found = [], False
        for path in self._files.match(COOLING):
            kind = self._files.text(path)
            if not isinstance(kind, str) or not kind.startswith(tuple(COOLING_KINDS)):
                continue
            state = self._files.integer(path.removesuffix("type") + "cur_state")
            if isinstance(state, NoSensor):
                missing.append(state)
                continue
            found = True
            if state > 0:
                meanings = (word for begin, word in COOLING_KINDS.items() if kind.startswith(begin))
                words[next(meanings)] = None
        if found:
            return Throttle(list(words))
        return best_reason(missing or [NoSensor("there are no cooling devices of a clock")])


class Throttling(Gauge[Throttle]):
    """All that the machine tells, of several sources together."""

    def __init__(self, sources: Sequence[Gauge[Throttle]]) -> None:
        self._sources = sources

    def read(self) -> Throttle | NoSensor:
        read = [source.read() for source in self._sources]
        found = [each for each in read if isinstance(each, Throttle)]
        if not found:
            return best_reason([each for each in read if isinstance(each, NoSensor)])
        words = dict.fromkeys(word for each in found for word in each.words)
        return Throttle(list(words), {k: v for each in found for k, v in each.counts.items()})


def _counted(counts: dict[str, int]) -> Throttle:
    return Throttle([name + OCCURRED for name, count in counts.items() if count > 0], counts)
