"""Synthetic webcam footage: a seated person who gestures, rendered with numpy and OpenCV.

``moving_scene`` needs numpy only. The rest needs OpenCV and is imported when it is first used.

Jester names a swipe from the performer's point of view, and its images are not mirrored: in
"Swiping Left" the hand travels from the left of the image to its right.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shiftedge.runtime.capture.synthetic.moving import MovingScene, moving_scene

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic.film import Clip, Film, render_clip
    from shiftedge.runtime.capture.synthetic.timeline import TrueEvent

__all__ = [
    "IGNORED",
    "LABELS",
    "MIRRORED",
    "Clip",
    "Film",
    "MovingScene",
    "TrueEvent",
    "moving_scene",
    "render_clip",
]

SWIPES = ("Swiping Left", "Swiping Right", "Swiping Up", "Swiping Down")
NO_GESTURE = "No gesture"
OTHER = "Doing other things"

LABELS: tuple[str, ...] = (*SWIPES, NO_GESTURE, OTHER)
"""Every label, in the order of the indices in ``Clip.frame_labels``."""

MIRRORED = {"Swiping Left": "Swiping Right", "Swiping Right": "Swiping Left"}
"""What a label becomes when the image is mirrored left to right; others stay as they are."""

OPPOSITE = {
    "Swiping Left": "Swiping Right",
    "Swiping Right": "Swiping Left",
    "Swiping Up": "Swiping Down",
    "Swiping Down": "Swiping Up",
}
"""The swipe that leads back."""

IGNORED = -1
"""Frame label of a frame that is not decidable yet, or may be taken either way."""


def __getattr__(name: str) -> Any:
    if name in ("Clip", "Film", "TrueEvent", "render_clip"):
        return getattr(importlib.import_module(f"{__name__}.film"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
