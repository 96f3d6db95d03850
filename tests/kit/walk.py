"""Walks: the rooms that docs/architecture.md lists for a journey, and those that a call passes."""

from __future__ import annotations

import functools
import itertools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
JOURNEYS = re.findall(r"\n## ([^\n]+)\n\n```\n ", PAGE)
_ROOM = re.compile(r" .{25,28}((?:runtime|export|demos)/[\w/]+)")


def journey(heading: str) -> list[str]:
    """The rooms below a heading, in order: what the second column names."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = "\n".join(re.findall(r"```\n(.*?)```", section, re.DOTALL)).splitlines()
    return [match[1] for match in map(_ROOM.match, lines) if match]


@functools.cache
def _module_of(filename: str) -> str:
    path = Path(filename).resolve()  # src/shiftedge holds links
    return path.relative_to(ROOT).with_suffix("").as_posix() if path.is_relative_to(ROOT) else ""


def _module(frame: FrameType) -> str:
    return _module_of(frame.f_code.co_filename)


class Walk:
    """Follows which modules the functions of a hall call, and maps them to rooms."""

    def __init__(self, *hall: str) -> None:
        self._hall = hall
        self._entered: list[str] = []

    @contextmanager
    def followed(self) -> Iterator[None]:
        def look(frame: FrameType, event: str, argument: Any) -> None:
            caller = frame.f_back
            if event != "call" or caller is None or _module(caller) not in self._hall:
                return
            # What only looks whether a frame is one changes nothing.
            if frame.f_code.co_name != "check_frame":
                self._entered.append(_module(frame))

        sys.setprofile(look)
        try:
            yield
        finally:
            sys.setprofile(None)

    def passed(self, rooms: list[str]) -> list[str]:
        """The rooms as they were entered, each once as long as the calls stayed in it."""
        found = (
            next((room for room in rooms if f"{module}/".startswith(f"{room}/")), None)
            for module in self._entered
        )
        return [room for room, _ in itertools.groupby(filter(None, found))]


def first(rooms: list[str]) -> list[str]:
    """Each once, where it comes up first."""
    return list(dict.fromkeys(rooms))
