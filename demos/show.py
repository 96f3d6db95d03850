"""The loop of ``run`` and ``demo``: sources through a model, live, into any number of sinks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shiftedge.demos.health import Health
from shiftedge.demos.report import CameraReport, ShowReport
from shiftedge.demos.sinks import Account, Moment, Note, Sink
from shiftedge.demos.sinks.outlet import Outlet
from shiftedge.demos.sinks.screen import ScreenLostError
from shiftedge.runtime.capture import FrameSource, Retry, TimedFrame, open_source
from shiftedge.runtime.capture.network import without_password
from shiftedge.runtime.capture.reader import Late
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.live.score import score
from shiftedge.runtime.live.session import LiveSession, watch
from shiftedge.runtime.live.stream import Result
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.notify import Notifier
from shiftedge.runtime.process.signals import Closing, ending, exit_status, interrupts
from shiftedge.runtime.process.streams import ReaderGoneError
from shiftedge.runtime.words import encodable

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import TrueEvent

EVENTS_MOST = 10_000
"""Events kept for the report of a source without a known truth, which may be a camera that runs for
months: 2 MB of them. The last ones are; all are counted."""
RECENT_STEPS = 15
"""Steps whose median time is shown: a number that changes with every frame cannot be read."""


@dataclass(frozen=True)
class Watched:
    """One of the sources of a show."""

    text: str
    """See :data:`shiftedge.runtime.capture.source.SOURCE_FORMS`."""
    name: str | None = None
    """Of the camera; None: the text, without its password."""
    retry: Retry | None = None
    """How long it is tried again once it is lost."""
    opener: Callable[[], FrameSource] | None = None
    """Opens it, where it is none that a text could say."""

    @property
    def camera(self) -> str:
        """What events call it."""
        return encodable(self.name or without_password(self.text))


RELOAD = "reload"
"""What the report calls it where the show ended to begin anew with other settings."""


@dataclass(frozen=True)
class Renewal:
    """A change while a show goes on."""

    sinks: Sequence[Sink] | None
    """All from now on: those that were there go on, others are ended with what they still hold, new
    ones begin. None: the show ends, to begin anew with other sources or another model."""


def show(
    model: Model,
    sources: Sequence[Watched],
    sinks: Sequence[Sink] = (),
    *,
    on_note: Note = lambda sentence: None,
    realtime: bool = True,
    limit_s: float | None = None,
    renewal: Callable[[], Renewal | None] = lambda: None,
    manager: Notifier | None = None,
) -> ShowReport:
    """Show sources until they end, and say what was seen.

    In real time the newest frame is taken each time, and a frame that the model is too slow for
    is dropped, as at a camera; a recording plays at its own speed, and so it does beside other
    sources. No sink delays a step then: what one is too slow for it misses. Ctrl-C, SIGTERM and
    SIGHUP end the show early and in order: films are finished and the report given.

    Of several sources, one that cannot be opened or fails leaves the others running.

    Args:
        sinks: closed at the end. The show ends when the last of those that are ``needed`` has.
        on_note: told in a sentence when a source or a sink has trouble or states are emptied.
        realtime: False takes every frame of a recording, as fast as the model and the sinks can.
        limit_s: end after so many seconds of a source's clock.
        renewal: asked before each frame, and once a second while there is none, whether
            something is to change.
        manager: told how the show is. A source is then opened while the show goes on, since a
            service is up before its camera is there.

    Raises:
        SourceError: the source could not be opened or gave no frame at all. One that is lost
            later ends the show, and the error is in the report.
        OutputError: a sink cannot do what it is for.
        FrameError, ModelError, NumericsError: from the first step.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupts())
        # The first step of a model plans and allocates, and a camera would not wait.
        model.stream().step(np.zeros((model.spec.height, model.spec.width, 3), np.uint8))
        realtime = realtime or len(sources) > 1 or manager is not None
        try:
            late = len(sources) > 1 or manager is not None
            sessions = [_session(model, each, sources, on_note, realtime, late) for each in sources]
        except BaseException:
            for sink in sinks:
                sink.close()
            raise
        outlets = [Outlet(sink, patient=not realtime, on_note=on_note) for sink in sinks]
        running = _Show(sessions, outlets, on_note, renewal, Health(sessions, manager))
        error: ShiftedgeError | None = None
        ended, status = "lost", 0
        try:
            ended = running.follow(limit_s)
            error = running.failure()
        except KeyboardInterrupt as signalled:
            ended, status = "interrupted", exit_status(signalled, endless=True)
        except ShiftedgeError as lost:
            if not running.frames:
                raise
            error = lost
        finally:
            if manager is not None and ended != RELOAD:
                manager.stopping()
            with ending():  # a second Ctrl-C must not cost a film
                running.close()
        return running.report(ended, error or running.sink_error(ended), status)


