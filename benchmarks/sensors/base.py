"""What a sensor is: a gauge that is read at one moment, or a meter that counts energy meanwhile.

Inside this package a sensor that cannot be read raises :class:`SensorError`, whose text is a
reason for people. It goes no further than :class:`~shiftedge.benchmarks.sensors.board.Sensors` and
the meters: a benchmark gets None and the reason, never an exception and never a 0 that was not
measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from shiftedge.runtime.errors import ShiftedgeError

__all__ = [
    "NO_SENSOR",
    "Energy",
    "EnergyMeter",
    "Gauge",
    "MissingSensorError",
    "NoGauge",
    "NoPermissionError",
    "NoSensor",
    "SensorError",
    "attempt",
    "readable",
]

T = TypeVar("T")

NO_SENSOR = "no sensor"
"""The reason where a board has nothing to read."""


class SensorError(ShiftedgeError):
    """A sensor gave no value; the text says why."""


class MissingSensorError(SensorError):
    """The board has no such sensor, or no longer."""

    def __init__(self, reason: str = NO_SENSOR) -> None:
        super().__init__(reason)


class NoPermissionError(SensorError):
    """There is one, for others to read."""


def attempt(read: Callable[[], T]) -> T | SensorError:
    """What ``read`` gives, or why it gives nothing. Whatever is wrong with a sensor, it must not
    cost the measurement, so this catches faults of this package's too."""
    try:
        return read()
    except SensorError as error:
        return error
    except Exception as error:  # noqa: BLE001 - see above
        return SensorError(f"reading the sensor failed ({type(error).__name__}: {error})")


def readable(reads: Iterable[Callable[[], T]]) -> list[T]:
    """The values of those that give one.

    Raises:
        SensorError: none does; the last one's reason.
    """
    found = [attempt(read) for read in reads]
    values = [value for value in found if not isinstance(value, SensorError)]
    failures = [value for value in found if isinstance(value, SensorError)]
    if not values:
        raise failures[-1] if failures else MissingSensorError()
    return values


class Gauge(ABC):
    """One quantity, read at one moment."""

    source: str
    """Where it is read, for the record."""

    @abstractmethod
    def read(self) -> Any:
        """The value as a plain JSON type.

        Raises:
            SensorError: there is none.
        """


class NoGauge(Gauge):
    """Stands for a sensor that the board does not have, or that nobody may read."""

    def __init__(self, reason: str = NO_SENSOR) -> None:
        self.source = reason
        self.reason = reason

    def read(self) -> Any:
        raise SensorError(self.reason)


@dataclass(frozen=True)
class Energy:
    """What a meter counted between its start and its stop.

    ``joules`` is None where it could not count, and ``reason`` says why.
    """

    joules: float | None
    seconds: float
    reason: str | None = None

    @property
    def watts(self) -> float | None:
        """The mean power; None without energy or without time."""
        return None if self.joules is None or self.seconds <= 0 else self.joules / self.seconds

    def joules_per_frame(self, frames: int) -> float | None:
        """Joules for each of ``frames``; None without energy or without frames."""
        return None if self.joules is None or frames < 1 else self.joules / frames

    def to_dict(self) -> dict[str, float | str | None]:
        """Plain JSON types: joules, seconds, watts, reason."""
        return {
            "joules": self.joules,
            "seconds": self.seconds,
            "watts": self.watts,
            "reason": self.reason,
        }


class EnergyMeter(ABC):
    """Counts the energy drawn from :meth:`start` to :meth:`stop`, again and again."""

    name: str
    """Of the sensor."""
    scope: str
    """What draws the energy that it counts, for people: "the whole board", "CPU package"."""
    reason: str | None = None
    """Why it counts nothing; None for a meter that counts."""

    @abstractmethod
    def start(self) -> None:
        """Begin to count. A count that was begun and not stopped is dropped."""

    @abstractmethod
    def stop(self) -> Energy:
        """What was drawn since :meth:`start`. A sensor that failed meanwhile is the reason in it.

        Raises:
            RuntimeError: it was not started.
        """


class NoSensor(EnergyMeter):
    """A meter that counts nothing, for boards without one: every stop gives the reason."""

    name = NO_SENSOR
    scope = "nothing"

    def __init__(self, reason: str = NO_SENSOR) -> None:
        self.reason: str = reason

    def start(self) -> None:
        pass

    def stop(self) -> Energy:
        return Energy(None, 0.0, self.reason)
