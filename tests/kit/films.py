"""Recordings made byte by byte, as phones, browsers and editors write them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

import cv2
import numpy as np

AV1_IVF = base64.b64decode(
    "REtJRgAAIABBVjAxEAAQAAoAAAABAAAAAgAAAAAAAAAcAAAAAAAAAAAAAAASAAoKAAAAAZ/5tfIAgDIMEACWgAAC"
    "AAAAAFZgFQAAAAEAAAAAAAAAEgAyETADwIAAAAbAAAACgAAgAHaQ"
)
"""Two grey frames of 16x16 by libaom; the only AV1 that needs no encoder here."""


def picture(level: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A picture of (width, height) whose grey says which it is."""
    return np.full((size[1], size[0], 3), level, np.uint8)


# Matroska


def _element(kind: str, content: bytes, *, unknown_size: bool = False) -> bytes:
    size = b"\x01" + b"\xff" * 7 if unknown_size else (len(content) | 1 << 56).to_bytes(8, "big")
    return bytes.fromhex(kind) + size + content


def _uint(kind: str, value: int) -> bytes:
    return _element(kind, value.to_bytes(4, "big"))


def matroska(
    frames: Sequence[tuple[int, bytes]],
    *,
    codec: str = "V_MJPEG",
    size: tuple[int, int] = (64, 48),
    default_duration_ns: int | None = None,
    unknown_size: bool = True,
    kind: int = 1,
) -> bytes:
    """Frames with their milliseconds, as a browser's MediaRecorder writes them: no length, no rate,
    sizes unknown until the end. Kind 1 is a track of pictures, 2 of sound.
    """
    header = _element("1A45DFA3", _element("4282", b"matroska") + _uint("4287", 4))
    track = _uint("D7", 1) + _uint("73C5", 1) + _uint("83", kind) + _element("86", codec.encode())
    if default_duration_ns is not None:
        track += _uint("23E383", default_duration_ns)
    track += _element("E0", _uint("B0", size[0]) + _uint("BA", size[1]))
    body = _element("1549A966", _uint("2AD7B1", 1_000_000) + _element("4D80", b"kit"))
    body += _element("1654AE6B", _element("AE", track))
    for at_ms, data in frames:
        block = b"\x81" + struct.pack(">h", 0) + b"\x80" + data
        body += _element("1F43B675", _uint("E7", at_ms) + _element("A3", block))
    return header + _element("18538067", body, unknown_size=unknown_size)


def jpegs(levels: Sequence[int], size: tuple[int, int] = (64, 48)) -> list[bytes]:
    """One for each grey."""
    return [cv2.imencode(".jpg", picture(level, size))[1].tobytes() for level in levels]


# MP4


def trimmed(mp4: bytes, first: int, frames: int, rate_hz: float) -> bytes:
    """An MP4 of one track whose edit list shows only ``frames`` frames from ``first`` on: a trim
    without encoding.
    """
    media_scale = struct.unpack_from(">I", mp4, mp4.index(b"mdhd") + 16)[0]
    movie_scale = struct.unpack_from(">I", mp4, mp4.index(b"mvhd") + 16)[0]
    place = mp4.index(b"elst") + 12
    edit = struct.pack(
        ">Ii", round(frames / rate_hz * movie_scale), round(first / rate_hz * media_scale)
    )
    return mp4[:place] + edit + mp4[place + len(edit) :]


# WebP


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def animated_webp(levels: Sequence[int], side: int = 16) -> bytes:
    """A picture for each grey, 100 ms each."""
    small = (side - 1).to_bytes(3, "little")
    body = _chunk(b"VP8X", bytes([2, 0, 0, 0]) + 2 * small) + _chunk(b"ANIM", bytes(6))
    for level in levels:
        still = cv2.imencode(".webp", picture(level, (side, side)))[1].tobytes()
        place = (0).to_bytes(3, "little")
        head = 2 * place + 2 * small + (100).to_bytes(3, "little") + b"\0"
        body += _chunk(b"ANMF", head + still[12:])
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
