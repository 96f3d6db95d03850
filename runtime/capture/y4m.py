"""The headers of YUV4MPEG2 (.y4m): raw video that says its own size and rate."""

from __future__ import annotations

from dataclasses import dataclass

from shiftedge.runtime.errors import SourceError

__all__ = ["FRAME", "LONGEST_HEADER", "MAGIC", "Y4MHeader", "parse_header"]

MAGIC = b"YUV4MPEG2"
FRAME = b"FRAME"
LONGEST_HEADER = 4096
"""Bytes; real headers have under 100. A longer line is no header."""
LARGEST_SIDE_PX = 16384

_FORMATS = {
    "420": "yuv420p",
    "420jpeg": "yuv420p",
    "420mpeg2": "yuv420p",
    "420paldv": "yuv420p",
    "mono": "gray",
}


@dataclass(frozen=True)
class Y4MHeader:
    """What the first line of a stream says."""

    width: int
    height: int
    format: str
    """Name of a pixel format of :mod:`shiftedge.runtime.capture.rawvideo`."""
    rate_hz: float | None
    """Frames per second; None where the stream says that it does not know (F0:0)."""
    full_range: bool = False
    """XCOLORRANGE=FULL: 0 to 255, as from an MJPEG camera. FFmpeg's extension; without it, 16 to
    235."""


def parse_header(line: bytes, name: str) -> Y4MHeader:
    """Parse the first line of a stream, without its line feed.

    See the manual page yuv4mpeg(5) of mjpegtools: ``YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg
    XCOLORRANGE=FULL``.

    Raises:
        SourceError: not such a line, or a video that is not supported; ``name`` is whose it is.
    """
    magic, *fields = line.decode("ascii", "replace").split(" ")
    if magic.encode() != MAGIC:
        raise SourceError(f"{name} does not begin with {MAGIC.decode()}.")
    values = {field[0]: field[1:] for field in fields if field and field[0] != "X"}
    extras = dict(field[1:].upper().split("=", 1) for field in fields if _is_extra(field))
    width, height = _side(values.get("W", "")), _side(values.get("H", ""))
    if not width or not height:
        raise SourceError(
            f"{name} says its size as W{values.get('W', '')} H{values.get('H', '')}; "
            f"expected pixels from 1 to {LARGEST_SIDE_PX}."
        )
    # Before C there was XYSCSS, and both may stand there.
    chroma = values.get("C") or extras.get("YSCSS", "420").lower()
    if chroma not in _FORMATS:
        raise SourceError(
            f"{name} is YUV4MPEG2 of the kind C{chroma}; expected one of "
            f"{', '.join('C' + kind for kind in _FORMATS)}: tell the command to write yuv420p "
            "(ffmpeg: -pix_fmt yuv420p)."
        )
    full_range = extras.get("COLORRANGE") == "FULL"
    rate_hz = _rate(values.get("F", "0:0"), name)
    return Y4MHeader(width, height, _FORMATS[chroma], rate_hz, full_range)


def _is_extra(field: str) -> bool:
    return field.startswith("X") and "=" in field


def _side(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > 5:
        return None
    value = int(text)
    return value if 0 < value <= LARGEST_SIDE_PX else None


def _rate(text: str, name: str) -> float | None:
    above, _, below = text.partition(":")
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in (above, below)):
        raise SourceError(f"{name} says its rate as F{text}; expected a ratio such as F30:1.")
    if int(above) == 0 or int(below) == 0:
        return None
    return int(above) / int(below)
