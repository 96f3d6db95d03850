"""What the board tells of itself: temperatures, whether it is slowed down, how busy it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

THERMAL = Path("/sys/class/thermal")
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
"""Of a Raspberry Pi's firmware: bit 0 under-voltage, 1 the clock is capped, 2 throttled, 3 too hot;
the same plus 16: since the start."""
THROTTLED_NOW = 0xF
STAT = Path("/proc/stat")
"""Linux's counts; the first line is of all processors: user, nice, system, idle, iowait, ..."""


def temperatures() -> Iterator[tuple[str, float]]:
    """Each zone's name and degrees Celsius, where the system tells them."""
    for zone in sorted(THERMAL.glob("thermal_zone*")):
        with contextlib.suppress(OSError, ValueError):
            kind = (zone / "type").read_text().strip()
            yield f"{zone.name} {kind}", int((zone / "temp").read_text()) / 1000.0


def throttled() -> int | None:
    """1: a Raspberry Pi's firmware slows it down now; 0: it does not; None: nobody tells."""
    try:
        return int(int(THROTTLED.read_text(), 16) & THROTTLED_NOW != 0)
    except (OSError, ValueError):
        return None


class Busy:
    """Shares of processor time since the last look."""

    def __init__(self) -> None:
        self._own = time.process_time(), time.monotonic()
        self._whole = _counts()

    def look(self) -> tuple[float, float | None]:
        """Cores that this process kept busy, and the share of the whole machine that anything did,
        0..1; None where the system does not tell."""
        before, now = self._own, (time.process_time(), time.monotonic())
        cores = (now[0] - before[0]) / max(now[1] - before[1], 1e-9)
        old, new = self._whole, _counts()
        self._own, self._whole = now, new
        if old is None or new is None or new[1] <= old[1]:
            return cores, None
        return cores, min(max((new[0] - old[0]) / (new[1] - old[1]), 0.0), 1.0)


def _counts() -> tuple[int, int] | None:
    """Ticks that the processors worked, and all ticks."""
    try:
        ticks = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    except (OSError, ValueError, IndexError):
        return None
