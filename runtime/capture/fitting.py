"""Raw video of another size or format than was said: what its number of bytes tells.

Raw frames have no header, so a wrong size gives garbage; but then the stream is hardly ever a whole
number of frames, and which size, format or row would make it one can be worked out. The same words
come from runtime/native/runner/fitting.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shiftedge.runtime.capture.rawvideo import FORMATS, HALVED, RawVideo

__all__ = ["SIZES", "what_fits"]

SIZES = (
    *((640, 480), (1280, 720), (1920, 1080), (320, 240), (640, 360), (848, 480), (800, 600)),
    *((960, 540), (1024, 768), (1280, 960), (1296, 972), (1640, 1232), (3840, 2160), (1280, 800)),
    *((424, 240), (480, 270), (320, 180), (800, 448), (1024, 576), (1536, 864), (1600, 1200)),
    *((2304, 1296), (2592, 1944), (352, 288), (176, 144), (160, 120)),
)
"""Of cameras, the usual ones first: those of V4L2 drivers and of the Raspberry Pi's modules."""
ROW_ALIGNMENTS = (4, 8, 16, 32, 64, 128, 256)
"""Bytes to whose multiples programs pad rows: GStreamer 4, rpicam-vid 64, Jetsons 256."""
HEIGHT_ALIGNMENTS = (8, 16)
"""Rows to whose multiples codecs pad pictures: 1080 becomes 1088."""
MOST_NAMED = 3


def what_fits(video: RawVideo, total: int) -> str:
    """Say that ``total`` bytes are no whole number of frames of ``video``, and of what they are.

    Such as "100 bytes in all are no whole number of frames of 4x2 bgr24 (24 bytes each): check
    size, format and padding of rows. 25 frames of 4x1 gray would fit."
    """
    found: list[str] = []
    for other in _others(video):
        count, rest = divmod(total, other.frame_bytes)
        text = f"{count} frame{'s' * (count != 1)} of {other}"
        if count and not rest and text not in found:
            found.append(text)
        if len(found) == MOST_NAMED:
            break
    fits = f"{' or '.join(found)} would fit" if found else "Nothing that is usual fits"
    return (
        f"{total} bytes in all are no whole number of frames of {video} ({video.frame_bytes} bytes "
        f"each): check size, format and padding of rows. {fits}."
    )


def _others(video: RawVideo) -> Iterator[RawVideo]:
    """What it may be instead, the likeliest first."""
    plain = replace(video, stride=0)
    if video.stride:
        yield plain
    for alignment in ROW_ALIGNMENTS:
        stride = -(-plain.row_bytes // alignment) * alignment
        if stride not in (plain.row_bytes, video.stride):
            yield replace(video, stride=stride)
    for alignment in HEIGHT_ALIGNMENTS:
        yield replace(video, height=-(-video.height // alignment) * alignment)
    for form in FORMATS:
        if form != video.format and not _odd(video.width, video.height, form):
            yield replace(plain, format=form)
    for width, height in (*SIZES, *((height, width) for width, height in SIZES)):
        yield replace(plain, width=width, height=height)


def _odd(width: int, height: int, form: str) -> bool:
    return form in HALVED and bool(width % 2 or height % 2)
