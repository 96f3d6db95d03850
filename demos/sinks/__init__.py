"""Where a show goes: a sink takes every frame that is to be seen, with what was recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.live.decode import GestureEvent

__all__ = ["Moment", "Sink"]


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


class Sink(Protocol):
    """A film, a window, or whatever else shows or tells."""

    def take(self, image: NDArray[np.uint8], moment: Moment, /) -> bool:
        """A frame, which must not be changed afterwards; False once the user wants to end."""

    def close(self) -> None:
        """End it in order. May be called twice."""
