"""A recorded board, laid out in a folder."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from kit.recorded_boards import Board

from shiftedge.benchmarks.sensors.gauges import Sensors, find_sensors


class Laid:
    """A board below ``root``. Its files may be changed, its vcgencmd answers from ``answers``."""

    def __init__(self, root: Path, board: Board) -> None:
        self.root = root
        self.answers: dict[str, str | BaseException] | None = (
            None if board.vcgencmd is None else dict(board.vcgencmd)
        )
        self.asked: list[str] = []
        self.denied: set[str] = set()
        self.failing: dict[str, OSError] = {}
        self._board = board
        for name, text in board.files.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def run(self, command: Sequence[str]) -> str:
        """As vcgencmd: what the firmware refuses ends with 255, the words on stdout."""
        assert command[0] == "vcgencmd"
        if self.answers is None:
            raise FileNotFoundError(2, "No such file or directory", "vcgencmd")
        self.asked.append(command[1])
        answer = self.answers[command[1]]
        if isinstance(answer, BaseException):
            raise answer
        if "error=" in answer:
            raise subprocess.CalledProcessError(255, list(command), answer, "")
        return answer

    def read(self, path: Path) -> bytes:
        name = str(path.relative_to(self.root))
        if name in self.denied:
            raise PermissionError(13, "Permission denied", str(path))
        if name in self.failing:
            raise self.failing[name]
        return path.read_bytes()

    def find(self) -> Sensors:
        return find_sensors(self.root, run=self.run, read=self.read, cores=self._board.cores)


@pytest.fixture
def lay(tmp_path: Path) -> Callable[[Board], Laid]:
    """Lays out a board."""
    return lambda board: Laid(tmp_path, board)
