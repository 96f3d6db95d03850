"""The bar shows for people and stays out of pipes, without rich being imported for nothing."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from shiftedge.runtime.process.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work() -> None:
    with progress("Reading clips", 4, "clips") as advance:
        for _ in range(4):
            advance(1)


def test_a_terminal_sees_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    work()
    assert "Reading clips" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert "clips" in terminal.getvalue()


def test_bytes_are_shown_as_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress("jester", 9_000_000, "bytes") as advance:
        advance(4_000_000)
        advance(-4_000_000)  # begun anew
        advance(9_000_000)
    assert "9.0/9.0 MB" in terminal.getvalue()


def test_a_pipe_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    work()
    assert capsys.readouterr() == ("", "")


def test_without_a_console_or_without_rich_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    work()
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)
    work()


def test_an_error_inside_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), progress("x", None, "frames") as advance:
        advance(1 // 0)


def test_rich_is_not_imported_in_a_pipe() -> None:
    code = (
        "import sys; from shiftedge.runtime.process.progress import progress\n"
        "with progress('x', 1, 'frames') as advance: advance(1)\n"
        "sys.exit('rich' in sys.modules)"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0
