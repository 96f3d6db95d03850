"""Settings that are read again while the show goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.playback import Frames, Told, film_of

from shiftedge.demos.actions import sinks_of
from shiftedge.demos.plan import Reload, RunPlan, changed_at
from shiftedge.demos.settings import RunSettings
from shiftedge.demos.show import RELOAD, Watched, show
from shiftedge.demos.sinks import Moment
from shiftedge.runtime.errors import OutputError, SettingError
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.notify import Notifier
from shiftedge.runtime.spec import ModelSpec

FILM = [(0, 0.3), (1, 0.6), (0, 0.9), (3, 0.6), (0, 0.3)]
"""Two gestures."""


class Asking(Told):
    """Has settings read again at the first event."""

    name = "asking"

    def __init__(self) -> None:
        super().__init__()
        self.asked = False
        self.ended = 0
        self._first = True

    def fits(self, moment: Moment) -> bool:
        self.asked = self._first
        self._first = False
        return True

    def close(self) -> None:
        self.ended += 1


class Hanging(Asking):
    """Cannot begin."""

    name = "hanging"

    def begin(self, sessions: Any) -> None:
        raise OutputError("The bell is gone.")


@pytest.fixture
def run(
    reading_model: Model, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Asking, Callable[[RunPlan], RunPlan]], tuple[Any, Reload, list[str]]]:
    monkeypatch.setattr("shiftedge.demos.show.open_source", lambda text, **_: Frames(film_of(FILM)))

    def of(first: Asking, read: Callable[[RunPlan], RunPlan]) -> tuple[Any, Reload, list[str]]:
        notes: list[str] = []
        plan = RunPlan(reading_model, (), (Watched("0"),), {"first": first})

        def asked() -> bool:
            now, first.asked = first.asked, False
            return now

        reload = Reload(plan, asked, read, Notifier({}), notes.append)
        report = show(
            reading_model,
            plan.sources,
            [first],
            renewal=reload,
            on_note=notes.append,
            realtime=True,
        )
        return report, reload, notes

    return of


def test_sinks_that_stay_and_sinks_that_come(run: Any) -> None:
    first, second = Asking(), Asking()
    report, _, notes = run(
        first, lambda plan: replace(plan, sinks={**plan.sinks, "second": second})
    )
    assert "settings read again: 1 of 2 sinks go on" in notes
    assert [event.label for event in first.events] == ["Swiping Left", "Stop Sign"]
    assert [event.label for event in second.events] == ["Stop Sign"]
    assert report.ended == "end"


def test_a_sink_that_goes_has_what_waited(run: Any) -> None:
    first, second = Asking(), Asking()
    _, _, notes = run(first, lambda plan: replace(plan, sinks={"second": second}))
    assert "settings read again: 0 of 1 sinks go on" in notes
    assert [event.label for event in first.events] == ["Swiping Left"]
    assert first.ended
    assert [event.label for event in second.events] == ["Stop Sign"]


def test_what_is_wrong_changes_nothing(run: Any) -> None:
    first = Asking()

    def read(plan: RunPlan) -> RunPlan:
        raise SettingError("Line 2 is wrong.")

    _, _, notes = run(first, read)
    assert notes[0] == "Line 2 is wrong. The settings stay as they were."
    assert len(first.events) == 2


def test_a_sink_that_cannot_begin_is_left_out(run: Any) -> None:
    first, broken = Asking(), Hanging()
    _, _, notes = run(first, lambda plan: replace(plan, sinks={**plan.sinks, "broken": broken}))
    assert "The bell is gone. The rest goes on without it (hanging)." in notes
    assert broken.ended
    assert len(first.events) == 2


def test_other_sources_begin_anew(run: Any) -> None:
    first = Asking()
    report, reload, _ = run(first, lambda plan: replace(plan, sources=(Watched("1"),), sinks={}))
    assert report.ended == RELOAD
    assert first.ended
    assert reload.plan.sources == (Watched("1"),)


def test_what_is_said_of_a_sink_tells_whether_it_is_the_same(
    tmp_path: Path, spec: ModelSpec
) -> None:
    file, secret = tmp_path / "a.toml", tmp_path / "word"
    secret.write_text("one")
    pytest.importorskip("paho", reason="the mqtt extra (paho-mqtt) is not installed")
    same = '[[action]]\non = "*"\ncommand = ["true"]\n'
    broker = '[mqtt]\nbroker = "b"\nuser = "u"\npassword_file = "word"\n'

    def read(text: str, held: Any = None) -> Any:
        file.write_text(text)
        return sinks_of(RunSettings(file), spec, ["0"], held)

    before = read(same + same + broker)
    assert len(before) == 3
    later = read("# a comment\n" + same + broker + same.replace("true", "false"), before)
    kept = [sink for sink in later.values() if sink in before.values()]
    assert [sink.name for sink in kept] == ["command true", "mqtt"]
    secret.write_text("two")
    assert not set(read(broker, later).values()) & set(later.values())
    assert changed_at(file) is not None
    assert changed_at(tmp_path / "absent") is None


CAMERA = """
import os, time
while True:
    os.write(1, bytes(24 * 32))
    time.sleep(0.05)
"""


@contextlib.contextmanager
def process(folder: Path, settings: str) -> Iterator[tuple[Any, Any]]:
    """A service, and what its manager hears."""
    (folder / "camera.py").write_text(CAMERA)
    (folder / "a.toml").write_text(settings)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(folder / "notify"))
    listening.settimeout(120.0)
    command = [sys.executable, "-m", "shiftedge", "run", "--service", "--live", "--actions"]
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": str(folder / "notify"),
        "WATCHDOG_USEC": "1000000",
    }
    with (
        listening,
        subprocess.Popen(
            [*command, str(folder / "a.toml")],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as running,
    ):
        try:
            yield running, listening
        finally:
            running.kill()


def until(listening: socket.socket, words: str) -> None:
    while words not in listening.recv(4096).decode():
        pass


@pytest.mark.long
def test_a_service_with_its_manager(tmp_path: Path) -> None:
    source = f"pipe:[size=32x24,format=gray] exec {sys.executable} {tmp_path}/camera.py"
    text = f'[[source]]\nname = "hall"\nfrom = "{source}"\n'
    with process(tmp_path, text) as (running, listening):
        until(listening, "READY=1")
        until(listening, "STATUS=1 of 1 cameras give frames")
        until(listening, "WATCHDOG=1")
        (tmp_path / "a.toml").write_text(text + "[nothing]\n")
        running.send_signal(signal.SIGHUP)
        until(listening, "RELOADING=1")
        until(listening, "READY=1")
        (tmp_path / "a.toml").write_text(text.replace("hall", "door"))
        running.send_signal(signal.SIGHUP)
        until(listening, "RELOADING=1")
        until(listening, "READY=1")
        until(listening, "STATUS=1 of 1 cameras give frames")
        running.send_signal(signal.SIGTERM)
        until(listening, "STOPPING=1")
        _, said = running.communicate(timeout=120)
    assert running.returncode == 143
    assert "there is no section 'nothing'" in said
    assert "beginning anew with other sources" in said


@pytest.mark.long
def test_a_service_is_up_before_its_camera(tmp_path: Path) -> None:
    text = '[[source]]\nfrom = "pipe:[size=32x24,format=gray] sleep 60"\n'
    with process(tmp_path, text) as (running, listening):
        until(listening, "STATUS=0 of 1 cameras give frames")
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=120) == 143


def test_a_service_wants_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    from shiftedge.__main__ import main

    assert main(["run", "--service"]) == 1
    assert "--service is for a file of --actions" in capsys.readouterr().err
