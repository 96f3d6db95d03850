"""How many threads a step gets: the same choice for every engine."""

from __future__ import annotations

import operator
import os

from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.words import shown

__all__ = ["chosen_threads", "usable_cores"]

THREADS_MOST = 4
"""One frame is a small problem: past four cores a step gains little and the rest of the board
starves."""


def usable_cores() -> int:
    """Cores that this process may use, at least 1."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def chosen_threads(threads: object = None) -> int:
    """Threads for one step.

    Args:
        threads: as asked for, a whole number from 1; more than the cores that this process may use
            are lowered to them, as the compiled library does: they would only wait for each other.
            None: those cores, at most 4.

    Raises:
        ModelError: not such a number.
    """
    if threads is None:
        return min(THREADS_MOST, usable_cores())
    try:
        number = 0 if isinstance(threads, bool) else operator.index(threads)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise ModelError(f"threads is {shown(threads)}; expected a whole number from 1, or None.")
    return min(number, usable_cores())
