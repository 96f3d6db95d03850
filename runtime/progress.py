"""How far long work has come: a bar for people at a terminal, now and then a line for pipes, logs
and CI."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from shiftedge.runtime.progress_lines import Lines

__all__ = ["LINES", "Advance", "ProgressFactory", "progress", "working"]

Advance: TypeAlias = Callable[[int], None]
"""Call with the number of units done since the last call; negative when work is done over."""

ProgressFactory: TypeAlias = Callable[[str, "int | None", str], AbstractContextManager[Advance]]
"""The type of :func:`progress`: what long work takes, so that tests can pass their own."""

LINES = Lines()
"""Of this process."""


@contextlib.contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show how far a long piece of work has come, on stderr, while the body runs.

    A bar, where stderr is a terminal and rich is installed; else a line every ten seconds, which
    work that is done sooner does not see (:mod:`shiftedge.runtime.progress_lines`).

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
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts: list[ProgressColumn]
    if unit == "bytes":
        counts = [DownloadColumn(), TransferSpeedColumn()]
    else:
        counts = [MofNCompleteColumn(), TextColumn(unit)]
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
