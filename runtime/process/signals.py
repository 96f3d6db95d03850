"""Ctrl-C, SIGTERM and SIGHUP, which end every command alike: in order, with the usual status.

A service manager and ``docker stop`` send SIGTERM, a closed terminal or a dropped ssh sends SIGHUP.
All raise :class:`Interrupted`, a KeyboardInterrupt, in the main thread, so that what is open is
closed on the way out: sources stopped, films finished, temporary files removed; and
:class:`Closing` is what can be opened and closed.
"""

from __future__ import annotations

import abc
import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Windows has no SIGHUP."""

PATIENCE_S = 10.0
"""After the first signal, others are taken for the same wish for so long: a second Ctrl-C must not
stop what the first began to put in order. Should that hang, a later one gets through."""


AGAIN_S = 0.01
"""See :func:`_again`: by then Python has left what it ignores exceptions of."""

ENDING_S = 60.0
"""See :func:`ending`: a film's last seconds and its index, on a slow board's card."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end; ``number`` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_status(error: KeyboardInterrupt, *, endless: bool = False) -> int:
    """128 and the signal's number, as shells count: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.

    Args:
        endless: Ctrl-C is the work's ordinary end, as of a camera's stream: 0.
    """
    number: int = getattr(error, "number", signal.SIGINT)
    return 0 if endless and number == signal.SIGINT else 128 + number


def interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The KeyboardInterrupt that became ``error``, if one did: an extension module written in C++
    that is interrupted as it loads says that it could not be imported."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


class _Taker:
    """What the signals lead to."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.ending_s: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.first_s is not None and time.monotonic() < self.first_s + PATIENCE_S:
            return
        if self.ending_s is not None and time.monotonic() < self.ending_s + ENDING_S:
            return
        self.first_s = time.monotonic()
        raise Interrupted(number)


def _again(taker: _Taker, unraisable: sys.UnraisableHookArgs) -> bool:
    """Send a signal once more whose exception Python has ignored, which it does of all that is
    raised in ``__del__`` and in weak references' callbacks (its import system has some).

    The hook that calls this may not raise either, so another thread waits for its end.

    Returns:
        Whether it was one of ours.
    """
    error = unraisable.exc_value
    if not isinstance(error, Interrupted):
        return False

    def send() -> None:
        time.sleep(AGAIN_S)
        if taker is _taker:
            taker.first_s = None
            if hasattr(signal, "pthread_kill"):  # wakes the main thread where it waits for a lock
                signal.pthread_kill(threading.main_thread().ident or 0, error.number)
            else:
                signal.raise_signal(error.number)

    threading.Thread(target=send, name="shiftedge signal", daemon=True).start()
    return True


def end_with_parent() -> None:
    """For a process that works for another: leave a terminal's signals to the parent, which ends us
    in order, and end with it where it was killed. What waits on a queue would never notice."""
    for number in SIGNALS:
        if number != getattr(signal, "SIGTERM", None):  # by which a pool ends us
            signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="shiftedge parent", daemon=True).start()


_taker: _Taker | None = None


def interrupted() -> bool:
    """Whether a signal has come to :func:`interrupts`: nothing is to be waited for any more."""
    return _taker is not None and _taker.first_s is not None


@contextlib.contextmanager
def interrupts(*, last: bool = False) -> Iterator[None]:
    """Within, the first of the signals raises :class:`Interrupted` in the main thread.

    Args:
        last: the process ends behind it; the signals do nothing from there on.

    A signal that was ignored when the program began stays so: ``nohup`` and a shell's background
    jobs mean it. Does nothing in another thread, or inside another ``interrupts``.
    """
    global _taker
    if _taker is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _taker = taker = _Taker()
    before: dict[int, Any] = {}
    hook = sys.unraisablehook

    def ignored(unraisable: sys.UnraisableHookArgs) -> None:
        if not _again(taker, unraisable):
            hook(unraisable)

    sys.unraisablehook = ignored
    try:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _taker)
        yield
    finally:
        for number, old in before.items():
            # None is a handler that was not set by Python, and cannot be set again from here
            handler = signal.SIG_DFL if old is None else old
            signal.signal(number, signal.SIG_IGN if last else handler)
        sys.unraisablehook = hook
        _taker = None


@contextlib.contextmanager
def hangups() -> Iterator[Callable[[], bool]]:
    """Within, SIGHUP ends nothing, as daemons take it: what is given tells whether one has come
    since it was last asked. Goes inside :func:`interrupts`; does nothing in another thread."""
    came: list[int] = []  # no lock: the handler runs in the midst of whoever holds it

    def asked() -> bool:
        found = bool(came)
        came.clear()
        return found

    ours = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP")
    before = (
        signal.signal(signal.SIGHUP, lambda number, frame: came.append(number)) if ours else None
    )
    try:
        yield asked
    finally:
        if ours:
            signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Within, none of the signals does anything: the work is at its end, and is being put in order,
    which must not stay half done (a film without its index cannot be played). Should it hang for
    more than :data:`ENDING_S`, a signal gets through.

    Does nothing in another thread than the main one, and where :func:`interrupts` is not in use.
    """
    taker = _taker
    if taker is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = taker.ending_s
    taker.ending_s = time.monotonic() if before is None else before
    try:
        yield
    finally:
        taker.ending_s = before


SelfT = TypeVar("SelfT", bound="Closing")  # typing.Self is newer than Python 3.10


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


_open: weakref.WeakSet[Closing] = weakref.WeakSet()


def close_at_exit(thing: Closing) -> None:
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
