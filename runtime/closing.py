"""What is opened and must be closed, usable as a context."""

from __future__ import annotations

import abc
import atexit
import contextlib
import weakref
from types import TracebackType
from typing import Protocol, TypeVar

__all__ = ["Closing", "close_at_exit"]

SelfT = TypeVar("SelfT", bound="Closing")  # typing.Self is newer than Python 3.10


class _Closes(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Give back what is held."""


_open: weakref.WeakSet[_Closes] = weakref.WeakSet()


def close_at_exit(thing: _Closes) -> None:
    """Close ``thing`` when Python ends, if nobody has before: for what has a daemon thread.

    Python ends such a thread when it next asks for the interpreter's lock, by unwinding its stack,
    and C++ on it that may not be unwound (OpenCV's, numpy's) then ends the process with SIGABRT.
    """
    _open.add(thing)


@atexit.register
def _close_all() -> None:
    for thing in list(_open):
        with contextlib.suppress(Exception):  # there is nobody left to tell
            thing.close()


class Closing(abc.ABC):
    """``with thing:`` closes it at the end, whatever happens inside."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give the device, file or process back. May be called twice."""

    def __enter__(self: SelfT) -> SelfT:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
