"""Lines: of JSON for programs, and of text for people."""

from __future__ import annotations

import select
import sys
from collections.abc import Sequence
from typing import IO

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Missed, Moment, Sink, Wants, event_line
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.words import json_text, plain, say

LOOK_S = 0.1
"""Between two looks at whether the show has ended, while nobody reads."""


class JsonLines(Sink):
    """One line on standard output for each event.

    Args:
        steps: and one for each model step, marked as such, with its best label.
        camera: say which camera it was; None: where there are several.
    """

    name = "lines"

    def __init__(self, *, steps: bool = False, camera: bool | None = None) -> None:
        self.wants: Wants = "steps" if steps else "events"
        self._steps = steps
        self._hurried = False
        self._camera = camera

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        self._labels = sessions[0].model.spec.labels
        if self._camera is None:
            self._camera = len(sessions) > 1

    def take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """See :class:`Sink`.

        Raises:
            OutputError, ReaderGoneError: standard output takes nothing more.
        """
        self._wait()
        camera = {"camera": moment.camera} if self._camera else {}
        logits = None if moment.result is None else moment.result.logits
        if self._steps and logits is not None:
            best = int(logits.argmax())
            shares = np.exp(logits - logits[best])
            share = float(1 / shares.sum())
            line = event_line(moment.time_s, self._labels[best], share)
            print(json_text({**camera, **line, "step": True}), flush=True)  # noqa: T201
        if moment.event is not None:
            line = moment.event_dict(camera=bool(self._camera))
            print(json_text(line), flush=True)  # noqa: T201

    def hurry(self) -> None:
        self._hurried = True

    def _wait(self) -> None:
        """Until standard output takes a line: a thread that sleeps in it would keep its lock, and
        nobody could end it in order."""
        try:
            poll = select.poll()
            poll.register(sys.stdout.fileno(), select.POLLOUT)
        except (OSError, ValueError):  # no file, as in a notebook
            return
        while not poll.poll(1e3 * LOOK_S):
            if self._hurried:
                raise Missed("Nobody reads standard output.")


class TextLines(Sink):
    """A line for people for each event.

    Args:
        needed: the show is for these alone.
    """

    name = "text"

    def __init__(self, stream: IO[str], *, needed: bool) -> None:
        self._stream, self.needed = stream, needed

    def take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """See :class:`Sink`."""
        event = moment.event
        assert event is not None
        say(
            f"{event.time_s:8.2f} s  {plain(event.label):<28} {event.confidence:4.0%}   "
            f"step {1e3 * moment.step_s:.1f} ms",
            self._stream,
        )
