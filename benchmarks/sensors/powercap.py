"""Energy of x86 processors: RAPL counters through powercap.

Sources: Documentation/ABI/testing/sysfs-class-powercap and
https://docs.kernel.org/power/powercap/powercap.html: a zone ``intel-rapl:N`` (AMD's too) has
``name`` ("package-0", "psys"), ``energy_uj``, microjoules, which begins anew after
``max_energy_range_uj``. Since November 2020 (CVE-2020-8694, Linux 5.10) energy_uj is for root
alone. Zones below a package (``intel-rapl:0:1``, "core", "dram") are parts of it or of something
else and are not added; ``intel-rapl-mmio:0`` is the same package once more.

The joules are those of all packages: cores, caches, memory controller and built-in graphics, but
neither memory chips nor anything else of the machine.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import partial

from shiftedge.benchmarks.sensors.base import EnergyMeter, NoPermissionError, SensorError
from shiftedge.benchmarks.sensors.files import Files
from shiftedge.benchmarks.sensors.sampling import Accumulator, SampledMeter

__all__ = ["RaplCounter", "counted", "find_powercap"]

PERIOD_S = 20.0
"""Between readings: a counter of 65 kJ lasts for three minutes at 350 W."""
WATTS_MOST = 1000.0
"""Of one package. More means that the counter was set back by someone, not that it went round."""
NO_PERMISSION = (
    "no permission to read RAPL's energy_uj, which is for root alone since 2020 (CVE-2020-8694): "
    "run as root, or allow it until the next boot with "
    "`sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj`"
)
SLACK_S = 0.1
"""The counter moves every millisecond or so, not at every moment."""


def counted(before: int, after: int, highest: int) -> int:
    """How far a counter has come that goes from 0 to ``highest`` and begins anew.

    Raises:
        SensorError: a value is beyond its range.
    """
    if not 0 <= before <= highest or not 0 <= after <= highest:
        raise SensorError(f"the counter says {after}, which is not between 0 and {highest}")
    return (after - before) % (highest + 1)


class RaplCounter(Accumulator):
    """The joules of some zones.

    Args:
        files: where they are.
        zones: folders of the zones.
        clock: seconds.
    """

    def __init__(
        self, files: Files, zones: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = files
        self._clock = clock
        self._highest = {zone: files.number(f"{zone}/max_energy_range_uj") for zone in zones}
        self._last: dict[str, tuple[float, int]] = {}

    def poll(self) -> None:
        for zone, highest in self._highest.items():
            now_s, now = self._clock(), self._files.number(f"{zone}/energy_uj")
            if zone in self._last:
                last_s, last = self._last[zone]
                joules = counted(last, now, highest) / 1e6
                if joules > WATTS_MOST * (now_s - last_s + SLACK_S):
                    raise SensorError(
                        f"/{zone}/energy_uj went from {last} to {now} in {now_s - last_s:.3g} s: "
                        "it was set back"
                    )
                self.joules += joules
            self._last[zone] = (now_s, now)


def find_powercap(files: Files) -> EnergyMeter | None:
    """The meter of all packages; None where there is none.

    Raises:
        SensorError: there is one, and it cannot be read.
    """
    zones = [
        name.removesuffix("/energy_uj")
        for name in files.glob("sys/class/powercap/intel-rapl:*/energy_uj")
        if re.search(r"/intel-rapl:[0-9]+/", name)
    ]
    packages = [zone for zone in zones if files.text(f"{zone}/name").startswith("package")]
    if not packages:
        return None
    try:
        for zone in packages:
            files.number(f"{zone}/energy_uj")
    except NoPermissionError as error:
        raise SensorError(NO_PERMISSION) from error
    RaplCounter(files, packages).poll()
    return SampledMeter(
        "RAPL",
        "CPU package" if len(packages) == 1 else f"{len(packages)} CPU packages",
        PERIOD_S,
        partial(RaplCounter, files, packages),
    )
