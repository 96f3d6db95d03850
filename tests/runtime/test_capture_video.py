"""Recordings: good ones, short ones, damaged ones, and files that are no video."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.runtime.capture import open_source
from shiftedge.runtime.capture.opencv import as_bgr
from shiftedge.runtime.capture.video import LONGEST_PAUSE_S, RecordingTimes
from shiftedge.runtime.errors import SourceError

SIZE = (64, 48)


def write_video(path: Path, frames: int, codec: str = "mp4v", rate_hz: float = 20.0) -> Path:
    """Noise, so that every frame takes bytes of its own and half the file is half the film."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate_hz, SIZE
    )
    assert writer.isOpened()
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v")]
)
def test_a_video_ends_when_it_ends(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, 12, codec)
    with open_source(str(path)) as source:
        assert not source.live
        assert source.rate_hz == pytest.approx(20.0)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 20 for i in range(12)])
    assert all(frame.image.shape == (48, 64, 3) for frame in frames)


def test_a_video_of_one_frame_is_a_video(tmp_path: Path) -> None:
    assert len(list(open_source(str(write_video(tmp_path / "one.mp4", 1))))) == 1


def test_a_colon_in_the_name_is_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "at 12:30.avi", 3, "MJPG")
    monkeypatch.chdir(tmp_path)
    assert len(list(open_source("at 12:30.avi"))) == 3


def _gif(path: Path, frames: int, delay_cs: int) -> None:
    """A GIF by hand (OpenCV here writes none): 2x2 pixels, uncompressed codes."""
    data = b"GIF89a" + bytes([2, 0, 2, 0, 0x80, 0, 0]) + bytes([0, 0, 0, 255, 255, 255])
    for _ in range(frames):
        data += b"\x21\xf9\x04\x00" + bytes([delay_cs, 0, 0, 0])
        data += b"\x2c" + bytes([0, 0, 0, 0, 2, 0, 2, 0, 0]) + b"\x02\x03\x44\x02\x05\x00"
    path.write_bytes(data + b"\x3b")


def test_a_gif_keeps_its_own_times(tmp_path: Path) -> None:
    _gif(tmp_path / "a.gif", 4, 20)
    frames = list(open_source(str(tmp_path / "a.gif")))
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert frames[0].image.shape == (2, 2, 3)


def test_a_size_that_changes_midway_loses_no_frame(tmp_path: Path) -> None:
    stream = b""
    for width, height in [(64, 48)] * 5 + [(128, 96)] * 5:
        picture = np.full((height, width, 3), 200, np.uint8)
        picture[:, : width // 2] = 20
        stream += cv2.imencode(".jpg", picture)[1].tobytes()
    (tmp_path / "two.mjpeg").write_bytes(stream)
    frames = list(open_source(str(tmp_path / "two.mjpeg")))
    assert len(frames) == 10
    for frame in frames:  # the whole picture at either size, not a corner of the larger one
        assert frame.image[4, 4, 0] < 40
        assert frame.image[4, -4, 0] > 180


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mkv", "mp4v")])
def test_a_video_cut_short_gives_what_it_has_then_says_so(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = write_video(tmp_path / name, 40, codec)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames = []
    with pytest.raises(
        SourceError, match=r"cut short or damaged: it ended after \d+ frames \(\d\.\d s\) and ann"
    ):
        frames.extend(frame.index for frame in open_source(str(path)))
        # extend() keeps what came before the error
    assert 5 < len(frames) < 40


def test_a_video_damaged_midway_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 40)
    content = bytearray(path.read_bytes())
    middle = slice(int(len(content) * 0.3), int(len(content) * 0.7))
    content[middle] = bytes(len(content[middle]))
    path.write_bytes(content)
    got = []
    with pytest.raises(SourceError, match=r"cut short or damaged: it ended after \d+ frames"):
        got.extend(frame.index for frame in open_source(str(path)))
    assert got


def test_closing_midway_is_not_being_cut_short(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "a.mp4", 40)))
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.mp4", b"", "is an empty file; give a video such as .mp4"),
        ("a.mp4", b"hello\n" * 99, "is not a video but text; give a video"),
        ("a.txt", b"hello\n" * 99, "is not a video"),
        ("a.mp4", bytes(range(256)) * 9, "is not a video, or is damaged at its beginning; give"),
        ("a.mp4", cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1], "is a single picture"),
        ("a.jpg", cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))[1], "is a single picture"),
    ],
)
def test_what_is_not_a_video_is_refused(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(SourceError, match=sentence.replace(".", r"\.")):
        open_source(str(tmp_path / name))


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SourceError, match="is not a video, or is damaged at its beginning"):
        open_source(str(path))


def test_a_video_takes_no_options(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 2)
    with pytest.raises(SourceError, match="is not an option"):
        open_source(f"{path}?fps=3")


def test_the_user_sees_one_sentence_and_no_noise(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 40)
    path.write_bytes(path.read_bytes()[:3000])
    code = (
        "import sys\nfrom shiftedge.runtime.capture import open_source\n"
        "for text in sys.argv[1:]:\n"
        "    try:\n        list(open_source(text))\n"
        "    except Exception as error:\n        print(type(error).__name__)\n"
    )
    texts = [str(path), "http://127.0.0.1:9/x"]
    code = code.replace("open_source(text)", "open_source(text, retry=R)").replace(
        "import open_source", "import Retry, open_source\nR = Retry(0, 0)"
    )
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, *texts],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.stdout.split() == ["SourceError", "SourceError"]
    assert done.stderr == ""


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1), st.floats(1, 240))
def test_times_always_grow_from_zero(positions_ms: list[float], rate_hz: float) -> None:
    times = RecordingTimes(rate_hz)
    stamps = [times.stamp(position) for position in positions_ms]
    assert stamps[0] == 0.0
    assert all(math.isfinite(stamp) for stamp in stamps)
    for before, after in itertools.pairwise(stamps):
        assert before <= after <= before + LONGEST_PAUSE_S + 1.0


@given(st.lists(st.floats(1, 5e4), min_size=1, max_size=50), st.floats(-1e6, 1e6))
def test_sane_stamps_are_kept(steps_ms: list[float], origin_ms: float) -> None:
    times = RecordingTimes(25.0)
    positions = origin_ms + np.concatenate([[0.0], np.cumsum(steps_ms)])
    stamps = [times.stamp(float(position)) for position in positions]
    assert stamps == pytest.approx(list((positions - positions[0]) / 1000.0), abs=1e-6)


def test_a_container_without_stamps_is_timed_by_its_rate() -> None:
    times = RecordingTimes(10.0)
    assert [times.stamp(0.0) for _ in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_stamps_that_start_again_go_on() -> None:
    times = RecordingTimes(10.0)
    stamps = [times.stamp(ms) for ms in (5000.0, 5100.0, 0.0, 100.0, 1e12, 1e12 + 100)]
    assert stamps == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_grey_and_transparent_pictures_become_bgr() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert as_bgr(grey, "x").tolist() == np.repeat(grey[..., None], 3, axis=2).tolist()
    assert as_bgr(np.ones((2, 3, 4), np.uint8), "x").shape == (2, 3, 3)
    with pytest.raises(SourceError, match=r"x gave an image of shape \(2, 3, 2\)"):
        as_bgr(np.ones((2, 3, 2), np.uint8), "x")
