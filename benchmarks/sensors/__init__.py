"""What a board tells of itself: clocks, governor, temperature, throttling, energy.

``find_sensors()`` looks once; ``.sample()`` reads everything at one moment, between turns;
``.meter`` counts joules while something runs. Nothing here raises into a benchmark: what cannot be
read is None with a reason, never 0.
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
