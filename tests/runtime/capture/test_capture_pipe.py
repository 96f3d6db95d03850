"""Raw video from commands: well-behaved ones, and those that fail, stall, babble or linger."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.runtime.capture import open_source
from shiftedge.runtime.capture.pipe import PipeSource, parse_pipe
from shiftedge.runtime.capture.rawvideo import ByteReader, RawVideo, parse_y4m_header
from shiftedge.runtime.errors import SourceError, SourceLostError

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
        SourceError, match=r"failed with exit status 3 after 2 frames and said: sensor lost\.$"
    ):
        next(frames)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("exit 4", r"failed with exit status 4 after 0 frames\.$"),
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
    video = RawVideo(width, height, "yuv420p", full)
    assert parse_y4m_header(line, "x") == (video, above / below)


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
    header, _ = parse_y4m_header(f"YUV4MPEG2 W4 H2 {fields}".encode(), "x")
    assert (header.format, header.full_range) == ("yuv420p", full)


def test_the_kind_of_an_old_header_is_not_passed_over() -> None:
    with pytest.raises(SourceError, match="of the kind C411"):
        parse_y4m_header(b"YUV4MPEG2 W4 H2 XYSCSS=411", "x")


def test_a_new_header_is_taken(tmp_path: Path) -> None:
    """A command that was restarted in the shell, with another size, rate and range."""
    first = b"YUV4MPEG2 W4 H2 F10:1\n" + 2 * (b"FRAME\n" + bytes([235] * 8 + [128] * 4))
    then = b"YUV4MPEG2 W8 H2 F20:1 XCOLORRANGE=FULL\n" + 2 * (
        b"FRAME\n" + bytes(range(16)) + bytes([128] * 8)
    )
    empty = b"YUV4MPEG2 W2 H2 F10:1\n" * 2000  # and nothing behind it, again and again
    frames = list(open_source(f"pipe:[live=no] {cat(tmp_path, first + empty + then)}"))
    assert [frame.image.shape for frame in frames] == [(2, 4, 3)] * 2 + [(2, 8, 3)] * 2
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 0.25])
    assert frames[2].image[:, :, 0].ravel().tolist() == list(range(16))
    assert int(frames[0].image[0, 0, 0]) > 250


def test_a_new_header_that_is_damaged_says_so(tmp_path: Path) -> None:
    content = b"YUV4MPEG2 W4 H2\nFRAME\n" + bytes(12)
    for rest, sentence in (
        (b"YUV4MPEG2 W0 H2\n", "says its size as W0 H2"),
        (b"YUV4XXXXX", "expected FRAME, got b'YUV4X'"),
    ):
        with pytest.raises(SourceError, match=sentence):
            list(open_source(f"pipe:{cat(tmp_path, content + rest)}"))


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
            header, rate_hz = parse_y4m_header(line, "x")
        except SourceError:
            continue
        assert header.width > 0
        assert rate_hz is None or rate_hz > 0


def test_a_stream_without_a_known_rate_has_none() -> None:
    assert parse_y4m_header(b"YUV4MPEG2 W4 H2 F0:0", "x")[1] is None


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


def test_the_documented_commands_parse() -> None:
    from shiftedge.runtime.capture import pipe

    documented = re.findall(r"pipe:(\[[^\n]*(?:\n        [^\n]*)*)", pipe.__doc__ or "")
    assert len(documented) == 2
    for text in documented:
        parsed = parse_pipe(text)
        assert parsed.video is not None
        assert parsed.command.startswith(("gst-launch-1.0", "rpicam-vid"))
