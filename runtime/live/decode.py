"""Logits over time -> gesture events, by smoothing, hysteresis and a pause after each event.

::

    p   1 |            ______
          |          /        \\
    enter |- - - - -/- - - - - \\- - - - - - - - - - -
          |        / |  |       \\
     exit |- - - -/- |- | - - - -\\- - - - - - - - - -
          |  ____/   |  |         |\\______________
          +----------+--+---------+---------+------- time
                 start  report   end       may begin again
                     |--|         |---------|
               min_duration_s       rearm_s

Pure: the clock is passed in with each frame, so a recording decodes the same at any speed. The
average is over time, not over frames, so that a camera of 12 or 30 frames per second, or one that
drops some, gives the same events.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import FrameError, NumericsError, SpecError
from shiftedge.runtime.live.clock import checked_seconds
from shiftedge.runtime.spec import DecoderSettings, ModelSpec
from shiftedge.runtime.words import shown

CLOCK_SLACK_S = 1e-6
"""Camera clocks tick in microseconds: 2 x 0.04 s must count as 0.08 s in spite of rounding."""


@dataclasses.dataclass(frozen=True)
class GestureEvent:
    """One recognised gesture. Times in seconds, by the clock passed to the decoder."""

    time_s: float
    """When it was reported: the time of the frame that settled it."""
    label: str
    index: int
    """Of the label, among the spec's."""
    confidence: float
    """Highest smoothed probability from entry to report, 0..1; never below ``enter``."""
    start_s: float
    """When the smoothed probability reached ``enter``."""


