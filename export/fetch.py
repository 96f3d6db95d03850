"""Fetch a model of the catalogue: whole and genuine, or not at all.

The bytes gather in ``NAME.part`` beside the final file, which appears only once its size and its
git blob id are right. A download that broke off goes on where it stopped, from whichever address
answers. What the file must be is known beforehand, so no note of where the part came from is kept:
pieces that do not belong together have another blob id, and are fetched once more in one piece.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shiftedge.export.catalogue import CatalogueEntry
from shiftedge.runtime.errors import DownloadError, OutputError
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.process.progress import Advance, ProgressFactory
from shiftedge.runtime.process.progress import progress as progress_bar

TIMEOUT_S = 20.0
"""For connecting and for each read: a server silent for so long is taken for lost."""
ATTEMPTS = 3
"""Tries at one address in a row that bring next to nothing before it is given up."""
BACK_OFF_S = 1.0
"""Wait before the second try; doubled for each further one."""
BLOCK_BYTES = 1 << 16
USEFUL_BYTES = 1 << 16
"""A try that brought this much was worth it: the count of failed tries starts again."""


class _AgainError(Exception):
    """A passing failure: the same address is worth another try."""


def fetch(
    entry: CatalogueEntry,
    folder: str | Path,
    *,
    progress: ProgressFactory = progress_bar,
    sleep: Callable[[float], None] = time.sleep,
    timeout_s: float = TIMEOUT_S,
) -> Path:
    """Bring the file of ``entry`` into ``folder``, made if need be, and return its path.

    A genuine file that is there already is returned at once. A wrong file of that name is replaced,
    when the genuine one is complete. Ctrl-C leaves the part, and the next call goes on from it.

    Raises:
        DownloadError: no address gave the genuine file; the message says what each one did.
        OutputError: the folder cannot be written to, or the disk is full.
    """
    if entry.bundled:
        raise DownloadError(f"The model {entry.name} comes with shiftedge: no need to fetch it.")
    target = output_folder(folder) / entry.file_name
    if target.is_dir():
        raise OutputError(f"Cannot write {target}: it is a folder; choose another place.")
    with contextlib.suppress(OSError):
        if target.stat().st_size == entry.size_bytes and git_blob_id(target) == entry.blob_id:
            return target
    failures: list[str] = []
    with (
        progress(entry.file_name, entry.size_bytes, "bytes") as advance,
        _part_file(target, advance) as part,
    ):
        for url in entry.urls:
            failure = _try_often(entry, url, part, sleep, timeout_s)
            if failure is None:
                part.keep_as(target)
                return target
            failures.append(failure)
        if part.size == 0:
            part.path.unlink(missing_ok=True)
    raise DownloadError(
        f"Could not fetch {entry.name}. " + " ".join(failures) + " Try again later, or bring "
        f"{entry.file_name} by other means: {entry.size_bytes} bytes, "
        f"git hash-object {entry.blob_id}."
    )


def git_blob_id(path: str | Path) -> str:
    """What ``git hash-object`` prints for the file: 40 hexadecimal digits."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        for block in iter(lambda: file.read(BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def web_opener() -> urllib.request.OpenerDirector:
    """An opener for http and https only, also after a redirect: no file:, no ftp:, no data:.

    Proxies of the environment are used.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "shiftedge")]
    return opener


class _Part:
    """The unfinished file."""

    def __init__(self, path: Path, file: BinaryIO, advance: Advance) -> None:
        self.path = path
        self._file = file
        self._advance = advance
        self._shown = 0
        self._show()

    @property
    def size(self) -> int:
        """Bytes gathered so far."""
        return self._file.seek(0, os.SEEK_END)

    def restart(self) -> None:
        """Forget all bytes: they are not those of the genuine file, or the server begins anew."""
        with self._writing():
            self._file.truncate(0)
        self._show()

    def append(self, block: bytes) -> None:
        with self._writing():
            rest = memoryview(block)
            while rest:  # an unbuffered write may take less than all
                rest = rest[self._file.write(rest) :]
        self._show()

    def keep_as(self, target: Path) -> None:
        """The part becomes the final file, in one step."""
        with self._writing():
            os.fsync(self._file.fileno())  # or a power cut leaves the name without the bytes
            os.replace(self.path, target)

    def _show(self) -> None:
        size = self.size
        self._advance(size - self._shown)
        self._shown = size

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.path}: {error.strerror or error}. Make room or choose "
                "another folder; what has arrived is kept."
            ) from error


@contextlib.contextmanager
def _part_file(target: Path, advance: Advance) -> Iterator[_Part]:
    """Open ``target``'s part for this process alone, old bytes included."""
    path = target.with_name(target.name + ".part")
    try:
        # unbuffered: a failed write must not come back when the file is closed
        file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror}; choose another folder."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # one that ended since the file was opened has given these very bytes their final name
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                raise FileNotFoundError(path)
        except OSError as error:
            raise OutputError(
                f"Cannot write {path}: another download of it is under way; wait for that one."
            ) from error
        yield _Part(path, file, advance)


