"""Fetch a model of the catalogue: whole and genuine, or not at all.

The bytes gather in ``NAME.part`` beside the final file, which appears only once its size and its
git blob id are right. A download that broke off goes on where it stopped: ``NAME.part.json`` holds
the address and the validator (ETag or Last-Modified) of what was begun, sent back as ``If-Range``,
so that a file that has changed meanwhile is begun anew by the server itself (RFC 9110, 13.1.5).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from shiftedge.export.catalogue import CatalogueEntry
from shiftedge.runtime.errors import DownloadError, OutputError
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.process.progress import Advance, ProgressFactory
from shiftedge.runtime.process.progress import progress as progress_bar

__all__ = ["Opener", "fetch", "git_blob_id", "web_opener"]

TIMEOUT_S = 20.0
"""For connecting and for each read: a server silent for so long is taken for lost."""
ATTEMPTS = 3
"""Tries at one address in a row that bring next to nothing before it is given up."""
BACK_OFF_S = 1.0
"""Wait before the second try; doubled for each further one."""
BLOCK_BYTES = 1 << 16
USEFUL_BYTES = 1 << 16
"""A try that brought this much was worth it: the count of failed tries starts again."""


class Opener(Protocol):
    """What :class:`urllib.request.OpenerDirector` offers."""

    def open(self, request: urllib.request.Request, *, timeout: float) -> Any:
        """Send the request; the response has ``status``, ``headers``, ``read`` and ``close``."""


class _AgainError(Exception):
    """A passing failure: the same address is worth another try."""


def fetch(
    entry: CatalogueEntry,
    folder: str | Path,
    *,
    progress: ProgressFactory = progress_bar,
    opener: Opener | None = None,
    sleep: Callable[[float], None] = time.sleep,
    timeout_s: float = TIMEOUT_S,
) -> Path:
    """Bring the file of ``entry`` into ``folder`` and return its path.

    A genuine file that is there already is returned at once. A wrong file of that name is replaced,
    when the genuine one is complete. Ctrl-C leaves the part, and the next call goes on from it.

    Args:
        entry: one that is not bundled.
        folder: made if need be.
        progress: shows the bytes; see :mod:`shiftedge.runtime.process.progress`.
        opener: used instead of :func:`web_opener`.
        sleep: waits a number of seconds between tries.
        timeout_s: longest silence of a server, in seconds.

    Raises:
        DownloadError: no address gave the genuine file; the message says what each one did.
        OutputError: the folder cannot be written to, or the disk is full.
    """
    if entry.bundled:
        raise DownloadError(f"The model {entry.name} comes with shiftedge: no need to fetch it.")
    target = output_folder(folder) / entry.file_name
    if target.is_dir():
        raise OutputError(f"Cannot write {target}: it is a folder; choose another place.")
    if _is_genuine(target, entry):
        return target
    opener = opener or web_opener()
    failures: list[str] = []
    with (
        progress(entry.file_name, entry.size_bytes, "bytes") as advance,
        _part_file(target, advance) as part,
    ):
        for url in entry.urls:
            download = _Download(entry, url, part, opener, timeout_s)
            try:
                _try_often(download, sleep)
                part.keep_as(target)
                return target
            except DownloadError as error:
                failures.append(str(error))
        part.discard_if_useless()
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


def _is_genuine(path: Path, entry: CatalogueEntry) -> bool:
    try:
        return path.stat().st_size == entry.size_bytes and git_blob_id(path) == entry.blob_id
    except OSError:
        return False


def _try_often(download: _Download, sleep: Callable[[float], None]) -> None:
    """Run a download until the file is whole and genuine, or its address is hopeless."""
    failed = 0
    while True:
        before = download.part.size
        try:
            download.attempt()
            return
        except _AgainError as error:
            failed = 1 if download.part.size - before >= USEFUL_BYTES else failed + 1
            if failed >= ATTEMPTS:
                raise DownloadError(f"{error} ({ATTEMPTS} tries).") from error
        sleep(BACK_OFF_S * 2 ** (failed - 1))


class _Part:
    """The unfinished file and the note beside it that says where it comes from."""

    def __init__(self, path: Path, file: BinaryIO, advance: Advance) -> None:
        self._path = path
        self._file = file
        self._note_path = path.with_name(path.name + ".json")
        self._advance = advance
        self._shown = 0
        self._show()

    @property
    def size(self) -> int:
        """Bytes gathered so far."""
        return self._file.seek(0, os.SEEK_END)

    def origin(self) -> dict[str, str]:
        """The note: ``url`` and ``validator``, each empty where unknown."""
        try:
            note = json.loads(self._note_path.read_text("utf-8"))
            return {key: str(note[key]) for key in ("url", "validator")}
        except (OSError, ValueError, KeyError, TypeError):
            return {"url": "", "validator": ""}

    def begin(self, url: str, validator: str) -> None:
        """Empty the part and note where its bytes will come from."""
        with self._writing():
            self._file.truncate(0)
            self._note_path.write_text(json.dumps({"url": url, "validator": validator}), "utf-8")
        self._show()

    def append(self, block: bytes) -> None:
        with self._writing():
            rest = memoryview(block)
            while rest:  # an unbuffered write may take less than all
                rest = rest[self._file.write(rest) :]
        self._show()

    def blob_id(self) -> str:
        return git_blob_id(self._path)

    def keep_as(self, target: Path) -> None:
        """The part becomes the final file, in one step."""
        with self._writing():
            os.fsync(self._file.fileno())  # or a power cut leaves the name without the bytes
            os.replace(self._path, target)
            self._note_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget all bytes: they are not, or no longer, those of the genuine file."""
        self.begin("", "")

    def discard_if_useless(self) -> None:
        """Remove the files when they hold nothing to go on from."""
        if self.size == 0:
            self._path.unlink(missing_ok=True)
            self._note_path.unlink(missing_ok=True)

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
                f"Cannot write {self._path}: {error.strerror or error}. Make room or choose "
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


