"""A film, a window, or both of one picture: what the model sees and thinks, drawn on each frame."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment
from shiftedge.demos.sinks.overlay import Overlay
from shiftedge.demos.sinks.paint import Image
from shiftedge.demos.sinks.screen import Screen, ScreenLostError
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


class Picture(Closing):
    """The sink that draws, and films in a thread of its own: recognition does not wait for the
    encoder.

    The film plays at the speed of the source: a picture is held as long as it took until the next
    one came. It holds every frame that was given, but where frames come faster than its rate for
    long, as in parts of recordings of uneven rate.

    Args:
        truth: shown above the curves, where it is known.
        film: where the film goes; None for no film.
        rate_hz: frames per second of the film.
        screen: the window, which shows what was drawn last.
        on_note: told in a sentence when the window is lost and the film goes on.
    """

    def __init__(
        self,
        model: Model,
        truth: Sequence[TrueEvent] = (),
        *,
        film: Path | None,
        rate_hz: float,
        screen: Screen | None = None,
        on_note: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._model, self._truth = model, truth
        self._path, self._rate_hz = film, min(rate_hz, HIGHEST_RATE_HZ)
        self._screen, self._on_note = screen, on_note
        self._film: FilmWriter | None = None
        self._queue: queue.Queue[tuple[NDArray[np.uint8], Moment] | None] | None = None
        self._start_s: float | None = None
        self._cut_s = 0.0
        self._error: Exception | None = None
        self.latest: Image | None = None
        """The canvas drawn last, for a window; never painted on again."""

    def take(self, image: NDArray[np.uint8], moment: Moment) -> bool:
        """See :class:`Sink`; waits only where many frames wait to be drawn.

        Raises:
            OutputError: the film cannot be begun.
            ShiftedgeError: what drawing or writing an earlier frame failed with.
        """
        if self._queue is None:
            self._queue = self._begin(image)
        self._check()
        self._queue.put((image, moment))
        if self._screen is None or self.latest is None:
            return True
        try:
            return self._screen.show(self.latest)
        except ScreenLostError as lost:
            if self._film is None:
                raise
            self._on_note(f"{lost} The film goes on.")
            self._screen = None
            return True

    def close(self) -> None:
        """Draw what is left and end the film. May be called twice.

        Raises:
            OutputError: the film could not be written whole.
        """
        if self._queue is not None and self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        film, self._film = self._film, None
        if film is not None:
            if self._error is None:
                film.close()
            else:
                film.discard()
        self._check()

    def _begin(
        self, image: NDArray[np.uint8]
    ) -> queue.Queue[tuple[NDArray[np.uint8], Moment] | None]:
        """Start the film and the thread, once the size of the camera's frames is known."""
        overlay = self.overlay((image.shape[0], image.shape[1]))
        if self._path is not None:
            self._film = FilmWriter(self._path, overlay.size, self._rate_hz)
        waiting = min(max(QUEUE_BYTES // max(image.nbytes, 1), 2), 64)
        tasks: queue.Queue[tuple[NDArray[np.uint8], Moment] | None] = queue.Queue(waiting)

        def work() -> None:
            while (task := tasks.get()) is not None:
                if self._error is not None:
                    continue  # the queue must be emptied, or take() would wait for ever
                try:
                    self._present(overlay, *task)
                except Exception as error:  # noqa: BLE001 - handed to the thread that takes frames
                    self._error = error

        self._thread = threading.Thread(target=work, name="shiftedge film", daemon=True)
        close_at_exit(self)
        self._thread.start()
        return tasks

    def overlay(self, image_size: tuple[int, int]) -> Overlay:
        """What draws the frames; only the thread uses it."""
        engine = f"{self._model.engine.name} {self._model.engine.version}"
        return Overlay(self._model.spec, image_size, engine=engine, truth=self._truth)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _present(self, overlay: Overlay, image: NDArray[np.uint8], moment: Moment) -> None:
        before = self.latest
        canvas = overlay.draw(image, moment)
        if self._film is not None:
            if self._start_s is None or before is None:
                self._start_s = moment.time_s
            else:
                self._hold(self._film, before, moment.time_s - self._start_s)
            # How much later the next picture of the film comes than it was taken.
            played_s = moment.time_s - self._start_s - self._cut_s
            if self._film.frames / self._rate_hz - played_s < LONGEST_LAG_S:
                self._film.write(canvas)
        self.latest = canvas

    def _hold(self, film: FilmWriter, canvas: Image, played_s: float) -> None:
        """Repeat a picture until the film is as long as what it shows."""
        held = round((played_s - self._cut_s) * self._rate_hz) - film.frames
        most = round(LONGEST_HOLD_S * self._rate_hz)
        if held > most:
            self._cut_s += (held - most) / self._rate_hz
            held = most
        for _ in range(held):
            film.write(canvas)
