"""One answer to Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from shiftedge.runtime.process import signals
from shiftedge.runtime.process.signals import SIGNALS, Interrupted, ending, exit_status, interrupts


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_an_interrupt_with_its_status(number: int) -> None:
    with pytest.raises(Interrupted) as caught, interrupts():
        signal.raise_signal(number)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert exit_status(caught.value) == 128 + number
    endless = exit_status(caught.value, endless=True)
    assert endless == (0 if number == signal.SIGINT else 128 + number)
    assert signal.getsignal(number) == signal.SIG_DFL, "put back"


def test_an_ordinary_ctrl_c_has_its_status_too() -> None:
    assert exit_status(KeyboardInterrupt()) == 130


def test_the_second_one_does_not_stop_what_the_first_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now_s)
    with interrupts():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
        for number in SIGNALS:
            signal.raise_signal(number)
        now_s = signals.PATIENCE_S + 1.0
        with pytest.raises(Interrupted):  # should putting in order hang
            signal.raise_signal(signal.SIGTERM)


def test_at_the_end_nothing_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now_s)
    with interrupts():
        with ending():
            for number in SIGNALS:
                signal.raise_signal(number)
            now_s = signals.ENDING_S + 1.0
            with pytest.raises(Interrupted):  # should it hang
                signal.raise_signal(signal.SIGTERM)
        now_s += signals.PATIENCE_S + 1.0
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    with ending():  # of somebody else's program
        pass


@pytest.mark.parametrize("number", SIGNALS)
def test_one_that_python_ignores_comes_again(number: int) -> None:
    """Exceptions of ``__del__`` are printed and forgotten; the wait below would be 30 s."""

    class Deleted:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def never() -> bool:
        Deleted()
        return False

    waited = threading.Condition()
    with pytest.raises(Interrupted) as caught, interrupts(), waited:
        waited.wait_for(never, 30.0)
    assert caught.value.number == number


def test_what_else_python_ignores_is_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: told.append(str(found.exc_value)))

    class Deleted:
        def __del__(self) -> None:
            raise ValueError("in vain")

    with interrupts():
        Deleted()
    Deleted()
    assert told == ["in vain", "in vain"]


def test_one_inside_another_changes_nothing() -> None:
    with interrupts():
        handler = signal.getsignal(signal.SIGTERM)
        with interrupts():
            assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGTERM) is handler


def test_what_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_behind_the_last_nothing_interrupts() -> None:
    with interrupts(last=True):
        pass
    for number in SIGNALS:
        signal.raise_signal(number)


def test_another_thread_leaves_signals_alone() -> None:
    seen = []

    def work() -> None:
        with interrupts(), ending():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