def _try_often(
    entry: CatalogueEntry, url: str, part: _Part, sleep: Callable[[float], None], timeout_s: float
) -> str | None:
    """Try one address until the file is whole and genuine; else why the address is hopeless."""
    failed = 0
    while True:
        before = part.size
        try:
            _attempt(entry, url, part, timeout_s)
            return None
        except DownloadError as error:
            return str(error)
        except _AgainError as error:
            failed = 1 if part.size - before >= USEFUL_BYTES else failed + 1
            if failed >= ATTEMPTS:
                return f"{error} ({ATTEMPTS} tries)."
        sleep(BACK_OFF_S * 2 ** (failed - 1))


def _attempt(entry: CatalogueEntry, url: str, part: _Part, timeout_s: float) -> None:
    """Ask for what is missing, store it, and check the whole.

    Raises:
        _AgainError: it broke off; the part holds what came.
        DownloadError: this address does not have the genuine file.
    """
    size = entry.size_bytes
    if part.size > size:
        part.restart()
    resumed = part.size
    if resumed < size:
        with contextlib.closing(_ask(url, part, timeout_s)) as response:
            _check_head(response, url, part, size)
            resumed = part.size
            _receive(response, url, part, size)
    got = git_blob_id(part.path)
    if got == entry.blob_id:
        return
    part.restart()
    message = (
        f"{url} gave {size} bytes with the git blob id {got}; "
        f"expected {entry.blob_id}, so this is not the genuine file and was removed"
    )
    if resumed:  # the two pieces may be of different files: once more, in one piece
        raise _AgainError(message)
    raise DownloadError(message + ".")


def _ask(url: str, part: _Part, timeout_s: float) -> Any:
    """The server's answer when asked for what the part lacks."""
    headers = {"Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    try:
        return web_opener().open(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"{url} answered {error.code} " + " ".join(str(error.reason).split())
        if error.code == 416:  # the part is no beginning of the file that is there now
            part.restart()
        elif error.code < 500 and error.code not in (408, 429):
            raise DownloadError(answer + ".") from error
        raise _AgainError(answer) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _AgainError(f"{url} did not answer ({reason})") from error


def _check_head(response: Any, url: str, part: _Part, size: int) -> None:
    """Check what is to come; empty the part where that is the whole file."""
    if response.status == 206:
        content_range = response.headers.get("Content-Range", "")
        start = part.size
        if not re.fullmatch(rf"bytes {start}-\d+/({size}|\*)", content_range.strip()):
            part.restart()
            raise _AgainError(
                f"{url} gave the range {content_range!r} when asked for the bytes from "
                f"{start} of {size}"
            )
        return
    if response.status != 200:
        raise DownloadError(f"{url} answered {response.status}; expected 200.")
    length = response.headers.get("Content-Length", str(size))
    if length.strip() != str(size):
        raise DownloadError(
            f"{url} offers {length} bytes; expected {size}, so this is not the genuine file."
        )
    part.restart()


def _receive(response: Any, url: str, part: _Part, size: int) -> None:
    """Store the body, but never more than the genuine file has."""
    why = ""
    while part.size < size:
        try:
            block = response.read1(min(BLOCK_BYTES, size - part.size))
        except (OSError, http.client.HTTPException) as error:
            block, why = b"", f" ({error})"
        if not block:
            raise _AgainError(f"{url} broke off after {part.size} of {size} bytes{why}")
        part.append(block)
