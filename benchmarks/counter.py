"""Progress that costs the measurement nothing: written between turns only.

The bar of :mod:`shiftedge.runtime.process.progress` redraws itself ten times a second from a thread
of its own, which on a small board would be in every figure. At a terminal this is a line that is
written over; elsewhere a line every ten seconds, from no thread either.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from shiftedge.runtime.process.progress import LINES, Advance


@contextlib.contextmanager
def counter(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """As :func:`shiftedge.runtime.process.progress.progress`, on stderr."""
    stderr = sys.stderr
    if stderr is None or not stderr.isatty():
        with LINES.item(description, total, unit, quiet=True) as say:
            yield say
        return
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        whole = "" if total is None else f" of {total}"
        stderr.write(f"\r{description}: {done}{whole} {unit}\x1b[K")
        stderr.flush()

    try:
        advance(0)
        yield advance
    finally:
        stderr.write("\r\x1b[K")
        stderr.flush()


@contextlib.contextmanager
def stages(description: str) -> Iterator[None]:
    """Around several counters: off a terminal, the time between two lines goes on from one to the
    next, and between them the description stands for the work. Serves as a decorator too."""
    stderr = sys.stderr
    if stderr is None or stderr.isatty():
        yield
        return
    with LINES.item(description, None, "", quiet=True):
        yield
