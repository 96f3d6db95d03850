"""A recorded video: a file, or one that a web server hands out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.capture.handle import Handle
from shiftedge.runtime.capture.opencv import as_bgr, opencv
from shiftedge.runtime.errors import SourceError

__all__ = ["RecordingTimes", "VideoFile", "open_video"]

DEFAULT_RATE_HZ = 25.0
"""Assumed where the container gives no rate; FFmpeg assumes the same."""
LONGEST_PAUSE_S = 60.0
"""A longer step between two frames is a damaged time stamp, not a pause."""
WHOLE = 0.9
"""Share of the announced frames and of the announced length below which a file is cut short. The
announced numbers are estimates in some containers, so a few frames less mean nothing."""
HEAD_BYTES = 512
CONTROL_BYTES = frozenset((*range(9), *range(14, 27), *range(28, 32)))
"""Bytes that every video has in its first half kilobyte and text has nowhere: all below the space
but white space and escape."""
_READABLE = "a video such as .mp4, .avi, .mkv, .webm or .gif"


class RecordingTimes:
    """Turns a container's time stamps into times that start at 0 and only grow.

    A stamp that is no number, does not grow, or jumps further than :data:`LONGEST_PAUSE_S` counts
    as one frame period after the last; later stamps are taken relative to it. A container without
    stamps (all 0) thus yields index / rate.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz
        self._origin_s: float | None = None
        self._last_s = 0.0

    def stamp(self, position_ms: float) -> float:
        """Return the next frame's time in seconds, given the container's in milliseconds."""
        position_s = position_ms / 1000.0
        if self._origin_s is None:
            self._origin_s = position_s if math.isfinite(position_s) else 0.0
            return 0.0
        step_s = position_s - self._origin_s - self._last_s
        if 0.0 < step_s <= LONGEST_PAUSE_S:
            self._last_s += step_s
        else:
            self._last_s += self._period_s
            if math.isfinite(position_s):
                self._origin_s = position_s - self._last_s
        return self._last_s


class VideoFile(FrameSource):
    """Frames of an opened recording, with the container's times.

    Args:
        capture: an opened ``cv2.VideoCapture`` or its like; closed with this source.
        name: for messages.

    Raises:
        SourceError: it holds no frame, or is a single picture.
    """

    live = False

    def __init__(self, capture: Any, name: str) -> None:
        cv2 = opencv()
        self.name = name
        self._position_property = cv2.CAP_PROP_POS_MSEC
        self._handle: Handle[Any] = Handle(capture, lambda device: device.release())
        rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
        self.rate_hz = rate_hz if 0.0 < rate_hz <= 1000.0 else None
        announced = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._announced = int(announced) if 0.0 < announced < 2**31 else 0
        # Two frames at once: only the second tells a video from a picture, which FFmpeg opens too.
        self._pending = [frame for frame in (self._read(), self._read()) if frame is not None]
        try:
            if not self._pending:
                raise SourceError(f"{name} holds no frame that can be decoded; give {_READABLE}.")
            if len(self._pending) == 1 and not self._announced:
                raise SourceError(
                    f"{name} is a single picture, not a video; give {_READABLE}, "
                    "or the folder that the pictures are in."
                )
        except SourceError:
            self.close()
            raise

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames until the end of the recording.

        Where the recording changes its size, OpenCV scales the later frames to the first size.

        Raises:
            SourceError: the recording ended well before the length that it announces. All frames
                that could be decoded were given.
        """
        times = RecordingTimes(self.rate_hz or DEFAULT_RATE_HZ)
        index, time_s = 0, 0.0
        while True:
            frame = self._pending.pop(0) if self._pending else self._read()
            if frame is None:
                break
            image, position_ms = frame
            time_s = times.stamp(position_ms)
            yield TimedFrame(image, time_s, index)
            index += 1
        with self._handle.use() as capture:
            closed = capture is None
        if not closed:
            self._check_whole(index, time_s)

    def close(self) -> None:
        self._pending = []
        self._handle.close()

    def _read(self) -> tuple[NDArray[np.uint8], float] | None:
        with self._handle.use() as capture:
            if capture is None:
                return None
            good, image = capture.read()
            if not good or image is None:
                return None
            return as_bgr(image, self.name), float(capture.get(self._position_property))

    def _check_whole(self, frames: int, last_s: float) -> None:
        if not self._announced or self.rate_hz is None:
            return
        announced_s = self._announced / self.rate_hz
        ended_s = last_s + 1.0 / self.rate_hz
        if frames < WHOLE * self._announced and ended_s < WHOLE * announced_s:
            raise SourceError(
                f"{self.name} is cut short or damaged: it ended after {frames} frames "
                f"({ended_s:.1f} s) and announces {self._announced} ({announced_s:.1f} s); "
                "copy or record it again."
            )


def open_video(path: str | Path) -> VideoFile:
    """Open a video file (any format that OpenCV's FFmpeg reads, GIF included).

    Raises:
        SourceError: the file cannot be read, is empty, or is not a video.
        MissingExtraError: OpenCV is not installed.
    """
    name = str(path)
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise SourceError(f"Cannot read {name}: {error.strerror or error}.") from error
    if not head:
        raise SourceError(f"{name} is an empty file; give {_READABLE}.")
    if not any(byte in CONTROL_BYTES for byte in head):
        # FFmpeg would play a .txt as a film of a terminal, and follow the paths in a playlist.
        raise SourceError(f"{name} is not a video but text; give {_READABLE}.")
    cv2 = opencv()
    has_ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
    # The absolute path, since FFmpeg takes what stands before a colon for a protocol. And FFmpeg
    # by name: OpenCV's own choice may fall to its reader of numbered pictures.
    capture = cv2.VideoCapture(
        str(Path(path).absolute()), cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY
    )
    if not capture.isOpened():
        raise SourceError(
            f"{name} is not a video, or is damaged at its beginning; give {_READABLE}."
        )
    return VideoFile(capture, name)
