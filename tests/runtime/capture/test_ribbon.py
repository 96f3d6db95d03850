"""Cameras on ribbon cables, played by programs of the test's, and what a camera is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shiftedge.runtime.capture import Retry, open_source
from shiftedge.runtime.capture.pipe import parse_pipe
from shiftedge.runtime.capture.source import parse_source, with_settings
from shiftedge.runtime.errors import SourceError


def test_what_is_run_for_them() -> None:
    pi = parse_source("rpicam:")
    assert pi.kind == "ribbon"
    pipe = parse_pipe(pi.target)
    assert pipe.command == (
        "rpicam-vid -n -t 0 --camera 0 --codec yuv420 --width 640 --height 480 --framerate 30 -o -"
    )
    assert str(pipe.video) == "640x480 yuv420p with rows of 640 bytes"
    pipe = parse_pipe(parse_source("rpicam:?size=1296x972&fps=15&camera=1").target)
    assert pipe.video is not None
    assert pipe.video.stride == 1344
    assert "--camera 1 " in pipe.command
    jetson = parse_pipe(parse_source("argus:?size=1280x720&fps=29.97").target)
    assert jetson.command == (
        "gst-launch-1.0 -q nvarguscamerasrc sensor-id=0 ! "
        "'video/x-raw(memory:NVMM),framerate=2997/100' ! nvvidconv ! "
        "video/x-raw,width=1280,height=720,format=BGRx ! fdsink"
    )
    assert str(jetson.video) == "1280x720 bgrx"


@pytest.mark.parametrize(
    "text", ["rpicam:?size=641x480", "rpicam:?speed=1", "argus:?fps=x", "rpicam:0"]
)
def test_what_is_wrong_is_told(text: str) -> None:
    with pytest.raises(SourceError):
        parse_source(text)


PROGRAM = """\
#!/bin/sh
echo "$@" >> {log}
head -c $((3 * 64 * 48 * 3 / 2)) /dev/zero
"""


def test_one_that_ends_is_opened_again_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the programs do when the cable is loose; without --live too, since it is a camera."""
    program = tmp_path / "rpicam-vid"
    program.write_text(PROGRAM.format(log=tmp_path / "log"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said: list[str] = []
    retry = Retry(first_s=0.001)
    with open_source("rpicam:?size=64x48", on_event=said.append, retry=retry) as source:
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 7:
                break
    assert [frame.index for frame in frames] == list(range(7))
    assert all(frame.taken_s is not None for frame in frames)
    assert source.reopened == 2
    assert "ended after 3 frames" in said[0]
    assert "gives frames again" in said[1]
    assert (tmp_path / "log").read_text().count("--camera 0") >= 3


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("0", {"size": "640x480", "fps": "15"}, "0?size=640x480&fps=15"),
        ("0?fps=5", {"size": "640x480", "fourcc": "MJPG"}, "0?fps=5&size=640x480&fourcc=MJPG"),
        ("rpicam:", {"size": "640x480"}, "rpicam:?size=640x480"),
        ("clip.mp4", {"size": None}, "clip.mp4"),
    ],
)
def test_what_a_camera_is_asked_for(text: str, settings: Any, expected: str) -> None:
    assert with_settings(text, **settings) == expected


@pytest.mark.parametrize("text", ["clip.mp4", "synthetic:still", "rtsp://x/y", "pipe:cat"])
def test_others_have_what_they_have(text: str) -> None:
    with pytest.raises(SourceError, match="takes no size and fps: these are for cameras"):
        with_settings(text, size="640x480", fps="30")


def test_a_setting_twice_is_one_too_many() -> None:
    with pytest.raises(SourceError, match="size stands twice"):
        open_source(with_settings("0?size=640x480", size="320x240"))
