"""Samples as one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shiftedge.benchmarks.sensors.base import NO_SENSOR
from shiftedge.benchmarks.sensors.throttling import throttled_between

__all__ = ["describe"]

NAMES = {
    "cpu_mhz": "the CPU's clock",
    "governor": "its governor",
    "gpu_mhz": "the GPU's clock",
    "temperature_c": "temperature",
    "throttling": "throttling",
    "energy": "energy",
}


def describe(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    joules_per_frame: float | None = None,
    energy_reason: str | None = None,
) -> str:
    """What the board did between two samples, such as "CPU 1.50 GHz (1.50 to 1.50), governor
    ondemand, 58.0 to 62.3 °C, not throttled; 0.021 J a frame".

    The clock is the mean of both samples' means, with the least and the most of any core; the
    hottest zone is told where it is hotter than the CPU. What could not be read comes last, with
    its reason.

    Args:
        before, after: of :meth:`~shiftedge.benchmarks.sensors.board.Sensors.sample`.
        joules_per_frame: where energy was counted.
        energy_reason: where it was not.
    """
    parts = [
        *_cpu(before, after),
        *_governor(before, after),
        *_gpu(before, after),
        *_temperature(before, after),
        *_throttling(before, after),
    ]
    line = ", ".join(parts)
    ends = [line] if line else []
    if joules_per_frame is not None:
        ends.append(f"{joules_per_frame:.3g} J a frame")
    ends += _missing(before, after, energy_reason if joules_per_frame is None else None)
    return "; ".join(ends)


def _both(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> list[Any]:
    return [sample[key] for sample in (before, after) if sample.get(key) is not None]


def _cpu(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    clocks = _both(before, after, "cpu_mhz")
    if not clocks:
        return []
    mean = sum(clock["mean"] for clock in clocks) / len(clocks)
    least = min(clock["min"] for clock in clocks)
    most = max(clock["max"] for clock in clocks)
    return [f"CPU {mean / 1e3:.2f} GHz ({least / 1e3:.2f} to {most / 1e3:.2f})"]


def _governor(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(_both(before, after, "governor")))
    return [f"governor {', then '.join(names)}"] if names else []


def _gpu(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    texts = dict.fromkeys(f"{mhz / 1e3:.2f}" for mhz in _both(before, after, "gpu_mhz"))
    return [f"GPU {' to '.join(texts)} GHz"] if texts else []


def _temperature(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    parts = []
    texts = dict.fromkeys(f"{degrees:.1f}" for degrees in _both(before, after, "temperature_c"))
    if texts:
        parts.append(f"{' to '.join(texts)} °C")
    hottest = max(_both(before, after, "hottest"), key=_degrees, default=None)
    if hottest is not None and hottest["temperature_c"] > max(
        _both(before, after, "temperature_c"), default=-273.15
    ):
        parts.append(f"hottest {hottest['zone']} {hottest['temperature_c']:.1f} °C")
    return parts


def _degrees(hottest: Mapping[str, Any]) -> float:
    degrees: float = hottest["temperature_c"]
    return degrees


def _throttling(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    if not _both(before, after, "throttled") and not _both(before, after, "throttle_events"):
        return []
    words = throttled_between(before, after)
    parts = [f"throttled: {' and '.join(words)}" if words else "not throttled"]
    ago = [word for word in before.get("throttled") or [] if word.endswith("has occurred")]
    if ago:
        parts.append(f"before, since the board was started: {' and '.join(ago)}")
    return parts


def _missing(
    before: Mapping[str, Any], after: Mapping[str, Any], energy_reason: str | None
) -> list[str]:
    """What neither sample has: by one phrase where there is no sensor, else reason by reason."""
    reasons = {**before["reasons"], **after["reasons"]}
    why: dict[str, str] = {}
    for key in ("cpu_mhz", "governor", "gpu_mhz", "temperature_c"):
        if key in reasons:
            why[key] = reasons[key]
    flags, events = reasons.get("throttled"), reasons.get("throttle_events")
    if flags is not None and events is not None:
        why["throttling"] = flags if events == NO_SENSOR else events
    if energy_reason is not None:
        why["energy"] = energy_reason
    without = [NAMES[key] for key, reason in why.items() if reason == NO_SENSOR]
    parts = []
    if without:
        listed = " and ".join(filter(None, (", ".join(without[:-1]), without[-1])))
        parts.append(f"no sensor for {listed}")
    parts += [f"{NAMES[key]}: {reason}" for key, reason in why.items() if reason != NO_SENSOR]
    return parts
