"""What files say of themselves, whole, damaged, and made up."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.films import AV1_IVF, animated_webp, jpegs, matroska, trimmed

from shiftedge.runtime.capture import open_video
from shiftedge.runtime.capture.container import Container, read_container
from shiftedge.runtime.errors import SourceError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


def film(path: Path, codec: str, frames: int = 20) -> bytes:
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 20.0, (64, 48)
    )
    for level in range(frames):
        writer.write(np.full((48, 64, 3), 9 * level, np.uint8))
    writer.release()
    return path.read_bytes()


@pytest.fixture(scope="module")
def seeds(folder: Path) -> list[bytes]:
    """One of each container."""
    mp4 = film(folder / "a.mp4", "mp4v")
    return [
        mp4,
        trimmed(mp4, 2, 9, 20.0),
        film(folder / "a.avi", "MJPG"),
        film(folder / "a.mkv", "mp4v"),
        matroska([(0, jpegs([3])[0])]),
        animated_webp([0, 90]),
        AV1_IVF,
    ]


def read(folder: Path, content: bytes) -> Container:
    path = folder / "x"
    path.write_bytes(content)
    return read_container(path)


def test_whole_files(folder: Path, seeds: list[bytes]) -> None:
    mp4, cut, avi, mkv, webm, webp, ivf = (read(folder, seed) for seed in seeds)
    assert mp4 == Container("mp4v", 20, 1.0)
    assert cut == Container("mp4v", 9, 0.45)
    assert avi == Container("MJPG")
    assert mkv.codec is not None
    assert mkv.codec.startswith("V_MPEG4")
    assert webm == Container("V_MJPEG")
    assert (webp.codec_name, ivf.codec_name) == ("animated WebP", "AV1")


def test_files_cut_anywhere_lack_what_was_cut(folder: Path, seeds: list[bytes]) -> None:
    mp4, _, avi, mkv, *_ = seeds
    for whole in (avi, mkv):
        for end in (len(whole) // 2, len(whole) - 1):
            assert read(folder, whole[:end]).missing_bytes == len(whole) - end
    end = mp4.index(b"mdat") + 100
    box = struct.unpack_from(">I", mp4, mp4.index(b"mdat") - 4)[0]
    assert read(folder, mp4[:end]).missing_bytes == box - 104


def test_sizes_that_are_not_known_prove_nothing(folder: Path, seeds: list[bytes]) -> None:
    avi = bytearray(seeds[2])
    for size in (0, 0xFFFFFFFF):  # a recorder that was switched off
        avi[4:8] = struct.pack("<I", size)
        assert read(folder, bytes(avi[:-500])).missing_bytes == 0
    assert read(folder, seeds[4][:-50]).missing_bytes == 0


def test_edits_that_are_not_simple_are_left_alone(folder: Path, seeds: list[bytes]) -> None:
    mp4 = bytearray(seeds[0])
    place = mp4.index(b"elst")
    for at, value in ((12, 0), (20, 1 << 15), (8, 2)):  # no length, half the speed, two edits
        changed = bytearray(mp4)
        changed[place + at : place + at + 4] = struct.pack(">I", value)
        assert read(folder, bytes(changed)) == Container("mp4v")


def test_counts_beyond_reason_take_no_memory(folder: Path, seeds: list[bytes]) -> None:
    mp4 = bytearray(seeds[0])
    place = mp4.index(b"stts")
    for at, value in ((8, 0xFFFFFFFF), (12, 0x7FFFFFFF), (12, 0xFFFFFFFF)):
        changed = bytearray(mp4)
        changed[place + at : place + at + 4] = struct.pack(">I", value)
        assert read(folder, bytes(changed)) == Container("mp4v")


def test_a_name_from_a_file_is_fit_for_a_terminal(folder: Path) -> None:
    assert read(folder, b"DKIF\0\0 \0\x1b[2J" + bytes(30)).codec is None
    assert read(folder, matroska([(0, b"")], codec="\x1b[2J")).codec is None


quick = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.data())
def test_nothing_that_a_file_says_is_an_error(
    folder: Path, seeds: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        new = data.draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 8, bytes(8)]))
        content[at : at + len(new)] = new
    end = data.draw(st.integers(0, len(content)))
    found = read(folder, bytes(content[:end] if data.draw(st.booleans()) else content))
    assert found.missing_bytes >= 0
    assert found.codec is None or found.codec.isprintable()
    assert found.shown_s is None or found.shown_s > 0


@quick
@given(st.sampled_from([b"", b"\0\0\0\x20ftyp", b"\x1aE\xdf\xa3", b"RIFF", b"DKIF"]), st.binary())
def test_nor_is_any_other(folder: Path, head: bytes, rest: bytes) -> None:
    assert read(folder, head + rest).missing_bytes >= 0


@settings(quick, max_examples=60)
@given(st.data())
def test_any_file_plays_or_is_refused(
    folder: Path, seeds: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path = folder / "y"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    last_s, said = 0.0, ""
    try:
        with open_video(path, on_event=lambda sentence: None) as video:
            for frame in video:
                assert frame.time_s >= last_s
                last_s = frame.time_s
                if frame.index > 200:
                    break
    except SourceError as error:
        said = str(error)
    assert len(said) < 600
