"""What a measurement ran on: without it, no figure means anything."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftedge.runtime.process.cpu import CPUINFO, cpu_features, taken_away

__all__ = ["cache_sizes", "cpu_identity", "cpu_name", "installed_bytes", "machine", "usable_cores"]

PACKAGES = ("shiftedge", "numpy", "onnx", "onnxruntime", "openvino", "apache-tvm")
CPU0 = Path("/sys/devices/system/cpu/cpu0")


def machine() -> dict[str, Any]:
    """This machine as plain JSON types; None where it does not tell. No name of host or user.

    Frequencies are in MHz, sizes in bytes.
    """
    return {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "cores_total": os.cpu_count(),
        "cache_bytes": cache_sizes(),
        "governor": _text(CPU0 / "cpufreq" / "scaling_governor"),
        "frequency_mhz": _frequency_mhz("scaling_cur_freq") or _cpuinfo_mhz(),
        "frequency_max_mhz": _frequency_mhz("cpuinfo_max_freq"),
        "memory_bytes": _memory_bytes(),
        "load_average": _load_average(),
        "os": _os_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def usable_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def cpu_name() -> str:
    """The board and the CPU, as far as they say, and what the environment takes away of it."""
    board = _text(Path("/proc/device-tree/model"))
    fields = _cpuinfo()
    name = fields.get("model name") or fields.get("Model") or fields.get("Hardware")
    if name is None and "CPU part" in fields:  # aarch64 gives numbers, see its MIDR_EL1 register
        name = f"implementer {fields.get('CPU implementer')} part {fields['CPU part']}"
    gone = sorted(taken_away() & cpu_features(CPUINFO))
    without = f"taken for one without {' '.join(gone)}" if gone else None
    parts = dict.fromkeys(part.strip("\0 ") for part in (board, name, without) if part)
    return ", ".join(parts) or platform.processor() or platform.machine()


def cpu_identity() -> str:
    """Text that differs where compiled code may not run: the kind of CPU and what it can do."""
    fields = _cpuinfo()
    keys = ("cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
    return "\n".join(fields.get(key, "") for key in keys)


def cache_sizes() -> dict[str, int]:
    """Bytes of the first core's data caches: "l1", "l2", "l3", as far as the system tells."""
    sizes = {}
    for index in sorted(CPU0.glob("cache/index*")):
        size, level = _text(index / "size"), _text(index / "level")
        if size and level and _text(index / "type") != "Instruction":
            factor = {"K": 1 << 10, "M": 1 << 20}.get(size[-1], 1)
            digits = size.rstrip("KM")
            if digits.isdigit():
                sizes[f"l{level}"] = int(digits) * factor
    return sizes


def _cpuinfo() -> dict[str, str]:
    """The first value of each key; those of the first core come first."""
    fields: dict[str, str] = {}
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            fields.setdefault(key.strip(), value.strip())
    return fields


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _frequency_mhz(name: str) -> float | None:
    text = _text(CPU0 / "cpufreq" / name)
    return int(text) / 1e3 if text and text.isdigit() else None


def _cpuinfo_mhz() -> float | None:
    try:
        return float(_cpuinfo()["cpu MHz"])
    except (KeyError, ValueError):
        return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _load_average() -> float | None:
    """Processes that wanted a core, over the last minute: above 0.5 or so, others were at work."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def installed_bytes(packages: Sequence[str]) -> int | None:
    """What distributions take on disk, by their own lists of files; None where one has no list."""
    total = 0
    for package in packages:
        try:
            files = importlib.metadata.files(package)
        except importlib.metadata.PackageNotFoundError:
            return None
        for file in files or ():
            with contextlib.suppress(OSError):
                total += Path(str(file.locate())).stat().st_size
    return total or None
