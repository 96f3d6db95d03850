"""Raw video: pixel formats, and frames out of a stream of bytes that comes in any pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.opencv import opencv
from shiftedge.runtime.errors import MissingExtraError

__all__ = ["FORMATS", "ByteReader", "RawVideo", "to_bgr", "yuv_to_bgr"]

FORMATS = ("bgr24", "rgb24", "bgrx", "rgbx", "gray", "yuv420p", "nv12")
"""Pixel formats by FFmpeg's names, save bgrx and rgbx (four bytes, the last one ignored): FFmpeg's
bgr0 and bgra, GStreamer's BGRx. GStreamer calls yuv420p I420."""


@dataclass(frozen=True)
class RawVideo:
    """Size and pixel format of raw frames without padding."""

    width: int
    height: int
    format: str
    """One of :data:`FORMATS`."""

    @property
    def frame_bytes(self) -> int:
        """Size of one frame in bytes."""
        pixels = self.width * self.height
        if self.format in ("yuv420p", "nv12"):
            return pixels + 2 * ((self.width + 1) // 2) * ((self.height + 1) // 2)
        return pixels * {"gray": 1, "bgr24": 3, "rgb24": 3, "bgrx": 4, "rgbx": 4}[self.format]

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.format} ({self.frame_bytes:,} bytes)"


def to_bgr(video: RawVideo, frame: bytes | bytearray) -> NDArray[np.uint8]:
    """Convert one frame of ``video.frame_bytes`` bytes to uint8 (height, width, 3) BGR.

    YUV is taken as BT.601 with limited range, which is what rpicam-vid, FFmpeg and GStreamer write
    for sizes below 720 lines. A ``bytearray`` of bgr24 is not copied.
    """
    width, height = video.width, video.height
    flat = np.frombuffer(frame, np.uint8)
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
    if width % 2 == 0 and height % 2 == 0:
        try:
            cv2 = opencv()
        except MissingExtraError:
            pass  # a board without OpenCV: the same by numpy, some 20 times slower
        else:
            code = cv2.COLOR_YUV2BGR_I420 if video.format == "yuv420p" else cv2.COLOR_YUV2BGR_NV12
            image: NDArray[np.uint8] = cv2.cvtColor(flat.reshape(height * 3 // 2, width), code)
            return image
    return yuv_to_bgr(*_planes(video, flat))


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
