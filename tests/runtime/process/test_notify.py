"""What systemd hears."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shiftedge.runtime.process.notify import Notifier


class Manager:
    """Listens as systemd does."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(4096).decode())
        return found


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(tmp_path / "notify")
    yield listening
    listening.socket.close()


def test_ready_once_then_the_watchdog(tmp_path: Path, manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    notifier = Notifier(environment)
    assert notifier.watchdog_s == 30.0
    notifier.alive("1 of 2\ncameras")
    assert manager.heard() == ["READY=1\nWATCHDOG=1\nSTATUS=1 of 2 cameras"]
    notifier.alive("1 of 2\ncameras")  # so soon that there is nothing to say
    assert manager.heard() == []
    notifier.alive("2 of 2 cameras")
    assert manager.heard() == ["STATUS=2 of 2 cameras"]
    notifier.reloading()
    notifier.alive("2 of 2 cameras")
    notifier.stopping()
    reloading, ready, stopping = manager.heard()
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert ready == "READY=1"
    assert stopping == "STOPPING=1"


def test_another_process_is_watched(tmp_path: Path, manager: Manager) -> None:
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": str(os.getpid() + 1),
    }
    notifier = Notifier(environment)
    notifier.alive("")
    assert manager.heard() == ["READY=1"]


def test_an_abstract_name() -> None:
    name = f"shiftedge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        assert listening.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("path", ["", "/nowhere/at/all", "not a path"])
def test_nobody_listens(path: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "soon"})
    notifier.alive("well")
    assert notifier.watchdog_s is None
