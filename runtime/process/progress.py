"""How far long work has come: a bar for people at a terminal, now and then a line for pipes, logs
and CI.

Work is a stack of items, a stage inside a command's whole work, and a line tells of the innermost.
The time since the last line is one for all items inside another, so that many short stages speak as
one long one does. A line comes when a unit is done, and from a thread that sleeps until one is due,
so that a single unit that takes minutes speaks as well. While figures are being taken the thread
sleeps on, and who takes them says so between two, see :meth:`Lines.beat`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

from shiftedge.runtime.words import plain, say

Advance: TypeAlias = Callable[[int], None]
"""Call with the number of units done since the last call; negative when work is done over."""

ProgressFactory: TypeAlias = Callable[[str, "int | None", str], AbstractContextManager[Advance]]
"""The type of :func:`progress`: what long work takes, so that tests can pass their own."""

VARIABLE = "SHIFTEDGE_PROGRESS_S"
"""Of the environment: other seconds between two lines; 0 is none at all, for a cron that mails."""
NEVER_S = 1e6


def _every_s(given: str | None) -> float:
    """The seconds that the variable gives, or ten where it gives none."""
    try:
        seconds = float(given or "")
    except ValueError:
        return 10.0
    if not math.isfinite(seconds) or seconds < 0.0:
        return 10.0
    return min(seconds, NEVER_S) or NEVER_S


EVERY_S = _every_s(os.environ.get(VARIABLE))
"""Between two lines, and before the first."""
STEADY_UNITS = 5
"""From which on they tell how long the others will take."""
JOIN_S = 1.0
"""For the thread to see that the work is over; it goes on where other work has begun meanwhile."""


@dataclass
class _Item:
    """A piece of work that goes on."""

    description: str
    total: int | None
    unit: str
    """Empty for work that is not counted."""
    quiet: bool
    """No thread may wake meanwhile."""
    begun_s: float
    done: int = 0
    moved_s: float = 0.0
    """When a unit was done last."""

    def line(self, now_s: float) -> str:
        """How far it has come."""
        since_s = now_s - self.begun_s
        left = f"{_duration(since_s)} so far" if since_s >= 0.5 else "just begun"
        if not self.unit:
            return f"{self.description}: {left}"
        if self.total:
            share = min(max(self.done / self.total, 0.0), 1.0)
            left = f"{share:.0%}, {self._left(now_s) or left}"
        return f"{self.description}: {self._count()}, {left}"

    def _left(self, now_s: float) -> str:
        """The time to come, or nothing where a few units, or one that takes longer, tell none."""
        if self.total is None or not STEADY_UNITS <= self.done < self.total:
            return ""
        unit_s = (self.moved_s - self.begun_s) / self.done
        left_s = (self.total - self.done) * unit_s - (now_s - self.moved_s)
        return f"about {_duration(left_s)} left" if left_s > 0.0 else ""

    def _count(self) -> str:
        of = "" if self.total is None else f" of {self._number(self.total)}"
        return f"{self._number(self.done)}{of} {'MB' if self.unit == 'bytes' else self.unit}"

    def _number(self, count: int) -> str:
        return f"{count / 1e6:.1f}" if self.unit == "bytes" else f"{count:,}"


class Lines:
    """Says a line on stderr, at most every :data:`EVERY_S`, while there is work."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._clock, self._say = clock, say or _to_stderr
        self._items: list[_Item] = []
        self._said_s = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def item(
        self, description: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[Callable[[int], None]]:
        """Work of so many units (see :func:`progress`) goes on while the body runs; ``quiet``:
        without the thread."""
        with self._changed:
            now_s = self._clock()
            if not self._items:
                self._said_s = now_s
            item = _Item(plain(description), total, unit, quiet, now_s)
            if self._items and not unit and self._items[-1].description == item.description:
                item.begun_s = self._items[-1].begun_s  # a command's work, and that of its library
            self._items.append(item)
            self._wake()

        def advance(count: int) -> None:
            with self._changed:
                item.done += count
                item.moved_s = self._clock()
            self.beat()

        try:
            yield advance
        finally:
            with self._changed:
                self._items.remove(item)
                self._changed.notify()
                over = None if self._items else self._thread
            if over is not None:
                over.join(JOIN_S)  # a thread that writes while Python ends would abort it

    def beat(self) -> None:
        """Say a line if there is work and one is due."""
        with self._changed:
            due = self._due_s() <= 0.0
            if not (self._items and due):
                return
            self._said_s = now_s = self._clock()
            line = self._items[-1].line(now_s)
        self._say(line)

    def _due_s(self) -> float:
        return self._said_s + EVERY_S - self._clock()

    def _wake(self) -> None:
        """Have the thread look at the items; there is one as long as there are any."""
        if self._thread is None and not self._items[-1].quiet:
            self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if not self._items:
                    self._thread = None
                    return
                quiet = self._items[-1].quiet
                self._changed.wait(None if quiet else max(0.0, self._due_s()))
                quiet = not self._items or self._items[-1].quiet
            if not quiet:
                self.beat()


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _to_stderr(line: str) -> None:
    # Work does not end because nobody listens.
    with contextlib.suppress(OSError, ValueError):
        say(f"shiftedge: {line}")


LINES = Lines()
"""Of this process."""


@contextlib.contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show how far a long piece of work has come, on stderr, while the body runs.

    A bar, where stderr is a terminal and rich is installed; else a line every ten seconds, which
    work that is done sooner does not see (:mod:`shiftedge.runtime.process.progress`).

    Args:
        description: a few words in front of the bar.
        total: number of units to come, None where it is unknown.
        unit: plural, such as "frames"; "bytes" are shown as kB and MB.
    """
    if not _for_people():
        with LINES.item(description, total, unit) as advance:
            yield advance
        return
    bar = _bar(unit)
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def working(description: str) -> Iterator[None]:
    """Say every ten seconds that long work goes on, between its parts that are counted and in those
    that are not; nothing where :func:`progress` shows a bar. Serves as a decorator too."""
    if _for_people():
        yield
        return
    with LINES.item(description, None, ""):
        yield


def _for_people() -> bool:
    # sys.stderr is None in a program without a console
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal and importlib.util.find_spec("rich") is not None


def _bar(unit: str) -> Any:
    from rich import progress as bars
    from rich.console import Console

    if unit == "bytes":
        counts: list[bars.ProgressColumn] = [bars.DownloadColumn(), bars.TransferSpeedColumn()]
    else:
        counts = [bars.MofNCompleteColumn(), bars.TextColumn(unit)]
    return bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        *counts,
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
