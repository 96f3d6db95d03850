"""Long work off a terminal says a line every ten seconds, and short work nothing."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
import threading

import pytest

from shiftedge.benchmarks import counter as counter_module
from shiftedge.runtime.process import progress as progress_lines
from shiftedge.runtime.process import progress as progress_module
from shiftedge.runtime.process.progress import Lines, progress, working


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is outside tests, in which no line comes."""
    monkeypatch.setattr(progress_lines, "EVERY_S", 10.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def lines(clock: Clock, said: list[str]) -> Lines:
    return Lines(clock, said.append)


def test_a_line_every_ten_seconds(lines: Lines, clock: Clock, said: list[str]) -> None:
    with lines.item("training", 3600, "clips", quiet=True) as advance:
        for _ in range(35):
            clock.now_s += 1.0
            advance(12)
    assert said == [
        "training: 120 of 3,600 clips, 3%, about 4 min 50 s left",
        "training: 240 of 3,600 clips, 7%, about 4 min 40 s left",
        "training: 360 of 3,600 clips, 10%, about 4 min 30 s left",
    ]


def test_work_below_ten_seconds_says_nothing(lines: Lines, clock: Clock, said: list[str]) -> None:
    with lines.item("reading", 9, "clips", quiet=True) as advance:
        for _ in range(9):
            clock.now_s += 1.1
            advance(1)
    assert said == []
    clock.now_s += 3600.0
    with lines.item("reading", 1, "clips", quiet=True) as advance:
        advance(1)
    assert said == []


def test_many_short_stages_speak_as_one_long_one(
    lines: Lines, clock: Clock, said: list[str]
) -> None:
    with lines.item("training", None, "", quiet=True):
        for stage in range(1, 7):
            with lines.item(f"stage {stage}", 1, "clips", quiet=True) as advance:
                clock.now_s += 4.0
                advance(1)
    assert [line.partition(":")[0] for line in said] == ["stage 3", "stage 6"]
    with lines.item("other work", 1, "clips", quiet=True) as advance:
        clock.now_s += 9.0
        advance(1)
    assert len(said) == 2


def test_the_innermost_work_is_told(lines: Lines, clock: Clock, said: list[str]) -> None:
    with lines.item("training", None, "", quiet=True):
        with lines.item("reading", None, "frames", quiet=True) as advance:
            advance(7)
            clock.now_s += 10.0
            lines.beat()
        clock.now_s += 4000.0
        lines.beat()
        lines.beat()
    clock.now_s += 60.0
    lines.beat()  # there is none any more
    assert said == ["reading: 7 frames, 10 s so far", "training: 1 h 6 min so far"]


def test_a_command_and_its_library_are_one_work(
    lines: Lines, clock: Clock, said: list[str]
) -> None:
    with lines.item("exporting", None, "", quiet=True):
        clock.now_s += 7.0
        with lines.item("exporting", None, "", quiet=True):
            clock.now_s += 7.0
            lines.beat()
    assert said == ["exporting: 14 s so far"]


@pytest.mark.parametrize(
    ("total", "unit", "done", "line"),
    [
        (9_225_904, "bytes", 3_100_000, "x: 3.1 of 9.2 MB, 34%, about 17 s left"),
        (7, "stages", 0, "x: 0 of 7 stages, 0%, 10 s so far"),
        (7, "stages", 4, "x: 4 of 7 stages, 57%, 10 s so far"),
        (7, "stages", 7, "x: 7 of 7 stages, 100%, 10 s so far"),
        (7, "stages", -1, "x: -1 of 7 stages, 0%, 10 s so far"),
        (0, "clips", 0, "x: 0 of 0 clips, 10 s so far"),
        (None, "frames", 1234, "x: 1,234 frames, 10 s so far"),
        (None, "", 0, "x: 10 s so far"),
    ],
)
def test_what_a_line_says(
    lines: Lines,
    clock: Clock,
    said: list[str],
    total: int | None,
    unit: str,
    done: int,
    line: str,
) -> None:
    with lines.item("x", total, unit, quiet=True) as advance:
        clock.now_s += 9.0
        advance(done)
        clock.now_s += 1.0
        lines.beat()
    assert said == [line]


def test_a_unit_that_takes_longer_than_the_others_takes_the_estimate_with_it(
    lines: Lines, clock: Clock, said: list[str]
) -> None:
    with lines.item("x", 10, "stages", quiet=True) as advance:
        for seconds in (5.0, 1.0, 1.0, 1.0, 1.0, 1.0):
            clock.now_s += seconds
            advance(1)
        for _ in range(2):
            clock.now_s += 10.0
            lines.beat()
    assert said == [
        "x: 6 of 10 stages, 60%, about 7 s left",
        "x: 6 of 10 stages, 60%, 20 s so far",
        "x: 6 of 10 stages, 60%, 30 s so far",
    ]


def test_names_move_no_cursor(lines: Lines, clock: Clock, said: list[str]) -> None:
    with lines.item("compiling \x1b[2J\rx\n", None, "", quiet=True):
        clock.now_s += 10.0
        lines.beat()
    assert said == ["compiling ?[2J?x?: 10 s so far"]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, 10.0), ("", 10.0), ("60", 60.0), ("0", 1e6), ("1e99", 1e6), ("-1", 10.0), ("x", 10.0)],
)
def test_other_seconds_by_the_environment(given: str | None, seconds: float) -> None:
    assert progress_lines._every_s(given) == seconds


