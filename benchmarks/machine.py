"""What a measurement runs on: the machine's facts, without which no figure means anything, and
which of its cores, the same ones for each engine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shiftedge.runtime.process.cpu import CPUINFO, cpu_features, taken_away, usable_cores

PACKAGES = ("shiftedge", "numpy", "onnx", "onnxruntime", "openvino", "apache-tvm")
CPUS = Path("/sys/devices/system/cpu")


def machine() -> dict[str, Any]:
    """This machine as plain JSON types; None where it does not tell. No name of host or user.

    Sizes are in bytes; clock and governor are the sensors' to tell. The load is of processes that
    wanted a core, over the last minute: above 0.5 or so, others were at work.
    """
    facts: dict[str, Any] = {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "cores_total": os.cpu_count(),
        "cache_bytes": cache_sizes(),
        "memory_bytes": None,
        "load_average": None,
        "os": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {},
    }
    with contextlib.suppress(OSError, ValueError):
        facts["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError):
        facts["load_average"] = round(os.getloadavg()[0], 2)
    with contextlib.suppress(OSError):
        facts["os"] = platform.freedesktop_os_release().get("PRETTY_NAME", facts["os"])
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts["versions"][package] = importlib.metadata.version(package)
    return facts


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
    for index in sorted(CPUS.glob("cpu0/cache/index*")):
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


def chosen_cores(count: int) -> list[int] | None:
    """Numbers of so many cores, the strongest and of those the last; None where all are needed, or
    where the system does not pin.

    The last ones because interrupts come to the first by default; the strongest because boards mix
    kinds of cores (``cpu_capacity``, Linux's relative speed of a core).
    """
    try:
        usable = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return None
    if count >= len(usable):
        return None
    said = {core: _text(CPUS / f"cpu{core}" / "cpu_capacity") or "0" for core in usable}
    capacity = {core: int(text) if text.isdecimal() else 0 for core, text in said.items()}
    return sorted(sorted(usable, key=lambda core: (capacity[core], core))[-count:])


@contextlib.contextmanager
def pinned(cores: list[int] | None) -> Iterator[None]:
    """Processes started meanwhile, and their threads, run on these cores only."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
