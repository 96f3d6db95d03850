"""``synthetic:KIND``: rendered films, for demos, benchmarks and tests without a camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import PictureSequence
from shiftedge.runtime.capture.options import parse_options, rate, seconds, size, whole_number
from shiftedge.runtime.errors import SourceError

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import Film, MovingScene, TrueEvent

SYNTHETIC_KINDS = ("gestures", "still", "moving")
"""A seated person who gestures, one who sits still (both need OpenCV), and textured things that
move (numpy alone)."""
SMALLEST_SIDE_PX = 32

_OPTIONS = {"seed": whole_number, "seconds": seconds, "fps": rate, "size": size}
_ARGUMENTS = {"seed": "seed", "seconds": "length_s", "fps": "rate_hz", "size": "size_px"}


class SyntheticSource(PictureSequence):
    """A rendered film, as fast as it is taken (see :class:`Paced` for the speed of a camera).

    Args:
        kind: one of :data:`SYNTHETIC_KINDS`.
        size_px: (width, height).

    Raises:
        SourceError: an unknown kind, or a size below 32 pixels.
        MissingExtraError: a person without OpenCV.
    """

    truth: tuple[TrueEvent, ...] = ()
    """The gestures that happen in the film, in order of time, on the clock of its frames."""

    def __init__(
        self,
        kind: str = "gestures",
        *,
        seed: int = 1,
        length_s: float = 20.0,
        rate_hz: float = 30.0,
        size_px: tuple[int, int] = (640, 480),
    ) -> None:
        super().__init__(f"synthetic:{kind}", rate_hz)
        if kind not in SYNTHETIC_KINDS:
            raise SourceError(
                f"{self.name} is not known; expected "
                f"{', '.join(f'synthetic:{known}' for known in SYNTHETIC_KINDS)}."
            )
        width, height = size_px
        if min(size_px) < SMALLEST_SIDE_PX:
            raise SourceError(
                f"{self.name} cannot be rendered at {width}x{height}; "
                f"expected at least {SMALLEST_SIDE_PX} pixels a side."
            )
        self._count = max(1, round(length_s * rate_hz))
        # Imported late: the renderer lies in this package, whose import must not depend on it.
        from shiftedge.runtime.capture import synthetic

        self._film: Film | MovingScene
        if kind == "moving":
            self._film = synthetic.MovingScene(seed, height=height, width=width)
        else:
            self._film = film = synthetic.Film(
                seed,
                seconds=length_s,
                rate_hz=rate_hz,
                width=width,
                height=height,
                acts=(*synthetic.SWIPES, synthetic.OTHER) if kind == "gestures" else (),
            )
            self.truth = film.events

    def __len__(self) -> int:
        return self._count

    def picture(self, index: int) -> NDArray[np.uint8]:
        return self._film.frame_at(index)


def open_synthetic(kind: str, options: str = "") -> SyntheticSource:
    """Open ``synthetic:KIND?OPTIONS``; no kind means gestures.

    Raises:
        SourceError: the kind or an option is not known.
    """
    found: dict[str, Any] = parse_options(options, _OPTIONS, f"synthetic:{kind}?{options}")
    named = {_ARGUMENTS[name]: value for name, value in found.items()}
    return SyntheticSource(kind or "gestures", **named)
