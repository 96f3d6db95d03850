"""Where a show goes: a sink takes what is seen and recognised, in a thread of its own.

:class:`~shiftedge.demos.sinks.outlet.Outlet` stands between a sink and the loop that steps the
model: it holds what waits for the sink, drops what is too much, and survives its failure.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.health import Health
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.live.stream import Result
from shiftedge.runtime.process.signals import Closing

__all__ = ["Account", "Missed", "Moment", "Note", "Sink", "Wants", "event_line"]

Wants = Literal["images", "frames", "steps", "events"]
"""What a sink is given: every frame with its image, every frame without, those that were stepped,
or those that settled an event. But for the first, images are empty."""


Note = Callable[[str], None]


@dataclass(frozen=True)
class Moment:
    """What is to be seen with one frame."""

    time_s: float
    probabilities: NDArray[np.float64]
    """Smoothed, shape (classes,)."""
    event: GestureEvent | None
    """Reported at this very frame."""
    step_s: float
    """Seconds of a model step, of late."""
    dropped: int
    """Frames dropped so far."""
    camera: str = ""
    """Its name."""
    result: Result | None = None
    """What the frame led to."""
    taken_s: float | None = None
    """When the camera took the frame, on the clock of ``time.monotonic``; None for a recording."""
    told_s: float = 0.0
    """When the step was over, on the same clock."""
    wall_s: float = 0.0
    """The same in seconds since 1970."""

    @property
    def steps(self) -> int:
        """Model steps of this frame."""
        return 0 if self.result is None else self.result.steps

    def event_dict(self, *, camera: bool = True) -> dict[str, Any]:
        """The event for programs, as plain JSON types."""
        assert self.event is not None
        event = self.event
        document: dict[str, Any] = {"camera": self.camera} if camera else {}
        return document | event_line(event.time_s, event.label, event.confidence)


def event_line(time_s: float, label: str, confidence: float) -> dict[str, Any]:
    """What a line of JSON says of an event, or of a step."""
    return {"time_s": round(time_s, 4), "label": label, "confidence": round(confidence, 4)}


@dataclass(frozen=True)
class Account:
    """What became of what a sink was given."""

    name: str
    taken: int
    dropped: int
    """For want of room, or of time at the end."""
    missed: int
    """That it could not deliver."""
    error: str | None
    """Why it ended early."""

    def text(self) -> str:
        """Some words for people."""
        words = f"{self.name} {self.taken} taken, {self.dropped} dropped"
        words += f", {self.missed} not delivered" if self.missed else ""
        return words + (" (failed)" if self.error else "")


class Missed(OutputError):  # noqa: N818 - what became of a moment
    """One moment is lost to a sink, which goes on."""


class Sink(Closing):
    """A film, a window, or whatever else shows, tells or does. Its methods are called in one
    thread, in order; any of them may take its time."""

    name: str
    """For messages and counts."""
    wants: Wants = "events"
    most = 1000
    """Moments that may wait, with images fewer; then the oldest are dropped."""
    needed = True
    """Whether the show goes on for its sake, were it the last one."""
    grace_s = 0.8
    """Longest wait at the end for what is still to be taken."""
    undelivered = 0
    """Of what it took, what has not reached its end."""
    note: Note = staticmethod(lambda sentence: None)
    """Tells the user in a sentence of what happens outside of :meth:`take`. Set before it begins,
    as the next."""
    accounts: Callable[[], Sequence[Account]] = staticmethod(lambda: ())
    """What became so far of what each sink of the show was given."""
    health: Callable[[], Health] = staticmethod(lambda: Health())
    """How the show is."""

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        """Before the first moment, in the thread that makes the show.

        Raises:
            ShiftedgeError: it cannot do what it is for, and the show is not to begin.
        """

    def fits(self, moment: Moment) -> bool:
        """Whether it is to be given this moment of those that it wants; in the loop's thread, so
        at once."""
        return True

    @abc.abstractmethod
    def take(self, image: NDArray[np.uint8], moment: Moment, /) -> bool | None:
        """A frame, which must not be changed afterwards; False once the user wants to end.

        Raises:
            ShiftedgeError: it takes nothing any more; :class:`Missed` where this one alone is lost.
        """

    def hurry(self) -> None:
        """The show is over: wait for nothing and try nothing again. From another thread."""

    def close(self) -> None:
        """End it in order. May be called twice."""
