"""``shiftedge record`` as it is typed, from sources that need no camera."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shiftedge.__main__ import main
from shiftedge.demos.record import PRINT_NAME, RecordSettings, record
from shiftedge.runtime.capture import FrameSource, TimedFrame
from shiftedge.runtime.capture.recording import Recorder
from shiftedge.runtime.errors import SourceError, SourceLostError

pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")

RATE_HZ = 10.0


class Squares(FrameSource):
    """A square that goes another way every second; lost at a time, if one is given."""

    name, live, rate_hz = "squares", False, RATE_HZ

    def __init__(self, seconds: float, lost_s: float | None = None, *, still: bool = False) -> None:
        self._seconds, self._lost_s, self._still = seconds, lost_s, still

    def __iter__(self) -> Iterator[TimedFrame]:
        for index in range(round(self._seconds * RATE_HZ) + 1):
            time_s = index / RATE_HZ
            if self._lost_s is not None and time_s >= self._lost_s:
                raise SourceLostError("The camera is gone.")
            image = np.full((48, 64, 3), 80, np.uint8)
            second, step = divmod(0 if self._still else index, round(RATE_HZ))
            place = np.array([3 * step, 4 * step][:: 1 if second % 2 else -1]) % (32, 48)
            place = (place + 7 * second) % (32, 48)
            image[place[0] : place[0] + 16, place[1] : place[1] + 16] = 200
            yield TimedFrame(image, time_s, index)

    def close(self) -> None:
        pass


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> object:
    def use(source: FrameSource) -> None:
        monkeypatch.setattr("shiftedge.demos.record.open_source", lambda text, **_: source)

    return use


QUIET = RecordSettings(count=3, seconds=1.0, ask=False)


def test_clips_are_cut_from_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["record", "--label", "Wave", "--data", str(tmp_path / "d"), "--yes", "--json"]
    words += ["--source", "synthetic:gestures?seconds=8&seed=4&size=160x120&fps=15"]
    assert main([*words, "--count", "2", "--seconds", "2"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["clips"] == {"Wave": 2}
    assert [Path(path).name for path in report["kept"]] == ["clip-001.avi", "clip-002.avi"]
    assert '5 clips of "No gesture" would keep false events away' in err
    assert '10 clips of "Doing other things"' in err
    # Background is not asked for when there is enough of it.
    for label, count in (("no gesture", 5), ("Doing other things", 10)):
        for number in range(count):
            clip = tmp_path / "d" / label / f"clip-{number:03d}.avi"
            clip.parent.mkdir(exist_ok=True)
            clip.write_bytes(b"")
    assert main([*words, "--count", "1", "--seconds", "2"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["clips"]["Wave"] == 3
    assert "has 2 clips of Wave already" in err
    assert "false events" not in err


def test_bad_clips_are_discarded_and_it_ends(tmp_path: Path, play: object) -> None:
    play(Squares(60.0, still=True))  # type: ignore[operator]
    said: list[str] = []
    assert record(Recorder(tmp_path, "Wave"), "x", QUIET, say=said.append) == 0
    assert sum("Nothing moves" in sentence for sentence in said) == 9
    assert "too few of them are good" in said[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_is_lost_costs_nothing_that_was_kept(tmp_path: Path, play: object) -> None:
    play(Squares(9.0, lost_s=2.7))  # type: ignore[operator]
    recorder = Recorder(tmp_path, "Wave")
    with pytest.raises(SourceLostError, match=r"gone\. The 2 clips of 'Wave' that were kept"):
        record(recorder, "x", QUIET, say=lambda sentence: None)
    assert sorted(path.name for path in recorder.folder.iterdir()) == [
        "clip-001.avi",
        "clip-002.avi",
    ]


def test_a_source_that_is_too_short_is_a_sentence(tmp_path: Path, play: object) -> None:
    play(Squares(0.3))  # type: ignore[operator]
    with pytest.raises(SourceError, match="ended before a clip of 1 s"):
        record(Recorder(tmp_path, "Wave"), "x", QUIET, say=lambda sentence: None)


def test_somebody_says_what_is_kept(tmp_path: Path, play: object) -> None:
    play(Squares(60.0))  # type: ignore[operator]
    answers = iter(["d", "what?", "", "k", "q"])
    said: list[str] = []
    recorder = Recorder(tmp_path, "Wave")
    settings = RecordSettings(count=9, seconds=1.0)
    assert record(recorder, "x", settings, say=said.append, ask=lambda _: next(answers)) == 2
    assert next(answers, None) is None
    assert (tmp_path / PRINT_NAME).read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / PRINT_NAME) in said[0]


def test_a_countdown_runs_before_each_clip(tmp_path: Path, play: object) -> None:
    play(Squares(60.0))  # type: ignore[operator]
    said: list[str] = []
    settings = RecordSettings(count=1, seconds=1.0, countdown_s=2.0, ask=False)
    record(Recorder(tmp_path, "Wave"), "x", settings, say=said.append)
    assert said[:3] == ["Wave  1/1: 2", "Wave  1/1: 1", "now"]


def test_without_a_terminal_somebody_has_to_say_yes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["record", "--label", "Wave", "--data", str(tmp_path), "--source", "synthetic:still"]
    assert main(words) == 1
    assert "give --yes" in capsys.readouterr().err
