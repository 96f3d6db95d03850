"""Files that appear whole or not at all, temporary ones that are swept up, and names of any bytes.

Whoever makes a temporary file or folder holds a lock on it (flock) for as long as it lives, which
the system lets go when the process ends, however it ends. Whoever makes the next one in the same
folder removes those that nobody holds. Only what bears the mark in its name and belongs to this
user is ever looked at. Where a file system has no locks, none is found free, so none is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from shiftedge.runtime.errors import OutputError

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


def require_folder_of(*paths: str | Path | None) -> None:
    """Refuse files that cannot be written since their folder is not there: before minutes of work,
    not after. None and "-", which is stdout, have none.

    Raises:
        OutputError: there is no such folder.
    """
    for path in paths:
        if path not in (None, "-") and not Path(path).resolve().parent.is_dir():
            raise OutputError(f"Cannot write {path}: its folder does not exist.")


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
    """Remove a path if nobody holds it; ``own``: of this system, since it was started."""
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
