"""What a video file says of itself, read from its boxes: the codec, the length, and its own size.

OpenCV tells neither why it cannot decode a file, nor whether one that ended early was cut short or
merely trimmed. This reads only what answers those two questions, of the containers that people
have: MP4 and its kin (ISO/IEC 14496-12), Matroska and WebM (RFC 9559 on RFC 8794), RIFF (AVI,
WebP), IVF. Nothing that a file says makes it fail or take memory: what is not understood is None.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

MOST_BOXES = 10_000
"""Boxes looked at in a file, all levels together; a fragmented film of a day has fewer that
matter."""
LARGEST_HEAD_BYTES = 1 << 16
"""Most that is read of one small box."""
MOST_SAMPLES = 5_000_000
"""Of one track, to be counted one by one: a day at 60 frames a second."""

_CALLED = {
    "AV1": "av01 v_av1",
    "H.266 (VVC)": "vvc1 vvi1",
    "H.265 (HEVC)": "hvc1 hev1 hevc v_mpegh/iso/hevc",
    "H.265 (Dolby Vision)": "dvh1 dvhe",
    "H.264": "avc1 avc3 h264 v_mpeg4/iso/avc",
    "VP8": "vp08 vp80 v_vp8",
    "VP9": "vp09 vp90 v_vp9",
    "an encrypted codec (DRM)": "encv",
    "animated WebP": "webp",
}
"""Names for people -> lower-case names in files: sample entries (mp4ra.org), FourCCs and Matroska's
CodecIDs."""
CODECS = {name: called for called, names in _CALLED.items() for name in names.split()}

DECODED = frozenset({"H.264", "H.265 (HEVC)", "VP8", "VP9"})
"""What every OpenCV with FFmpeg decodes, in 8 and 10 bits."""


@dataclass(frozen=True)
class Container:
    """What could be read of a file."""

    codec: str | None = None
    """Of the video, as the file names it, such as ``av01``."""
    shown_frames: int | None = None
    """How many frames an MP4 shows: its samples, but for those that an edit list hides."""
    shown_s: float | None = None
    """How long that takes."""
    missing_bytes: int = 0
    """How much shorter the file is than it says; above 0 is a file that was cut short."""
    starts_s: float = 0.0
    """Time of the first frames, which the announced length of a Matroska file includes."""
    lacks: Literal["index", "video"] | None = None
    """The boxes that an MP4 cannot be played without, or any track but sound."""
    pictures: bool = False
    """It begins as a picture does: one, or pictures in a row (raw ``.mjpeg``), without times."""

    @property
    def codec_name(self) -> str | None:
        """The codec for people; as the file names it where it is not in :data:`CODECS`."""
        return None if self.codec is None else CODECS.get(self.codec.lower(), self.codec)


def read_container(path: str | Path) -> Container:
    """Read what the file says of itself; nothing of a file that is not understood.

    Raises nothing: a file that cannot be read is an empty :class:`Container` too.
    """
    try:
        with open(path, "rb") as file:
            return _read(file)
    except (OSError, ValueError, struct.error):
        return Container()


def _read(file: BinaryIO) -> Container:
    size = os.fstat(file.fileno()).st_size
    head = file.read(64)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"):
        return _Mp4(file, size).container()
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska(file, size)
    if head[:4] == b"RIFF":
        return _riff(file, size, head)
    if head[:4] == b"DKIF":
        return Container(codec=fourcc_text(head[8:12]))
    if head.startswith((b"\xff\xd8\xff", b"BM")) or (
        head.startswith(b"\x89PNG") and b"acTL" not in head + file.read(LARGEST_HEAD_BYTES)
    ):
        return Container(pictures=True)
    return Container()


def fourcc_text(data: bytes) -> str | None:
    """Four printable letters, or nothing: what is shown to people must not be a file's noise."""
    text = data.decode("ascii", "replace").strip()
    return text if len(data) == 4 and text and text.isascii() and text.isprintable() else None


# MP4


@dataclass(frozen=True)
class _Box:
    kind: bytes
    begin: int
    """Of what it holds."""
    end: int


