"""What every frame source gives: images with times, and a word about itself."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.closing import Closing

__all__ = ["FrameSource", "TimedFrame"]


@dataclass(frozen=True)
class TimedFrame:
    """One image and when it was taken."""

    image: NDArray[np.uint8]
    """uint8, shape (height, width, 3), BGR."""
    time_s: float
    """Seconds since the source's first frame, for a recording by its own clock; never goes back."""
    index: int
    """Number of frames the source gave before this one, dropped ones included."""


class FrameSource(Closing):
    """An opened camera, file, pipe, folder or generator. Iterate once; close when done."""

    name: str
    """For messages: what the user asked for."""
    live: bool
    """True when frames arrive by themselves and are lost if nobody takes them."""
    rate_hz: float | None
    """Frames per second, nominal or measured; None where that is unknown."""
    away = False
    """True while a live source is lost and tried again: no frame is to be expected."""

    @abc.abstractmethod
    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames in order of time, until the source ends.

        Raises:
            SourceError: what came is not what was expected.
            SourceLostError: a live source stopped and did not come back.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give the device, file or process back. May be called twice, and from another thread."""
