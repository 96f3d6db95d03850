"""Paints what the model sees, thinks and reports on a camera frame.

::

    +----------------------------+-----------+
    |                            | model     |
    |  camera                    | label ### |
    |                            | label #   |
    |  [ Swiping Left  93% ]     | 4.1 ms    |
    +----------------------------+-----------+
    |  last 12 s: truth, curves, events      |
    +----------------------------------------+
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment
from shiftedge.demos.sinks.paint import (
    DIM,
    FAINT,
    GROUND,
    TRACK,
    WHITE,
    Image,
    colour_of,
    fill,
    fit_text,
    shade,
    text,
    text_width,
)
from shiftedge.runtime.capture.film_writer import letterbox
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import TrueEvent

STAGE_HEIGHT_PX = 480
STAGE_WIDTH_PX = (240, 960)
"""Least and greatest width of the camera's place; a wider image is shown with bars above it."""
PANEL_WIDTH_PX = 288
STRIP_HEIGHT_PX = 100
STRIP_S = 12.0
"""Seconds of history in the strip."""
HISTORY_MOST = 4096
"""Moments in the strip at most: a clock that stands still must not fill the memory."""
FLASH_S = 0.45
"""The frame around the camera after an event."""
BANNER_S = 1.6
"""How long an event's name stays; it fades in the last half second."""
CURVE_LEAST = 0.1
"""A gesture that stayed below this has no curve in the strip: it would only lie on the axis."""
ROWS = 8
"""Most labels with a bar each; of more labels the likeliest are shown."""
PAD_PX = 18