class GestureDecoder:
    """Turns the logits of one stream into events, each gesture reported once.

    What holds for every stream of logits:

    1. Events come in order of time, and their labels are never silent ones.
    2. After an event, its gesture's smoothed probability must fall below ``exit`` (the gesture
       ends), and ``rearm_s`` must pass from there, before a next event of any label may begin. A
       gesture that begins in the pause and outlasts it is reported late, not lost.
    3. A gesture that stays at or above ``exit`` for less than ``min_duration_s`` from its entry
       is dropped without a pause.
    4. If a stronger gesture enters while another waits for its ``min_duration_s``, it takes the
       other's place, and its own time starts.

    Before the first frame nothing is known: all smoothed probabilities are 0, not the first
    frame's, since a model with empty states is at its least reliable there. The first frame counts
    for one frame interval of the spec's rate.
    """

    def __init__(self, spec: ModelSpec, settings: DecoderSettings | None = None) -> None:
        """
        Args:
            spec: gives labels, silent labels, frame rate and, unless overridden, the settings.
            settings: used instead of ``spec.decoder``.

        Raises:
            SpecError: a setting is out of range, or ``spec`` is none.
        """
        if not isinstance(spec, ModelSpec):
            raise SpecError(
                f"The decoder was given {shown(spec)}; expected a ModelSpec, such as model.spec."
            )
        if settings is not None:
            spec = dataclasses.replace(spec, decoder=settings)  # checks the settings too
        self.spec = spec
        self.settings = spec.decoder
        self._eligible = np.array([label not in spec.silent_labels for label in spec.labels])
        self.reset()

    def reset(self) -> None:
        """Forget everything, as in a fresh decoder; the next frame may have any time."""
        self._smoothed: NDArray[np.float64] = np.zeros(self.spec.classes, np.float64)
        self._time_s: float | None = None
        self._candidate: int | None = None
        self._reported: int | None = None
        self._start_s = 0.0
        self._peak = 0.0
        self._armed_from_s = -math.inf

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Smoothed probabilities, float64, shape (classes,), the caller's own.

        They sum to 1 less what is not known yet, exp(-elapsed / smoothing_s) since the start.
        """
        return np.array(self._smoothed)

    @property
    def candidate(self) -> int | None:
        """Index of the gesture that has entered and waits for its ``min_duration_s``."""
        return self._candidate

    @property
    def current(self) -> int | None:
        """Index of the gesture that was reported and has not ended."""
        return self._reported

    def update(self, logits: NDArray[np.float32], time_s: float) -> GestureEvent | None:
        """Take the logits of one frame; return the gesture that they settle, if any.

        Args:
            logits: float32, shape (classes,), finite.
            time_s: when the frame was taken, in seconds, not before the frame before it. A frame
                at the very time of the one before it carries no weight (unless smoothing is off).

        Raises:
            FrameError: wrong dtype or shape, or a time that is no number or went back. To start
                over with an earlier clock, call :meth:`reset`.
            NumericsError: a logit is NaN or infinite.

        After an error the decoder is as it was before the call.
        """
        logits = self._checked(logits)
        time_s = self._checked_time(time_s)
        self._smooth(_softmax(logits), time_s)
        self._time_s = time_s
        self._end_gestures(time_s)
        if self._reported is not None:
            return None
        self._enter(time_s)
        return self._report(time_s)

    def _checked(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = (self.spec.classes,)
        if not isinstance(logits, np.ndarray) or logits.dtype != np.float32:
            got = getattr(logits, "dtype", type(logits).__name__)
            raise FrameError(f"The logits are {got}; expected a float32 array of shape {shape}.")
        if logits.shape != shape:
            raise FrameError(
                f"The logits have shape {logits.shape}; expected {shape}, one for each label of "
                f"the model {self.spec.name}."
            )
        if not np.isfinite(logits).all():
            index = int(np.flatnonzero(~np.isfinite(logits))[0])
            raise NumericsError(
                f"The model {self.spec.name} gave {logits[index]} for "
                f'"{self.spec.labels[index]}"; expected finite logits. Reset the stream; if it '
                "happens again, the model's weights or its compiled form are damaged."
            )
        return logits

    def _checked_time(self, time_s: object) -> float:
        seconds = checked_seconds(time_s)
        if self._time_s is not None and seconds < self._time_s:
            raise FrameError(
                f"The frame's time went back from {self._time_s} s to {seconds} s; expected "
                "frames in order of time. Reset the decoder to start over."
            )
        return seconds

    def _smooth(self, probabilities: NDArray[np.float64], time_s: float) -> None:
        """Exponential average whose weights depend on the time passed, not on the frame count."""
        if self.settings.smoothing_s == 0:
            self._smoothed = probabilities
            return
        first_s = 1.0 / self.spec.frame_rate_hz
        passed_s = first_s if self._time_s is None else time_s - self._time_s
        weight = -math.expm1(-passed_s / self.settings.smoothing_s)
        self._smoothed = self._smoothed + weight * (probabilities - self._smoothed)

    def _end_gestures(self, time_s: float) -> None:
        if self._reported is not None and self._smoothed[self._reported] < self.settings.exit:
            self._reported = None
            self._armed_from_s = time_s + self.settings.rearm_s
        if self._candidate is not None and self._smoothed[self._candidate] < self.settings.exit:
            self._candidate = None

    def _enter(self, time_s: float) -> None:
        if time_s < self._armed_from_s:
            return
        strongest = int(np.argmax(np.where(self._eligible, self._smoothed, -1.0)))
        probability = float(self._smoothed[strongest])
        if (
            strongest != self._candidate
            and self._eligible[strongest]
            and probability >= self.settings.enter
        ):
            self._candidate, self._start_s, self._peak = strongest, time_s, probability

    def _report(self, time_s: float) -> GestureEvent | None:
        index = self._candidate
        if index is None:
            return None
        self._peak = max(self._peak, float(self._smoothed[index]))
        if time_s - self._start_s < self.settings.min_duration_s - CLOCK_SLACK_S:
            return None
        self._candidate, self._reported = None, index
        return GestureEvent(
            time_s=time_s,
            label=self.spec.labels[index],
            index=index,
            confidence=min(self._peak, 1.0),
            start_s=self._start_s,
        )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities in float64; the largest logit is taken off first, so that none overflows."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max())
    return np.asarray(powers / powers.sum(), np.float64)
