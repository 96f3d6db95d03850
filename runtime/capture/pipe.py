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

``range=full`` says that YUV goes from 0 to 255, as from an MJPEG camera, instead of 16 to 235;
YUV4MPEG2 says it itself, unless this is given. ``stride=1344`` says how many bytes there are from
one row to the next where rows are padded: rpicam-vid pads those of Y to 64 (1296 to 1344),
GStreamer to 4.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import EventHandler, FrameSource, TimedFrame, log_event
from shiftedge.runtime.capture.command import CommandOutput, CommandStalledError
from shiftedge.runtime.capture.options import (
    flag,
    full_range,
    parse_options,
    rate,
    size,
    whole_number,
)
from shiftedge.runtime.capture.rawvideo import (
    FORMATS,
    HALVED,
    Y4M_FRAME,
    Y4M_LONGEST_HEADER,
    Y4M_MAGIC,
    ByteReader,
    RawVideo,
    parse_y4m_header,
    to_bgr,
    what_fits,
)
from shiftedge.runtime.capture.retry import Restarted, Retry
from shiftedge.runtime.errors import SourceError, SourceLostError

DEFAULT_RATE_HZ = 30.0
LARGEST_STRIDE_BYTES = 1 << 17
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
    full_range: bool | None = None
    """Of YUV4MPEG2; None believes its header."""

    @property
    def name(self) -> str:
        """For messages."""
        short = " ".join(self.command.split())
        return f"pipe:{short if len(short) <= LONGEST_NAME else short[:LONGEST_NAME] + '…'}"


def parse_pipe(text: str) -> PipeCommand:
    """Parse ``[size=640x480,format=bgr24,fps=30] COMMAND`` or ``COMMAND``.

    Raises:
        SourceError: an option is wrong, half of size and format is missing, or no command follows.
    """
    match = _OPTIONS.match(text)
    command = (text[match.end() :] if match else text).strip()
    known = {
        **{"size": size, "format": _format, "fps": rate, "live": flag},
        **{"range": full_range, "stride": whole_number},
    }
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
    return PipeCommand(
        command,
        _raw_video(options, text),
        options.get("fps"),
        options.get("live", True),
        options.get("range"),
    )


def _raw_video(options: dict[str, Any], text: str) -> RawVideo | None:
    if "size" not in options:
        if "stride" in options:
            raise SourceError(f"'pipe:{text}' has a stride without size and format; add both.")
        return None
    (width, height), form = options["size"], options["format"]
    video = RawVideo(
        width, height, form, options.get("range", False), stride=options.get("stride", 0)
    )
    if form in HALVED and (width % 2 or height % 2):
        raise SourceError(f"'pipe:{text}' has an odd size; raw {form} needs even width and height.")
    if "range" in options and form not in HALVED:
        raise SourceError(f"'pipe:{text}' has a range; only yuv420p and nv12 have one.")
    if "stride" in options and not video.row_bytes <= video.stride <= LARGEST_STRIDE_BYTES:
        raise SourceError(
            f"'pipe:{text}' has rows of {video.stride} bytes; expected from {video.row_bytes}, "
            f"which the pixels take, to {LARGEST_STRIDE_BYTES}."
        )
    if form in HALVED and video.stride % 2:
        raise SourceError(f"'pipe:{text}' has an odd stride; {form} needs an even one.")
    return video


