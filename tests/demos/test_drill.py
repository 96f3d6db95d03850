"""Source, broker and server are taken away in turn, under load: all comes back by itself, and no
event is lost to anybody."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from kit.hooked import Server
from kit.mosquitto import Listener, Mosquitto, broker_program, free_port, wait_until
from kit.playback import LEVELS, Frames, Told, film_of, shown

from shiftedge.demos.show import Watched, show
from shiftedge.demos.sinks.actions import Rule, Webhook
from shiftedge.demos.sinks.mqtt import Broker, Mqtt
from shiftedge.runtime.capture import Retry
from shiftedge.runtime.capture.film_writer import FilmWriter
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

pytest.importorskip("paho", reason="the mqtt extra (paho-mqtt) is not installed")

CAMERA = f"""
import os, sys, time
with open(sys.argv[1], "a") as file:
    file.write(f"{{os.getpid()}}\\n")
while True:
    for level, count in (({LEVELS}, 14), ({2 * LEVELS}, 10)):
        for _ in range(count):
            os.write(1, bytes([level]) * (24 * 32))
            time.sleep(1 / 24)
"""
"""A gesture each second: 24 frames a second of 32x24."""


@pytest.mark.long
def test_all_comes_back_and_nothing_is_lost(reading_model: Model, tmp_path: Path) -> None:
    keeps = ("persistence true", f"persistence_location {tmp_path}/", "user root")
    broker = Mosquitto(broker_program(), tmp_path, *keeps)
    listener = Listener(broker, session="listener")
    hooked: list[Any] = []
    port = free_port()
    server = Server(port, hooked)
    processes = tmp_path / "processes"
    script = tmp_path / "camera.py"
    script.write_text(CAMERA)
    told, notes = Told(), []
    sinks = [
        told,
        Mqtt(Broker("127.0.0.1", broker.port)),
        Webhook(Rule(), f"http://127.0.0.1:{port}/", first_s=0.1),
    ]
    text = f"pipe:[size=32x24,format=gray] exec {sys.executable} {script} {processes}"
    retry = Retry(first_s=0.05, longest_s=0.5, service=True)

    def events(more: int) -> None:
        before = len(told.moments)
        wait_until(lambda: len(told.moments) >= before + more)

    def drill() -> None:
        nonlocal server
        events(2)
        broker.stop()
        events(2)
        broker.start()
        server.stop()
        events(2)
        server = Server(port, hooked)
        os.kill(int(processes.read_text().split()[-1]), signal.SIGKILL)
        events(3)
        wait_until(lambda: len(hooked) == len(told.moments))
        wait_until(lambda: any("is there again" in note for note in notes))

    helper = threading.Thread(target=drill)

    class Ending(Told):
        """Ends the show when the drill is over."""

        def take(self, image: Any, moment: Any) -> bool:
            return helper.is_alive()

    helper.start()
    try:
        watched = [Watched(text, "camera", retry)]
        report = show(reading_model, watched, [*sinks, Ending()], on_note=notes.append)
    finally:
        helper.join()
        server.stop()
    assert report.ended == "closed"
    assert [sink.missed + sink.dropped for sink in report.sinks] == [0, 0, 0, 0]
    assert report.numbers.reopened == 1
    wanted = {round(event.time_s, 4) for event in told.events}
    assert len(wanted) >= 9
    assert {each["time_s"] for each in hooked} == wanted
    topic = "shiftedge/camera/event"
    with contextlib.closing(listener):
        wait_until(lambda: {each["time_s"] for each in listener.of(topic)} == wanted)
    broker.stop()
    for words in ("was ended by SIGKILL", "gives frames again", "webhook", "broker"):
        assert any(words in note for note in notes), (words, notes)


@pytest.mark.long
def test_a_network_that_is_cut(tmp_path: Path, spec: ModelSpec) -> None:
    """For ten seconds, in a namespace of its own, under load: nothing is lost to anybody."""
    enter = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("ip") is None or subprocess.run([*enter, "true"], check=False).returncode:
        pytest.skip("no network namespace may be made here (unshare, ip)")
    broker_program()
    (tmp_path / "spec.json").write_text(spec.to_json())
    done = subprocess.run(
        [*enter, sys.executable, "-m", "kit.cut_network", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["wanted"]) >= 6
    assert found["mqtt"] == found["wanted"]
    assert found["webhook"] == found["wanted"]
    assert [dropped + missed for _, dropped, missed in found["lost"]] == [0, 0, 0], found


def test_a_disk_that_fills_while_recording(
    reading_model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The film ends, and says why; whoever is told of gestures misses none."""
    pytest.importorskip("cv2", reason="the camera extra is not installed")
    real = FilmWriter.write

    def write(self: FilmWriter, image: Any) -> None:
        if self.frames >= 20:
            raise OutputError(f"Cannot write {self.path}: No space left on device; make room.")
        real(self, image)

    monkeypatch.setattr(FilmWriter, "write", write)
    film = film_of([(0, 0.3), (1, 0.6), (0, 0.9), (3, 0.6), (0, 0.9), (1, 0.6)])
    monkeypatch.setattr("shiftedge.demos.show.open_source", lambda text, **_: Frames(film))
    told, notes = Told(), list[str]()
    report = shown(reading_model, "0", told, film=tmp_path / "a.mp4", on_note=notes.append)
    assert [event.label for event in told.events] == ["Swiping Left", "Stop Sign", "Swiping Left"]
    assert any("No space left" in note and "goes on without it" in note for note in notes)
    assert "No space left" in str(report.error)
    assert list(tmp_path.iterdir()) == []
