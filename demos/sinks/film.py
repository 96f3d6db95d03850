"""A film of what the model sees and thinks, drawn on each frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment, Sink, Wants
from shiftedge.demos.sinks.overlay import Overlay
from shiftedge.demos.sinks.paint import Image
from shiftedge.runtime.capture.film_writer import FilmWriter
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.process.signals import ENDING_S

RATE_HZ = 30.0
"""Where the source does not know its own rate."""
HIGHEST_RATE_HZ = 240.0
LONGEST_HOLD_S = 2.0
"""A longer pause of the camera is cut to this in the film."""
LONGEST_LAG_S = 0.5
"""Frames by which the film would fall further behind what it shows are left out."""


class FilmSink(Sink):
    """Writes the annotated frames of the first camera.

    The film plays at the speed of the source: a picture is held as long as it took until the next
    one came. It holds every frame that was given, but where frames come faster than its rate for
    long, as in parts of recordings of uneven rate.

    Args:
        path: where the film goes, .mp4 or .avi.
    """

    name = "film"
    wants: Wants = "images"
    most = 64
    grace_s = ENDING_S

    def __init__(self, path: Path) -> None:
        self._path = path
        self._overlay: Overlay | None = None
        self._writer: FilmWriter | None = None
        self._before: Image | None = None
        self._start_s = self._cut_s = 0.0
        self._failed = False

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        self._session = sessions[0]

    def take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """See :class:`Sink`.

        Raises:
            ShiftedgeError: the film cannot be begun, or drawing or writing fails.
        """
        try:
            if self._overlay is None:
                self._overlay = self.overlay((image.shape[0], image.shape[1]))
            self._present(self._overlay, image, moment)
        except BaseException:
            self._failed = True
            raise

    def close(self) -> None:
        """End the film, which is not left half written.

        Raises:
            OutputError: the film could not be written whole.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            if self._failed:
                writer.discard()
            else:
                writer.close()

    def overlay(self, image_size: tuple[int, int]) -> Overlay:
        """What draws the frames, once their size is known."""
        return Overlay.of(self._session, image_size)

    def _present(self, overlay: Overlay, image: NDArray[np.uint8], moment: Moment) -> None:
        canvas = overlay.draw(image, moment)
        if self._writer is None or self._before is None:
            rate_hz = min(self._session.source.rate_hz or RATE_HZ, HIGHEST_RATE_HZ)
            self._writer = FilmWriter(self._path, overlay.size, rate_hz)
            self._rate_hz, self._start_s = rate_hz, moment.time_s
        else:
            self._hold(self._writer, self._before, moment.time_s - self._start_s)
        # How much later the next picture of the film comes than it was taken.
        played_s = moment.time_s - self._start_s - self._cut_s
        if self._writer.frames / self._rate_hz - played_s < LONGEST_LAG_S:
            self._writer.write(canvas)
        self._before = canvas

    def _hold(self, writer: FilmWriter, canvas: Image, played_s: float) -> None:
        """Repeat a picture until the film is as long as what it shows."""
        held = round((played_s - self._cut_s) * self._rate_hz) - writer.frames
        most = round(LONGEST_HOLD_S * self._rate_hz)
        if held > most:
            self._cut_s += (held - most) / self._rate_hz
            held = most
        for _ in range(held):
            writer.write(canvas)
