"""Meters that look at their sensor again and again, from a thread.

The thread lives between start and stop. A sensor of power is integrated by the trapezoid rule. The
first and the last look are taken by the caller's own thread, so that a turn shorter than the
interval has two at least.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable

from shiftedge.benchmarks.sensors.base import EnergyMeter, NoSensor

__all__ = ["PowerMeter", "SampledMeter"]

JOIN_S = 5.0
"""A look that takes longer does not keep the benchmark waiting."""
HANGS = NoSensor("the sensor hangs", present=True)


class SampledMeter(EnergyMeter):
    """Looks every ``interval_s`` seconds until it is stopped, or a look finds nothing.

    Args:
        clock: seconds, ever growing.
    """

    def __init__(
        self, scope: str, interval_s: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(scope)
        self._interval_s = interval_s
        self._clock = clock
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._hangs: threading.Thread | None = None
        self._failure: NoSensor | None = NoSensor("the meter was not started")

    @abstractmethod
    def _reset(self) -> None:
        """Forget what was counted."""

    @abstractmethod
    def _look(self) -> NoSensor | None:
        """Read the sensor and add what was used since the last look."""

    @abstractmethod
    def _joules(self) -> float | NoSensor:
        """From the first look to the last."""

    def start(self) -> None:
        self._rest()
        if self._hangs is not None and self._hangs.is_alive():
            self._failure = HANGS
            return
        self._reset()
        self._failure = None
        if not self._look_safely():
            return
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(self._over,), name="energy-meter", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads
            self._thread = None
            self._failure = NoSensor(f"the sensor cannot be watched: {error}", present=True)

    def stop(self) -> float | NoSensor:
        if not self._rest():
            self._failure = HANGS
        if self._failure is None:
            self._look_safely()
        failure, self._failure = self._failure, NoSensor("the meter was not started")
        return self._joules() if failure is None else failure

    def _rest(self) -> bool:
        """End the thread; False where it hangs in a look."""
        thread, self._thread = self._thread, None
        self._over.set()
        if thread is None:
            return True
        thread.join(JOIN_S)
        if thread.is_alive():
            self._hangs = thread
        return not thread.is_alive()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(self._interval_s) and self._look_safely():
            pass

    def _look_safely(self) -> bool:
        """Whether there was something to see."""
        try:
            failure = self._look()
        except Exception as error:  # noqa: BLE001 - no sensor ends a measurement
            failure = NoSensor(f"the sensor failed: {error!r}", present=True)
        if failure is not None:
            self._failure = failure
        return failure is None


class PowerMeter(SampledMeter):
    """Integrates power.

    Args:
        watts: reads the sensor.
    """

    def __init__(
        self,
        scope: str,
        interval_s: float,
        watts: Callable[[], float | NoSensor],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(scope, interval_s, clock)
        self._watts = watts
        self._samples: list[tuple[float, float]] = []

    def _reset(self) -> None:
        self._samples = []

    def _look(self) -> NoSensor | None:
        before_s = self._clock()
        watts = self._watts()
        if isinstance(watts, NoSensor):
            return watts
        # A look takes a while; its value is of some moment within.
        self._samples.append((0.5 * (before_s + self._clock()), watts))
        return None

    def _joules(self) -> float | NoSensor:
        joules = 0.0
        pairs = zip(self._samples, self._samples[1:], strict=False)
        for (first_s, first_w), (second_s, second_w) in pairs:
            joules += 0.5 * (first_w + second_w) * (second_s - first_s)
        if joules > 0.0:
            return joules
        return NoSensor(f"the sensor shows no power ({self.scope})", present=True)
