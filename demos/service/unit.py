"""The text of a systemd unit, made from a file of settings.

A system's unit has a user of its own that exists while it runs (``DynamicUser``), and may write
nowhere but in its own folders; of devices it has those that the settings need. A user's unit runs
as that user, with as much of this as systemd can do without root.
"""

from __future__ import annotations

import grp
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import shiftedge
from shiftedge.demos.actions import FILES
from shiftedge.demos.settings import RunSettings
from shiftedge.demos.show import Watched
from shiftedge.runtime.errors import SettingError

MARK = "# Written by `shiftedge service install`; `shiftedge service uninstall` removes it."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
GROUPS = ("video", "render", "input", "gpio")
"""That give a board's cameras, GPU, /dev/uinput and firmware, where the machine has them."""
DEVICES = ("char-video4linux", "char-media", "char-dma_heap")
KEYS = "/dev/uinput"
FOR_ALL = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077"""
"""MemoryDenyWriteExecute is not among them: Python's ctypes and a GPU's driver make code."""
FOR_SYSTEM = """\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateMounts=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RemoveIPC=yes"""


@dataclass(frozen=True)
class Service:
    """One unit.

    Args:
        name: of the unit, without its ending.
        settings: the file that it runs.
        user: whether it is one of a user's manager.
        run_as: a user of the machine that it runs as, instead of one of its own.
        sources: the cameras of the settings.
    """

    name: str
    settings: RunSettings
    sources: Sequence[Watched]
    user: bool = False
    run_as: str | None = None

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.name) is None:
            raise SettingError(
                f"--name is {self.name!r}; expected letters, digits, _ and -, such as hall-door."
            )

    def text(self) -> str:
        """The unit's file."""
        file = self.settings.path.resolve()
        sections = [
            MARK,
            "[Unit]",
            f"Description=Gestures of cameras, shiftedge ({_escaped(file.name)})",
            "Wants=network-online.target",
            "After=network-online.target",
            "# A camera or a broker may be away for a week: never give up.",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            f"ExecStart={' '.join(map(quoted, self.command()))}",
            "ExecReload=/bin/kill -HUP $MAINPID",
            f"WorkingDirectory={_escaped(str(file.parent))}",
            "# SIGABRT leaves a note of where it hung.",
            "WatchdogSec=30",
            "Environment=PYTHONFAULTHANDLER=1",
            "Restart=always",
            "RestartSec=2",
            "TimeoutStartSec=180",
            "TimeoutStopSec=15",
            "KillMode=mixed",
            "OOMPolicy=stop",
            *self._own(),
            "",
            "[Install]",
            f"WantedBy={'default' if self.user else 'multi-user'}.target",
        ]
        return "\n".join(sections) + "\n"

    def command(self) -> list[str]:
        """What it runs."""
        file = str(self.settings.path.resolve())
        run = [sys.executable, "-m", "shiftedge", "run", "--service", "--live", "--actions"]
        return [*run, file]

    def unreadable(self) -> list[Path]:
        """Files that its own user could not read; none where it runs as somebody."""
        if self.user or self.run_as is not None:
            return []
        return [path for path in self._files() if not _readable_by_all(path)]

    def _files(self) -> Iterable[Path]:
        yield self.settings.path.resolve()
        yield Path(sys.executable)
        # The folder as it was installed: of a checkout, where its links lead.
        yield Path(shiftedge.__file__).resolve()
        for section in ("model", "mqtt", "web"):
            table = self.settings.table(section) or {}
            for name in ("path", *FILES):
                if name in table:
                    yield self.settings.beside(table[name])

    def _own(self) -> list[str]:
        lines = ["", FOR_ALL]
        if self.user:
            return lines
        known = {group.gr_name for group in grp.getgrall()}
        groups = [name for name in GROUPS if name in known]
        who = ["DynamicUser=yes"] if self.run_as is None else [f"User={self.run_as}"]
        cache = "Environment=XDG_CACHE_HOME=/var/cache/" + self.name
        who += [f"CacheDirectory={self.name}", f"StateDirectory={self.name}", cache]
        who += [f"SupplementaryGroups={' '.join(groups)}"] if groups else []
        return ["", *who, *lines[1:], FOR_SYSTEM, *self._devices()]

    def _devices(self) -> list[str]:
        """Which devices it may open; all where a command of the user's brings the frames, or a GPU
        is asked for, whose driver has many."""
        opens = [each.text for each in self.sources]
        gpu = (self.settings.table("model") or {}).get("device", "cpu") != "cpu"
        if gpu or any(text.startswith(("pipe:", "argus:", "rpicam:")) for text in opens):
            return []
        devices = [*DEVICES]
        if any("keys" in action for action in self.settings.tables("action")):
            devices.append(KEYS)
        return ["DevicePolicy=closed", *(f"DeviceAllow={device} rw" for device in devices)]


def quoted(word: str) -> str:
    """One word of a command line of systemd, as systemd.service(5) and systemd.syntax(7) say."""
    word = _escaped(word).replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(word: str) -> str:
    """Without specifiers, and on one line."""
    if re.search(r"[\x00-\x1f]", word):
        raise SettingError(
            f"The name {word!r} has a control code, which no unit can hold; choose another name."
        )
    return word.replace("%", "%%")


def _readable_by_all(path: Path) -> bool:
    """Whether a user that owns nothing may read it, and enter the folders above it."""
    try:
        path = Path(os.path.realpath(path))
        leaf = path.stat()
        needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(leaf.st_mode) else 0)
        return leaf.st_mode & needed == needed and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in path.parents
        )
    except OSError:
        return False
