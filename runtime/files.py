"""Writing files so that a reader sees the whole result or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from shiftedge.runtime.errors import OutputError

__all__ = ["atomic_path", "cache_folder", "output_folder", "sha256_of"]


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it there on success, remove it on failure.

    The temporary name keeps the suffix of ``path``, since writers such as OpenCV's choose the
    container by it. ``path`` itself is left as it was when the body raises (Ctrl-C included).

    Raises:
        OutputError: the folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"Cannot write {path}: it is a folder; name a file instead.")
    try:
        # Not the file's own name: with more letters it may be too long, and see utf8_path().
        handle, name = tempfile.mkstemp(prefix=".shiftedge-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror} in {path.parent}; "
            "choose a folder that exists and can be written to."
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; a result is an ordinary one
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def cache_folder() -> Path:
    """What may be made or fetched again: ``$XDG_CACHE_HOME/shiftedge``, or ``~/.cache``'s."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shiftedge"


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