def _session(
    model: Model,
    source: Watched,
    every: Sequence[Watched],
    on_note: Note,
    realtime: bool,
    late: bool,
) -> LiveSession:
    name = source.camera
    note = on_note if len(every) == 1 else lambda sentence: on_note(f"{name}: {sentence}")

    def opened(closing: threading.Event) -> FrameSource:
        if source.opener is not None:
            return source.opener()
        return open_source(source.text, on_event=note, retry=source.retry, closing=closing)

    return LiveSession(
        model,
        Late(name, opened) if late else opened(threading.Event()),
        realtime=realtime,
        on_note=note,
        decoder=GestureDecoder(model.spec),  # within reach, since its probabilities are shown
        name=name,
    )


class _ReloadError(Exception):
    """Leaves the loop, from within."""


class _Show(Closing):
    """Follows sessions and hands on what is to be seen."""

    def __init__(
        self,
        sessions: Sequence[LiveSession],
        outlets: Sequence[Outlet],
        on_note: Note,
        renewal: Callable[[], Renewal | None],
        health: Health,
    ) -> None:
        self._sessions, self._outlets, self._note = sessions, list(outlets), on_note
        self._renewal, self._health = renewal, health
        self._truth: tuple[TrueEvent, ...] = ()
        if len(sessions) == 1:
            self._truth = tuple(getattr(sessions[0].source, "truth", ()))
        self._events: deque[GestureEvent] = deque(maxlen=None if self._truth else EVENTS_MOST)
        self._recent: dict[LiveSession, deque[float]] = {}
        self._lost: dict[LiveSession, ShiftedgeError] = {}
        self._told: set[Outlet] = set()
        self.frames = 0
        self._first_s: dict[LiveSession, float] = {}
        self._last_s = self._length_s = 0.0

    def follow(self, limit_s: float | None) -> str:
        """Take frames until there is a reason to end; returns it.

        Raises:
            ShiftedgeError: the one source failed, or all did.
        """
        for outlet in self._outlets:
            self._begin(outlet)
        on_lost = self._on_lost if len(self._sessions) > 1 else None
        try:
            for session, frame, result in watch(self._sessions, on_lost, self._turn):
                self.frames += 1
                moment = self._moment(session, frame, result)
                for outlet in self._outlets:
                    outlet.put(frame.image, moment)
                if (why := self._over()) is not None:
                    return why
                if limit_s is not None and frame.time_s - self._first_s[session] >= limit_s:
                    return "limit"
        except _ReloadError:
            return RELOAD
        if len(self._lost) == len(self._sessions):
            raise self._lost[self._sessions[0]]
        return "end"

    def failure(self) -> ShiftedgeError | None:
        """That of a source, where others did not end for it."""
        return next(iter(self._lost.values()), None)

    def sink_error(self, ended: str) -> ShiftedgeError | None:
        """That of the first sink that failed; of one that shows, only if the show ended for it.

        Raises:
            Exception: it is no error of ours.
        """
        for outlet in self._outlets:
            failed = outlet.error
            if failed is None or not outlet.sink.needed or isinstance(failed, ReaderGoneError):
                continue
            if isinstance(failed, ScreenLostError) and ended != "lost":
                continue
            if isinstance(failed, ShiftedgeError):
                return failed
            raise failed
        return None

    def close(self) -> None:
        """End the sessions, and the sinks with what they still hold; last, wait for cameras that
        may hang."""
        for session in self._sessions:
            session.reader.end()
        self._close(self._outlets)
        for session in self._sessions:
            session.close()

    def report(self, ended: str, error: ShiftedgeError | None, status: int) -> ShowReport:
        """What there is to say at the end."""
        model = self._sessions[0].model
        events = tuple(self._events)
        return ShowReport(
            model=model.spec.name,
            engine=f"{model.engine.name} {model.engine.version}",
            seconds=self._length_s,
            cameras=tuple(
                CameraReport(
                    session.name,
                    session.summary(),
                    str(self._lost[session]) if session in self._lost else None,
                )
                for session in self._sessions
            ),
            events=events,
            ended=ended,
            score=score(events, self._truth, self._last_s) if self._truth else None,
            sinks=self._accounts(),
            error=error,
            status=status,
        )

    def _turn(self) -> None:
        self._health.beat()
        renewal = self._renewal()
        if renewal is None:
            return
        if renewal.sinks is None:
            raise _ReloadError
        held = {outlet.sink: outlet for outlet in self._outlets}
        self._close([outlet for outlet in self._outlets if outlet.sink not in renewal.sinks])
        self._outlets[:] = []
        for sink in renewal.sinks:
            outlet = held.get(sink) or Outlet(sink, on_note=self._note)
            try:
                if sink not in held:
                    self._begin(outlet)
            except ShiftedgeError as error:
                outlet.close()
                self._note(f"{error} The rest goes on without it ({sink.name}).")
            else:
                self._outlets.append(outlet)

    def _begin(self, outlet: Outlet) -> None:
        outlet.sink.accounts = self._accounts
        outlet.sink.health = lambda: self._health
        outlet.begin(self._sessions)

    def _close(self, outlets: Sequence[Outlet]) -> None:
        for outlet in outlets:
            outlet.end()
        for outlet in outlets:
            outlet.close()
            self._tell(outlet)

    def _accounts(self) -> tuple[Account, ...]:
        return tuple(outlet.account() for outlet in self._outlets)

    def _moment(self, session: LiveSession, frame: TimedFrame, result: Result) -> Moment:
        self._last_s = frame.time_s
        begun_s = self._first_s.setdefault(session, frame.time_s)
        self._length_s = max(self._length_s, frame.time_s - begun_s)
        recent = self._recent.setdefault(session, deque(maxlen=RECENT_STEPS))
        if result.steps:
            recent.append(result.step_s / result.steps)
        if result.event is not None:
            self._events.append(result.event)
        decoder = session.live.decoder
        assert isinstance(decoder, GestureDecoder)
        return Moment(
            time_s=frame.time_s,
            probabilities=decoder.probabilities,
            event=result.event,
            step_s=sorted(recent)[len(recent) // 2] if recent else 0.0,
            dropped=session.reader.dropped,
            camera=session.name,
            result=result,
            taken_s=frame.taken_s,
            told_s=time.monotonic(),
            wall_s=time.time(),
        )

    def _over(self) -> str | None:
        """Why the show is over, if it is for the sinks' sake."""
        for outlet in self._outlets:
            if outlet.ended:
                if outlet.error is None:
                    return "closed"
                self._tell(outlet)
        needed = [outlet for outlet in self._outlets if outlet.sink.needed]
        return "lost" if needed and all(outlet.ended for outlet in needed) else None

    def _tell(self, outlet: Outlet) -> None:
        """Say once that a sink has failed and others go on; at the end an error says it."""
        if outlet.error is not None and outlet not in self._told:
            self._told.add(outlet)
            if not all(each.ended for each in self._outlets if each.sink.needed):
                gone = isinstance(outlet.error, ReaderGoneError)
                why = "Nobody reads standard output any more." if gone else outlet.error
                self._note(f"{why} The rest goes on without it ({outlet.sink.name}).")

    def _on_lost(self, session: LiveSession, error: ShiftedgeError) -> None:
        self._lost[session] = error
        if len(self._lost) < len(self._sessions):
            self._note(f"{session.name}: {error} The others go on.")
