"""A library's code as this process's own copy, which nobody can change while it runs.

Code that is mapped from a file changes with the file: `cp`, `scp` and `rsync --inplace` write into
it, and a program that runs it dies. So what is loaded is a copy, in memory of its own that is
sealed against writing (memfd_create, Linux 3.17), and its digest is that of the copy. The file is
read once and may then be overwritten, cut short, moved or deleted, or lie on a file system from
which no program may run (noexec).

Where there is no such memory, or no /proc to load it through, the copy is a file in a private
temporary folder, removed as soon as it is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.temporary import work_folder

__all__ = ["load_private"]

_PART_BYTES = 1 << 20
_MFD_EXEC = 0x10
"""Asked for where the kernel knows it (6.3): this memory is for code."""
_NAME_MOST = 60
"""Characters, as debuggers and /proc/self/maps show them; the kernel takes 249 bytes."""

_loaded: dict[bytes, Any] = {}
"""SHA-256 -> library. Code is never unloaded, since its threads may outlive its users."""
_count = itertools.count(2)


def load_private(path: Path, sha256: str | None) -> tuple[Any, bytes]:
    """Load a copy of a library; the same content is loaded once in a process.

    Args:
        path: an ordinary file.
        sha256: that the copy must have, hexadecimal; None takes it as it is.

    Returns:
        The library and its SHA-256.

    Raises:
        ModelError: the file cannot be read, has another SHA-256, or is no library for this machine;
            or this system runs code from nowhere that can be written to.
    """
    hindrances = []
    for folder in (None, *_folders()):
        try:
            with _memory(path) if folder is None else _file(folder) as (descriptor, name):
                digest = _copy(path, descriptor)
                if sha256 is not None and digest.hex() != sha256:
                    raise ModelError(
                        f"{path} has the SHA-256 {digest.hex()}; expected {sha256}, so it was "
                        "changed just now: load the model again when nobody writes it."
                    )
                if digest not in _loaded:
                    _check_executable(descriptor)
                    _loaded[digest] = _open(name, path, whole=sha256 is not None)
                return _loaded[digest], digest
        except OSError as error:  # noqa: PERF203 - of a few turns at most
            where = "memory" if folder is None else str(folder)
            hindrances.append(f"{where} ({error.strerror or error})")
    raise ModelError(
        f"{path} cannot be loaded, since this system runs no code from {', '.join(hindrances)}; "
        "set TMPDIR to a folder that can be written to and is not mounted noexec."
    )


def _folders() -> Iterator[str]:
    with contextlib.suppress(OSError):  # none that can be written to
        yield tempfile.gettempdir()
    yield from ("/dev/shm", "/var/tmp")


@contextlib.contextmanager
def _memory(path: Path) -> Iterator[tuple[int, str]]:
    """A descriptor of new memory, and the name by which it is loaded."""
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    name = "/".join(path.parts[-3:])[-_NAME_MOST:]  # lib/<variant>/libmodel.so
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError:  # a kernel before 6.3, or one that takes the flag from nobody
        descriptor = os.memfd_create(name, flags)
    try:
        # The system gives a loaded library again to whoever names it as it was named, and numbers
        # of descriptors come again; so each is spelled in its own way.
        bits = f"{next(_count):b}"
        place = f"/proc/self/fd{''.join('/.' if bit == '1' else '/' for bit in bits)}/{descriptor}"
        os.stat(place)
        yield descriptor, place
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _file(folder: str) -> Iterator[tuple[int, str]]:
    """The same of a new file in a private folder, which goes as soon as it is loaded."""
    with work_folder(folder) as private:
        place = private / "libmodel.so"
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
        try:
            yield descriptor, str(place)
        finally:
            os.close(descriptor)


def _copy(path: Path, descriptor: int) -> bytes:
    """Copy the file and let nobody write to the copy; its SHA-256, of what was copied."""
    digest = hashlib.sha256()
    try:
        source = open(path, "rb", buffering=0)  # noqa: SIM115 - other errors are the copy's
    except OSError as error:
        raise _unreadable(path, error) from error
    with source:
        while True:
            try:
                part = source.read(_PART_BYTES)
            except OSError as error:
                raise _unreadable(path, error) from error
            if not part:
                break
            digest.update(part)
            left = memoryview(part)
            while left:
                left = left[os.write(descriptor, left) :]
    with contextlib.suppress(OSError):  # a file has no seals; nobody else can reach it
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return digest.digest()


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"{path} cannot be read ({error.strerror or error}); check its permissions.")


def _check_executable(descriptor: int) -> None:
    """Ask the system, in its own words, whether code may run from there.

    Raises:
        OSError: mounted noexec, or forbidden by a policy such as SELinux'.
    """
    if os.fstat(descriptor).st_size:  # dlopen has a word for an empty one
        kind = mmap.MAP_PRIVATE
        mmap.mmap(descriptor, 1, flags=kind, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


def _open(name: str, path: Path, *, whole: bool) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        said = str(error).removeprefix(f"{name}: ")
        problem = (
            "its SHA-256 is right, so it was made for another kind of machine or a newer C library"
            if whole
            else "it may be damaged or made for another kind of machine"
        )
        raise ModelError(
            f"{path} cannot be loaded as a compiled model ({said}); {problem}: compile it for "
            "this one."
        ) from error
