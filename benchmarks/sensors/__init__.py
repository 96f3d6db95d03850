"""What a board tells of itself: clocks, governor, temperature, throttling, energy.

``find_sensors()`` looks once; ``.sample()`` reads everything at one moment, between turns;
``.energy_meter()`` counts joules from its ``start()`` to its ``stop()``, around a turn. Nothing
here raises into a benchmark: what cannot be read is None with a reason, never 0.
"""

from shiftedge.benchmarks.sensors.base import NO_SENSOR, Energy, EnergyMeter, NoSensor
from shiftedge.benchmarks.sensors.board import Sensors, find_sensors
from shiftedge.benchmarks.sensors.describe import describe
from shiftedge.benchmarks.sensors.throttling import throttled_between

__all__ = [
    "NO_SENSOR",
    "Energy",
    "EnergyMeter",
    "NoSensor",
    "Sensors",
    "describe",
    "find_sensors",
    "throttled_between",
]
