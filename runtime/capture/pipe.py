"""``pipe:COMMAND``: raw video from a command's standard output.

This is the way in for cameras that OpenCV cannot open::

    pipe:[size=1280x720,format=nv12,fps=30] gst-launch-1.0 -q nvarguscamerasrc !
        'video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1' ! nvvidconv !
        'video/x-raw,format=NV12' ! fdsink                              (Jetson, CSI)
    pipe:[size=640x480,format=yuv420p,fps=30] rpicam-vid -n -t 0 --codec yuv420
        --width 640 --height 480 --framerate 30 -o -                    (Raspberry Pi)
    pipe:ffmpeg -v error -i rtsp://camera/stream -f yuv4mpegpipe -pix_fmt yuv420p -

Options in brackets stand before the command: ``size`` and ``format`` of raw frames; without them
the command must write YUV4MPEG2, which says both itself. ``fps`` is the nominal rate. ``live=no``
is for a command that decodes a recording: no frame is dropped, and times are index / fps.

Rows must not be padded. rpicam-vid pads them to 64 bytes, so choose a width that 128 divides for
yuv420p (its colour rows are half as wide), and GStreamer to 4.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shiftedge.runtime.capture import y4m
from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.capture.command import CommandOutput, CommandStalledError
from shiftedge.runtime.capture.events import EventHandler, log_event
from shiftedge.runtime.capture.options import flag, parse_options, rate, size
from shiftedge.runtime.capture.rawvideo import FORMATS, ByteReader, RawVideo, to_bgr
from shiftedge.runtime.errors import SourceError, SourceLostError

__all__ = ["PipeCommand", "PipeSource", "parse_pipe"]

DEFAULT_RATE_HZ = 30.0
LONGEST_NAME = 60
"""Characters of the command that stand in messages."""

_OPTIONS = re.compile(r"\s*\[([^\[\]]*=[^\[\]]*)\]", re.DOTALL)


@dataclass(frozen=True)
class PipeCommand:
    """What stands behind ``pipe:``."""

    command: str
    video: RawVideo | None = None
    """None for YUV4MPEG2."""
    rate_hz: float | None = None
    live: bool = True


def parse_pipe(text: str) -> PipeCommand:
    """Parse ``[size=640x480,format=bgr24,fps=30] COMMAND`` or ``COMMAND``.

    Raises:
        SourceError: an option is wrong, half of size and format is missing, or no command follows.
    """
    match = _OPTIONS.match(text)
    command = (text[match.end() :] if match else text).strip()
    known = {"size": size, "format": _format, "fps": rate, "live": flag}
    options = parse_options(match[1] if match else "", known, f"pipe:{text}", ",")
    if not command or "\0" in command:
        raise SourceError(
            "pipe: needs a command that writes video to its standard output, such as "
            "'pipe:[size=640x480,format=bgr24,fps=30] COMMAND'."
        )
    if ("size" in options) != ("format" in options):
        raise SourceError(
            f"'pipe:{text}' needs both size and format for raw video, such as "
            "[size=640x480,format=bgr24], or neither for YUV4MPEG2."
        )
    video = None
    if "size" in options:
        width, height = options["size"]
        video = RawVideo(width, height, options["format"])
        if video.format in ("yuv420p", "nv12") and (video.width % 2 or video.height % 2):
            raise SourceError(
                f"'pipe:{text}' has an odd size; raw {video.format} needs even width and height."
            )
    return PipeCommand(command, video, options.get("fps"), options.get("live", True))


class PipeSource(FrameSource):
    """Frames that a shell command writes to its standard output.

    Args:
        pipe: the command and what it writes.
        stall_s: longest time without a whole frame, in seconds.
        on_event: told when a last frame was cut short.
        clock: monotonic seconds.

    Raises:
        SourceError: the command could not be started, failed, stalled, or wrote something else
            before its first frame.
    """

    def __init__(
        self,
        pipe: PipeCommand,
        *,
        stall_s: float = 10.0,
        on_event: EventHandler = log_event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        short = " ".join(pipe.command.split())
        self.name = f"pipe:{short if len(short) <= LONGEST_NAME else short[:LONGEST_NAME] + '…'}"
        self.live = pipe.live
        self.rate_hz = pipe.rate_hz
        self._stall_s = stall_s
        self._report = on_event
        self._clock = clock
        self._closing = threading.Event()
        self._frames = 0
        self._output = CommandOutput(pipe.command)
        self._reader = ByteReader(self._output.fill)
        self._headers = pipe.video is None
        try:
            self._video = pipe.video or self._read_header()
            self._first = self._next()
            if self._first is None:
                raise SourceError(f"The command of {self.name} ended without writing a frame.")
        except BaseException:  # Ctrl-C as well: the command must not be left behind
            self.close()
            raise

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames until the command ends; a last one that is cut short is dropped and reported.

        Raises:
            SourceError: the command failed, or what it writes is no longer YUV4MPEG2.
            SourceLostError: no whole frame came for ``stall_s`` seconds; the command was stopped.
        """
        frame, self._first = self._first, None
        start_s = frame[1] if frame is not None else 0.0
        rate_hz = self.rate_hz or DEFAULT_RATE_HZ
        while frame is not None and not self._closing.is_set():
            data, at_s = frame
            index = self._frames - 1
            time_s = at_s - start_s if self.live else index / rate_hz
            yield TimedFrame(to_bgr(self._video, data), time_s, index)
            frame = self._next()

    def close(self) -> None:
        self._closing.set()
        self._output.close()

    @property
    def process_id(self) -> int:
        """The command's process group."""
        return self._output.process_id

    def _next(self) -> tuple[bytearray, float] | None:
        """The next whole frame and when it was complete; None at the end or once closed."""
        video = self._video
        try:
            if self._frames or not self._headers:  # the first one shares the header's time limit
                self._output.expect_within(self._stall_s)
            complete = self._read_frame_header() if self._headers else True
            data = self._reader.exactly(video.frame_bytes) if complete else bytearray()
        except CommandStalledError as error:
            raise self._stalled() from error
        if self._closing.is_set():
            return None
        if len(data) == video.frame_bytes:
            self._frames += 1
            return data, self._clock()
        self._check_exit()
        if data and not self._frames:
            raise SourceError(
                f"The command of {self.name} wrote {len(data):,} bytes, less than one frame of "
                f"{video}; check size and format."
            )
        if data:
            self._report(
                f"The last frame of {self.name} was cut short ({len(data):,} of "
                f"{video.frame_bytes:,} bytes) and is dropped."
            )
        return None

    def _read_header(self) -> RawVideo:
        self._output.expect_within(self._stall_s)
        try:
            start = bytes(self._reader.exactly(len(y4m.MAGIC)))
            if start != y4m.MAGIC:
                if not self._closing.is_set() and len(start) < len(y4m.MAGIC):
                    self._check_exit()
                what = f"began with {start!r}" if start else "wrote nothing"
                raise SourceError(
                    f"The command of {self.name} {what}; expected YUV4MPEG2 (ffmpeg: "
                    "-f yuv4mpegpipe), or say what raw frames it writes: "
                    "pipe:[size=640x480,format=bgr24,fps=30] COMMAND."
                )
            line = start + self._reader.line(y4m.LONGEST_HEADER)
        except CommandStalledError as error:
            raise self._stalled() from error
        header = y4m.parse_header(line, f"The output of {self.name}")
        if self.rate_hz is None:
            self.rate_hz = header.rate_hz
        return RawVideo(header.width, header.height, header.format)

    def _read_frame_header(self) -> bool:
        """Skip the line before each frame of YUV4MPEG2; False at the end."""
        start = bytes(self._reader.exactly(len(y4m.FRAME)))
        if len(start) < len(y4m.FRAME):
            return False
        if start != y4m.FRAME:
            raise SourceError(
                f"The output of {self.name} is damaged after {self._frames} frames: expected "
                f"FRAME, got {start!r}. Does the command print messages to its standard output?"
            )
        self._reader.line(y4m.LONGEST_HEADER)
        return True

    def _check_exit(self) -> None:
        """Raise unless the command, whose output has ended, says that all went well."""
        status, complaint = self._output.finish()
        if status == 0 or self._closing.is_set():
            return
        why = f" and said: {complaint}" if complaint else ""
        if status == 127:
            what = "was not found"  # the shell's status for it (POSIX sh, 2.8.2)
        elif status < 0:
            what = f"was ended by {signal.Signals(-status).name}"
        else:
            what = f"failed with exit status {status}"
        raise SourceError(f"The command of {self.name} {what} after {self._frames} frames{why}")

    def _stalled(self) -> SourceError:
        self.close()
        kind = SourceLostError if self._frames else SourceError
        return kind(
            f"The command of {self.name} gave no frame for {self._stall_s:g} s after "
            f"{self._frames} frames and was stopped."
        )


def _format(text: str) -> str:
    if text not in FORMATS:
        raise ValueError(f"one of {', '.join(FORMATS)}")
    return text
