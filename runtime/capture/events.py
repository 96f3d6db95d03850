"""What a user should hear of while frames go on: a camera tried again, a frame cut off."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["EventHandler", "log_event"]

EventHandler = Callable[[str], None]
"""Takes one sentence, at once, in whichever thread reads the source."""


def log_event(sentence: str) -> None:
    """Log ``sentence`` as a warning of the logger ``shiftedge.capture`` (stderr by default)."""
    logging.getLogger("shiftedge.capture").warning(sentence)
