"""``shiftedge run`` with several cameras and a file of actions, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kit.playback import Frames, film_of, shown

from shiftedge.__main__ import main
from shiftedge.demos.show import Watched, show
from shiftedge.demos.sinks.lines import JsonLines
from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.model import Model


@pytest.fixture
def films(reading_model: Model, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``run`` opens, by the text of the source."""
    opened: dict[str, Any] = {}

    def open_source(text: str, **how: Any) -> Frames:
        if isinstance(opened[text], Exception):
            raise opened[text]
        return Frames(opened[text])

    monkeypatch.setattr("shiftedge.demos.show.open_source", open_source)
    monkeypatch.setattr("shiftedge.demos.commands.load_chosen", lambda options: reading_model)
    return opened


def test_two_cameras(films: Any, capsys: pytest.CaptureFixture[str]) -> None:
    films["0"] = film_of([(0, 0.3), (1, 0.6), (0, 0.3)])
    films["1"] = film_of([(0, 0.3), (3, 0.6), (0, 0.3)])
    films["2"] = SourceError("There is no camera 2.")
    assert main(["run", "--source", "0", "--source", "1", "--source", "2"]) == 1
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert {(line["camera"], line["label"]) for line in lines} == {
        ("0", "Swiping Left"),
        ("1", "Stop Sign"),
    }
    assert "shiftedge: 2: There is no camera 2. The others go on." in captured.err
    notes = captured.err.splitlines()
    assert any(note.startswith("shiftedge: 0: ") and "frames" in note for note in notes)
    assert notes[-1] == "shiftedge: There is no camera 2."


def test_one_source_twice_has_two_names(films: Any, capsys: pytest.CaptureFixture[str]) -> None:
    films["0"] = film_of([(0, 0.3), (1, 0.6)])
    assert main(["run", "--source", "0", "--source", "0"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(line["camera"] for line in lines) == ["0", "0 (2)"]


def test_all_that_fail_are_one_error(films: Any, capsys: pytest.CaptureFixture[str]) -> None:
    films["0"] = films["1"] = SourceError("There is no camera.")
    assert main(["run", "--source", "0", "--source", "1"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "shiftedge: There is no camera."


def test_a_file_names_cameras_and_what_happens(
    films: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films["0?size=640x480"] = film_of([(0, 0.3), (1, 0.6), (0, 0.9), (3, 0.6), (0, 0.3)])
    told = tmp_path / "told"
    file = tmp_path / "actions.toml"
    file.write_text(
        '[[source]]\nname = "desk"\nfrom = "0"\nsize = "640x480"\n'
        '[[action]]\non = "Stop Sign"\n'
        f'command = ["sh", "-c", "echo $0 $SHIFTEDGE_CAMERA > {told}", "{{label}}"]\n'
        '[[action]]\non = "*"\ncommand = ["false"]\n'
    )
    assert main(["run", "--actions", str(file)]) == 0
    captured = capsys.readouterr()
    assert told.read_text() == "Stop Sign desk\n"
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [(line["camera"], line["label"]) for line in lines] == [
        ("desk", "Swiping Left"),
        ("desk", "Stop Sign"),
    ]
    assert "command false ended with status 1" in captured.err
    assert captured.err.splitlines()[-1] == (
        "shiftedge: sinks: command sh 1 taken, 0 dropped; command false 0 taken, 0 dropped, "
        "2 not delivered"
    )


def test_what_is_wrong_in_it_is_told_before_a_camera_is_opened(
    films: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "actions.toml"
    file.write_text('[[action]]\non = "Wave"\nwebhook = "http://127.0.0.1"\n')
    assert main(["run", "--actions", str(file), "--source", "absent"]) == 1
    assert "line 2: the model tiny has no gesture 'Wave'" in capsys.readouterr().err


def test_a_sink_that_fails_is_told_and_the_others_go_on(
    films: Any, reading_model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(JsonLines):
        name = "broken"

        def take(self, image: Any, moment: Any) -> None:
            raise SourceError("The bell is gone.")

    films["0"] = film_of([(0, 0.3), (1, 0.6), (0, 0.9), (3, 0.6)])
    notes: list[str] = []
    report = shown(reading_model, "0", Broken(), JsonLines(), on_note=notes.append)
    assert notes == ["The bell is gone. The rest goes on without it (broken)."]
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert str(report.error) == "The bell is gone."
    assert report.lines()[-1] == "sinks: broken 0 taken, 0 dropped (failed)"
    assert report.to_dict()["sinks"][0]["error"] == "The bell is gone."


def test_the_last_sink_ends_the_show(films: Any, reading_model: Model) -> None:
    class Gone(JsonLines):
        def take(self, image: Any, moment: Any) -> None:
            raise SourceError("Nobody reads.")

    films["0"] = film_of([(0, 0.3), (1, 0.6), *[(0, 0.9), (3, 0.9)] * 400])
    report = show(reading_model, [Watched("0")], [Gone()], realtime=False)
    assert report.ended == "lost"
    assert report.numbers.frames < 17_000
