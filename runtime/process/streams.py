"""The three standard streams of a process that is a command: there, in UTF-8, and honest when full.

A program may be started with one of them closed (``2>&-``, a service, cron). Python then has None
in its place, ``print(file=None)`` writes to stdout instead, and the next file that is opened gets
the descriptor, so that what a library prints to descriptor 2 lands in that file.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import io
import os
import re
import select
import sys
from collections.abc import Iterator

from shiftedge.runtime.errors import OutputError


class ReaderGoneError(BrokenPipeError):
    """Who reads our standard output has seen enough (``| head``), which is nobody's fault."""


class _Harmless(io.TextIOWrapper):
    """Lets no control code through but what our own tables and progress bars use: what is printed
    may name what others have named, and a terminal would obey it.

    Failures are met here and not in a raw stream below: a signal that comes between a write and its
    count there would have the buffer write the same once more.
    """

    def __init__(self, descriptor: int, *, line_buffering: bool) -> None:
        super().__init__(
            io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)),
            encoding="utf-8",
            errors=_ERRORS,
            newline="\n",
            line_buffering=line_buffering,
        )

    def write(self, text: str) -> int:
        try:
            super().write(_OBEYED.sub("?", text))
        except OSError as error:
            self.failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.failed(error)

    def failed(self, error: OSError) -> None:
        """What a failure means; of standard error nothing, since nobody could be told: what was to
        be said is lost, and the work goes on."""


class _Out(_Harmless):
    """Standard output, whose failures say what they are of."""

    def failed(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError(*error.args) from error
        raise OutputError(f"Cannot write to standard output: {error.strerror or error}.") from error


@contextlib.contextmanager
def own_streams() -> Iterator[None]:
    """Within, the process's descriptors 0, 1 and 2 are open, and ``sys.stdout`` and ``sys.stderr``
    write UTF-8 to them, whatever the locale.

    A closed stdin is empty, a closed stderr takes everything and drops it. A closed stdout fails
    like a full one, since a program whose results are lost must not seem to have worked. What is
    no character (file names that are not UTF-8) is written as escapes, which in JSON mean the same.

    Writing to stdout raises :class:`OutputError`, or :class:`ReaderGoneError`.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        _ensure(descriptor, mode)  # 1 for reading, so that writing to it fails
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives on
    sys.stdout = _Out(1, line_buffering=os.isatty(1))
    sys.stderr = _Harmless(2, line_buffering=True)
    try:
        yield
    finally:
        try:
            if not _takes(1):  # a signal came while its reader slept: it would not be the last
                _discard_stdout()
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, OutputError, ValueError):  # which was said already
            _discard_stdout()
        sys.stdin, sys.stdout, sys.stderr = before


def need_stdout() -> None:
    """Say at once that standard output was closed, for a command that would only find out at its
    first result, perhaps after hours.

    Raises:
        OutputError: so it is.
    """
    ours = isinstance(sys.stdout, _Out)
    if ours and fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OutputError(
            "Standard output is closed, so every event would be lost; send it somewhere, such as "
            "> /dev/null if it is not wanted."
        )


def _takes(descriptor: int) -> bool:
    """Whether it can be written to now. A file always can."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def _discard_stdout() -> None:
    """What is still buffered is dropped, or Python would complain once more when it goes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
    finally:
        os.close(nowhere)


def _ensure(descriptor: int, mode: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            return
        opened = os.open(os.devnull, mode)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """For what cannot be written as UTF-8: halves of characters, in which Python keeps the bytes of
    names that its locale does not know. In UTF-8 they may well be characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    try:
        raw = part.encode("utf-8", "surrogateescape")
        raw.decode("utf-8")
    except UnicodeError:
        raw = part.encode("ascii", "backslashreplace")
    return raw, error.end


_ERRORS = "shiftedge.escaped"
codecs.register_error(_ERRORS, _escaped)


_OBEYED = re.compile(
    r"(?!\x1b\[[0-9;]*[mAK]|\x1b\[\?25[hl])"  # colours; up a line, empty a line; the cursor
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