class _Mp4:
    """Boxes of ISO/IEC 14496-12, which QuickTime's atoms are too."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._left = MOST_BOXES

    def container(self) -> Container:
        missing, found = 0, Container(lacks="index")
        for box in self._boxes(0, self._size):
            if box.kind in (b"mdat", b"moov", b"moof"):  # behind others, some phones add bytes
                missing = max(missing, box.end - self._size)
            if box.kind == b"moov" and found.lacks is not None:
                found = self._movie(box)
        return dataclasses.replace(found, missing_bytes=missing)

    def _boxes(self, begin: int, end: int) -> Iterator[_Box]:
        while end - begin >= 8 and self._left > 0:
            self._left -= 1
            head = self._bytes(begin, 16)
            if len(head) < 8:
                return
            size, kind = struct.unpack(">I4s", head[:8])
            skip = 8
            if size == 1:
                if len(head) < 16:
                    return
                size, skip = struct.unpack(">Q", head[8:16])[0], 16
            elif size == 0:
                size = end - begin
            if size < skip or (fourcc_text(kind) is None and not kind.startswith(b"\xa9")):
                return
            yield _Box(kind, begin + skip, begin + size)
            begin += size

    def _bytes(self, begin: int, count: int) -> bytes:
        if begin >= self._size:
            return b""
        self._file.seek(begin)
        return self._file.read(count)

    def _within(self, box: _Box | None, kind: bytes) -> Iterator[_Box]:
        if box is not None:
            end = min(box.end, self._size)
            yield from (inner for inner in self._boxes(box.begin, end) if inner.kind == kind)

    def _find(self, box: _Box | None, *kinds: bytes) -> _Box | None:
        for kind in kinds:
            box = next(self._within(box, kind), None)
        return box

    def _movie(self, moov: _Box) -> Container:
        """What the first video track says."""
        fragmented = self._find(moov, b"mvex") is not None
        for track in self._within(moov, b"trak"):
            media = self._find(track, b"mdia")
            handler = self._find(media, b"hdlr")
            if handler is None or self._bytes(handler.begin, 12)[8:12] not in (b"vide", b"pict"):
                continue
            table = self._find(media, b"minf", b"stbl")
            entry = self._find(table, b"stsd")
            codec = None if entry is None else fourcc_text(self._bytes(entry.begin, 16)[12:16])
            ticks, length = self._duration(self._find(media, b"mdhd"))
            times = None if fragmented else self._times(table)
            if times is None or not ticks or not length:
                return Container(codec)
            frames, shown_s = len(times), length / ticks
            edits = self._find(track, b"edts", b"elst")
            if edits is not None:
                edit = self._edit(edits, self._duration(self._find(moov, b"mvhd"))[0])
                if edit is None:
                    return Container(codec)
                start, shown_s = edit
                shown = (times >= start) & (times < start + shown_s * ticks)
                frames = int(np.count_nonzero(shown))
            return Container(codec, frames, shown_s)
        return Container(lacks="video" if moov.end <= self._size else "index")

    def _duration(self, box: _Box | None) -> tuple[int, int]:
        """Ticks a second and length in ticks of mvhd or mdhd; zeros where they are not there."""
        head = b"" if box is None else self._bytes(box.begin, 32)
        long = head[:1] == b"\1"
        layout = struct.Struct(">4x16xIQ" if long else ">4x8xII")
        if len(head) < layout.size:
            return 0, 0
        ticks, length = layout.unpack_from(head)
        return ticks, 0 if length == (2**64 - 1 if long else 2**32 - 1) else length

    def _edit(self, box: _Box, movie_ticks: int) -> tuple[int, float] | None:
        """First tick and seconds of the one edit that shows something; None of anything else."""
        head = self._bytes(box.begin, min(box.end - box.begin, LARGEST_HEAD_BYTES))
        if len(head) < 8 or not movie_ticks:
            return None
        layout = struct.Struct(">QqI" if head[:1] == b"\1" else ">IiI")
        count = struct.unpack_from(">I", head, 4)[0]
        if 8 + count * layout.size > len(head):
            return None
        edits = [layout.unpack_from(head, 8 + i * layout.size) for i in range(count)]
        shown = [edit for edit in edits if edit[1] != -1]  # -1: nothing is shown, for a later start
        if len(shown) != 1 or shown[0][0] == 0 or shown[0][2] != 1 << 16:
            return None
        return shown[0][1], shown[0][0] / movie_ticks

    def _times(self, table: _Box | None) -> NDArray[np.int64] | None:
        """When each sample is shown, in ticks of the track; None where the tables are not whole."""
        steps = self._table(table, b"stts")
        if steps is None:
            return None
        times = np.cumsum(steps) - steps
        offsets = self._table(table, b"ctts")
        if offsets is None:
            return times
        return times + offsets if len(offsets) == len(times) else None

    def _table(self, table: _Box | None, kind: bytes) -> NDArray[np.int64] | None:
        """The values of a run-length table, one for each sample."""
        box = self._find(table, kind)
        if box is None:
            return None
        data = self._bytes(box.begin, min(box.end - box.begin, 8 * MOST_SAMPLES))
        count = int.from_bytes(data[4:8], "big")
        if len(data) < 8 or len(data) < 8 + 8 * count:
            return None
        pairs = np.frombuffer(data, ">i4", 2 * count, 8).reshape(count, 2).astype(np.int64)
        runs = pairs[:, 0]
        if count == 0 or runs.min() < 0 or not 0 < int(runs.sum()) <= MOST_SAMPLES:
            return None
        return np.repeat(pairs[:, 1], runs)


# Matroska

_SEGMENT, _TRACKS, _ENTRY, _TYPE, _CODEC_ID = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0x86
_CLUSTER, _INFO, _SCALE, _TIMESTAMP = 0x1F43B675, 0x1549A966, 0x2AD7B1, 0xE7
_USUAL_SCALE_NS = 1_000_000


def _matroska(file: BinaryIO, size: int) -> Container:
    segment = next((each for each in _elements(file, 0, size) if each[0] == _SEGMENT), None)
    if segment is None:
        return Container()
    _, begin, end = segment
    found = Container(missing_bytes=max(0, (end or size) - size))
    scale_ns = _USUAL_SCALE_NS
    for kind, first, last in _elements(file, begin, min(end or size, size)):
        until = min(last or size, size)
        if kind == _INFO:
            scale_ns = _whole(file, first, until, _SCALE) or _USUAL_SCALE_NS
        if kind == _TRACKS:
            codec, lacks = _video_codec(file, first, until)
            found = dataclasses.replace(found, codec=codec, lacks=lacks)
        if kind == _CLUSTER:
            starts_s = (_whole(file, first, until, _TIMESTAMP) or 0) * scale_ns / 1e9
            return dataclasses.replace(found, starts_s=starts_s)
    return found


def _whole(file: BinaryIO, begin: int, end: int, wanted: int) -> int | None:
    """The whole number in the first element of that kind in a range."""
    for kind, first, last in _elements(file, begin, end):
        if kind == wanted and last is not None and last - first <= 8:
            file.seek(first)
            return int.from_bytes(file.read(last - first), "big")
    return None


def _video_codec(
    file: BinaryIO, begin: int, end: int
) -> tuple[str | None, Literal["video"] | None]:
    """The codec of the first track of pictures, and that there is none among the tracks."""
    tracks = 0
    for kind, first, last in _elements(file, begin, end):
        if kind != _ENTRY:
            continue
        tracks += 1
        found = {}
        for inner, at, until in _elements(file, first, min(last or end, end)):
            if inner in (_TYPE, _CODEC_ID) and until is not None and 0 < until - at <= 64:
                file.seek(at)
                found[inner] = file.read(until - at)
        if found.get(_TYPE, b"").lstrip(b"\0") == b"\1":
            name = found.get(_CODEC_ID, b"").rstrip(b"\0").decode("ascii", "replace")
            return (name if name.isascii() and name.isprintable() and name else None), None
    return None, "video" if tracks else None


def _elements(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """(identifier, begin, end) of the elements in a range; no end where the size is not known."""
    for _ in range(MOST_BOXES):
        if begin >= end:
            return
        file.seek(begin)
        head = file.read(12)
        kind, taken = _number(head, keep_marker=True)
        size, more = _number(head[taken:], keep_marker=False)
        if not taken or not more:
            return
        begin += taken + more
        unknown = size == (1 << 7 * more) - 1
        yield kind, begin, None if unknown else begin + size
        if unknown:
            return
        begin += size


def _number(data: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """A variable-length number of RFC 8794 and its length in bytes, 0 where there is none."""
    if not data or not data[0]:
        return 0, 0
    length = 9 - data[0].bit_length()
    if len(data) < length:
        return 0, 0
    value = int.from_bytes(data[:length], "big")
    return value if keep_marker else value & ((1 << 7 * length) - 1), length


# RIFF


def _riff(file: BinaryIO, size: int, head: bytes) -> Container:
    form = head[8:12]
    if form == b"WEBP":
        # Developers.google.com/speed/webp, "Extended File Format": bit 1 of the flags
        moves = head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 2)
        return Container(codec="webp" if moves else None)
    if form != b"AVI ":
        return Container()
    end, missing = 0, 0
    while end < size:  # one RIFF for each gigabyte or so
        file.seek(end)
        kind, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if kind != b"RIFF" or not 0 < length < 0x7FFFFFFF:  # a recorder that never came to say it
            break
        end += 8 + length + length % 2
        missing = max(0, end - length % 2 - size)
    return Container(codec=_avi_codec(file), missing_bytes=missing)


def _avi_codec(file: BinaryIO) -> str | None:
    file.seek(0)
    data = file.read(LARGEST_HEAD_BYTES)
    at = data.find(b"strh")  # of the first stream, in the list that the file begins with
    while at >= 0:
        if data[at + 8 : at + 12] == b"vids":
            return fourcc_text(data[at + 12 : at + 16])
        at = data.find(b"strh", at + 4)
    return None
