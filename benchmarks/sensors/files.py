"""The small text files of /sys and /proc, each failure told as a reason."""

from __future__ import annotations

import errno
import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from shiftedge.benchmarks.sensors.base import (
    MissingSensorError,
    NoPermissionError,
    SensorError,
)

__all__ = ["Files", "Read", "read_file"]

Read: TypeAlias = Callable[[Path], bytes]
"""The content of a file; raises OSError."""

BYTES_MOST = 4096
"""Of a file that are looked at: an attribute of sysfs has at most one page."""
NUMBER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)


def read_file(path: Path) -> bytes:
    """The first page of a file.

    Raises:
        OSError: as open and read.
    """
    with path.open("rb", buffering=0) as file:
        return file.read(BYTES_MOST)


class Files:
    """Files below ``root``, by names without it: ``sys/class/thermal/thermal_zone0/temp``.

    Args:
        root: "/" but in tests.
        read: how to read one.
    """

    def __init__(self, root: Path = Path("/"), read: Read = read_file) -> None:
        self._root = root
        self._read = read

    def glob(self, pattern: str) -> list[str]:
        """The names that match, in the order of the numbers in them; none where nothing does."""
        return sorted(glob.glob(pattern, root_dir=self._root), key=_natural)

    def text(self, name: str) -> str:
        """The file's text without space around it.

        Raises:
            MissingSensorError: there is no such file.
            NoPermissionError: it is not for this user.
            SensorError: it cannot be read, or it is empty.
        """
        try:
            content = self._read(self._root / name)
        except FileNotFoundError as error:
            raise MissingSensorError(f"/{name} is gone") from error
        except PermissionError as error:
            raise NoPermissionError(
                f"no permission to read /{name}: run as root, or allow it until the next boot with "
                f"`sudo chmod a+r {_shell_safe(name)}`"
            ) from error
        except OSError as error:
            # What a driver answers while its device is asleep or gone: ENODEV, EAGAIN, EIO.
            what = errno.errorcode.get(error.errno or 0, type(error).__name__)
            raise SensorError(f"/{name} cannot be read ({what})") from error
        text = content.decode("utf-8", "replace").strip("\0 \t\r\n")
        if not text:
            raise SensorError(f"/{name} is empty")
        return text

    def number(self, name: str) -> int:
        """The whole number that the file holds, in whatever unit it has.

        Raises:
            MissingSensorError: there is no such file.
            SensorError: it cannot be read, or holds something else.
        """
        text = self.text(name)
        if not NUMBER.fullmatch(text):
            raise SensorError(f"/{name} says {text[:40]!r}, which is not a number")
        return int(text)

    def has(self, name: str) -> bool:
        """Whether the file is there, readable or not."""
        return os.path.lexists(self._root / name)


def _natural(name: str) -> list[tuple[int, str]]:
    """cpu2 before cpu10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _shell_safe(name: str) -> str:
    return f"/{name}" if re.fullmatch(r"[\w./:@+-]*", name, re.ASCII) else repr(f"/{name}")
