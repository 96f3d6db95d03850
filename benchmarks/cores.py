"""Which cores a process runs on: the same ones for each engine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["chosen_cores", "pinned"]

CPUS = Path("/sys/devices/system/cpu")


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
    return sorted(sorted(usable, key=lambda core: (_capacity(core), core))[-count:])


def _capacity(core: int) -> int:
    try:
        return int((CPUS / f"cpu{core}" / "cpu_capacity").read_text())
    except (OSError, ValueError):
        return 0


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
