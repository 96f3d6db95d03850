"""Raw video: pixel formats, the headers of YUV4MPEG2, and what a number of bytes may be frames of.

Raw frames have no header, so a wrong size gives garbage; but then the stream is hardly ever a whole
number of frames, and which size, format or row would make it one can be worked out
(:func:`what_fits`; the same words come from runtime/native/runner/fitting.c).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import opencv
from shiftedge.runtime.errors import MissingExtraError, SourceError

FORMATS = ("bgr24", "rgb24", "bgrx", "rgbx", "gray", "yuv420p", "nv12")
"""Pixel formats by FFmpeg's names, save bgrx and rgbx (four bytes, the last one ignored): FFmpeg's
bgr0 and bgra, GStreamer's BGRx. GStreamer calls yuv420p I420."""


PIXEL_BYTES = {"gray": 1, "bgr24": 3, "rgb24": 3, "bgrx": 4, "rgbx": 4}
"""Of the formats that have no planes."""
HALVED = ("yuv420p", "nv12")
"""Formats whose colours are of half the size."""


@dataclass(frozen=True)
class RawVideo:
    """Size and pixel format of raw frames."""

    width: int
    height: int
    format: str
    """One of :data:`FORMATS`."""
    full_range: bool = False
    """YUV from 0 to 255, as JPEG has it, instead of 16 to 235."""
    stride: int = 0
    """Bytes from one row to the next where rows are padded, of yuv420p and nv12 those of Y (a row
    of yuv420p's U or V has half of them); 0: rows are not padded."""

    @property
    def row_bytes(self) -> int:
        """Of a row of pixels without padding, in bytes; of the first plane."""
        return self.width * PIXEL_BYTES.get(self.format, 1)

    @property
    def frame_bytes(self) -> int:
        """Size of one frame in bytes."""
        luma = (self.stride or self.row_bytes) * self.height
        if self.format not in HALVED:
            return luma
        row = self.stride // 2 if self.stride else (self.width + 1) // 2
        return luma + 2 * row * ((self.height + 1) // 2)

    def __str__(self) -> str:
        rows = f" with rows of {self.stride} bytes" if self.stride else ""
        return f"{self.width}x{self.height} {self.format}{rows}"


def to_bgr(video: RawVideo, frame: bytes | bytearray) -> NDArray[np.uint8]:
    """Convert one frame of ``video.frame_bytes`` bytes to uint8 (height, width, 3) BGR.

    YUV is taken by the matrix of BT.601, which is what rpicam-vid, FFmpeg and GStreamer write for
    sizes below 720 lines, and what JPEG has; with that of BT.709 (most HD video) saturated greens
    are off by up to a sixth, greys not at all. A ``bytearray`` of bgr24 is not copied.
    """
    width, height = video.width, video.height
    flat = np.frombuffer(frame, np.uint8)
    if video.stride:
        flat = _without_padding(video, flat)
    if video.format == "bgr24":
        return flat.reshape(height, width, 3)
    if video.format == "rgb24":
        return np.ascontiguousarray(flat.reshape(height, width, 3)[:, :, ::-1])
    if video.format == "bgrx":
        return np.ascontiguousarray(flat.reshape(height, width, 4)[:, :, :3])
    if video.format == "rgbx":
        return np.ascontiguousarray(flat.reshape(height, width, 4)[:, :, 2::-1])
    if video.format == "gray":
        return np.repeat(flat.reshape(height, width, 1), 3, axis=2)
    try:
        cv2 = opencv()
    except MissingExtraError:
        cv2 = None  # a board without OpenCV: the same by numpy, some 20 times slower
    if cv2 is not None and not video.full_range and width % 2 == 0 and height % 2 == 0:
        code = cv2.COLOR_YUV2BGR_I420 if video.format == "yuv420p" else cv2.COLOR_YUV2BGR_NV12
        image: NDArray[np.uint8] = cv2.cvtColor(flat.reshape(height * 3 // 2, width), code)
        return image
    luma, blue, red = _planes(video, flat)
    if not video.full_range:
        return yuv_to_bgr(luma, blue, red)
    if cv2 is None:
        return full_yuv_to_bgr(luma, blue, red)
    full: NDArray[np.uint8] = cv2.cvtColor(cv2.merge([luma, red, blue]), cv2.COLOR_YCrCb2BGR)
    return full


def _without_padding(video: RawVideo, flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame's bytes as if its rows were not padded."""
    stride, height, row = video.stride, video.height, video.row_bytes
    planes = [flat[: stride * height].reshape(height, stride)[:, :row]]
    if video.format in HALVED:
        pairs, rest = (video.width + 1) // 2, flat[stride * height :]
        each = (pairs, stride // 2) if video.format == "yuv420p" else (2 * pairs, stride // 2 * 2)
        planes.append(rest.reshape(-1, each[1])[:, : each[0]])
    return np.concatenate([plane.ravel() for plane in planes])


def _planes(
    video: RawVideo, flat: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Y, U and V of (height, width) each, the colours repeated over their 2x2 pixels."""
    width, height = video.width, video.height
    half = (height + 1) // 2, (width + 1) // 2
    luma, chroma = flat[: width * height].reshape(height, width), flat[width * height :]
    if video.format == "yuv420p":
        colours = chroma.reshape(2, *half)
    else:
        colours = chroma.reshape(*half, 2).transpose(2, 0, 1)
    wide = colours.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
    return luma, wide[0], wide[1]


def yuv_to_bgr(
    luma: NDArray[np.uint8], blue: NDArray[np.uint8], red: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Y, U, V of one shape to BGR by the numbers of ITU-R BT.601, limited range (Y 16 to 235)."""
    y = 1.164383 * np.maximum(luma.astype(np.float32) - 16.0, 0.0)  # at once, as OpenCV does
    u, v = blue.astype(np.float32) - 128.0, red.astype(np.float32) - 128.0
    planes = (y + 2.017232 * u, y - 0.391762 * u - 0.812968 * v, y + 1.596027 * v)
    image: NDArray[np.uint8] = np.clip(np.rint(np.stack(planes, axis=2)), 0, 255).astype(np.uint8)
    return image


def full_yuv_to_bgr(
    luma: NDArray[np.uint8], blue: NDArray[np.uint8], red: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Y, U, V of one shape and of full range to BGR, to the bit as OpenCV's COLOR_YCrCb2BGR.

    BT.601 as in JPEG (JFIF 1.02): 1.772, -0.344, -0.714, 1.402, which OpenCV has as whole numbers
    of 1/2^14.
    """
    y = luma.astype(np.int32)
    u, v = blue.astype(np.int32) - 128, red.astype(np.int32) - 128
    half = 1 << 13
    planes = (
        y + (29049 * u + half >> 14),
        y + (-5636 * u - 11698 * v + half >> 14),
        y + (22987 * v + half >> 14),
    )
    image: NDArray[np.uint8] = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    return image


class ByteReader:
    """Exact amounts of bytes from a stream that gives them in any pieces.

    Args:
        fill: puts some bytes into the buffer that it is given and returns how many, 0 at the end.
    """

    def __init__(self, fill: Callable[[memoryview], int]) -> None:
        self._fill = fill

    def exactly(self, size: int) -> bytearray:
        """The next ``size`` bytes in memory of their own; fewer only at the end of the stream."""
        buffer = bytearray(size)
        got = 0
        with memoryview(buffer) as view:
            while got < size:
                count = self._fill(view[got:])
                if count == 0:
                    break
                got += count
        del buffer[got:]
        return buffer

    def line(self, limit: int) -> bytes:
        """Bytes up to the next line feed, without it; fewer at the end or after ``limit`` bytes."""
        found = bytearray()
        while len(found) < limit:
            byte = self.exactly(1)
            if byte in (bytearray(), bytearray(b"\n")):
                break
            found += byte
        return bytes(found)


Y4M_MAGIC = b"YUV4MPEG2"
Y4M_FRAME = b"FRAME"
Y4M_LONGEST_HEADER = 4096
"""Bytes; real headers have under 100. A longer line is no header."""
LARGEST_SIDE_PX = 16384

_Y4M_FORMATS = {
    "420": "yuv420p",
    "420jpeg": "yuv420p",
    "420mpeg2": "yuv420p",
    "420paldv": "yuv420p",
    "mono": "gray",
}


def parse_y4m_header(line: bytes, name: str) -> tuple[RawVideo, float | None]:
    """Parse the first line of a stream, without its line feed: the video and its frames a second,
    None where the stream says that it does not know (F0:0).

    See the manual page yuv4mpeg(5) of mjpegtools: ``YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg
    XCOLORRANGE=FULL``.

    Raises:
        SourceError: not such a line, or a video that is not supported; ``name`` is whose it is.
    """
    magic, *fields = line.decode("ascii", "replace").split(" ")
    if magic.encode() != Y4M_MAGIC:
        raise SourceError(f"{name} does not begin with {Y4M_MAGIC.decode()}.")
    values = {field[0]: field[1:] for field in fields if field and field[0] != "X"}
    extras = dict(
        field[1:].upper().split("=", 1) for field in fields if field[:1] == "X" and "=" in field
    )
    width, height = _side(values.get("W", "")), _side(values.get("H", ""))
    if not width or not height:
        raise SourceError(
            f"{name} says its size as W{values.get('W', '')} H{values.get('H', '')}; "
            f"expected pixels from 1 to {LARGEST_SIDE_PX}."
        )
    # Before C there was XYSCSS, and both may stand there.
    chroma = values.get("C") or extras.get("YSCSS", "420").lower()
    if chroma not in _Y4M_FORMATS:
        raise SourceError(
            f"{name} is YUV4MPEG2 of the kind C{chroma}; expected one of "
            f"{', '.join('C' + kind for kind in _Y4M_FORMATS)}: tell the command to write yuv420p "
            "(ffmpeg: -pix_fmt yuv420p)."
        )
    # FFmpeg's extension, as from an MJPEG camera
    full_range = extras.get("COLORRANGE") == "FULL"
    rate_hz = _rate(values.get("F", "0:0"), name)
    return RawVideo(width, height, _Y4M_FORMATS[chroma], full_range), rate_hz


def _side(text: str) -> int:
    """Pixels; 0 for what is no size."""
    value = int(text) if re.fullmatch("[0-9]{1,5}", text) else 0
    return value if value <= LARGEST_SIDE_PX else 0


def _rate(text: str, name: str) -> float | None:
    ratio = re.fullmatch("([0-9]{1,10}):([0-9]{1,10})", text)
    if ratio is None:
        raise SourceError(f"{name} says its rate as F{text}; expected a ratio such as F30:1.")
    above, below = int(ratio[1]), int(ratio[2])
    return above / below if above and below else None


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
