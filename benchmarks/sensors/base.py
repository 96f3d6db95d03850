"""What a sensor is: something that gives a value, or says in words why it has none.

Nothing here raises for what a board lacks or for what its files hold: a benchmark goes on without
the figure, and the reason stands where the figure would.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["EnergyMeter", "Files", "Gauge", "NoSensor", "best_reason", "shown"]

T = TypeVar("T")

FILE_BYTES = 65536
"""Of a file, at most; those of sysfs are a page at most."""
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")


@dataclass(frozen=True)
class NoSensor:
    """There is no value.

    Args:
        reason: for people, without a full stop.
        present: the board has the sensor, but it cannot be read; then the reason is worth more
            than those of sensors that other boards have.
    """

    reason: str
    present: bool = False


class Gauge(ABC, Generic[T]):
    """What can be read at any moment."""

    @abstractmethod
    def read(self) -> T | NoSensor:
        """The value now, in the unit that the gauge's class names."""


class EnergyMeter(ABC):
    """Energy between two moments. One meter can be started again and again.

    Args:
        scope: what the energy is that of, for people: figures of different scopes are not alike.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope

    @abstractmethod
    def start(self) -> None:
        """Begin to count; what was begun before is forgotten."""

    @abstractmethod
    def stop(self) -> float | NoSensor:
        """Joules since the start, more than 0; the meter is at rest then."""


class Files:
    """Small text files below a root: ``/``, or a folder that a test has made.

    Paths are relative to the root, without a leading slash.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def match(self, pattern: str) -> list[str]:
        """Paths that fit a glob, with ``zone2`` before ``zone10``; none where it cannot look."""
        try:
            found = [path.relative_to(self._root).as_posix() for path in self._root.glob(pattern)]
        except (OSError, ValueError):
            return []
        return sorted(found, key=_by_number)

    def text(self, path: str) -> str | NoSensor:
        """A file's text without white space and NULs around it; never empty."""
        try:
            with open(self._root / path, "rb") as file:
                content = file.read(FILE_BYTES)
        except FileNotFoundError:
            return NoSensor(f"there is no /{path}")
        except PermissionError:
            return NoSensor(f"no permission to read /{path}", present=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return NoSensor(f"/{path} cannot be read: {reason}", present=True)
        text = content.decode(errors="replace").strip("\0 \t\r\n")
        return text or NoSensor(f"/{path} is empty", present=True)

    def integer(self, path: str) -> int | NoSensor:
        """A file's whole number."""
        text = self.text(path)
        if isinstance(text, NoSensor):
            return text
        if INTEGER.fullmatch(text) is None:
            return NoSensor(f"/{path} holds {shown(text)}, not a whole number", present=True)
        return int(text)


def shown(text: str) -> str:
    """Foreign text as it may stand in a reason: short, one line, in quotes."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def best_reason(missing: list[NoSensor]) -> NoSensor:
    """Of several that might have given the value: those that the board has, else all."""
    told = [each for each in missing if each.present] or missing
    reasons = dict.fromkeys(each.reason for each in told)
    return NoSensor("; ".join(reasons), present=any(each.present for each in told))


def _by_number(path: str) -> list[tuple[int, str]]:
    """Key that sorts runs of digits by their value."""
    parts = re.split(r"([0-9]+)", path)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
