"""What a board tells of its clocks, temperatures, throttling and energy while it is measured.

Boards differ in what they have; what one lacks is None with a reason, never 0.
"""

from shiftedge.benchmarks.sensors.base import EnergyMeter, NoSensor
from shiftedge.benchmarks.sensors.suite import Sensors, find_sensors
from shiftedge.benchmarks.sensors.wording import describe, throttled_since

__all__ = ["EnergyMeter", "NoSensor", "Sensors", "describe", "find_sensors", "throttled_since"]