class Told:
    """Waits until lines came."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._new = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._new:
            self.lines.append(line)
            self._new.notify_all()

    def wait_for(self, count: int) -> None:
        with self._new:
            assert self._new.wait_for(lambda: len(self.lines) >= count, timeout=60.0)


def test_a_single_long_unit_speaks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_lines, "EVERY_S", 0.01)
    told = Told()
    lines = Lines(say=told)
    with lines.item("verifying", 3, "stages") as advance:
        told.wait_for(2)
        advance(1)
        told.wait_for(3)
    assert told.lines[0].startswith("verifying: 0 of 3 stages, 0%, ")
    assert not any(thread.name == "progress" for thread in threading.enumerate())


def test_no_thread_while_figures_are_taken(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, said: list[str]
) -> None:
    lines = Lines(clock, said.append)
    with lines.item("measuring", 2, "frames", quiet=True):
        assert not any(thread.name == "progress" for thread in threading.enumerate())
    told = Told()
    lines = Lines(say=told)
    monkeypatch.setattr(progress_lines, "EVERY_S", 0.01)
    with lines.item("counting", None, ""):
        told.wait_for(1)
        with lines.item("measuring", 2, "frames", quiet=True):
            pass
        told.wait_for(len(told.lines) + 1)  # and it wakes again
    assert {line.partition(":")[0] for line in told.lines} == {"counting"}


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Lines:
    """The lines of this process, by the test's clock, and without the thread: it would see that
    clock at moments of its own."""
    lines = Lines(clock)
    monkeypatch.setattr(lines, "_wake", lambda: None)
    for module in (progress_module, counter_module):
        monkeypatch.setattr(module, "LINES", lines)
    return lines


def test_all_speak_off_a_terminal(
    own: Lines, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("fetching", 40, "files") as advance:
        clock.now_s += 10.0
        advance(10)
    with working("exporting"):
        clock.now_s += 10.0
        own.beat()
    with counter_module.counter("measuring", 40, "frames") as advance:
        clock.now_s += 10.0
        advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "shiftedge: fetching: 10 of 40 files, 25%, about 30 s left",
        "shiftedge: exporting: 10 s so far",
        "shiftedge: measuring: 10 of 40 frames, 25%, about 30 s left",
    ]


def test_a_terminal_without_rich_gets_lines(
    own: Lines, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress("fetching", 40, "files") as advance:
        clock.now_s += 12.0
        advance(20)
    assert terminal.getvalue() == "shiftedge: fetching: 20 of 40 files, 50%, about 12 s left\n"


@pytest.mark.parametrize("stream", [None, "closed"])
def test_work_goes_on_without_a_listener(
    own: Lines, clock: Clock, monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    other = None if stream is None else io.StringIO()
    if other is not None:
        other.close()
    with own.item("fetching", 4, "files", quiet=True) as advance:
        monkeypatch.setattr(sys, "stderr", other)
        clock.now_s += 12.0
        advance(1)


@pytest.mark.parametrize(
    "place",
    [
        "shiftedge.benchmarks.emulation.report:document",
        "shiftedge.export.commands:_export",
        "shiftedge.export.commands:_fetch",
        "shiftedge.export.train_command:_train",
        "shiftedge.export.compiler.commands:_compile",
        "shiftedge.export.deploy.commands:_deploy",
        "shiftedge.export.deploy.rollout:deploy",
        "shiftedge.export.quantize.commands:_quantize",
        "shiftedge.export.quantize.pipeline:quantize",
        "shiftedge.export.to_onnx:export_model",
        "shiftedge.export.training.fine_tune:fine_tune",
        "shiftedge.export.training.runner:train",
    ],
)
def test_what_has_parts_that_are_not_counted_speaks_throughout(place: str) -> None:
    module, _, name = place.partition(":")
    if "to_onnx" in module or "training" in module:
        pytest.importorskip("torch", reason="the export extra (torch) is not installed")
    function = getattr(importlib.import_module(module), name)
    assert "working" in inspect.getsource(function).partition("def ")[0]