class _Download:
    """One address, tried until it has given the whole file."""

    def __init__(
        self,
        entry: CatalogueEntry,
        url: str,
        part: _Part,
        opener: Opener,
        timeout_s: float,
    ) -> None:
        self.part = part
        self._entry = entry
        self._url = url
        self._opener = opener
        self._timeout_s = timeout_s

    def attempt(self) -> None:
        """Ask for what is missing, store it, and check the whole.

        Raises:
            _AgainError: it broke off; the part holds what came.
            DownloadError: this address does not have the genuine file; the part is empty.
        """
        resumed = self._resumable_bytes()
        if resumed < self._entry.size_bytes:
            with contextlib.closing(self._ask(resumed)) as response:
                resumed = self._prepare(response, resumed)
                self._receive(response)
        if self.part.size < self._entry.size_bytes:
            raise _AgainError(
                f"{self._url} broke off after {self.part.size} of {self._entry.size_bytes} bytes"
            )
        got = self.part.blob_id()
        if got == self._entry.blob_id:
            return
        self.part.discard()
        message = (
            f"{self._url} gave {self._entry.size_bytes} bytes with the git blob id {got}; "
            f"expected {self._entry.blob_id}, so this is not the genuine file and was removed"
        )
        if resumed:  # the two pieces may be of different files: once more, in one piece
            raise _AgainError(message)
        raise DownloadError(message + ".")

    def _resumable_bytes(self) -> int:
        """Number of bytes in the part that the server can be asked to go on from."""
        origin = self.part.origin()
        size = self.part.size
        if origin["url"] == self._url and origin["validator"] and size <= self._entry.size_bytes:
            return size
        return 0

    def _ask(self, start: int) -> Any:
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            headers["If-Range"] = self.part.origin()["validator"]
        request = urllib.request.Request(self._url, headers=headers)
        try:
            return self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            answer = f"{self._url} answered {error.code} " + " ".join(str(error.reason).split())
            if error.code == 416:  # the part is no beginning of the file that is there now
                self.part.discard()
            elif error.code < 500 and error.code not in (408, 429):
                raise DownloadError(answer + ".") from error
            raise _AgainError(answer) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _AgainError(f"{self._url} did not answer ({reason})") from error

    def _prepare(self, response: Any, start: int) -> int:
        """Check the response's head, set the part to where its body begins, return that."""
        headers = response.headers
        size = self._entry.size_bytes
        if response.status == 206:
            content_range = headers.get("Content-Range", "")
            if not re.fullmatch(rf"bytes {start}-\d+/({size}|\*)", content_range.strip()):
                self.part.discard()
                raise _AgainError(
                    f"{self._url} gave the range {content_range!r} when asked for the bytes from "
                    f"{start} of {size}"
                )
        elif response.status == 200:
            length = headers.get("Content-Length", str(size))
            if length.strip() != str(size):
                raise DownloadError(
                    f"{self._url} offers {length} bytes; expected {size}, so this is not the "
                    "genuine file."
                )
            start = 0
            self.part.begin(self._url, _validator(headers))
        else:
            raise DownloadError(f"{self._url} answered {response.status}; expected 200.")
        return start

    def _receive(self, response: Any) -> None:
        """Store the body, but never more than the genuine file has."""
        while (missing := self._entry.size_bytes - self.part.size) > 0:
            try:
                block = response.read1(min(BLOCK_BYTES, missing))
            except (OSError, http.client.HTTPException) as error:
                raise _AgainError(
                    f"{self._url} broke off after {self.part.size} of "
                    f"{self._entry.size_bytes} bytes ({error})"
                ) from error
            if not block:
                return
            self.part.append(block)


def _validator(headers: Any) -> str:
    """What may stand in If-Range: a strong ETag, else the date of change, else nothing."""
    etag = str(headers.get("ETag", "")).strip()
    if etag.startswith('"'):
        return etag
    return str(headers.get("Last-Modified", "")).strip()
