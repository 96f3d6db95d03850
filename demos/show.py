"""The demo loop: a source through a model, live, with each gesture told when it happens."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.report import Report
from shiftedge.demos.screen import Screen, ScreenLostError
from shiftedge.runtime.capture import Retry, open_source
from shiftedge.runtime.capture.reader import ReadAhead
from shiftedge.runtime.errors import ShiftedgeError, SourceError
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.live.score import score
from shiftedge.runtime.live.session import Observed, Session
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.signals import ending, exit_status, interrupts

if TYPE_CHECKING:
    from shiftedge.demos.paint import Image
    from shiftedge.demos.presenter import Presenter
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


class Shown(Protocol):
    """What the loop needs of a window; see :class:`shiftedge.demos.screen.Screen`."""

    def show(self, canvas: Image, /) -> bool:
        """False once the user wants to end; :class:`ScreenLostError` when it is gone."""

    def close(self) -> None:
        """Give the window back."""


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
    open_screen: Callable[[], Shown] | None = None,
    retry: Retry | None = None,
) -> Report:
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
        open_screen: opens the window; None is :class:`shiftedge.demos.screen.Screen`.
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
            screen = stack.enter_context(contextlib.closing((open_screen or Screen)()))
        _warm_up(model)
        source = open_source(source_text, on_event=on_note, retry=retry)
        truth = tuple(getattr(source, "truth", ()))
        if not source.live:
            source = ReadAhead(source)
        decoder = GestureDecoder(model.spec)  # within reach, since its probabilities are shown
        session = Session(model, source, realtime=realtime, on_note=on_note, decoder=decoder)
        run = _Run(session, decoder, film, truth, screen, on_event or _ignore, on_note)
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
        return Report(
            source=source_text,
            model=model.spec.name,
            engine=_engine(model),
            seconds=run.last_s - run.first_s,
            numbers=session.summary(),
            events=tuple(run.events),
            ended=ended,
            score=score(tuple(run.events), truth, run.last_s) if truth else None,
            film=film if run.frames else None,
            error=error,
            status=status,
        )


class _Run:
    """Follows a session and hands on what is to be seen."""

    def __init__(
        self,
        session: Session,
        decoder: GestureDecoder,
        film: Path | None,
        truth: tuple[TrueEvent, ...],
        screen: Shown | None,
        on_event: Watcher,
        on_note: Callable[[str], None],
    ) -> None:
        self.events: deque[GestureEvent] = deque(maxlen=None if truth else EVENTS_MOST)
        self.frames = 0
        self.first_s = 0.0
        self.last_s = 0.0
        self._session = session
        self._film = film
        self._truth = truth
        self._screen = screen
        self._on_event = on_event
        self._on_note = on_note
        self._presenter: Presenter | None = None
        self._recent_s: deque[float] = deque(maxlen=RECENT_STEPS)
        self._decoder = decoder

    def follow(self, limit_s: float | None) -> str:
        """Take frames until there is a reason to end; returns it."""
        for observed in self._session:
            result, time_s = observed.result, observed.frame.time_s
            if self.frames == 0:
                self.first_s = time_s
            self.frames += 1
            self.last_s = time_s
            if result.steps:
                self._recent_s.append(result.step_s / result.steps)
            if result.event is not None:
                self.events.append(result.event)
                self._on_event(result.event, self._step_s())
            if not self._present(observed):
                return "closed"
            if limit_s is not None and time_s - self.first_s >= limit_s:
                return "limit"
        return "end"

    def _present(self, observed: Observed) -> bool:
        """Film and show a frame; False once the user has closed the window."""
        if self._film is None and self._screen is None:
            return True
        from shiftedge.demos.overlay import Moment

        frame = observed.frame
        if self._presenter is None:
            self._presenter = self._open_presenter(frame.image)
        moment = Moment(
            time_s=frame.time_s,
            probabilities=self._decoder.probabilities,
            event=observed.result.event,
            step_s=self._step_s(),
            dropped=frame.index + 1 - self.frames,
        )
        self._presenter.show(frame.image, moment)
        canvas = self._presenter.latest
        if self._screen is None or canvas is None:
            return True
        try:
            return self._screen.show(canvas)
        except ScreenLostError as lost:
            if self._film is None:
                raise
            self._on_note(f"{lost} The film goes on.")
            self._screen = None
            return True

    def _open_presenter(self, image: NDArray[np.uint8]) -> Presenter:
        from shiftedge.demos.overlay import Overlay
        from shiftedge.demos.presenter import Presenter

        model = self._session.model
        overlay = Overlay(
            model.spec,
            (image.shape[0], image.shape[1]),
            engine=_engine(model),
            truth=self._truth,
        )
        return Presenter(
            overlay,
            film=self._film,
            rate_hz=self._session.source.rate_hz or FILM_RATE_HZ,
            image_bytes=image.nbytes,
        )

    def _step_s(self) -> float:
        """Median time of the last steps."""
        return float(np.median(self._recent_s)) if self._recent_s else 0.0

    def close(self) -> None:
        """End the film."""
        if self._presenter is not None:
            self._presenter.close()


def _engine(model: Model) -> str:
    return f"{model.engine.name} {model.engine.version}"


def _warm_up(model: Model) -> None:
    """Take one step: the first of a model plans and allocates, and a camera would not wait."""
    model.stream().step(np.zeros((model.spec.height, model.spec.width, 3), np.uint8))


def _ignore(event: GestureEvent, step_s: float) -> None:
    pass
