"""Temporary files and folders, and what becomes of those whose process was killed.

Whoever makes one holds a lock on it (flock) for as long as it lives, which the system lets go when
the process ends, however it ends. Whoever makes the next one in the same folder removes those that
nobody holds. Only what bears the mark in its name and belongs to this user is ever looked at. Where
a file system has no locks, none is found free, and so none is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MARK", "work_file", "work_folder"]

MARK = "shiftedge-work-"
"""In the name of all that is made here; then eight digits of the system, and eight of chance."""
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]{1,32})?")
_NAME = re.compile(rf"\.?{MARK}([0-9a-f]{{8}})-[a-z0-9_]{{8}}{_SUFFIX.pattern}")
_OTHERS_S = 24 * 3600
"""How long nobody has written to what another machine, or this one before it was started again,
has left: another machine's locks are not seen through every shared file system."""
_TRIES = 100


@contextlib.contextmanager
def work_folder(parent: str | Path | None = None) -> Iterator[Path]:
    """Yield a new private folder, which is removed afterwards.

    Args:
        parent: where it is made, under a hidden name; None is the system's temporary folder.

    Raises:
        OSError: it cannot be made.
    """
    _sweep(Path(tempfile.gettempdir() if parent is None else parent))
    for _ in range(_TRIES):
        hidden = "" if parent is None else "."
        path = Path(tempfile.mkdtemp(prefix=f"{hidden}{MARK}{_system()}-", dir=parent))
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if _hold(descriptor, path):
                break
            os.close(descriptor)
    else:
        raise OSError(errno.EBUSY, "temporary folders vanish as soon as they are made")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


@contextlib.contextmanager
def work_file(parent: str | Path, suffix: str = "") -> Iterator[Path]:
    """Yield a new private file in a folder, which is removed afterwards if it is still there.

    Args:
        parent: the folder; the file has a hidden name in it.
        suffix: that the name is to end in, with its dot; a very long one is left out.

    Raises:
        OSError: it cannot be made.
    """
    _sweep(Path(parent))
    suffix = suffix if _SUFFIX.fullmatch(suffix) else ""
    for _ in range(_TRIES):
        prefix = f".{MARK}{_system()}-"
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=parent)
        path = Path(name)
        if _hold(descriptor, path):
            break
        os.close(descriptor)
    else:
        raise OSError(errno.EBUSY, "temporary files vanish as soon as they are made")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _system() -> str:
    """Eight digits for this system since it was started; containers of one machine share them."""
    with contextlib.suppress(OSError, IndexError):
        found = re.match("[0-9a-f]{8}", Path("/proc/sys/kernel/random/boot_id").read_text())
        if found:
            return found[0]
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _hold(descriptor: int, path: Path) -> bool:
    """Lock what was just made; False: somebody swept it before."""
    with contextlib.suppress(OSError):  # a file system without locks, where nothing is swept
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return _same(descriptor, path)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _sweep(folder: Path) -> None:
    """Remove what ended processes have left in a folder; whatever hinders that is no matter."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found:
                with contextlib.suppress(OSError):
                    _sweep_one(Path(entry.path), own=found[1] == _system())


def _sweep_one(path: Path, *, own: bool) -> None:
    """Remove a path if nobody holds it.

    Args:
        path: with the mark in its name.
        own: it was made by this system, since it was started.
    """
    status = os.lstat(path)
    folder = stat.S_ISDIR(status.st_mode)
    if not folder and not stat.S_ISREG(status.st_mode):
        return
    if status.st_uid != os.geteuid() or (not own and time.time() - status.st_mtime < _OTHERS_S):
        return
    kind = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR  # as NFS wants it for a lock
    descriptor = os.open(path, kind | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _same(descriptor, path):
            return
        if folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(descriptor)
