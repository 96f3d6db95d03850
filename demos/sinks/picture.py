"""A film, a window, or both of one picture: what the model sees and thinks, drawn on each frame."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment
from shiftedge.demos.sinks.overlay import Overlay
from shiftedge.demos.sinks.paint import Image
from shiftedge.demos.sinks.screen import ScreenLostError
from shiftedge.runtime.capture.film_writer import FilmWriter
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.signals import Closing, close_at_exit

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import TrueEvent

QUEUE_BYTES = 32 << 20
"""Camera frames that may wait for the encoder: a second of 640x480."""
HIGHEST_RATE_HZ = 240.0
LONGEST_HOLD_S = 2.0
"""A longer pause of the camera is cut to this in the film."""
LONGEST_LAG_S = 0.5
"""Frames by which the film would fall further behind what it shows are left out."""


class Shown(Protocol):
    """What is needed of a window; see :class:`Screen`."""

    def show(self, canvas: Image, /) -> bool:
        """False once the user wants to end; :class:`ScreenLostError` when it is gone."""

    def close(self) -> None:
        """Give the window back."""


class Picture:
    """The sink that draws: into a film, and into a window as far as it keeps up.

    Args:
        screen: the window, None for none.
        on_note: told in a sentence when the window is lost and the film goes on.

    Raises:
        OutputError: of :meth:`take`: the film cannot be begun or written.
    """

    def __init__(
        self,
        model: Model,
        truth: Sequence[TrueEvent],
        *,
        film: Path | None,
        rate_hz: float,
        screen: Shown | None,
        on_note: Callable[[str], None],
    ) -> None:
        self._model, self._truth = model, truth
        self._film, self._rate_hz = film, rate_hz
        self._screen, self._on_note = screen, on_note
        self._presenter: Presenter | None = None

    def take(self, image: NDArray[np.uint8], moment: Moment) -> bool:
        if self._presenter is None:
            engine = f"{self._model.engine.name} {self._model.engine.version}"
            size = image.shape[0], image.shape[1]
            overlay = Overlay(self._model.spec, size, engine=engine, truth=self._truth)
            self._presenter = Presenter(
                overlay, film=self._film, rate_hz=self._rate_hz, image_bytes=image.nbytes
            )
        self._presenter.show(image, moment)
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

    def close(self) -> None:
        if self._presenter is not None:
            self._presenter.close()


class Presenter(Closing):
    """Draws and films in a thread of its own, so that recognition does not wait for the encoder.

    The film plays at the speed of the source: a picture is held as long as it took until the next
    one came. It holds every frame that was given, but where frames come faster than its rate for
    long, as in parts of recordings of uneven rate.

    Args:
        overlay: draws the frames; from here on only this object's thread uses it.
        image_bytes: size of a camera frame, which decides how many may wait.

    Raises:
        OutputError: the film cannot be begun.
    """

    def __init__(
        self, overlay: Overlay, *, film: Path | None, rate_hz: float, image_bytes: int
    ) -> None:
        self._overlay = overlay
        self._rate_hz = min(rate_hz, HIGHEST_RATE_HZ)
        self._film = None if film is None else FilmWriter(film, overlay.size, self._rate_hz)
        waiting = min(max(QUEUE_BYTES // max(image_bytes, 1), 2), 64)
        self._queue: queue.Queue[tuple[NDArray[np.uint8], Moment] | None] = queue.Queue(waiting)
        self._start_s: float | None = None
        self._cut_s = 0.0
        self._error: Exception | None = None
        self.latest: Image | None = None
        """The canvas drawn last, for a window; never painted on again."""
        self._thread = threading.Thread(target=self._work, name="shiftedge film", daemon=True)
        close_at_exit(self)
        self._thread.start()

    def show(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """Hand over a frame, which must not be changed afterwards; waits only for a full queue.

        Raises:
            ShiftedgeError: what drawing or writing an earlier frame failed with.
        """
        self._check()
        self._queue.put((image, moment))

    def close(self) -> None:
        """Draw what is left and end the film. May be called twice.

        Raises:
            OutputError: the film could not be written whole.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        film, self._film = self._film, None
        if film is not None:
            if self._error is None:
                film.close()
            else:
                film.discard()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            if self._error is not None:
                continue  # the queue must be emptied, or show() would wait for ever
            try:
                self._present(*task)
            except Exception as error:  # noqa: BLE001 - handed to the thread that shows frames
                self._error = error

    def _present(self, image: NDArray[np.uint8], moment: Moment) -> None:
        before = self.latest
        canvas = self._overlay.draw(image, moment)
        if self._film is not None:
            if self._start_s is None or before is None:
                self._start_s = moment.time_s
            else:
                self._hold(self._film, before, moment.time_s - self._start_s)
            if self._lag_s(self._film, moment.time_s) < LONGEST_LAG_S:
                self._film.write(canvas)
        self.latest = canvas

    def _lag_s(self, film: FilmWriter, time_s: float) -> float:
        """How much later the next picture of the film comes than it was taken."""
        played_s = time_s - (time_s if self._start_s is None else self._start_s)
        return film.frames / self._rate_hz - (played_s - self._cut_s)

    def _hold(self, film: FilmWriter, canvas: Image, played_s: float) -> None:
        """Repeat a picture until the film is as long as what it shows."""
        held = round((played_s - self._cut_s) * self._rate_hz) - film.frames
        most = round(LONGEST_HOLD_S * self._rate_hz)
        if held > most:
            self._cut_s += (held - most) / self._rate_hz
            held = most
        for _ in range(held):
            film.write(canvas)
