"""The demo loop: a source through a model, live, with each gesture told when it happens."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shiftedge.demos.report import ShowReport
from shiftedge.demos.sinks import Moment, Sink
from shiftedge.demos.sinks.picture import Picture
from shiftedge.demos.sinks.screen import Screen, ScreenLostError
from shiftedge.runtime.capture import Retry, open_source
from shiftedge.runtime.capture.reader import ReadAhead
from shiftedge.runtime.errors import ShiftedgeError, SourceError
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.live.score import score
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.signals import ending, exit_status, interrupts

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import TrueEvent

FILM_RATE_HZ = 30.0
"""Where the source does not know its own rate."""
EVENTS_MOST = 10_000
"""Events kept for the report of a source without a known truth, which may be a camera that runs for
months: 2 MB of them. The last ones are; all are counted."""
RECENT_STEPS = 15
"""Steps whose median time is shown: a number that changes with every frame cannot be read."""

Watcher = Callable[[GestureEvent, float], object]
"""Told of an event when it happens, with the time of a model step of late, in seconds."""


def show(
    model: Model,
    source_text: str,
    *,
    film: Path | None = None,
    window: bool = False,
    on_event: Watcher | None = None,
    on_note: Callable[[str], None] = lambda sentence: None,
    realtime: bool = True,
    limit_s: float | None = None,
    retry: Retry | None = None,
) -> ShowReport:
    """Show a source until it ends, and say what was seen.

    In real time the newest frame is taken each time, and a frame that the model is too slow for
    is dropped, as at a camera; a recording plays at its own speed. Ctrl-C, SIGTERM and SIGHUP end
    the show early and in order: the film is finished and the report given.

    Args:
        source_text: see :data:`shiftedge.runtime.capture.source.SOURCE_FORMS`.
        film: where the annotated film goes (.mp4 or .avi), None for none.
        window: show the annotated frames on the screen too. Needs the main thread.
        on_event: told of each gesture.
        on_note: told in a sentence when the source has trouble or the states are emptied.
        realtime: False takes every frame of a recording, as fast as the model can.
        limit_s: end after so many seconds of the source's clock.
        retry: how long a source that is lost is tried again; see :class:`Retry`.

    Raises:
        SourceError: the source could not be opened or gave no frame at all. One that is lost
            later ends the show, and the error is in the report.
        OutputError: the film or the window could not be made.
        FrameError, ModelError, NumericsError: from a step.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupts())
        screen = None
        if window:
            screen = stack.enter_context(Screen())
        # The first step of a model plans and allocates, and a camera would not wait.
        model.stream().step(np.zeros((model.spec.height, model.spec.width, 3), np.uint8))
        source = open_source(source_text, on_event=on_note, retry=retry)
        truth: tuple[TrueEvent, ...] = tuple(getattr(source, "truth", ()))
        if not source.live:
            source = ReadAhead(source)
        decoder = GestureDecoder(model.spec)  # within reach, since its probabilities are shown
        session = LiveSession(model, source, realtime=realtime, on_note=on_note, decoder=decoder)
        sinks: list[Sink] = []
        if film is not None or screen is not None:
            rate_hz = session.source.rate_hz or FILM_RATE_HZ
            sinks.append(
                Picture(model, truth, film=film, rate_hz=rate_hz, screen=screen, on_note=on_note)
            )
        run = _Follower(session, decoder, sinks, on_event)
        if not truth:
            run.events = deque(maxlen=EVENTS_MOST)
        error: ShiftedgeError | None = None
        status = 0
        try:
            ended = run.follow(limit_s)
        except KeyboardInterrupt as signalled:
            ended, status = "interrupted", exit_status(signalled, endless=True)
        except (SourceError, ScreenLostError) as lost:
            if not run.frames:
                raise
            ended, error = "lost", lost
        finally:
            with ending(), contextlib.closing(run):  # a second Ctrl-C must not cost the film
                session.close()
        return ShowReport(
            source=source_text,
            model=model.spec.name,
            engine=f"{model.engine.name} {model.engine.version}",
            seconds=run.last_s - run.first_s,
            numbers=session.summary(),
            events=tuple(run.events),
            ended=ended,
            score=score(tuple(run.events), truth, run.last_s) if truth else None,
            film=film if run.frames else None,
            error=error,
            status=status,
        )


@dataclass
class _Follower:
    """Follows a session and hands on what is to be seen."""

    session: LiveSession
    decoder: GestureDecoder
    sinks: list[Sink]
    on_event: Watcher | None
    events: deque[GestureEvent] = field(default_factory=deque)
    frames: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    def follow(self, limit_s: float | None) -> str:
        """Take frames until there is a reason to end; returns it."""
        recent_s: deque[float] = deque(maxlen=RECENT_STEPS)
        for frame, result in self.session:
            if self.frames == 0:
                self.first_s = frame.time_s
            self.frames += 1
            self.last_s = frame.time_s
            if result.steps:
                recent_s.append(result.step_s / result.steps)
            step_s = float(np.median(recent_s)) if recent_s else 0.0
            if result.event is not None:
                self.events.append(result.event)
                if self.on_event is not None:
                    self.on_event(result.event, step_s)
            moment = Moment(
                time_s=frame.time_s,
                probabilities=self.decoder.probabilities,
                event=result.event,
                step_s=step_s,
                dropped=frame.index + 1 - self.frames,
            )
            going = [sink.take(frame.image, moment) for sink in self.sinks]
            if not all(going):
                return "closed"
            if limit_s is not None and frame.time_s - self.first_s >= limit_s:
                return "limit"
        return "end"

    def close(self) -> None:
        """End the sinks."""
        with contextlib.ExitStack() as stack:
            for sink in self.sinks:
                stack.callback(sink.close)
