"""A ``pipe:`` command that is to give frames for ever: run again when it ends, fails or stalls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.capture.command import CommandOutput
from shiftedge.runtime.capture.events import EventHandler, Sparing, log_event
from shiftedge.runtime.capture.live import Retry, try_again
from shiftedge.runtime.capture.pipe import PipeCommand, PipeSource
from shiftedge.runtime.errors import SourceError, SourceLostError

__all__ = ["RestartedPipe"]


class RestartedPipe(FrameSource):
    """Frames of a command that is started again; the time goes on while it is away.

    Args:
        pipe: the command and what it writes.
        retry: how long it may stay away.
        stall_s: see :class:`PipeSource`.
        on_event: told in a sentence when it ended, at growing intervals that it still does not
            give frames, and when it does.
        clock: monotonic seconds.
        wait: waits for that many seconds, True if the source was closed meanwhile.

    Raises:
        SourceError: it gave no frame within ``retry.first_limit_s``.
    """

    live = True

    def __init__(
        self,
        pipe: PipeCommand,
        retry: Retry,
        *,
        stall_s: float = 10.0,
        on_event: EventHandler = log_event,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self.name = pipe.name
        self._pipe = pipe
        self._retry = retry
        self._stall_s = stall_s
        self._report = on_event
        self._news = Sparing(on_event, clock)
        self._clock = clock
        self._closing = threading.Event()
        self._wait = wait or self._closing.wait
        self._changing = threading.Lock()
        self._output: CommandOutput | None = None
        try:
            self._source: PipeSource | None = self._start()
        except SourceError as error:
            self._source = self._again(error, retry.first_limit_s)
        self.rate_hz = None if self._source is None else self._source.rate_hz

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames until the source is closed.

        Raises:
            SourceLostError: the command gave no frame for ``retry.limit_s``.
        """
        begin_s: float | None = None
        index = 0
        while self._source is not None and not self._closing.is_set():
            why = None
            try:
                for frame in self._source:
                    now_s = self._clock()
                    begin_s = now_s if begin_s is None else begin_s
                    yield TimedFrame(frame.image, now_s - begin_s, index)
                    index += 1
            except SourceError as error:
                why = error
            ended = why or SourceError(f"The command of {self.name} ended after {index} frames.")
            self._source.close()
            try:
                self._source = self._again(ended, self._retry.limit_s)
            except SourceError as error:
                raise SourceLostError(
                    f"The command of {self.name} did not come back after {index} frames. {error}"
                ) from error

    def close(self) -> None:
        self._closing.set()
        with self._changing:
            output = self._output
        if output is not None:
            output.close()

    def _again(self, error: SourceError, limit_s: float) -> PipeSource | None:
        """Start it after growing pauses; None once this source is closed."""
        if self._closing.is_set():
            return None
        self.away = True
        source = try_again(
            self._start,
            error,
            limit_s,
            retry=self._retry,
            news=self._news,
            clock=self._clock,
            wait=lambda pause_s: self._wait(pause_s) or self._closing.is_set(),
        )
        self.away = False
        if source is not None:
            self._news.over(f"The command of {self.name} gives frames again.")
        return source

    def _start(self) -> PipeSource:
        """Run the command and wait for its first frame, within reach of :meth:`close`."""
        output = CommandOutput(self._pipe.command)
        with self._changing:
            self._output = output
        if self._closing.is_set():
            output.close()
        return PipeSource(
            self._pipe,
            output=output,
            stall_s=self._stall_s,
            on_event=self._report,
            clock=self._clock,
        )
