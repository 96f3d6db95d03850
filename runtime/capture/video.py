"""A recorded video: a file, or one that a web server hands out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import (
    EventHandler,
    FrameSource,
    Handle,
    TimedFrame,
    as_bgr,
    log_event,
    opencv,
)
from shiftedge.runtime.capture.container import (
    CODECS,
    DECODED,
    Container,
    fourcc_text,
    read_container,
)
from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.process.files import utf8_path

DEFAULT_RATE_HZ = 25.0
"""Assumed where the container gives no rate; FFmpeg assumes the same."""
FASTEST_RATE_HZ = 240.0
"""A nominal rate above is the container's clock: 1000 in the WebM files of browsers."""
MEASURED_FRAMES = 64
"""Whose stamps give the rate then: two seconds of them, since browsers' stamps jitter."""
LONGEST_PAUSE_S = 60.0
"""A longer step between two frames is a damaged time stamp, not a pause, ..."""
LONGEST_CREDIBLE_S = 3600.0
"""... but for one that ends within the length of the recording, and then this is the limit."""
LONGEST_STEP_BACK_S = 1.0
"""Frames out of order; a longer step back is a clock that begins anew."""
MOST_HELD = 8
"""Frames in a row that may have one time; more are stamps that have stopped."""
WHOLE = 0.9
"""Share of the frames and of the length below which a recording may have lost something."""
SLACK_FRAMES = 3
"""The fewest that count as lost: edits of a container end between frames."""
HEAD_BYTES = 512
CONTROL_BYTES = frozenset((*range(9), *range(14, 27), *range(28, 32)))
"""Bytes that nearly every video has in its first half kilobyte and text has nowhere: all below the
space but white space and escape."""
Y4M = b"YUV4MPEG2 "
"""The one kind that begins with a line of text, behind which bright pixels may look like more."""
_RATE_HINT = "add the true rate, as in {}?fps=30"
_READABLE = "a video such as .mp4, .avi, .mkv, .webm or .gif"


class RecordingTimes:
    """Turns a container's time stamps into times that start at 0 and never go back.

    Two frames with one stamp, or out of order by a little, keep the last time, so that later ones
    still have their true times. A stamp that is no number, or jumps back or by more than
    :data:`LONGEST_PAUSE_S`, counts as one frame period after the last; later stamps are taken
    relative to it. A container without stamps (all 0) thus yields index / rate.

    Args:
        rate_hz: frames per second.
        length_s: of the recording as it says itself: a long pause that ends before is one.
    """

    def __init__(self, rate_hz: float, length_s: float = 0.0) -> None:
        self._period_s = 1.0 / rate_hz
        self._length_s = length_s
        self._origin_s: float | None = None
        self._last_s = 0.0
        self._held: int | None = None  # frames that kept the last time; None: no stamp has moved

    def stamp(self, position_ms: float) -> float:
        """Return the next frame's time in seconds, given the container's in milliseconds."""
        position_s = position_ms / 1000.0
        if self._origin_s is None:
            self._origin_s = position_s if math.isfinite(position_s) else 0.0
            return 0.0
        step_s = position_s - self._origin_s - self._last_s
        longest_s = max(LONGEST_PAUSE_S, min(self._length_s - self._last_s, LONGEST_CREDIBLE_S))
        if 0.0 < step_s <= longest_s:
            self._last_s += step_s
            self._held = 0
        elif self._held is None and position_s == self._origin_s:
            self._last_s += self._period_s  # no stamp has moved yet, and perhaps none will
        elif (self._held or 0) < MOST_HELD and -LONGEST_STEP_BACK_S < step_s <= 0.0:
            self._held = (self._held or 0) + 1
        else:
            self._last_s += self._period_s
            if math.isfinite(position_s):
                self._origin_s = position_s - self._last_s
        return self._last_s


