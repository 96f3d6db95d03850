"""What users type, and the sentence they get when it is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.runtime import capture
from shiftedge.runtime.capture import open_source
from shiftedge.runtime.capture.base import FrameSource
from shiftedge.runtime.capture.options import parse_options, rate, size, whole_number
from shiftedge.runtime.capture.retry import Retry
from shiftedge.runtime.capture.source import parse_source
from shiftedge.runtime.capture.synthetic_source import SyntheticSource
from shiftedge.runtime.errors import SourceError


@pytest.mark.parametrize(
    ("text", "kind", "target", "options"),
    [
        ("0", "camera", "/dev/video0", ""),
        ("12", "camera", "/dev/video12", ""),
        ("/dev/video3", "camera", "/dev/video3", ""),
        ("0?size=1280x720&fps=30", "camera", "/dev/video0", "size=1280x720&fps=30"),
        ("film.mp4", "path", "film.mp4", ""),
        ("./0", "path", "./0", ""),
        ("file:///tmp/a%20b.mp4", "path", "/tmp/a b.mp4", ""),
        ("synthetic:moving?seed=3", "synthetic", "moving", "seed=3"),
        ("synthetic:", "synthetic", "", ""),
        ("pipe: cat a?b | tee c", "pipe", "cat a?b | tee c", ""),
        ("rtsp://u:p@host:554/x?y=1", "url", "rtsp://u:p@host:554/x?y=1", ""),
        ("HTTP://host/x", "url", "HTTP://host/x", ""),
    ],
)
def test_each_form_is_known(text: str, kind: str, target: str, options: str) -> None:
    parsed = parse_source(text)
    assert (parsed.kind, parsed.target, parsed.options) == (kind, target, options)


@pytest.mark.parametrize("text", ["", "  ", "concat:a|b", "gopher://x", "http:/x", "a\0b"])
def test_an_unknown_form_lists_the_forms(text: str) -> None:
    with pytest.raises(SourceError, match=r"expected a camera number .* pipe:COMMAND, or a URL"):
        open_source(text)


def test_an_absent_file_lists_the_forms(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no file or folder '.*no\.mp4'; expected a ca"):
        open_source(str(tmp_path / "no.mp4"))
    with pytest.raises(SourceError, match="There is no file or folder"):
        open_source("x" * 5000)


def test_a_named_pipe_is_sent_to_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError, match=r"neither a file nor a folder; .*'pipe:cat .*fifo'"):
        open_source(str(tmp_path / "fifo"))


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parsed = parse_source(text)
    except SourceError:
        return
    assert parsed.kind in {"camera", "path", "pipe", "synthetic", "url"}


@given(st.text(), st.sampled_from(["&", ","]))
def test_any_options_parse_or_are_refused(text: str, separator: str) -> None:
    known = {"size": size, "fps": rate, "seed": whole_number}
    try:
        found = parse_options(text, known, "here", separator)
    except SourceError:
        return
    assert set(found) <= set(known)


@given(st.integers(1, 16384), st.integers(1, 16384), st.floats(0.01, 1000), st.integers(0, 10**8))
def test_options_survive_writing_and_parsing(
    width: int, height: int, rate_hz: float, seed: int
) -> None:
    text = f"size={width}x{height}&fps={rate_hz:.6f}&seed={seed}"
    found = parse_options(text, {"size": size, "fps": rate, "seed": whole_number}, "here")
    assert found["size"] == (width, height)
    assert found["fps"] == pytest.approx(rate_hz, abs=1e-6)
    assert found["seed"] == seed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("size=640", r"expected a size such as 640x480"),
        ("size=0x480", r"expected a size such as 640x480"),
        ("fps=0", r"expected a number of frames per second"),
        ("fps=30/0", r"expected a number of frames per second"),
        ("seed=-1", r"expected a whole number"),
        ("seconds=nan", r"expected a number of seconds"),
        ("speed=2", r"'speed=2' in .* is not an option; .* the names being seed, seconds, fps, si"),
        ("seed", r"is not an option; write name=value"),
        ("seed=1&seed=2", r"The option seed stands twice"),
    ],
)
def test_a_wrong_option_says_what_is_expected(options: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_source(f"synthetic:moving?{options}")


def test_rates_may_be_ratios() -> None:
    assert rate("30000/1001") == pytest.approx(29.97003)


def test_synthetic_moving_is_a_recording_of_the_right_length() -> None:
    with open_source("synthetic:moving?seed=2&seconds=2&fps=10&size=64x48") as source:
        assert not source.live
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(20))
    assert frames[-1].time_s == pytest.approx(1.9)
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert not np.array_equal(frames[0].image, frames[1].image)
    again = SyntheticSource("moving", seed=2, length_s=2, rate_hz=10, size_px=(64, 48))
    assert np.array_equal(next(iter(again)).image, frames[0].image)


def test_a_long_moving_scene_needs_no_memory_and_never_stands_still() -> None:
    source = SyntheticSource("moving", length_s=3600, rate_hz=30, size_px=(32, 32))
    before = None
    for number, frame in enumerate(source):
        assert before is None or not np.array_equal(frame.image, before)
        before = frame.image
        if number == 300:
            break


def test_synthetic_gestures_know_what_happens() -> None:
    source = open_source("synthetic:gestures?seed=1&seconds=12&fps=4&size=64x48")
    assert isinstance(source, SyntheticSource)
    assert next(iter(source)).image.shape == (48, 64, 3)
    assert source.truth
    assert all(0.0 <= event.start_s < event.end_s <= 12.0 for event in source.truth)
    source.close()
    assert list(source) == []


def test_no_kind_means_gestures() -> None:
    assert open_source("synthetic:?seconds=1&fps=2&size=64x48").name == "synthetic:gestures"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("synthetic:cats", "expected synthetic:gestures, synthetic:still, synthetic:moving"),
        ("synthetic:moving?size=8x8", "expected at least 32 pixels a side"),
    ],
)
def test_synthetic_mistakes(text: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_source(text)


def _write_pictures(folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    for name, (width, height) in sizes.items():
        value = int("".join(filter(str.isdigit, name)) or 0)
        cv2.imwrite(str(folder / name), np.full((height, width, 3), value, np.uint8))


def test_a_folder_is_read_in_natural_order_and_may_change_size(tmp_path: Path) -> None:
    _write_pictures(
        tmp_path, {"frame10.png": (40, 30), "frame2.png": (20, 10), "frame1.png": (20, 10)}
    )
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    with open_source(f"{tmp_path}?fps=10") as source:
        frames = list(source)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10]
    assert [frame.image.shape for frame in frames] == [(10, 20, 3), (10, 20, 3), (30, 40, 3)]
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2])
    with open_source(str(tmp_path)) as default:
        assert default.rate_hz == 12.0


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"holds no pictures; expected files ending in \.bmp"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_a_damaged_picture_is_named(tmp_path: Path, content: bytes) -> None:
    _write_pictures(tmp_path, {"1.png": (20, 10)})
    (tmp_path / "2.png").write_bytes(content)
    frames = iter(open_source(str(tmp_path)))
    assert next(frames).index == 0
    with pytest.raises(SourceError, match=r"2\.png is not a picture, or is damaged; remove"):
        next(frames)


def test_a_file_name_may_hold_a_question_mark(tmp_path: Path) -> None:
    folder = tmp_path / "what?"
    folder.mkdir()
    _write_pictures(folder, {"1.png": (20, 10)})
    assert open_source(str(folder)).rate_hz == 12.0
    assert open_source(f"{folder}?fps=5").rate_hz == 5.0


@pytest.mark.parametrize("name", [" a", "a ", "~a", "~nobody-there"])
def test_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="There is no file or folder"):
        open_source(name)
    (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / name / "1.png"), np.zeros((9, 9, 3), np.uint8))
    assert len(list(open_source(name))) == 1


@pytest.mark.parametrize("name", ["synthetic:x", "pipe:[size=x] y", "97"])
def test_a_file_that_is_named_like_another_source_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(SourceError) as error:
        open_source(name, retry=Retry(first_limit_s=0.0))
    assert str(error.value).endswith(f"There is a file or folder of that name too: write ./{name}")


def test_public_names_are_all_there() -> None:
    assert sorted(capture.__all__, key=str) == sorted(set(capture.__all__), key=str)
    assert all(hasattr(capture, name) for name in capture.__all__)
    assert issubclass(capture.LatestFrame, FrameSource)


def test_nothing_imports_opencv_before_a_source_needs_it() -> None:
    code = (
        "import sys, shiftedge.runtime.capture as c\n"
        "assert 'cv2' not in sys.modules\n"
        "sys.modules['cv2'] = None\n"  # as if it were not installed
        "assert len(list(c.open_source('synthetic:moving?seconds=1&fps=2&size=32x32'))) == 2\n"
        "try:\n    c.open_source('synthetic:gestures?size=32x32')\n"
        "except c.source.SourceError: raise\n"
        "except ImportError as error: print(error)\n"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert "pip install -e '.[camera]'" in done.stdout
