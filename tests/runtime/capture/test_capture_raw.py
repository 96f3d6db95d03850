"""Raw frames: pixel formats, ranges, padded rows, and what a number of bytes tells."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.runtime.capture import open_source
from shiftedge.runtime.capture.pipe import PipeSource, parse_pipe
from shiftedge.runtime.capture.rawvideo import FORMATS, RawVideo, to_bgr, what_fits
from shiftedge.runtime.errors import MissingExtraError, SourceError


def cat(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "video").write_bytes(content)
    return f"cat {tmp_path / 'video'}"


RAMP = (17, 34, 221, 238)
"""Luma; the same grey in full range."""


def ramp(luma: tuple[int, ...] = RAMP) -> bytes:
    """A frame of 8x2: two columns of each grey."""
    return bytes(value for value in luma for _ in range(2)) * 2 + bytes([128] * 8)


@pytest.mark.parametrize(
    ("header", "option", "full"),
    [
        (" XCOLORRANGE=FULL", "", True),
        (" XCOLORRANGE=LIMITED", "", False),
        ("", "", False),
        (" XCOLORRANGE=LIMITED", "[range=full]", True),
        (" XCOLORRANGE=FULL", "[range=limited]", False),
        (None, "[size=8x2,format=yuv420p,range=full]", True),
        (None, "[size=8x2,format=nv12,range=pc]", True),
        (None, "[size=8x2,format=nv12]", False),
    ],
)
@pytest.mark.parametrize("without_opencv", [False, True])
def test_full_range_is_taken_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    header: str | None,
    option: str,
    full: bool,
    without_opencv: bool,
) -> None:
    if without_opencv:
        monkeypatch.setattr("shiftedge.runtime.capture.rawvideo.opencv", missing)
    content = ramp()
    if header is not None:
        content = f"YUV4MPEG2 W8 H2 F12:1 C420jpeg{header}\nFRAME\n".encode() + content
    (frame,) = open_source(f"pipe:{option} {cat(tmp_path, content)}")
    expected = np.array(RAMP if full else (1, 21, 239, 255))
    assert np.abs(frame.image[0, ::2].astype(int) - expected[:, None]).max() <= (0 if full else 1)


def missing() -> None:
    raise MissingExtraError("no OpenCV here")


def padded_rows(stride: int) -> bytes:
    """A frame of 6x4 yuv420p whose rows are padded with what must not be seen."""
    rows = b"".join(bytes([40 * (y + 1)] * 6).ljust(stride, b"\xff") for y in range(4))
    return rows + 2 * (2 * bytes([128] * 3).ljust(stride // 2, b"\0"))


@pytest.mark.parametrize(
    ("options", "content", "first_column"),
    [
        ("format=yuv420p,stride=8,range=full", padded_rows(8), [40, 80, 120, 160]),
        ("format=yuv420p,stride=64,range=full", padded_rows(64), [40, 80, 120, 160]),
        (
            "format=nv12,stride=8,range=full",
            b"".join(bytes([40 * (y + 1)] * 6) + b"\xff\0" for y in range(4))
            + 2 * (bytes([128] * 6) + b"\0\xff"),
            [40, 80, 120, 160],
        ),
        (
            "format=bgr24,stride=20",
            b"".join(bytes([40 * (y + 1)] * 18) + b"\xff\0" for y in range(4)),
            [40, 80, 120, 160],
        ),
        (
            "format=gray,stride=7",
            b"".join(bytes([40 * (y + 1)] * 6) + b"\xff" for y in range(4)),
            [40, 80, 120, 160],
        ),
    ],
)
def test_padded_rows(tmp_path: Path, options: str, content: bytes, first_column: list[int]) -> None:
    frames = list(open_source(f"pipe:[size=6x4,{options}] {cat(tmp_path, 3 * content)}"))
    assert len(frames) == 3
    for frame in frames:
        assert frame.image.shape == (4, 6, 3)
        assert frame.image.flags.c_contiguous
        assert (frame.image == np.array(first_column)[:, None, None]).all()


@pytest.mark.parametrize(
    ("said", "sent", "frames"),
    [
        # rpicam-vid --width 1296: rows of 1344 bytes, the case of rpicam-apps#857
        (RawVideo(1296, 972, "yuv420p"), RawVideo(1296, 972, "yuv420p", stride=1344), 30),
        (RawVideo(640, 480, "bgr24"), RawVideo(640, 480, "yuv420p"), 31),
        (RawVideo(640, 480, "yuv420p"), RawVideo(640, 480, "bgr24"), 7),
        (RawVideo(1280, 720, "bgr24"), RawVideo(640, 480, "bgr24"), 10),
        (RawVideo(1280, 720, "nv12"), RawVideo(352, 288, "nv12"), 7),
        (RawVideo(1920, 1080, "nv12"), RawVideo(1920, 1088, "nv12"), 11),
        (RawVideo(30, 20, "bgr24", stride=96), RawVideo(30, 20, "bgr24"), 7),
    ],
)
def test_the_bytes_tell_what_was_sent(said: RawVideo, sent: RawVideo, frames: int) -> None:
    total = frames * sent.frame_bytes
    text = what_fits(said, total)
    assert text.startswith(
        f"{total} bytes in all are no whole number of frames of {said} ({said.frame_bytes} bytes "
        "each): check size, format and padding of rows. "
    )
    assert f"{frames} frames of {sent}" in text
    assert text.endswith(" would fit.")


@given(
    st.integers(1, 16384),
    st.integers(1, 16384),
    st.sampled_from(FORMATS),
    st.integers(0, 2000),
    st.integers(1, 10**12),
)
def test_what_fits_is_said_of_any_bytes(
    width: int, height: int, form: str, padding: int, total: int
) -> None:
    video = RawVideo(width, height, form)
    if padding:
        video = dataclasses.replace(video, stride=video.row_bytes + padding)
    text = what_fits(video, total)
    assert len(text) < 400
    for count, size in re.findall(r"(\d+) frames? of (\S+ \S+)", text.partition("rows. ")[2]):
        assert int(count) > 0
        assert size


# Any bytes


class Bytes:
    """The output of a command that wrote these bytes and ended well."""

    def __init__(self, content: bytes) -> None:
        self.rest = content

    def expect_within(self, seconds: float) -> None:
        pass

    def fill(self, view: memoryview) -> int:
        count = min(len(view), len(self.rest), 7)
        view[:count], self.rest = self.rest[:count], self.rest[count:]
        return count

    def finish(self) -> tuple[int, str]:
        return 0, ""

    def close(self) -> None:
        self.rest = b""


Y4M_PIECES = st.sampled_from(
    [
        *(b"YUV4MPEG2 W4 H2 F25:1\n", b"YUV4MPEG2 W2 H4 XCOLORRANGE=FULL\n", b"FRAME\n"),
        *(b"FRAME Ip\n", b"YUV4MPEG2 ", b"FRAME", b"YUV4", b"W3 H1 Cmono\n", b"\n"),
        *(bytes(12), bytes(3), b"C444\n", b"F0:0 ", b"W16385 H1\n"),
    ]
)


@given(st.lists(Y4M_PIECES | st.binary(max_size=20), max_size=12), st.booleans())
def test_any_yuv4mpeg_gives_frames_or_a_sentence(pieces: list[bytes], live: bool) -> None:
    content = b"YUV4MPEG2 W4 H2\nFRAME\n" + bytes(12) + b"".join(pieces)
    pipe = parse_pipe(f"[live={'yes' if live else 'no'}] x")
    last_s = 0.0
    with contextlib.suppress(SourceError):
        for frame in PipeSource(pipe, output=Bytes(content), on_event=lambda sentence: None):
            assert frame.time_s >= last_s
            assert frame.image.shape[2] == 3
            last_s = frame.time_s


@given(
    st.binary(max_size=300),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(FORMATS),
    st.integers(0, 3),
)
def test_any_raw_bytes_give_frames_then_a_sentence_about_the_rest(
    content: bytes, width: int, height: int, form: str, padding: int
) -> None:
    options = f"size={2 * width}x{2 * height},format={form}"
    if padding:
        options += f",stride={RawVideo(2 * width, 2, form).row_bytes + 2 * padding}"
    pipe = parse_pipe(f"[{options}] x")
    assert pipe.video is not None
    whole, rest = divmod(len(content), pipe.video.frame_bytes)
    frames = 0
    try:
        for frame in PipeSource(pipe, output=Bytes(content)):
            assert frame.image.shape == (2 * height, 2 * width, 3)
            frames += 1
    except SourceError:
        assert rest or not whole
    else:
        assert not rest
    assert frames == whole


# Pixel formats

COLOURS = {"red": (81, 90, 240), "green": (145, 54, 34), "blue": (41, 240, 110)}
"""Y, U, V of the saturated colours in BT.601, limited range (ITU-R BT.471 bars)."""
BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


@pytest.mark.parametrize("colour", list(COLOURS))
@pytest.mark.parametrize("size", [(4, 2), (5, 3)])
@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_gives_its_colour(kind: str, colour: str, size: tuple[int, int]) -> None:
    (width, height), (blue, green, red), (y, u, v) = size, BGR[colour], COLOURS[colour]
    pixels, quarter = width * height, ((width + 1) // 2) * ((height + 1) // 2)
    grey = 99
    content = {
        "bgr24": bytes([blue, green, red]) * pixels,
        "rgb24": bytes([red, green, blue]) * pixels,
        "bgrx": bytes([blue, green, red, 1]) * pixels,
        "rgbx": bytes([red, green, blue, 1]) * pixels,
        "gray": bytes([grey]) * pixels,
        "yuv420p": bytes([y]) * pixels + bytes([u]) * quarter + bytes([v]) * quarter,
        "nv12": bytes([y]) * pixels + bytes([u, v]) * quarter,
    }[kind]
    video = RawVideo(width, height, kind)
    assert len(content) == video.frame_bytes
    image = to_bgr(video, content)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    expected = (grey, grey, grey) if kind == "gray" else (blue, green, red)
    assert image.shape == (height, width, 3)
    assert np.abs(image.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("kind", ["yuv420p", "nv12"])
def test_numpy_converts_as_opencv_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    video = RawVideo(32, 16, kind)
    content = np.random.default_rng(0).integers(0, 256, video.frame_bytes, np.uint8).tobytes()
    by_opencv = to_bgr(video, content)
    full = dataclasses.replace(video, full_range=True)
    full_by_opencv = to_bgr(full, content)
    monkeypatch.setattr("shiftedge.runtime.capture.rawvideo.opencv", missing)
    by_numpy = to_bgr(video, content)
    assert np.abs(by_opencv.astype(int) - by_numpy.astype(int)).max() <= 2
    assert (to_bgr(full, content) == full_by_opencv).all()
