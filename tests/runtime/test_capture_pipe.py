"""Raw video from commands: well-behaved ones, and those that fail, stall, babble or linger."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.runtime.capture import PipeSource, RawVideo, open_source, parse_pipe
from shiftedge.runtime.capture.fitting import what_fits
from shiftedge.runtime.capture.rawvideo import FORMATS, ByteReader, to_bgr
from shiftedge.runtime.capture.y4m import Y4MHeader, parse_header
from shiftedge.runtime.errors import MissingExtraError, SourceError, SourceLostError

RAW = "[size=4x2,format=bgr24,fps=10]"
FRAME_BYTES = 24


def cat(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "video").write_bytes(content)
    return f"cat {tmp_path / 'video'}"


def numbered(frames: int) -> bytes:
    return b"".join(bytes([index]) * FRAME_BYTES for index in range(frames))


def is_alive(process_group: int) -> bool:
    try:
        os.killpg(process_group, 0)
    except ProcessLookupError:
        return False
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, _, group, *_ = path.read_text().rpartition(")")[2].split()
            # In a container without an init process, orphans may stay as zombies for ever.
            if int(group) == process_group and state not in "ZX":
                return True
    return False


# Good commands


def test_raw_frames_arrive_whole_and_in_order(tmp_path: Path) -> None:
    with open_source(f"pipe:{RAW} {cat(tmp_path, numbered(5))}") as source:
        assert source.live
        assert source.rate_hz == 10.0
        frames = list(source)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[0].image.shape == (2, 4, 3)
    times = [frame.time_s for frame in frames]
    assert times[0] == 0.0
    assert times == sorted(times)


def test_frames_do_not_share_memory(tmp_path: Path) -> None:
    frames = list(open_source(f"pipe:{RAW} {cat(tmp_path, numbered(2))}"))
    frames[0].image[:] = 77  # writable, and nobody else's
    assert int(frames[1].image[0, 0, 0]) == 1


def test_a_recording_through_a_pipe_is_timed_by_its_rate(tmp_path: Path) -> None:
    text = f"pipe:{RAW.replace(']', ',live=no]')} {cat(tmp_path, numbered(3))}"
    source = open_source(text)
    assert not source.live
    assert [frame.time_s for frame in source] == pytest.approx([0.0, 0.1, 0.2])


def test_yuv4mpeg_says_its_own_size_and_rate(tmp_path: Path) -> None:
    content = b"YUV4MPEG2 W4 H2 F25:1 Ip C420jpeg\n"
    content += b"FRAME\n" + bytes([235] * 8 + [128] * 4)
    content += b"FRAME Ixyz\n" + bytes([16] * 8 + [128] * 4)
    source = open_source(f"pipe:{cat(tmp_path, content)}")
    assert source.rate_hz == 25.0
    white, black = (frame.image for frame in source)
    assert white.shape == (2, 4, 3)
    assert white.min() >= 253
    assert black.max() <= 2


def test_pipes_and_quotes_work_and_slow_pieces_make_whole_frames() -> None:
    piece = "sys.stdout.buffer.write(bytes(7)); sys.stdout.flush()"
    command = f'{sys.executable} -c "import sys\nfor _ in range(24): {piece}" | cat'
    assert len(list(open_source(f"pipe:{RAW} {command}"))) == 7


def test_much_on_stderr_blocks_nothing() -> None:
    command = f"yes complaint | head -c 300000 >&2; head -c {3 * FRAME_BYTES} /dev/zero"
    assert len(list(open_source(f"pipe:{RAW} {command}"))) == 3


# Bad commands


def test_a_cut_last_frame_of_yuv4mpeg_is_dropped_and_reported(tmp_path: Path) -> None:
    events: list[str] = []
    frame = b"FRAME\n" + bytes(12)
    content = b"YUV4MPEG2 W4 H2 F25:1\n" + 2 * frame + frame[:-9]
    text = f"pipe:{cat(tmp_path, content)}"
    assert len(list(open_source(text, on_event=events.append))) == 2
    assert len(events) == 1
    assert "was cut short (3 of 12 bytes) and is dropped" in events[0]


def test_raw_frames_that_end_inside_one_are_an_error_after_them(tmp_path: Path) -> None:
    frames = iter(open_source(f"pipe:{RAW} {cat(tmp_path, numbered(2) + b'xyz')}"))
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(
        SourceError,
        match=r"ended inside a frame: 51 bytes in all are no whole number of frames of 4x2 bgr24 "
        r"\(24 bytes each\): check size, format and padding of rows\. Nothing that is usual fits",
    ):
        next(frames)


def test_closing_inside_a_frame_is_no_error() -> None:
    source = PipeSource(parse_pipe(f"{RAW} head -c {FRAME_BYTES + 5} /dev/zero; sleep 66"))
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


def test_a_failing_command_is_quoted_after_its_frames() -> None:
    command = f"head -c {2 * FRAME_BYTES} /dev/zero; echo trying >&2; echo sensor lost >&2; exit 3"
    frames = iter(open_source(f"pipe:{RAW} {command}"))
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(
        SourceError, match=r"failed with exit status 3 after 2 frames and said: sensor lost$"
    ):
        next(frames)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("exit 4", r"failed with exit status 4 after 0 frames$"),
        ("no-such-program-here", r"was not found after 0 frames and said: .*no-such-program-here"),
        ("kill -SEGV $$", r"was ended by SIGSEGV after 0 frames"),
        ("true", r"ended without writing a frame"),
        ("echo hi", r"inside a frame: 3 bytes in all are no whole .* 4x2 bgr24 \(24 bytes each\)"),
        ("kill -40 $$", r"was ended by signal 40 after 0 frames"),
    ],
)
def test_a_command_without_a_frame_fails_at_once(command: str, sentence: str) -> None:
    for form in (f"pipe:{RAW} {command}",):
        with pytest.raises(SourceError, match=sentence):
            open_source(form)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("", r"wrote nothing; expected YUV4MPEG2 \(ffmpeg: -f yuv4mpegpipe\), or say what raw"),
        ("hello there", r"began with b'hello the'; expected YUV4MPEG2"),
        ("YUV4MPEG2 W4\\n", r"says its size as W4 H; expected pixels"),
        ("YUV4MPEG2 W4 H2 C444\\n", r"kind C444; expected one of C420, .* -pix_fmt yuv420p"),
        ("YUV4MPEG2 W4 H2 F1\\n", r"says its rate as F1; expected a ratio"),
        ("YUV4MPEG2 W4 H2\\nGRAME\\n", r"damaged after 0 frames: expected FRAME, got b'GRAME'"),
    ],
)
def test_what_is_not_yuv4mpeg_is_refused(output: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_source(f"pipe:printf '{output}'")


def test_a_command_that_fails_before_its_header_is_quoted() -> None:
    with pytest.raises(SourceError, match=r"failed with exit status 2 .* said: no camera"):
        open_source("pipe:echo no camera >&2; exit 2")


@pytest.mark.parametrize("form", ["pipe:", f"pipe:{RAW} "])
def test_a_command_that_never_begins_is_stopped(form: str) -> None:
    with pytest.raises(SourceError, match=r"gave no frame for 0\.1 s after 0 frames and was stop"):
        open_source(f"{form}sleep 60", stall_s=0.1)


def test_a_stalled_command_is_lost_and_its_whole_group_gone() -> None:
    command = f"head -c {FRAME_BYTES + 5} /dev/zero; sleep 61 & sleep 62 | cat"
    source = PipeSource(parse_pipe(f"{RAW} {command}"), stall_s=0.15)
    frames = iter(source)
    assert next(frames).index == 0
    with pytest.raises(SourceLostError, match=r"gave no frame for 0\.15 s after 1 frames"):
        next(frames)
    assert not is_alive(source.process_id)


def test_a_slow_consumer_is_no_stall() -> None:
    ticks = iter(range(0, 10**6, 100))  # every look at the clock, another 100 s have passed
    source = PipeSource(
        parse_pipe(f"{RAW} head -c {3 * FRAME_BYTES} /dev/zero"), clock=lambda: float(next(ticks))
    )
    assert [frame.time_s for frame in source] == [0.0, 100.0, 200.0]


def test_closing_stops_the_command_even_one_that_will_not() -> None:
    command = f"trap '' TERM; head -c {FRAME_BYTES} /dev/zero; sleep 63; sleep 64"
    source = PipeSource(parse_pipe(f"{RAW} {command}"))
    assert is_alive(source.process_id)
    source.close()
    assert not is_alive(source.process_id)
    with pytest.raises(ChildProcessError):
        os.waitpid(source.process_id, os.WNOHANG)  # no zombie is left
    source.close()
    assert list(source) == []


def test_closing_from_another_thread_ends_a_blocked_read() -> None:
    source = PipeSource(parse_pipe(f"{RAW} head -c {FRAME_BYTES} /dev/zero; sleep 65"))
    frames = iter(source)
    next(frames)
    rest: list[object] = []
    reader = threading.Thread(target=lambda: rest.extend(frames))
    reader.start()
    source.close()
    reader.join(10.0)
    assert not reader.is_alive()
    assert rest == []


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        list(open_source(f"pipe:{RAW} head -c {FRAME_BYTES} /dev/zero"))
        open_source(f"pipe:{RAW} cat /dev/zero").close()
        with pytest.raises(SourceError):
            open_source(f"pipe:{RAW} exit 1")
    assert len(os.listdir("/proc/self/fd")) == before


# Parsing


def test_options_of_a_pipe() -> None:
    pipe = parse_pipe("[size=640x480, format=nv12, fps=30/1, live=no] gst-launch-1.0 -q x ! fdsink")
    assert pipe.command == "gst-launch-1.0 -q x ! fdsink"
    assert pipe.video == RawVideo(640, 480, "nv12")
    assert (pipe.rate_hz, pipe.live) == (30.0, False)
    assert parse_pipe("[ -e x ] && cat x").command == "[ -e x ] && cat x"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"pipe: needs a command that writes video"),
        (RAW, r"pipe: needs a command"),
        ("[size=4x2] cat", r"needs both size and format"),
        ("[size=4x2,format=argb] cat", r"expected one of bgr24, rgb24, bgrx"),
        ("[size=3x2,format=nv12] cat", r"odd size; raw nv12 needs even"),
        ("[rate=3] cat", r"'rate=3' in .* the names being size, format, fps, live, range, stride"),
        ("[range=half] cat", r"expected full or limited"),
        ("[size=4x2,format=bgr24,range=full] cat", r"has a range; only yuv420p and nv12 have one"),
        ("[stride=64] cat", r"has a stride without size and format"),
        ("[size=4x2,format=bgr24,stride=11] cat", r"rows of 11 bytes; expected from 12, which"),
        ("[size=4x2,format=gray,stride=999999] cat", r"expected from 4, .* to 131072"),
        ("[size=4x2,format=nv12,stride=7] cat", r"odd stride; nv12 needs an even one"),
    ],
)
def test_a_wrong_pipe_says_what_is_wrong(text: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_source(f"pipe:{text}")


@given(st.text())
def test_any_pipe_text_parses_or_is_refused(text: str) -> None:
    try:
        parsed = parse_pipe(text)
    except SourceError:
        return
    assert parsed.command


@given(
    st.integers(1, 16384),
    st.integers(1, 16384),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.lists(st.sampled_from(["Ip", "A1:1", "XYSCSS=420JPEG", "XCOLORRANGE=FULL", ""])),
)
def test_yuv4mpeg_headers_survive(
    width: int, height: int, above: int, below: int, extra: list[str]
) -> None:
    fields = [f"W{width}", f"H{height}", f"F{above}:{below}", *extra]
    line = " ".join(["YUV4MPEG2", *fields]).encode()
    full = "XCOLORRANGE=FULL" in extra
    assert parse_header(line, "x") == Y4MHeader(width, height, "yuv420p", above / below, full)


@pytest.mark.parametrize(
    ("fields", "full"),
    [
        ("XCOLORRANGE=FULL", True),
        ("C420jpeg XYSCSS=420JPEG XCOLORRANGE=FULL", True),
        ("XCOLORRANGE=LIMITED", False),
        ("C420jpeg XYSCSS=420JPEG", False),
        ("XCOLORRANGE", False),
        ("X", False),
        ("XYSCSS=420MPEG2", False),
    ],
)
def test_the_range_stands_in_the_header(fields: str, full: bool) -> None:
    header = parse_header(f"YUV4MPEG2 W4 H2 {fields}".encode(), "x")
    assert (header.format, header.full_range) == ("yuv420p", full)


def test_the_kind_of_an_old_header_is_not_passed_over() -> None:
    with pytest.raises(SourceError, match="of the kind C411"):
        parse_header(b"YUV4MPEG2 W4 H2 XYSCSS=411", "x")


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


def test_a_new_header_is_taken(tmp_path: Path) -> None:
    """A command that was restarted in the shell, with another size, rate and range."""
    first = b"YUV4MPEG2 W4 H2 F10:1\n" + 2 * (b"FRAME\n" + bytes([235] * 8 + [128] * 4))
    then = b"YUV4MPEG2 W8 H2 F20:1 XCOLORRANGE=FULL\n" + 2 * (b"FRAME\n" + ramp())
    empty = b"YUV4MPEG2 W2 H2 F10:1\n" * 2000  # and nothing behind it, again and again
    frames = list(open_source(f"pipe:[live=no] {cat(tmp_path, first + empty + then)}"))
    assert [frame.image.shape for frame in frames] == [(2, 4, 3)] * 2 + [(2, 8, 3)] * 2
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 0.25])
    assert frames[2].image[0, ::2, 0].tolist() == list(RAMP)
    assert int(frames[0].image[0, 0, 0]) > 250


def test_a_new_header_that_is_damaged_says_so(tmp_path: Path) -> None:
    content = b"YUV4MPEG2 W4 H2\nFRAME\n" + bytes(12)
    for rest, sentence in (
        (b"YUV4MPEG2 W0 H2\n", "says its size as W0 H2"),
        (b"YUV4XXXXX", "expected FRAME, got b'YUV4X'"),
    ):
        with pytest.raises(SourceError, match=sentence):
            list(open_source(f"pipe:{cat(tmp_path, content + rest)}"))


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


def test_a_frame_without_room_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> bytearray:
        raise MemoryError

    monkeypatch.setattr(ByteReader, "exactly", no_room)
    with pytest.raises(SourceError, match=r"no memory for a frame of 4x2 bgr24 .* check the size"):
        open_source(f"pipe:{RAW} cat /dev/zero")


@given(st.binary(max_size=60))
def test_any_header_parses_or_is_refused(rest: bytes) -> None:
    for line in (rest, b"YUV4MPEG2 " + rest, b"YUV4MPEG2 W4 H2 " + rest):
        try:
            header = parse_header(line, "x")
        except SourceError:
            continue
        assert header.width > 0
        assert header.rate_hz is None or header.rate_hz > 0


def test_a_stream_without_a_known_rate_has_none() -> None:
    assert parse_header(b"YUV4MPEG2 W4 H2 F0:0", "x").rate_hz is None


@given(st.binary(max_size=200), st.integers(1, 40), st.data())
def test_frames_do_not_depend_on_the_pieces(stream: bytes, size: int, data: st.DataObject) -> None:
    place = 0

    def fill(view: memoryview) -> int:
        nonlocal place
        count = min(data.draw(st.integers(1, 50)), len(view), len(stream) - place)
        view[:count] = stream[place : place + count]
        place += count
        return count

    reader = ByteReader(fill)
    pieces = [bytes(reader.exactly(size)) for _ in range(len(stream) // size + 1)]
    assert b"".join(pieces) == stream
    assert all(len(piece) == size for piece in pieces[:-1])
    assert reader.exactly(3) == b""


@given(st.binary(max_size=50).filter(lambda line: b"\n" not in line), st.binary(max_size=10))
def test_lines_end_at_the_line_feed(line: bytes, rest: bytes) -> None:
    stream = line + b"\n" + rest
    place = 0

    def fill(view: memoryview) -> int:
        nonlocal place
        count = min(len(view), len(stream) - place)
        view[:count] = stream[place : place + count]
        place += count
        return count

    reader = ByteReader(fill)
    assert reader.line(100) == line
    assert bytes(reader.exactly(99)) == rest


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


def test_the_documented_commands_parse() -> None:
    from shiftedge.runtime.capture import pipe

    documented = re.findall(r"pipe:(\[[^\n]*(?:\n        [^\n]*)*)", pipe.__doc__ or "")
    assert len(documented) == 2
    for text in documented:
        parsed = parse_pipe(text)
        assert parsed.video is not None
        assert parsed.command.startswith(("gst-launch-1.0", "rpicam-vid"))
