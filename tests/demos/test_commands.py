"""``shiftedge demo`` as it is typed."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest
from kit.playback import Frames, PlaySource, film_of

from shiftedge.__main__ import main
from shiftedge.demos.commands import DEFAULT_FILM, DEFAULT_SOURCE, _film, add_commands
from shiftedge.runtime.model import Model


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    return parser.parse_args(["demo", *words])


@pytest.mark.parametrize(
    ("words", "film"),
    [
        ([], DEFAULT_FILM),
        (["--no-film"], None),
        (["--film", "x.mp4"], Path("x.mp4")),
        (["--source", "0"], None),
        (["--source", "clip.mp4"], None),
        (["--source", "0", "--film", "me.avi"], Path("me.avi")),
    ],
)
def test_people_are_filmed_only_on_request(words: list[str], film: Path | None) -> None:
    options = parsed(*words)
    assert _film(options, (options.source or [DEFAULT_SOURCE])[0]) == film


@pytest.mark.parametrize(
    "words", [["--seconds", "0"], ["--seconds", "soon"], ["--film"], ["a", "b"]]
)
def test_wrong_usage_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parsed(*words)
    assert raised.value.code == 2


@pytest.fixture
def on_frames(
    reading_model: Model, play: PlaySource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """Run the command on frames in memory, in an empty folder."""
    pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shiftedge.demos.commands.load_chosen", lambda options: reading_model)

    def run(source: Frames, *words: str) -> int:
        play(source)
        return main(["demo", *words])

    return run


def test_people_read_events_and_a_summary(
    on_frames: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Frames(film_of([(0, 0.3), (1, 0.5)]))
    assert on_frames(source) == 0
    out = capsys.readouterr().out
    assert "Swiping Left" in out.splitlines()[1]
    assert "film: out/demo.mp4" in out
    assert DEFAULT_FILM.stat().st_size > 1000


def test_programs_read_json(on_frames: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert on_frames(Frames(film_of([(0, 0.3), (1, 0.5)])), "--json", "--no-film") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [event["label"] for event in document["events"]] == ["Swiping Left"]
    assert document["film"] is None
    assert "Swiping Left" in captured.err


def test_a_show_has_things_happen_too(
    on_frames: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "actions.toml"
    file.write_text('[[action]]\non = "*"\ncommand = ["touch", "{label}"]\n')
    film = Frames(film_of([(0, 0.3), (1, 0.5)]))
    assert on_frames(film, "--json", "--no-film", "--actions", str(file)) == 0
    assert Path("Swiping Left").exists()
    sinks = {sink["name"]: sink for sink in json.loads(capsys.readouterr().out)["sinks"]}
    assert sinks["command touch"] == {
        "name": "command touch", "taken": 1, "dropped": 0, "missed": 0, "error": None
    }  # fmt: skip


def test_a_show_is_of_one_source(on_frames: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert on_frames(Frames([]), "--source", "0", "--source", "1") == 1
    assert "demo shows one source" in capsys.readouterr().err


def test_a_page_is_served_as_it_is_shown(
    on_frames: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
    source = Frames(film_of([(0, 0.2), (1, 0.5)]))
    assert on_frames(source, "--web", "localhost:0") == 0
    assert re.search(r"^page: http://localhost:\d+/$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cert", "x.pem"], "--cert and --key are for the page of --web"),
        (["--web", "--key", "x.pem"], "--key belongs to a certificate"),
        (["--web", "a:b"], "--web is a:b; expected a host and its port"),
        (["--web", ":::"], "expected a host and its port"),
        (["--web", "--cert", "absent.pem"], "absent.pem cannot be used (No such file"),
    ],
)
def test_a_page_that_cannot_be_is_a_sentence(
    words: list[str], sentence: str, on_frames: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
    assert on_frames(Frames(film_of([(0, 0.2)])), *words) == 1
    assert sentence in capsys.readouterr().err


def test_a_lost_source_is_exit_1_after_the_summary(
    on_frames: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from shiftedge.runtime.errors import SourceLostError

    source = Frames(film_of([(0, 0.3)]), error=SourceLostError("The camera stopped."))
    assert on_frames(source, "--no-film") == 1
    captured = capsys.readouterr()
    counts = re.search(r"(\d+) frames? in .* (\d+) frames? dropped", captured.out)
    assert counts is not None
    assert int(counts[1]) + int(counts[2]) == 7, "in real time, on a machine that may be busy"
    assert captured.err.strip() == "shiftedge: The camera stopped."


def test_a_real_model_on_a_rendered_scene(
    tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")
    source = "synthetic:moving?seconds=1&size=96x64"
    film = tmp_path / "demo.mp4"
    words = ["demo", str(tiny_onnx), "--source", source, "--film", str(film), "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["frames"] + document["dropped"] == 30
    assert document["steps"] >= 10
    assert film.stat().st_size > 1000
