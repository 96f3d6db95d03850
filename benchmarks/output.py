"""Where a command's report goes: to people, to stdout as JSON, to files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shiftedge.runtime.process.files import atomic_path
from shiftedge.runtime.words import json_text


def write(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def tell(json: str | None, report: Mapping[str, Any], show: Callable[[], None]) -> None:
    """The report as JSON on stdout where ``json`` is -; else to people, and to the file that
    ``json`` names."""
    text = json_text(report, indent=2) + "\n"
    if json == "-":
        sys.stdout.write(text)
        return
    show()
    if json is not None:
        write(json, text)
