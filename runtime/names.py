"""Names of files: as people type them, and for C++ libraries, which take every text as UTF-8 and
crash on what is not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["expanded", "is_text", "utf8_path"]


@contextlib.contextmanager
def utf8_path(path: str | Path) -> Iterator[str]:
    """Yield an absolute name of ``path`` for a C++ library that encodes every name as UTF-8.

    OpenCV crashes on a name whose bytes are not UTF-8, ONNX Runtime refuses it, and with a locale
    of another encoding (or LC_ALL=C without Python's UTF-8 mode) both look for another file. So
    such a path is named through ``/proc/self/fd``: by its folder, where its last part is
    harmless, so that the suffix stays; otherwise by itself, and then it must exist. The name is
    good inside the body only, which is enough for whatever opens the file there.

    Raises:
        OSError: it cannot be opened; only for such a path.
    """
    path = Path(path).absolute()
    if _is_utf8(str(path)):
        yield str(path)
        return
    by_folder = _is_utf8(path.name)
    # Only a handle: the folder need not be one that may be listed.
    handle = os.open(path.parent if by_folder else path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}" if by_folder else f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def expanded(name: str | Path) -> Path:
    """``~/clip.mp4`` as the path it means; a file may also be called ``~clip.mp4``, and then that
    is no user, whom :meth:`Path.expanduser` would look for in vain."""
    path = Path(name)
    try:
        return path if path.exists() else path.expanduser()
    except (OSError, RuntimeError, ValueError):
        return path


def _is_utf8(name: str) -> bool:
    """Whether the bytes of the name on disk are those that a library makes of the text."""
    try:
        return name.encode("utf-8") == os.fsencode(name)
    except UnicodeEncodeError:  # bytes that are no text, or a letter that the locale has not
        return False


def is_text(words: str) -> bool:
    """Whether UTF-8 can encode ``words``: not what Python makes of bytes that are no text."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True
