"""Boards of :mod:`sensor_boards` in a test's own folder."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sensor_boards import BOARDS, Board


@pytest.fixture
def make_board(tmp_path: Path) -> Callable[..., Board]:
    """A board of :data:`BOARDS` by name, with other files in addition."""

    def make(name: str = "vm", files: Mapping[str, str] | None = None) -> Board:
        return Board(tmp_path / name, {**BOARDS[name], **(files or {})})

    return make


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """No permission for files of a name. (Tests may run as root, whom no mode keeps out.)"""

    def forbid(name: str) -> None:
        real = builtins.open

        def guarded(file: Any, *rest: Any, **options: Any) -> Any:
            if str(file).endswith(name):
                raise PermissionError(13, "Permission denied", str(file))
            return real(file, *rest, **options)

        monkeypatch.setattr("builtins.open", guarded)

    return forbid
