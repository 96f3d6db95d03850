"""Writing files so that a reader sees the whole result or nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.temporary import work_file

__all__ = ["atomic_path", "cache_folder", "output_folder", "sha256_of"]

_LINKS_MOST = 40
"""As Linux follows."""


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it there on success, remove it on failure.

    The temporary name keeps the suffix of ``path``, since writers such as OpenCV's choose the
    container by it. ``path`` itself is left as it was when the body raises (Ctrl-C included).

    Where ``path`` is a link, what it leads to is written and the link stays. What is no file, such
    as /dev/stdout, /dev/null or a named pipe, gets the whole result at the end.

    Raises:
        OutputError: the folder does not exist or cannot be written to.
    """
    path = Path(path)
    try:
        place, descriptor = _place(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"Cannot write {path}: {reason}; name another file.") from error
    if place.is_dir():
        raise OutputError(f"Cannot write {path}: it is a folder; name a file instead.")
    stream = descriptor is not None or (place.exists() and not place.is_file())
    parent = Path(tempfile.gettempdir()) if stream else place.parent
    with contextlib.ExitStack() as stack:
        try:
            temporary = stack.enter_context(work_file(parent, path.suffix))
        except OSError as error:
            raise OutputError(
                f"Cannot write {path}: {error.strerror} in {parent}; "
                "choose a folder that exists and can be written to."
            ) from error
        try:
            yield temporary
            if stream:
                _pour(temporary, place if descriptor is None else descriptor)
            else:
                _put(temporary, place)
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error


def _place(path: Path) -> tuple[Path, int | None]:
    """Where a path leads, which need not exist; and the descriptor of this process that it is.

    /dev/stdout leads to /proc/self/fd/1. What that leads to in turn is the descriptor's own matter:
    a file opened once more would be written from its start.

    Raises:
        OSError: links in a circle, or a name that is too long.
    """
    own = os.path.realpath("/proc/self/fd")
    for _ in range(_LINKS_MOST):
        folder = os.path.realpath(path.parent)
        path = Path(folder, path.name)
        if folder == own and path.name.isdigit():
            return path, int(path.name)
        try:
            leads_to = os.readlink(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # told before the work, not after it
                raise
            return path, None
        path = Path(folder, leads_to)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _put(temporary: Path, place: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)  # a temporary file is private, and a result an ordinary one
    try:
        os.replace(temporary, place)
    except OSError as error:
        if error.errno != errno.EBUSY:  # a file mounted there, as into a container
            raise
        _pour(temporary, place)


def _pour(temporary: Path, into: Path | int) -> None:
    """Write a whole file into what is open or can be opened."""
    if isinstance(into, int):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):  # None, or closed
                stream.flush()  # what was said before stands before
    with temporary.open("rb") as file, open(into, "wb", closefd=not isinstance(into, int)) as out:
        shutil.copyfileobj(file, out)


def cache_folder() -> Path:
    """What may be made or fetched again: ``$XDG_CACHE_HOME/shiftedge``, or ``~/.cache``'s.

    Raises:
        OutputError: this user has no home.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(named or Path.home() / ".cache") / "shiftedge"
    except RuntimeError as error:
        raise OutputError(
            "This user has no home folder to keep files in; set HOME, or XDG_CACHE_HOME to a "
            "folder that can be written to."
        ) from error


def sha256_of(file: BinaryIO) -> bytes:
    """The SHA-256 of what is left of an open file, which may be larger than memory."""
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.digest()


def output_folder(path: str | Path) -> Path:
    """Create the folder ``path`` (and its parents) if need be and check that it can be written to.

    Raises:
        OutputError: it cannot be created or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(
            f"Cannot write into {path}: {error.strerror or error}; choose another folder."
        ) from error
    return path
