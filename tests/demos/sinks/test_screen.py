"""The window, with an OpenCV that has none: no display is needed, and each way to fail is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from kit.playback import Frames, PlaySource, film_of, shown

from shiftedge.demos.sinks.screen import Screen, ScreenLostError, WindowSink
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.model import Model

pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")

FAKE = """\
import os

WINDOW_NORMAL = WINDOW_KEEPRATIO = WND_PROP_VISIBLE = 0
mode, _, last = os.environ["FAKE_CV2"].partition(" ")
shown = []

class error(Exception):
    pass

def namedWindow(title, flags):
    print("a library that talks")
    if mode == "abort":
        os.abort()
    if mode == "none":
        raise error

def resizeWindow(title, width, height):
    pass

def imshow(title, image):
    shown.append(image)
    assert image.shape == (4, 6, 3) or image.shape[2] == 3
    if mode == "die" and len(shown) == int(last):
        os.abort()

def waitKey(milliseconds):
    return ord("kq"[mode == "quit"]) if mode != "cross" and len(shown) == int(last) else -1

def getWindowProperty(title, kind):
    return 0.0 if mode == "cross" and len(shown) == int(last) else 1.0
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "cv2.py").write_text(FAKE)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{before}" if before else str(folder))
    monkeypatch.setenv("DISPLAY", ":99")
    return monkeypatch


CANVAS = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize("how", ["quit 3", "cross 3"])
def test_a_window_until_it_is_closed(fake: pytest.MonkeyPatch, how: str) -> None:
    fake.setenv("FAKE_CV2", how)
    with Screen() as screen:
        assert [screen.show(CANVAS) for _ in range(3)] == [True, True, False]
    screen.close()


def test_other_keys_are_told(fake: pytest.MonkeyPatch) -> None:
    fake.setenv("FAKE_CV2", "key 2")
    with Screen() as screen:
        keys = []
        for _ in range(3):
            assert screen.show(CANVAS)
            keys.append(screen.key)
    assert keys == ["", "k", ""]


def test_a_display_that_does_not_answer_is_a_sentence(fake: pytest.MonkeyPatch) -> None:
    fake.setenv("FAKE_CV2", "abort")
    with pytest.raises(OutputError, match=r"no screen .*DISPLAY=:99 does not answer.* --film"):
        Screen()


def test_an_opencv_without_windows(fake: pytest.MonkeyPatch) -> None:
    fake.setenv("FAKE_CV2", "none")
    with pytest.raises(OutputError, match="install opencv-python instead"):
        Screen()


def test_a_display_that_goes_away(fake: pytest.MonkeyPatch) -> None:
    fake.setenv("FAKE_CV2", "die 2")
    with Screen() as screen:
        assert screen.show(CANVAS)
        for _ in range(2):
            with pytest.raises(ScreenLostError, match="does not answer any more"):
                screen.show(CANVAS)


def test_without_a_film_the_show_ends_in_order(
    fake: pytest.MonkeyPatch, reading_model: Model, play: PlaySource
) -> None:
    fake.setenv("FAKE_CV2", "die 2")
    source = play(Frames(film_of([(0, 60.0)])))
    report = shown(reading_model, source, WindowSink(Screen()))
    assert (report.ended, report.error is None) == ("lost", False)
    assert 1 < report.numbers.frames < 1440


def test_a_film_goes_on_without_its_window(
    fake: pytest.MonkeyPatch, reading_model: Model, play: PlaySource, tmp_path: Path
) -> None:
    fake.setenv("FAKE_CV2", "die 2")
    notes: list[str] = []
    source = play(Frames(film_of([(0, 4.0)])))
    window = WindowSink(Screen())
    report = shown(reading_model, source, window, film=tmp_path / "a.mp4", on_note=notes.append)
    assert (report.ended, report.numbers.frames) == ("end", 96)
    assert report.error is None
    assert len(notes) == 1
    assert "The rest goes on without it (window)" in notes[0]
    assert (tmp_path / "a.mp4").stat().st_size > 1000