class PipeSource(FrameSource):
    """Frames that a shell command writes to its standard output.

    Args:
        output: of that command, where it runs already; closed with this source.
        stall_s: longest time without a whole frame, in seconds.
        on_event: told when the last frame of YUV4MPEG2 was cut short.

    Raises:
        SourceError: the command could not be started, failed, stalled, or wrote something else
            before its first frame.
    """

    def __init__(
        self,
        pipe: PipeCommand,
        *,
        output: CommandOutput | None = None,
        stall_s: float = 10.0,
        on_event: EventHandler = log_event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = pipe.name
        self.live = pipe.live
        self.rate_hz = pipe.rate_hz
        self._stall_s = stall_s
        self._report = on_event
        self._clock = clock
        self._closing = threading.Event()
        self._frames = 0
        self._output = output or CommandOutput(pipe.command)
        self._reader = ByteReader(self._output.fill)
        self._headers = pipe.video is None
        self._pipe = pipe
        # Of a recording: frame `first` has the time `start_s`, the next ones follow at the rate.
        self._start_first = 0.0, 0
        try:
            self._video = pipe.video or self._read_header()
            self._first = self._next()
            if self._first is None:
                raise SourceError(f"The command of {self.name} ended without writing a frame.")
        except BaseException:  # Ctrl-C as well: the command must not be left behind
            self.close()
            raise

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames until the command ends. YUV4MPEG2 may begin anew with another size.

        A last frame of it that is cut short is dropped and reported.

        Raises:
            SourceError: the command failed, what it writes is no longer YUV4MPEG2, or the raw
                frames were of another size or format: their bytes are no whole number of frames.
            SourceLostError: no whole frame came for ``stall_s`` seconds; the command was stopped.
        """
        frame, self._first = self._first, None
        start_s = frame[1] if frame is not None else 0.0
        while frame is not None and not self._closing.is_set():
            data, at_s = frame
            index = self._frames - 1
            time_s = at_s - start_s if self.live else self._recorded_s(index)
            taken_s = at_s if self.live else None
            yield TimedFrame(to_bgr(self._video, data), time_s, index, taken_s)
            frame = self._next()

    def close(self) -> None:
        self._closing.set()
        self._output.close()

    @property
    def process_id(self) -> int:
        """The command's process group."""
        return self._output.process_id

    def _recorded_s(self, index: int) -> float:
        start_s, first = self._start_first
        return start_s + (index - first) / (self.rate_hz or DEFAULT_RATE_HZ)

    def _next(self) -> tuple[bytearray, float] | None:
        """The next whole frame and when it was complete; None at the end or once closed."""
        try:
            if self._frames or not self._headers:  # the first one shares the header's time limit
                self._output.expect_within(self._stall_s)
            complete = self._read_frame_header() if self._headers else True
            video = self._video  # which the header may have changed
            data = self._reader.exactly(video.frame_bytes) if complete else bytearray()
        except CommandStalledError as error:
            raise self._stalled() from error
        except MemoryError as error:
            self.close()
            raise SourceError(
                f"There is no memory for a frame of {self._video} of {self.name}; check the size."
            ) from error
        if self._closing.is_set():
            return None
        if len(data) == video.frame_bytes:
            self._frames += 1
            return data, self._clock()
        self._check_exit()
        if data and not self._headers:
            total = self._frames * video.frame_bytes + len(data)
            raise SourceError(
                f"The output of {self.name} ended inside a frame: {what_fits(video, total)}"
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
            start = bytes(self._reader.exactly(len(Y4M_MAGIC)))
            if start != Y4M_MAGIC:
                if not self._closing.is_set() and len(start) < len(Y4M_MAGIC):
                    self._check_exit()
                what = f"began with {start!r}" if start else "wrote nothing"
                raise SourceError(
                    f"The command of {self.name} {what}; expected YUV4MPEG2 (ffmpeg: "
                    "-f yuv4mpegpipe), or say what raw frames it writes: "
                    "pipe:[size=640x480,format=bgr24,fps=30] COMMAND."
                )
            return self._begin(start)
        except CommandStalledError as error:
            raise self._stalled() from error

    def _begin(self, start: bytes) -> RawVideo:
        """Read the rest of a stream's header."""
        line = start + self._reader.line(Y4M_LONGEST_HEADER)
        video, rate_hz = parse_y4m_header(line, f"The output of {self.name}")
        if self._pipe.rate_hz is None:
            self._start_first = self._recorded_s(self._frames), self._frames
            self.rate_hz = rate_hz
        given = self._pipe.full_range
        return video if given is None else replace(video, full_range=given)

    def _read_frame_header(self) -> bool:
        """Skip the line before each frame of YUV4MPEG2; False at the end.

        A new stream's header may come instead: the command was restarted by a loop of the shell,
        or its camera has changed its size.
        """
        while True:
            start = bytes(self._reader.exactly(len(Y4M_FRAME)))
            if len(start) < len(Y4M_FRAME):
                return False
            if not Y4M_MAGIC.startswith(start):
                break
            start += bytes(self._reader.exactly(len(Y4M_MAGIC) - len(start)))
            if start != Y4M_MAGIC:
                break
            self._video = self._begin(start)
        if start != Y4M_FRAME:
            raise SourceError(
                f"The output of {self.name} is damaged after {self._frames} frames: expected "
                f"FRAME, got {start!r}. Does the command print messages to its standard output?"
            )
        self._reader.line(Y4M_LONGEST_HEADER)
        return True

    def _check_exit(self) -> None:
        """Raise unless the command, whose output has ended, says that all went well."""
        status, complaint = self._output.finish()
        if status == 0 or self._closing.is_set():
            return
        why = f" and said: {complaint.rstrip('.')}" if complaint else ""
        if status == 127:
            what = "was not found"  # the shell's status for it (POSIX sh, 2.8.2)
        elif status < 0:
            what = f"was ended by {_signal_name(-status)}"
        else:
            what = f"failed with exit status {status}"
        sentence = f"The command of {self.name} {what} after {self._frames} frames{why}"
        raise SourceError(sentence if sentence.endswith((".", "!", "?")) else f"{sentence}.")

    def _stalled(self) -> SourceError:
        self.close()
        kind = SourceLostError if self._frames else SourceError
        return kind(
            f"The command of {self.name} gave no frame for {self._stall_s:g} s after "
            f"{self._frames} frames and was stopped."
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, most of which have no name
        return f"signal {number}"


def _format(text: str) -> str:
    if text not in FORMATS:
        raise ValueError(f"one of {', '.join(FORMATS)}")
    return text


class RestartedPipe(Restarted):
    """Frames of a command that is to give them for ever: run again when it ends, fails or stalls.

    Raises:
        SourceError: it gave no frame within ``retry.first_limit_s``.
    """

    def __init__(
        self,
        pipe: PipeCommand,
        retry: Retry | None,
        *,
        stall_s: float = 10.0,
        on_event: EventHandler = log_event,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
        closing: threading.Event | None = None,
    ) -> None:
        self.rate_hz = None
        self._pipe = pipe
        self._stall_s = stall_s
        self._report = on_event
        self._changing = threading.Lock()
        self._output: CommandOutput | None = None
        self._frames: Iterator[TimedFrame] = iter(())
        subject = f"The command of {pipe.name}"
        super().__init__(pipe.name, subject, retry, on_event, clock, wait, closing)

    def close(self) -> None:
        self._closing.set()
        with self._changing:
            output = self._output
        if output is not None:
            output.close()

    def _connect(self) -> None:
        """Run the command and wait for its first frame, within reach of :meth:`close`."""
        output = CommandOutput(self._pipe.command)
        with self._changing:
            self._output = output
        if self._closing.is_set():
            output.close()
        source = PipeSource(
            self._pipe,
            output=output,
            stall_s=self._stall_s,
            on_event=self._report,
            clock=self._clock,
        )
        self._frames, self.rate_hz = iter(source), source.rate_hz

    def _take(self) -> tuple[NDArray[np.uint8], float]:
        try:
            return next(self._frames).image, self._clock()
        except (StopIteration, SourceError) as error:
            if self._output is not None:
                self._output.close()
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{self._subject} ended after {self._given} frames.") from None
