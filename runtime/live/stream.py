"""A camera's frames with their times in, predictions and events out.

Puts the parts together in the one right order: check, clock, fit, cut, step, decode. After a reset
(a long pause, a clock that went back, a scene cut) the decoder is emptied too, and the logits of
the warm-up reach it at once: models are trained on clips that begin from empty states, so their
first predictions are honest ones, merely less certain, and the decoder's threshold deals with
that. Waiting for the receptive field would make every start deaf for seconds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.live.clock import FrameClock, StampWatch
from shiftedge.runtime.live.cuts import CutDetector
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.model import Model, Stream, checked_model
from shiftedge.runtime.preprocess import check_frame
from shiftedge.runtime.words import shown


class Decoder(Protocol):
    """What :class:`LiveStream` needs of a decoder, such as ``GestureDecoder``."""

    def update(self, logits: NDArray[np.float32], time_s: float, /) -> GestureEvent | None:
        """Take logits of shape (classes,) at a time in seconds; an event when one is complete."""

    def reset(self) -> None:
        """Forget everything, as at a start."""


@dataclass(frozen=True)
class Result:
    """What one camera frame led to."""

    logits: NDArray[np.float32] | None
    """float32, shape (classes,), of the last step; None when the frame was skipped."""
    event: GestureEvent | None
    """What the decoder reported at this frame."""
    steps: int
    """Model steps taken: 0 the frame was skipped, more than 1 it was repeated."""
    step_s: float
    """Seconds inside the model, all steps together."""
    fit_s: float
    """Seconds for scaling the frame and looking for a cut."""
    reset: str | None
    """None, or why the states were emptied before this frame: "gap", "clock" or "cut"."""
    skipped: int = 0
    """Steps that were due and not taken, since repeating was not wanted."""


class LiveStream:
    """One camera's stream with its clock, cut detector and decoder. One thread at a time.

    Args:
        model: gives the stream, the frame rate and the longest gap.
        decoder: takes the logits; None is a ``GestureDecoder`` of the model's spec.
        detect_cuts: False trusts the source to show one scene only.
        on_note: told once, in a sentence, when the frames' times cannot be seconds: milliseconds,
            frame numbers, or a time that stands still. None warns by Python's ``warnings``.

    Raises:
        ModelError: ``model`` is none.
        TypeError: ``decoder`` or ``on_note`` cannot do what is asked of it.
    """

    def __init__(
        self,
        model: Model,
        decoder: Decoder | None = None,
        *,
        detect_cuts: bool = True,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        checked_model(model)
        if decoder is None:
            decoder = GestureDecoder(model.spec)
        elif isinstance(decoder, type) or not all(
            hasattr(decoder, name) for name in ("update", "reset")
        ):
            raise TypeError(
                f"The decoder is {shown(decoder)}; expected an object with update(logits, time_s) "
                "and reset(), such as GestureDecoder(model.spec)."
            )
        if on_note is not None and not callable(on_note):
            raise TypeError(f"on_note is {shown(on_note)}; expected a function.")
        self._stream = model.stream()
        self.decoder: Decoder = decoder
        self._fit = model.preprocessor.fit
        self._clock = FrameClock(model.spec.frame_rate_hz, model.spec.max_gap_s)
        self._cuts = CutDetector() if detect_cuts else None
        self._stamps = StampWatch(model.spec.max_gap_s)
        self._note = on_note

    @property
    def stream(self) -> Stream:
        """The stream underneath, for its frame count and warm-up."""
        return self._stream

    @property
    def interval_s(self) -> float:
        """Seconds from a frame to the next, of the camera or of the model: the longer."""
        return max(self._clock.period_s, 1.0 / self._stream.model.spec.frame_rate_hz)

    def reset(self) -> None:
        """Start anew: empty states, decoder, clock and cut detector."""
        self._clock.reset()
        self._empty()

    def feed(self, image: NDArray[np.uint8], time_s: float, *, repeat: bool = True) -> Result:
        """Take the camera's next frame, whatever its rate.

        Args:
            image: uint8, shape (any height, any width, 3), BGR.
            time_s: when it was taken, in seconds of any steady clock.
            repeat: False takes one step at most, where several are due since frames between were
                dropped by a model that is too slow.

        Warns:
            UserWarning: once, when the times cannot be seconds (see ``on_note``).

        Raises:
            FrameError: the image or its time is unusable; nothing has changed.
            ModelError, NumericsError: from the step; everything but the clock starts anew.
        """
        check_frame(image)
        tick = self._clock.tick(time_s)
        doubt = self._stamps.look(float(time_s))
        if doubt is not None and self._note is not None:
            self._note(doubt)
        elif doubt is not None:
            warnings.warn(doubt, stacklevel=2)
        reset, steps = tick.reset, tick.steps
        if reset is not None:
            self._empty()
        if steps == 0:
            return Result(None, None, 0, 0.0, 0.0, reset)
        begin_s = time.perf_counter()
        fitted = self._fit(image)
        if self._cuts is not None and self._cuts.update(fitted):
            self._stream.reset()
            self.decoder.reset()
            # The other ticks of this frame lie in the time of the scene before.
            reset, steps = "cut", 1
        skipped = 0 if repeat else steps - 1
        steps -= skipped
        middle_s = time.perf_counter()
        try:
            for _ in range(steps):
                logits = self._stream.step_fitted(fitted)
        except ShiftedgeError:
            self._empty()
            raise
        end_s = time.perf_counter()
        event = self.decoder.update(logits, time_s)
        return Result(logits, event, steps, end_s - middle_s, middle_s - begin_s, reset, skipped)

    def _empty(self) -> None:
        self._stream.reset()
        self.decoder.reset()
        if self._cuts is not None:
            self._cuts.reset()
