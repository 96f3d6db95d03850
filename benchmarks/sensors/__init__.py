"""What a board tells of itself: clocks, governor, temperature, throttling, energy.

``find_sensors()`` looks once; ``.sample()`` reads everything at one moment, between turns;
``.meter`` counts joules from its ``start()`` to its ``stop()``, around a turn. Nothing here raises
into a benchmark: what cannot be read is None with a reason, never 0.

psutil is not asked: it leaves out what it cannot read without saying why, and takes the constant
that a virtual machine has in /proc/cpuinfo for a clock.
"""

from shiftedge.benchmarks.sensors.energy import Energy, EnergyMeter
from shiftedge.benchmarks.sensors.files import NO_SENSOR
from shiftedge.benchmarks.sensors.gauges import (
    Gauge,
    Sensors,
    describe,
    find_sensors,
    throttled_between,
)

__all__ = [
    "NO_SENSOR",
    "Energy",
    "EnergyMeter",
    "Gauge",
    "Sensors",
    "describe",
    "find_sensors",
    "throttled_between",
]
