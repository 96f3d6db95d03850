"""What a user should hear of while frames go on: a camera tried again, a frame cut off."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["EventHandler", "Sparing", "log_event"]

EventHandler = Callable[[str], None]
"""Takes one sentence, at once, in whichever thread reads the source."""


def log_event(sentence: str) -> None:
    """Log ``sentence`` as a warning of the logger ``shiftedge.capture`` (stderr by default)."""
    logging.getLogger("shiftedge.capture").warning(sentence)


CALM_S = 60.0
"""Without trouble for so long, the next trouble is a new one."""
LONGEST_SILENCE_S = 3600.0
"""In trouble that goes on."""


class Sparing:
    """Tells of trouble at ever longer intervals, so that a camera away for a month fills no log.

    Args:
        report: told of what is to be said.
        clock: monotonic seconds.
    """

    def __init__(self, report: EventHandler, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._begin_s = self._last_s = self._next_s = float("-inf")
        self._told = False

    def trouble(self, sentence: str) -> None:
        """Something is still wrong. Said when the trouble has lasted twice as long as last time."""
        now_s = self._clock()
        if now_s - self._last_s > CALM_S:
            self._begin_s = self._next_s = now_s
        self._last_s = now_s
        if now_s >= self._next_s:
            self._next_s = now_s + min(now_s - self._begin_s, LONGEST_SILENCE_S)
            self._told = True
            self._report(sentence)

    def over(self, sentence: str) -> None:
        """All is well again; said where the trouble was."""
        if self._told:
            self._told = False
            self._report(sentence)
