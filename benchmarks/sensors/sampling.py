"""A meter that looks at its sensor from time to time while a turn is running.

A thread of this process, which lives only from start to stop, sleeps for ``period_s``, reads the
sensor and sleeps again. What it costs the run is one reading each time, on whatever core is free
or not: 20 us for each file (measured on an x86-64 server; an INA3221 makes it wait for its I2C bus
besides), for vcgencmd a process, see :mod:`~shiftedge.benchmarks.sensors.programs`. The first and
the last reading are taken by start and stop themselves, outside of what is timed.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from shiftedge.benchmarks.sensors.base import Energy, EnergyMeter, SensorError, attempt
from shiftedge.benchmarks.sensors.programs import TIMEOUT_S

__all__ = ["Accumulator", "PowerIntegral", "SampledMeter"]

PATIENCE_S = TIMEOUT_S + 1.0
"""How long stop waits for a reading that is under way."""


class Accumulator(ABC):
    """Energy so far, brought up to date by :meth:`poll`."""

    joules: float = 0.0
    """From the first poll to the last."""

    @abstractmethod
    def poll(self) -> None:
        """Read the sensor.

        Raises:
            SensorError: it gave nothing; the count is over.
        """


class PowerIntegral(Accumulator):
    """Energy from readings of power, by the trapezoidal rule.

    Args:
        watts: reads the power.
        clock: seconds.
    """

    def __init__(
        self, watts: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._watts = watts
        self._clock = clock
        self._last: tuple[float, float] | None = None

    def poll(self) -> None:
        begin_s = self._clock()
        watts = self._watts()
        now_s = (begin_s + self._clock()) / 2  # a reading takes its time
        if self._last is not None:
            last_s, last_watts = self._last
            self.joules += (now_s - last_s) * (watts + last_watts) / 2
        self._last = (now_s, watts)


class SampledMeter(EnergyMeter):
    """Keeps an :class:`Accumulator` up to date from start to stop.

    Args:
        name, scope: see :class:`EnergyMeter`.
        period_s: between readings.
        accumulator: makes a fresh one for each count; the sensor is first read by its first poll.
    """

    def __init__(
        self, name: str, scope: str, period_s: float, accumulator: Callable[[], Accumulator]
    ) -> None:
        self.name = name
        self.scope = scope
        self.period_s = period_s
        self._accumulator = accumulator
        self._count: _Count | None = None

    def start(self) -> None:
        if self._count is not None:
            self._count.cancel()
        self._count = _Count(self._accumulator, self.period_s)

    def stop(self) -> Energy:
        if self._count is None:
            raise RuntimeError("stop() of an energy meter that was not started")
        count, self._count = self._count, None
        return count.finish()


class _Count:
    """From one start to its stop. An object of its own, so that a thread that hangs and wakes up
    later finds nothing to disturb."""

    def __init__(self, accumulator: Callable[[], Accumulator], period_s: float) -> None:
        self._period_s = period_s
        self._over = threading.Event()
        self._reason: str | None = None
        self._thread: threading.Thread | None = None
        self._begin_s = time.monotonic()
        """When the first reading was there, once it is."""
        made = attempt(accumulator)
        if isinstance(made, SensorError):
            self._reason = str(made)
            return
        self._accumulator = made
        going = self._poll()
        self._begin_s = time.monotonic()
        if going:
            thread = threading.Thread(target=self._watch, name="shiftedge-energy", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._reason = f"no thread to read the sensor with ({error})"
            else:
                self._thread = thread

    def cancel(self) -> None:
        self._over.set()

    def finish(self) -> Energy:
        self._over.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
            if self._thread.is_alive():
                self._reason = f"the sensor gave no answer within {PATIENCE_S:g} s"
        seconds = time.monotonic() - self._begin_s
        if self._reason is None:
            self._poll()
        if self._reason is not None:
            return Energy(None, seconds, self._reason)
        if not self._accumulator.joules > 0:
            return Energy(None, seconds, "the sensor counted no energy")
        return Energy(self._accumulator.joules, seconds)

    def _watch(self) -> None:
        while not self._over.wait(self._period_s):
            if not self._poll():
                return

    def _poll(self) -> bool:
        """Whether there was something to read; else the reason is set."""
        failure = attempt(self._accumulator.poll)
        if failure is not None:
            self._reason = str(failure)
        return failure is None
