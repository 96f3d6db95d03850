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
def counter(description: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
    """As :func:`shiftedge.runtime.process.progress.progress`, on stderr. Without a unit it stands
    around several counters, and its description for the work between them. Off a terminal, the time
    between two lines then goes on from one to the next."""
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
        counted = f": {done}{whole} {unit}" if unit else ""
        stderr.write(f"\r{description}{counted}\x1b[K")
        stderr.flush()

    try:
        advance(0)
        yield advance
    finally:
        stderr.write("\r\x1b[K")
        stderr.flush()
