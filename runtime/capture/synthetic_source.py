"""``synthetic:KIND``: rendered films, for demos, benchmarks and tests without a camera."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.capture.options import parse_options, rate, seconds, size, whole_number
from shiftedge.runtime.errors import SourceError

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import TrueEvent

SYNTHETIC_KINDS = ("gestures", "still", "moving")
"""A seated person who gestures, one who sits still (both need OpenCV), and textured things that
move (numpy alone)."""
SMALLEST_SIDE_PX = 32

_OPTIONS = {"seed": whole_number, "seconds": seconds, "fps": rate, "size": size}


class _Film(NamedTuple):
    """A rendered film, whatever it shows."""

    frames: int
    frame_at: Callable[[int], NDArray[np.uint8]]
    truth: tuple[TrueEvent, ...]


class SyntheticSource(FrameSource):
    """A rendered film, as fast as it is taken (see :class:`Paced` for the speed of a camera).

    Args:
        kind: one of :data:`SYNTHETIC_KINDS`.
        seed: the same seed gives the same film.
        length_s: in seconds.
        rate_hz: frames per second.
        size_px: (width, height).

    Raises:
        SourceError: an unknown kind, or a size below 32 pixels.
        MissingExtraError: a person without OpenCV.
    """

    live = False

    def __init__(
        self,
        kind: str = "gestures",
        *,
        seed: int = 1,
        length_s: float = 20.0,
        rate_hz: float = 30.0,
        size_px: tuple[int, int] = (640, 480),
    ) -> None:
        self.name = f"synthetic:{kind}"
        self.rate_hz: float = rate_hz
        if kind not in SYNTHETIC_KINDS:
            raise SourceError(
                f"{self.name} is not known; expected "
                f"{', '.join(f'synthetic:{known}' for known in SYNTHETIC_KINDS)}."
            )
        if min(size_px) < SMALLEST_SIDE_PX:
            raise SourceError(
                f"{self.name} cannot be rendered at {size_px[0]}x{size_px[1]}; "
                f"expected at least {SMALLEST_SIDE_PX} pixels a side."
            )
        self._closed = threading.Event()
        if kind == "moving":
            self._film = _moving(seed, length_s, rate_hz, size_px)
        else:
            self._film = _person(seed, length_s, rate_hz, size_px, gestures=kind == "gestures")

    @property
    def truth(self) -> tuple[TrueEvent, ...]:
        """The gestures that happen in the film, in order of time, on the clock of its frames."""
        return self._film.truth

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames, rendered when they are taken."""
        for index in range(self._film.frames):
            if self._closed.is_set():
                return
            yield TimedFrame(self._film.frame_at(index), index / self.rate_hz, index)

    def close(self) -> None:
        self._closed.set()


def open_synthetic(kind: str, options: str = "") -> SyntheticSource:
    """Open ``synthetic:KIND?OPTIONS``; no kind means gestures.

    Raises:
        SourceError: the kind or an option is not known.
    """
    found: dict[str, Any] = parse_options(options, _OPTIONS, f"synthetic:{kind}?{options}")
    names = {"seed": "seed", "seconds": "length_s", "fps": "rate_hz", "size": "size_px"}
    return SyntheticSource(
        kind or "gestures", **{names[name]: value for name, value in found.items()}
    )


# Both import late: the renderer lies in this package, whose import must not depend on it.


def _person(
    seed: int, length_s: float, rate_hz: float, size_px: tuple[int, int], *, gestures: bool
) -> _Film:
    from shiftedge.runtime.capture.synthetic import Film

    width, height = size_px
    film = Film(
        seed, seconds=length_s, rate_hz=rate_hz, width=width, height=height, gestures=gestures
    )
    return _Film(len(film), film.frame_at, tuple(film.events))


def _moving(seed: int, length_s: float, rate_hz: float, size_px: tuple[int, int]) -> _Film:
    from shiftedge.runtime.capture.synthetic import MovingScene

    scene = MovingScene(seed, height=size_px[1], width=size_px[0])
    return _Film(max(1, round(length_s * rate_hz)), scene.frame_at, ())
