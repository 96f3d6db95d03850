"""Recordings: good ones, short ones, damaged ones, and files that are no video."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from kit.films import AV1_IVF, animated_webp, jpegs, matroska, picture, trimmed

from shiftedge.runtime.capture import open_source
from shiftedge.runtime.capture.base import as_bgr
from shiftedge.runtime.capture.container import read_container
from shiftedge.runtime.capture.video import RecordingTimes, VideoFile
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


def test_a_trimmed_video_is_whole(tmp_path: Path) -> None:
    """Phones and ``ffmpeg -ss -c copy`` hide the frames before the cut by an edit list."""
    whole = write_video(tmp_path / "whole.mp4", 40).read_bytes()
    notes: list[str] = []
    for name, content in (
        ("end.mp4", trimmed(whole, 0, 25, 20.0)),
        ("begin.mp4", trimmed(whole, 15, 25, 20.0)),
        ("short.mp4", trimmed(whole, 30, 3, 20.0)),
    ):
        (tmp_path / name).write_bytes(content)
        frames = list(open_source(str(tmp_path / name), on_event=notes.append))
        assert len(frames) == (3 if name == "short.mp4" else 25)
        assert [f.time_s for f in frames] == pytest.approx([i / 20 for i in range(len(frames))])
    assert notes == []


def test_a_trimmed_video_that_is_damaged_says_so(tmp_path: Path) -> None:
    content = bytearray(trimmed(write_video(tmp_path / "a.mp4", 40).read_bytes(), 0, 38, 20.0))
    middle = slice(int(len(content) * 0.3), int(len(content) * 0.7))
    content[middle] = bytes(len(content[middle]))
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=r"ended after \d+ frames \(\d\.\d s\) and announces 38"):
        list(open_source(str(tmp_path / "a.mp4")))


def test_an_announced_length_alone_is_no_proof(tmp_path: Path) -> None:
    """An AVI whose frames are unreadable midway, or were cut out: all are given, with a note."""
    content = bytearray(write_video(tmp_path / "a.avi", 40, "MJPG").read_bytes())
    middle = slice(int(len(content) * 0.3), int(len(content) * 0.7))
    content[middle] = bytes(len(content[middle]))
    (tmp_path / "a.avi").write_bytes(content)
    notes: list[str] = []
    frames = list(open_source(str(tmp_path / "a.avi"), on_event=notes.append))
    assert 5 < len(frames) < 36
    (note,) = notes
    assert "a.avi was trimmed, or is damaged: it ended after" in note
    assert note.endswith("announces 40 (2.0 s).")


def test_a_file_that_lacks_little_says_so_and_plays(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.avi", 40, "MJPG").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: len(content) - 1400])
    notes: list[str] = []
    assert len(list(open_source(str(tmp_path / "a.avi"), on_event=notes.append))) >= 36
    (note,) = notes
    assert "a.avi is not whole: it ended after" in note
    assert note.endswith("the file ends 1,400 bytes early.")


def test_what_a_phone_adds_behind_a_video_is_no_damage(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", 40).read_bytes()
    (tmp_path / "a.mp4").write_bytes(trimmed(whole, 0, 20, 20.0) + b"\x7f\xff\xff\xffsefdSEFH")
    assert len(list(open_source(str(tmp_path / "a.mp4"), on_event=pytest.fail))) == 20


def test_a_browsers_webm_has_its_frames_times_and_rate(tmp_path: Path) -> None:
    """Stamps in milliseconds with jitter, no length, and a nominal rate of 1000."""
    jitter = np.random.default_rng(1).integers(0, 17, 90)
    stamps = [i * 1000 // 30 + int(late) for i, late in enumerate(jitter)]
    content = matroska(list(zip(stamps, jpegs(range(0, 180, 2)), strict=True)))
    (tmp_path / "a.webm").write_bytes(content)
    capture = cv2.VideoCapture(str(tmp_path / "a.webm"), cv2.CAP_FFMPEG)
    assert capture.get(cv2.CAP_PROP_FPS) == 1000.0  # else this test shows nothing
    with open_source(str(tmp_path / "a.webm"), on_event=pytest.fail) as source:
        frames = list(source)
        assert source.rate_hz == pytest.approx(30.0, rel=0.02)
    assert [f.time_s for f in frames] == pytest.approx([(s - stamps[0]) / 1e3 for s in stamps])
    assert [int(f.image[9, 9, 0]) for f in frames] == pytest.approx(list(range(0, 180, 2)), abs=3)


def test_frames_at_uneven_times_keep_them(tmp_path: Path) -> None:
    """A phone in the dark, with two frames of one stamp and two out of order."""
    stamps = [0, 33, 67, 67, 100, 300, 500, 483, 567, 600, 1600, 1633]
    content = matroska(list(zip(stamps, jpegs(range(12)), strict=True)), unknown_size=False)
    (tmp_path / "a.mkv").write_bytes(content)
    times = [f.time_s for f in open_source(str(tmp_path / "a.mkv"))]
    kept = np.maximum.accumulate(stamps) / 1e3
    assert times == pytest.approx(list(kept))


def test_a_stream_without_stamps_says_so_and_takes_a_rate(tmp_path: Path) -> None:
    (tmp_path / "a.mjpeg").write_bytes(b"".join(jpegs(range(0, 60, 10))))
    notes: list[str] = []
    with open_source(f"{tmp_path / 'a.mjpeg'}?fps=30", on_event=notes.append) as source:
        assert source.rate_hz == 30.0
        assert [f.time_s for f in source] == pytest.approx([i / 30 for i in range(6)])
    assert notes == []
    times = RecordingTimes(25.0)
    assert [times.stamp(0.0) for _ in range(3)] == pytest.approx([0.0, 0.04, 0.08])


class RawStream:
    """What OpenCV makes of a raw .h264: frames without stamps, a rate that FFmpeg made up."""

    def __init__(self, frames: int) -> None:
        self.left = frames

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, picture(9)) if self.left >= 0 else (False, None)

    def get(self, name: int) -> float:
        return {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_FRAME_COUNT: -1.9e14}.get(name, 0.0)

    def release(self) -> None:
        pass


def test_a_raw_stream_without_stamps_says_what_is_assumed() -> None:
    notes: list[str] = []
    source = VideoFile(RawStream(4), "x/a.h264", on_event=notes.append)
    assert [f.time_s for f in source] == pytest.approx([0.0, 0.04, 0.08, 0.12])
    assert notes == [
        "x/a.h264 has no time stamps: 25 frames a second are assumed; add the true rate, as in "
        "a.h264?fps=30."
    ]
    source = VideoFile(RawStream(4), "x/a.h264", rate_hz=10.0, on_event=pytest.fail)
    assert [f.time_s for f in source] == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("name", "content", "codec"),
    [
        ("a.ivf", AV1_IVF, "AV1"),
        ("a.webm", matroska([(0, AV1_IVF[44:72])], codec="V_AV1", size=(16, 16)), "AV1"),
        ("a.webp", animated_webp([10, 200]), "animated WebP"),
    ],
)
def test_a_codec_without_a_decoder_is_named(
    tmp_path: Path, name: str, content: bytes, codec: str
) -> None:
    (tmp_path / name).write_bytes(content)
    said = ""
    try:
        assert list(open_source(str(tmp_path / name)))  # an OpenCV with the decoder plays it
    except SourceError as error:
        said = str(error)
    advice = "convert it: ffmpeg" if codec == "AV1" else "save it as GIF or MP4"
    assert not said or f"holds {codec}, of which this OpenCV decodes no frame" in said
    assert not said or advice in said


def test_a_video_of_a_known_codec_without_a_frame_is_damaged(tmp_path: Path) -> None:
    content = matroska([(0, b"\1\2\3"), (40, b"\4\5")], codec="V_VP9")
    (tmp_path / "a.webm").write_bytes(content)
    with pytest.raises(SourceError, match="holds no frame of VP9 that can be decoded: it is dam"):
        open_source(str(tmp_path / "a.webm"))


ODD_NAMES = [b"v\xff", b"\xe9\xc3", "gru\u00df \u624b".encode(), b"a%03d", b" v ", b"-v", b"a\nb"]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("in_folder", [False, True])
def test_names_of_any_bytes(tmp_path: Path, name: bytes, in_folder: bool) -> None:
    if in_folder:
        (tmp_path / os.fsdecode(name)).mkdir()
        path = tmp_path / os.fsdecode(name) / "clip.mp4"
    else:
        path = tmp_path / os.fsdecode(name + b".mp4")
    write_video(tmp_path / "plain.mp4", 5).rename(path)
    assert len(list(open_source(f"{path}?"[:-1]))) == 5
    path.write_bytes(b"\0" * 600)
    with pytest.raises(SourceError, match="is not a video"):
        open_source(str(path))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 5).rename(tmp_path / os.fsdecode(b"\xff.mp4"))
    list(open_source(str(path)))  # what OpenCV opens once for ever
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with open_source(str(path)) as source:
            list(source)
    assert len(os.listdir("/proc/self/fd")) == before


ENVIRONMENTS = {
    "ascii": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "utf-8": {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"},
}


@pytest.mark.parametrize("environment", list(ENVIRONMENTS))
def test_names_in_any_locale(tmp_path: Path, environment: str) -> None:
    """A program of its own, since the encoding of names is chosen as Python starts."""
    folder = tmp_path / "gr\u00fc\u00df"
    folder.mkdir()
    for name in ("plain.mp4", "\u624b.mp4"):
        write_video(folder / name, 5)
    (folder / "bilder \u00e9").mkdir()
    for level in (0, 200):
        content = cv2.imencode(".png", picture(level))[1].tobytes()
        (folder / "bilder \u00e9" / f"{level} \u00fc.png").write_bytes(content)
    code = (
        "import os, sys, numpy as np\n"
        "from shiftedge.runtime.capture import FilmWriter, open_source\n"
        "counts = [len(list(open_source(name))) for name in sys.argv[1:4]]\n"
        "with FilmWriter(sys.argv[4], (64, 48), 20.0) as film:\n"
        "    for _ in range(7): film.write(np.zeros((48, 64, 3), np.uint8))\n"
        "print(sys.getfilesystemencoding(), *counts, len(list(open_source(sys.argv[4]))))\n"
    )
    names = [folder / "plain.mp4", folder / "\u624b.mp4", folder / "bilder \u00e9"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(os.fsencode, names), os.fsencode(folder / "\u00fc.mp4")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **ENVIRONMENTS[environment]},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [environment, "5", "5", "2", "7"]


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
    with pytest.raises(SourceError, match=r"is cut short: the list of its frames, .* is not in it"):
        open_source(str(path))


def test_sound_alone_is_told_as_such(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", 3).read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole.replace(b"vide", b"soun").replace(b"mp4v", b"mp4a"))
    (tmp_path / "a.mkv").write_bytes(matroska([(0, b"")], codec="A_OPUS", kind=2))
    for name in ("a.mp4", "a.mkv"):
        with pytest.raises(SourceError, match="holds no video, only sound"):
            open_source(str(tmp_path / name))


def test_bright_pixels_behind_a_y4m_header_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.y4m"
    picture = b"FRAME\n" + bytes([235]) * 64 * 48 + bytes([128]) * 32 * 24 * 2
    path.write_bytes(b"YUV4MPEG2 W64 H48 F10:1 C420jpeg\n" + 5 * picture)
    frames = list(open_source(str(path)))
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert frames[0].image.min() >= 253


def test_pictures_in_a_row_have_no_times(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    path.write_bytes(b"".join(jpegs([9, 99, 200])))
    told: list[str] = []
    assert len(list(open_source(str(path), on_event=told.append))) == 3
    assert "has no time stamps: 25 frames a second are assumed" in told[0]
    frames = list(open_source(f"{path}?fps=10", on_event=told.append))
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2])
    assert len(told) == 1


def test_a_recording_that_begins_late_has_lost_nothing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 20)
    whole = path.read_bytes()
    cluster = whole.index(b"\x1f\x43\xb6\x75")
    at = whole.index(b"\xe7", cluster)
    assert whole[at : at + 3] == b"\xe7\x81\x00"
    late = bytearray(whole)
    late[at + 2] = 100  # the first frame at 0.1 s, and so on; the length in Info is from 0
    path.write_bytes(late)
    assert read_container(path).starts_s == pytest.approx(0.1)
    told: list[str] = []
    assert len(list(open_source(str(path), on_event=told.append))) == 20
    assert told == []


def test_a_video_with_times_takes_no_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 2)
    with pytest.raises(SourceError, match="says its frames' times itself; leave fps out"):
        open_source(f"{path}?fps=3")
    with pytest.raises(SourceError, match="is not an option"):
        open_source(f"{path}?size=3x3")


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


def test_grey_and_transparent_pictures_become_bgr() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert as_bgr(grey, "x").tolist() == np.repeat(grey[..., None], 3, axis=2).tolist()
    assert as_bgr(np.ones((2, 3, 4), np.uint8), "x").shape == (2, 3, 3)
    with pytest.raises(SourceError, match=r"x gave an image of shape \(2, 3, 2\)"):
        as_bgr(np.ones((2, 3, 2), np.uint8), "x")