class Overlay:
    """Makes the frames of one film or window; fed in order of time, since it draws history too."""

    def __init__(
        self,
        spec: ModelSpec,
        image_size: tuple[int, int],
        *,
        engine: str = "",
        truth: Sequence[TrueEvent] = (),
    ) -> None:
        """
        Args:
            image_size: (height, width) of the camera's first frame; others are fitted in.
            truth: shown above the curves, where it is known.
        """
        self.spec = spec
        self._engine = engine
        self._truth = tuple(truth)
        self._silent = [label in spec.silent_labels for label in spec.labels]
        height, width = image_size
        stage_width = round(STAGE_HEIGHT_PX * width / height)
        self._stage_width = min(max(stage_width, STAGE_WIDTH_PX[0]), STAGE_WIDTH_PX[1]) // 2 * 2
        self._history: deque[Moment] = deque(maxlen=HISTORY_MOST)
        self._events: deque[GestureEvent] = deque(maxlen=64)
        self._count = 0
        wide, high = self.size
        self._empty: Image = np.full((high, wide, 3), GROUND, np.uint8)

    @classmethod
    def of(cls, session: LiveSession, image_size: tuple[int, int]) -> Overlay:
        """Of one camera's frames."""
        engine = session.model.engine
        truth = tuple(getattr(session.source, "truth", ()))
        name = f"{engine.name} {engine.version}"
        return cls(session.model.spec, image_size, engine=name, truth=truth)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of every canvas in pixels, both even, as video wants them."""
        return self._stage_width + PANEL_WIDTH_PX, STAGE_HEIGHT_PX + STRIP_HEIGHT_PX

    def draw(self, image: NDArray[np.uint8], moment: Moment) -> Image:
        """A new canvas, uint8 (height, width, 3) BGR, for one frame of the camera."""
        self._remember(moment)
        canvas: Image = self._empty.copy()
        stage = canvas[:STAGE_HEIGHT_PX, : self._stage_width]
        # Bilinear also when shrinking: by area costs 17 ms instead of 2 for a full HD frame.
        letterbox(image, stage, require("cv2").INTER_LINEAR)
        last = self._events[-1] if self._events else None
        if last is not None:
            self._flash(stage, last, moment.time_s)
            self._banner(stage, last, moment.time_s)
        self._panel(canvas[:STAGE_HEIGHT_PX, self._stage_width :], moment)
        self._strip(canvas[STAGE_HEIGHT_PX:], moment.time_s)
        return canvas

    def _remember(self, moment: Moment) -> None:
        if moment.event is not None:
            self._events.append(moment.event)
            self._count += 1
        if self._history and moment.time_s < self._history[-1].time_s:  # the clock went back
            self._history.clear()
        self._history.append(moment)
        while self._history[0].time_s < moment.time_s - STRIP_S:
            self._history.popleft()

    def _flash(self, stage: Image, event: GestureEvent, time_s: float) -> None:
        strength = 1.0 - (time_s - event.time_s) / FLASH_S
        if strength <= 0.0:
            return
        colour = colour_of(event.index, False)
        height, width = stage.shape[:2]
        edge = 10
        for left, top, wide, high in (
            (0, 0, width, edge),
            (0, height - edge, width, edge),
            (0, edge, edge, height - 2 * edge),
            (width - edge, edge, edge, height - 2 * edge),
        ):
            shade(stage, left, top, wide, high, colour, min(strength * 1.5, 1.0))

    def _banner(self, stage: Image, event: GestureEvent, time_s: float) -> None:
        left_s = BANNER_S - (time_s - event.time_s)
        if left_s <= 0.0:
            return
        strength = min(left_s / 0.5, 1.0)
        height, width = stage.shape[:2]
        x, high = 24, 66
        top = height - high - 24
        share = f"{event.confidence:.0%}"
        words, size = fit_text(event.label, 36, width - 2 * x - 130, 700)
        # Painted on a copy and blended, so that the words fade with their ground.
        band = stage[top : top + high, x : width - x]
        cover = band.copy()
        shade(cover, 0, 0, cover.shape[1], high, GROUND, 0.82)
        fill(cover, 0, 0, 8, high, colour_of(event.index, False))
        text(cover, words, 28, 45, size, WHITE, weight=700)
        text(cover, share, cover.shape[1] - 20, 45, 30, DIM, weight=500, align="right")
        require("cv2").addWeighted(band, 1.0 - strength, cover, strength, 0.0, dst=cover)
        band[...] = cover

    def _panel(self, panel: Image, moment: Moment) -> None:
        right = PANEL_WIDTH_PX - PAD_PX
        words, size = fit_text(self.spec.name, 20, right - PAD_PX, 700)
        text(panel, words, PAD_PX, 38, size, WHITE, weight=700)
        text(panel, self._engine, PAD_PX, 58, 13, DIM)
        shown = self._shown(moment.probabilities)
        pitch = min(44, 300 // len(shown))
        bar = max(4, pitch // 6)
        for row, index in enumerate(shown):
            self._bar(panel, index, moment, 82 + row * pitch, pitch, bar)
        bottom = STAGE_HEIGHT_PX - 22
        milliseconds = f"{1e3 * moment.step_s:.1f}"
        text(panel, milliseconds, PAD_PX, bottom, 40, WHITE, weight=700)
        unit_x = PAD_PX + text_width(milliseconds, 40, 700) + 8
        text(panel, "ms a step", unit_x, bottom, 15, DIM)
        events = "1 event" if self._count == 1 else f"{self._count} events"
        for line, words in enumerate((events, f"{moment.dropped} dropped")):
            text(panel, words, right, bottom - 18 * (1 - line), 13, DIM, align="right")

    def _shown(self, probabilities: NDArray[np.float64]) -> list[int]:
        """Labels with a bar: all in their own order, or the likeliest of too many."""
        if len(probabilities) <= ROWS:
            return list(range(len(probabilities)))
        return [int(index) for index in np.argsort(-probabilities, kind="stable")[:ROWS]]

    def _bar(
        self, panel: Image, index: int, moment: Moment, top: int, pitch: int, thick: int
    ) -> None:
        probability = float(moment.probabilities[index])
        silent = self._silent[index]
        entered = not silent and probability >= self.spec.decoder.enter
        widest = PANEL_WIDTH_PX - 2 * PAD_PX
        size = min(16, max(11, pitch - thick - 6))
        words, size = fit_text(self.spec.labels[index], size, widest - 44)
        colour = WHITE if entered else DIM
        y = top + size
        text(panel, words, PAD_PX, y, size, colour, weight=600 if entered else 400)
        text(panel, f"{probability:.0%}", PAD_PX + widest, y, size, colour, align="right")
        y += max(3, (pitch - size - thick) // 3)
        fill(panel, PAD_PX, y, widest, thick, TRACK)
        fill(panel, PAD_PX, y, round(widest * probability), thick, colour_of(index, silent))
        if not silent:  # where a gesture begins to count
            fill(panel, PAD_PX + round(widest * self.spec.decoder.enter), y, 1, thick, DIM)

    def _strip(self, strip: Image, time_s: float) -> None:
        cv2 = require("cv2")
        width, height = self.size[0], STRIP_HEIGHT_PX
        fill(strip, 0, 0, width, 1, TRACK)
        top, base = 38, height - 12
        per_s = (width - 2 * PAD_PX) / STRIP_S

        def x_of(when_s: float) -> int:
            return width - PAD_PX - round((time_s - when_s) * per_s)

        fill(strip, PAD_PX, base, width - 2 * PAD_PX, 1, FAINT)
        for second in range(int(time_s), max(int(time_s - STRIP_S), -1), -1):
            fill(strip, x_of(second), base, 1, 4, FAINT)
        for gesture in self._truth:
            if gesture.start_s <= time_s and gesture.end_s >= time_s - STRIP_S:
                left, right = max(x_of(gesture.start_s), PAD_PX), x_of(min(gesture.end_s, time_s))
                shade(strip, left, top, max(right - left, 2), base - top, FAINT, 0.35)
                wide = text_width(gesture.label, 13)
                text(strip, gesture.label, min(left, width - PAD_PX - wide), 20, 13, DIM)
        self._curves(strip, x_of, top, base)
        for event in self._events:
            x = x_of(event.time_s)
            if x >= PAD_PX:
                colour = colour_of(event.index, False)
                fill(strip, x - 1, top - 4, 2, base - top + 4, colour)
                cv2.circle(strip, (x, top - 6), 5, colour, -1, cv2.LINE_AA)

    def _curves(self, strip: Image, x_of: Callable[[float], int], top: int, base: int) -> None:
        """The smoothed probability of each gesture that came anywhere near counting."""
        cv2 = require("cv2")
        values = np.stack([moment.probabilities for moment in self._history])
        xs = np.array([x_of(moment.time_s) for moment in self._history])
        for index in range(self.spec.classes):
            if self._silent[index] or values[:, index].max() < CURVE_LEAST:
                continue
            ys = base - np.rint(values[:, index] * (base - top)).astype(int)
            points = np.stack([xs, ys], axis=1).astype(np.int32)
            cv2.polylines(strip, [points], False, colour_of(index, False), 2, cv2.LINE_AA)
