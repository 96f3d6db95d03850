"""Reading a document that may be old, cut short or somebody else's: what is not there is nothing.

A page is made from JSON that may have been written by another version, by a run that was
interrupted, or by hand; a missing figure costs that figure and not the page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["mapping", "mappings", "number", "numbers", "sequence", "text"]

LARGEST = 1e18
"""Beyond this it is no measurement, and axes overflow."""
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -LARGEST <= value <= LARGEST:  # NaN, too
        return None
    return float(value)


def numbers(value: object) -> list[float]:
    """The numbers of a list, NaN where there is none: a gap in a line."""
    found = (number(one) for one in sequence(value))
    return [math.nan if one is None else one for one in found]


def text(value: object) -> str:
    """As text that HTML and XML may hold; nothing for None."""
    return "" if value is None else UNPRINTABLE.sub("\ufffd", str(value))


def mapping(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [one for one in sequence(value) if isinstance(one, Mapping)]


def sequence(value: object) -> Sequence[Any]:
    """A list, or an empty one."""
    return value if isinstance(value, list | tuple) else ()
