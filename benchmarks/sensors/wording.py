"""Two samples of the sensors, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shiftedge.benchmarks.sensors.base import NoSensor
from shiftedge.benchmarks.sensors.throttling import OCCURRED

__all__ = ["describe", "throttled_since"]


def throttled_since(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What held the machine back between two samples; empty where nothing did, or nothing tells.

    A flag that has been set since the machine's start tells nothing of the time in between, so it
    counts only where it is new.
    """
    told: dict[str, str] = {}
    known, earlier = before.get("throttle_counts") or {}, before.get("throttled")
    counts = after.get("throttle_counts") or {}
    for name, count in counts.items():
        if name in known and count > known[name]:
            told[name] = f"{name} ({count - known[name]} times)"
    for word in (*(earlier or ()), *(after.get("throttled") or ())):
        name = word.removesuffix(OCCURRED)
        is_new = earlier is not None and word not in earlier
        if name not in counts and (name == word or is_new):
            told.setdefault(name, name)
    return list(told.values())


def describe(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    joules_per_frame: float | NoSensor | None = None,
) -> str:
    """One line about the time between two samples, for people.

    Args:
        joules_per_frame: None where nobody asked for the energy. Why there is none is told where
            the board has a sensor, since that can be mended.
    """
    clock, gpu = after.get("cpu_mhz"), after.get("gpu_mhz")
    if clock is None:
        parts = ["CPU clock: no sensor"]
    else:
        spread = "" if clock["min"] == clock["max"] else f" ({clock['min']:.0f} to "
        spread += f"{clock['max']:.0f})" if spread else ""
        parts = [f"CPU {clock['mean']:.0f} MHz{spread}"]
    if after.get("governor") is not None:
        parts[0] += f", {after['governor']}"
    if gpu is not None:
        parts.append(f"GPU {gpu:.0f} MHz")
    parts.append(_temperatures(before, after))
    if after.get("throttled") is None:
        parts.append("throttling: no sensor")
    elif words := throttled_since(before, after):
        parts.append("throttled: " + ", ".join(words))
    else:
        parts.append("not throttled")
    if isinstance(joules_per_frame, NoSensor):
        reason = f" ({joules_per_frame.reason})" if joules_per_frame.present else ""
        parts.append(f"energy: no sensor{reason}")
    elif joules_per_frame is not None:
        parts.append(f"energy {1e3 * joules_per_frame:.3g} mJ a frame")
    return "; ".join(parts)


def _temperatures(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    for key, name in (("temperature_c", "CPU"), ("hottest_c", "hottest zone")):
        value, earlier = after.get(key), before.get(key)
        if value is not None:
            begin = "" if earlier is None else f"{earlier:.0f} to "
            return f"{name} {begin}{value:.0f} °C"
    return "temperature: no sensor"
