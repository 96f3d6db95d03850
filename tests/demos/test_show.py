"""The whole show, on a model that reads the answers off the frames."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.playback import Frames, PlaySource, Told, film_of, shown

from shiftedge.demos import show as show_module
from shiftedge.demos.sinks import Moment
from shiftedge.demos.sinks.screen import Screen, WindowSink
from shiftedge.runtime.capture import TimedFrame
from shiftedge.runtime.capture.synthetic import TrueEvent
from shiftedge.runtime.errors import FrameError, OutputError, SourceError, SourceLostError
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.signals import Closing

cv2: Any = pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")

REST, LEFT, STOP = 0, 1, 3
SCENE = [(REST, 1.0), (LEFT, 0.7), (REST, 1.5), (STOP, 0.8), (REST, 1.0)]
TRUTH = [
    TrueEvent("Swiping Left", 1.0, 1.7),
    TrueEvent("Stop Sign", 3.2, 4.0),
    TrueEvent("Swiping Right", 4.1, 4.2),
]


def frames_of(film: Path) -> int:
    capture = cv2.VideoCapture(str(film))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def test_a_recording_from_end_to_end(
    reading_model: Model, play: PlaySource, tmp_path: Path
) -> None:
    told = Told()
    source = Frames(film_of(SCENE), truth=TRUTH)
    report = shown(reading_model, play(source), told, film=tmp_path / "demo.mp4")
    assert [event.label for event in told.events] == ["Swiping Left", "Stop Sign"]
    assert all(0 < moment.step_s < 0.5 for moment in told.moments)
    assert [event.label for event in report.events] == ["Swiping Left", "Stop Sign"]
    assert report.ended == "end"
    assert report.seconds == pytest.approx(119 / 24)
    assert report.numbers.frames == 120
    assert report.numbers.steps == 60, "12 a second, as the model wants them"
    assert (report.numbers.dropped, report.numbers.resets) == (0, {})
    assert report.numbers.step_p50_ms is not None
    assert report.score is not None
    assert [true.label for true in report.score.missed] == ["Swiping Right"]
    assert len(report.score.recognised) == 2
    assert frames_of(tmp_path / "demo.mp4") == 120
    assert source.closed

    text = report.text()
    assert "120 frames in 5.0 s, 2 gestures reported, 0 frames dropped" in text
    assert "recognised 2 of 3 true gestures, in the median" in text
    assert "missed: Swiping Right at 4.1 s" in text
    document = report.to_dict()
    assert document["truth"]["gestures"] == 3
    assert [event["label"] for event in document["events"]] == ["Swiping Left", "Stop Sign"]


def test_in_real_time_it_takes_as_long_as_the_recording(
    reading_model: Model, play: PlaySource
) -> None:
    report = shown(reading_model, play(Frames(film_of([(REST, 0.5)]))), realtime=True)
    assert report.numbers.frames + report.numbers.dropped == 12
    assert report.film is None
    assert report.score is None


def test_a_live_source_counts_what_it_drops(reading_model: Model, play: PlaySource) -> None:
    report = shown(reading_model, play(Frames(film_of([(REST, 4.0)]), live=True)))
    assert report.numbers.frames + report.numbers.dropped == 96


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell that runs tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_order(
    reading_model: Model, play: PlaySource, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    class Interrupting(Told):
        def fits(self, moment: Moment) -> bool:
            signal.raise_signal(number)
            return True

    source = play(Frames(film_of(SCENE)))
    report = shown(reading_model, source, Interrupting(), film=tmp_path / "demo.mp4")
    assert report.ended == "interrupted"
    assert [event.label for event in report.events] == ["Swiping Left"]
    assert 20 < frames_of(tmp_path / "demo.mp4") < 60
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("_ctrl_c")
def test_a_second_interrupt_does_not_cost_the_film(
    reading_model: Model, play: PlaySource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = show_module._Show.close

    def interrupted_close(run: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        finish(run)

    monkeypatch.setattr(show_module._Show, "close", interrupted_close)
    source = Frames(film_of([(REST, 0.5)]))
    shown(reading_model, play(source), film=tmp_path / "demo.mp4")
    assert frames_of(tmp_path / "demo.mp4") == 12


def test_it_ends_after_so_many_seconds(reading_model: Model, play: PlaySource) -> None:
    report = shown(reading_model, play(Frames(film_of(SCENE))), limit_s=1.0)
    assert report.ended == "limit"
    assert report.numbers.frames == 25
    assert report.seconds == pytest.approx(1.0)


def test_a_lost_camera_keeps_film_and_report(
    reading_model: Model, play: PlaySource, tmp_path: Path
) -> None:
    lost = SourceLostError("The camera stopped.")
    source = Frames(film_of([(REST, 0.5)]), error=lost)
    report = shown(reading_model, play(source), film=tmp_path / "demo.mp4")
    assert report.ended == "lost"
    assert report.error is lost
    assert frames_of(tmp_path / "demo.mp4") == 12


def test_a_source_without_any_frame_is_an_error(
    reading_model: Model, play: PlaySource, tmp_path: Path
) -> None:
    source = Frames([], error=SourceError("No frames."))
    with pytest.raises(SourceError, match="No frames"):
        shown(reading_model, play(source), film=tmp_path / "demo.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_model_is_told_and_the_film_stays(
    reading_model: Model, play: PlaySource, tmp_path: Path
) -> None:
    frames = film_of([(REST, 0.5)])
    frames.append(TimedFrame(np.zeros((24, 32), np.uint8), 0.6, 12))
    report = shown(reading_model, play(Frames(frames)), film=tmp_path / "a.mp4")
    assert isinstance(report.error, FrameError)
    assert frames_of(tmp_path / "a.mp4") == 12


class FakeScreen(Closing):
    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.closed = False

    def show(self, canvas: Any) -> bool:
        assert canvas.shape == (580, 928, 3)
        self.patience -= 1
        return self.patience > 0

    def close(self) -> None:
        self.closed = True


def test_closing_the_window_ends_the_show(reading_model: Model, play: PlaySource) -> None:
    screen = FakeScreen(patience=5)
    window = WindowSink(screen)  # type: ignore[arg-type]
    report = shown(reading_model, play(Frames(film_of([(REST, 60.0)]))), window)
    assert report.ended == "closed"
    assert screen.closed


def test_without_a_screen_a_window_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OutputError, match=r"no screen .* --film"):
        Screen()
