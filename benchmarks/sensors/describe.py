"""Samples as one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shiftedge.benchmarks.sensors.files import NO_SENSOR
from shiftedge.benchmarks.sensors.gauges import throttled_between

__all__ = ["describe"]

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
    hottest zone is told where it is hotter than the CPU. What could not be read comes last, with
    its reason.

    Args:
        before, after: of :meth:`~shiftedge.benchmarks.sensors.gauges.Sensors.sample`.
    """

    def both(key: str) -> list[Any]:
        return [sample[key] for sample in (before, after) if sample.get(key) is not None]

    parts = []
    if clocks := both("cpu_mhz"):
        mean = sum(clock["mean"] for clock in clocks) / len(clocks)
        least = min(clock["min"] for clock in clocks)
        most = max(clock["max"] for clock in clocks)
        parts.append(f"CPU {mean / 1e3:.2f} GHz ({least / 1e3:.2f} to {most / 1e3:.2f})")
    if names := dict.fromkeys(both("governor")):
        parts.append(f"governor {', then '.join(names)}")
    if gpu := dict.fromkeys(f"{mhz / 1e3:.2f}" for mhz in both("gpu_mhz")):
        parts.append(f"GPU {' to '.join(gpu)} GHz")
    degrees = both("temperature_c")
    if texts := dict.fromkeys(f"{each:.1f}" for each in degrees):
        parts.append(f"{' to '.join(texts)} °C")
    hottest = max(both("hottest"), key=lambda each: float(each["temperature_c"]), default=None)
    if hottest is not None and hottest["temperature_c"] > max(degrees, default=-273.15):
        parts.append(f"hottest {hottest['zone']} {hottest['temperature_c']:.1f} °C")
    if both("throttled") or both("throttle_events"):
        words = throttled_between(before, after)
        parts.append(f"throttled: {' and '.join(words)}" if words else "not throttled")
        ago = [word for word in before.get("throttled") or [] if word.endswith("has occurred")]
        if ago:
            parts.append(f"before, since the board was started: {' and '.join(ago)}")
    ends = [", ".join(parts)] if parts else []
    return "; ".join([*ends, *_missing({**before["reasons"], **after["reasons"]})])


def _missing(reasons: Mapping[str, str]) -> list[str]:
    """What neither sample has: by one phrase where there is no sensor, else reason by reason."""
    why = {key: reasons[key] for key in NAMES if key in reasons}
    flags, events = reasons.get("throttled"), reasons.get("throttle_events")
    if flags is not None and events is not None:
        why["throttling"] = flags if events == NO_SENSOR else events
    without = [NAMES[key] for key, reason in why.items() if reason == NO_SENSOR]
    parts = []
    if without:
        listed = " and ".join(filter(None, (", ".join(without[:-1]), without[-1])))
        parts.append(f"no sensor for {listed}")
    return parts + [f"{NAMES[key]}: {reason}" for key, reason in why.items() if reason != NO_SENSOR]