class VideoFile(FrameSource):
    """Frames of an opened recording, with the container's times.

    Args:
        capture: an opened ``cv2.VideoCapture`` or its like; closed with this source.
        rate_hz: frames per second of a stream without a container, whose times are then
            index / rate; None takes what FFmpeg says.
        measured_hz: the rate by the stamps of some frames, for a container whose nominal rate is
            not one.
        rate_hint: how the user gives the rate of a stream without times; None: as an option
            behind its name.
        on_event: told when a recording ended earlier than it announces, which may be damage.

    Raises:
        SourceError: it holds no frame, is a single picture, or has times of its own and a rate was
            given.
    """

    live = False

    def __init__(
        self,
        capture: Any,
        name: str,
        *,
        container: Container | None = None,
        rate_hz: float | None = None,
        measured_hz: float | None = None,
        rate_hint: str | None = None,
        on_event: EventHandler = log_event,
    ) -> None:
        cv2 = opencv()
        self.name = name
        self._container = container or Container()
        self._report = on_event
        self._position_property = cv2.CAP_PROP_POS_MSEC
        self._handle: Handle[Any] = Handle(capture, lambda device: device.release())
        self._given_rate = rate_hz is not None
        self.rate_hz = rate_hz or nominal_rate(capture) or measured_hz
        announced = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._announced = int(announced) if 0.0 < announced < 2**31 else 0
        codec = int(capture.get(cv2.CAP_PROP_FOURCC))
        # Two frames at once: only the second tells a video from a picture, which FFmpeg opens too.
        self._pending = [frame for frame in (self._read(), self._read()) if frame is not None]
        try:
            if not self._pending:
                raise SourceError(_not_decoded(name, self._container, codec))
            if len(self._pending) == 1 and (self._container.pictures or not self._announced):
                raise SourceError(
                    f"{name} is a single picture, not a video; give {_READABLE}, "
                    "or the folder that the pictures are in."
                )
            if self._given_rate and self._announced:
                raise SourceError(f"{name} says its frames' times itself; leave fps out.")
        except SourceError:
            self.close()
            raise
        unstamped = self._container.pictures or not any(at for _, at in self._pending)
        if not self._given_rate and not self._announced and unstamped:
            on_event(
                f"{name} has no time stamps: {self.rate_hz or DEFAULT_RATE_HZ:g} frames a second "
                f"are assumed; {rate_hint or _RATE_HINT.format(Path(name).name)}."
            )

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames until the end of the recording.

        Where the recording changes its size, OpenCV scales the later frames to the first size.

        Raises:
            SourceError: the file is shorter than it says, or its boxes list frames that cannot be
                decoded. All frames that could be were given.
        """
        rate_hz = self.rate_hz or DEFAULT_RATE_HZ
        length_s = self._container.shown_s or self._announced / rate_hz
        times = RecordingTimes(rate_hz, length_s)
        index, time_s, position_ms = 0, 0.0, 0.0
        while True:
            frame = self._pending.pop(0) if self._pending else self._read()
            if frame is None:
                break
            image, position_ms = frame
            time_s = times.stamp(0.0 if self._given_rate else position_ms)
            yield TimedFrame(image, time_s, index)
            index += 1
        with self._handle.use() as capture:
            closed = capture is None
        if not closed:
            # By the container's own clock, where that is later: frames at the beginning that need
            # others before them are not shown, and nothing is wrong.
            self._check_whole(index, max(time_s, position_ms / 1000.0))

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
        """Complain of what is missing for certain, mention what may be.

        The length that a container announces proves nothing: most editors trim a video without
        encoding it again, and then hide frames or leave the old length.
        """
        says = self._container
        rate_hz = self.rate_hz or DEFAULT_RATE_HZ
        # Before the first frame there is nothing to be lost.
        announced = max(0, self._announced - round(says.starts_s * rate_hz))
        expected = says.shown_frames or announced
        expected_s = says.shown_s or expected / rate_hz
        ended_s = last_s + 1.0 / rate_hz
        missing = (
            f"; the file ends {says.missing_bytes:,} bytes early" if says.missing_bytes else ""
        )
        words = (
            f"it ended after {frames} frames ({ended_s:.1f} s) and announces {expected} "
            f"({expected_s:.1f} s){missing}"
        )
        lost = frames < min(WHOLE * expected, expected - SLACK_FRAMES + 1)
        if lost and ended_s < WHOLE * expected_s:
            if says.missing_bytes or says.shown_frames is not None:
                raise SourceError(
                    f"{self.name} is cut short or damaged: {words}; copy or record it again."
                )
            self._report(f"{self.name} was trimmed, or is damaged: {words}.")
        elif says.missing_bytes and not expected:
            raise SourceError(
                f"{self.name} is cut short: it ended after {frames} frames ({ended_s:.1f} s)"
                f"{missing}; copy or record it again."
            )
        elif says.missing_bytes:
            self._report(f"{self.name} is not whole: {words}.")


def nominal_rate(capture: Any) -> float | None:
    """Frames per second as the container has it; None where that is no rate of frames."""
    rate_hz = float(capture.get(opencv().CAP_PROP_FPS))
    return rate_hz if 0.0 < rate_hz <= FASTEST_RATE_HZ else None


def _measured_rate(capture: Any) -> float | None:
    """The mean rate of the first frames by their stamps."""
    position = opencv().CAP_PROP_POS_MSEC
    stamps: list[float] = []
    while len(stamps) < MEASURED_FRAMES and capture.grab():
        stamps.append(float(capture.get(position)) / 1000.0)
    length_s = stamps[-1] - stamps[0] if stamps else 0.0
    return (len(stamps) - 1) / length_s if 0.0 < length_s < math.inf else None


def open_video(
    path: str | Path,
    *,
    rate_hz: float | None = None,
    rate_hint: str | None = None,
    on_event: EventHandler = log_event,
) -> VideoFile:
    """Open a video file (any format that OpenCV's FFmpeg reads, GIF included).

    Args:
        rate_hz: frames per second of a raw stream (``.h264``), which has no times.

    Raises:
        SourceError: the file cannot be read, is empty, or is not a video; of one whose codec this
            OpenCV lacks, the sentence names it.
        MissingExtraError: OpenCV is not installed.
    """
    name = str(path)
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
        if not head:
            raise SourceError(f"{name} is an empty file; give {_READABLE}.")
        if not head.startswith(Y4M) and not any(byte in CONTROL_BYTES for byte in head):
            # FFmpeg would play a .txt as a film of a terminal, and follow a playlist's paths.
            raise SourceError(f"{name} is not a video but text; give {_READABLE}.")
        capture = _capture(path)
        container = read_container(path)
        if not capture.isOpened():
            capture.release()
            raise SourceError(_not_opened(name, container))
        measured_hz = None
        if nominal_rate(capture) is None and rate_hz is None:
            measuring = _capture(path)
            measured_hz = _measured_rate(measuring)
            measuring.release()
    except OSError as error:
        raise SourceError(f"Cannot read {name}: {error.strerror or error}.") from error
    return VideoFile(
        capture,
        name,
        container=container,
        rate_hz=rate_hz,
        measured_hz=measured_hz,
        rate_hint=rate_hint,
        on_event=on_event,
    )


def _capture(path: str | Path) -> Any:
    cv2 = opencv()
    has_ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
    # An absolute path, since FFmpeg takes what stands before a colon for a protocol. And FFmpeg by
    # name: OpenCV's own choice may fall to its reader of numbered pictures.
    with utf8_path(path) as name:
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)


def _not_opened(name: str, container: Container) -> str:
    if container.lacks == "index":
        return (
            f"{name} is cut short: the list of its frames, which an MP4 cannot be played without "
            "and which is often written last, is not in it; copy or record it again."
        )
    if container.lacks == "video":
        return f"{name} holds no video, only sound or the like; give {_READABLE}."
    if container.codec_name is None or container.missing_bytes:
        return f"{name} is not a video, or is damaged at its beginning; give {_READABLE}."
    return _cannot(name, container.codec_name)


def _not_decoded(name: str, container: Container, fourcc: int) -> str:
    """Why no frame came. FFmpeg knows the names of many codecs that it cannot decode."""
    codec = container.codec_name
    if codec is None:
        codec = Container(fourcc_text((fourcc & 0xFFFFFFFF).to_bytes(4, "little"))).codec_name
    if codec is None:
        return f"{name} holds no frame that can be decoded; give {_READABLE}."
    return _cannot(name, codec)


def _cannot(name: str, codec: str) -> str:
    if codec in DECODED:
        return (
            f"{name} holds no frame of {codec} that can be decoded: it is damaged, or was cut "
            "where no picture is whole; copy or record it again."
        )
    convert = (
        "save it as GIF or MP4"
        if codec == CODECS["webp"]
        else "convert it: ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p FILE.mp4"
    )
    return (
        f"{name} holds {codec}, of which this OpenCV decodes no frame: it lacks the decoder, or "
        f"the file is damaged; {convert}."
    )
