"""What is made once in a run of the tests, though several processes run them (pytest-xdist)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
EXPORT_NETWORKS = HERE / "kit" / "export_networks.py"


def run_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of this run of the tests: the same one in each of its processes."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose own folder lies in the run's
        base = base.parent
    folder = base / "once" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block with this path."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Exporter:
    """Gives the ONNX files of networks: torch writes them in one other process, in order.

    The first test process that asks starts it. It holds a lock as long as it lives, so that the
    others wait for its files; when it was ended too early, with its test process, one of them
    starts it again.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, tuple(names)
        self._said = folder / f"stderr-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless one runs or nothing is left to do."""
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            left = [name for name in self.names if not self._path(name).exists()]
            if not left:
                return
            line = [sys.executable, str(EXPORT_NETWORKS), str(self.folder), *left]
            own = {**os.environ, "PYTHONPATH": f"{HERE.parent / 'src'}:{HERE}"}
            with self._said.open("wb") as file:
                self._process = subprocess.Popen(
                    line, stderr=file, env=own, pass_fds=[lock.fileno()]
                )

    def get(self, name: str) -> Path:
        """The file of one of the names, as soon as it is whole."""
        if name not in self.names:
            raise ValueError(f"{name} is not among {', '.join(self.names)}")
        path = self._path(name)
        while not path.exists():
            ended = self._process is not None and self._process.poll() is not None
            if ended and not path.exists():
                pytest.fail(
                    f"{EXPORT_NETWORKS.name} ended without {name}: {self._said.read_text()}"
                )
            if self._process is None:
                self.start()
            time.sleep(0.05)
        return path

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.onnx"
