"""Synthetic webcam footage: people who gesture, rendered with numpy and OpenCV.

``moving_scene`` needs numpy only. The rest needs OpenCV and is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shiftedge.runtime.capture.synthetic.labels import (
    GESTURES,
    IGNORED,
    LABELS,
    MIRRORED,
    NO_GESTURE,
    OTHER,
    REVERSED,
    SWIPE_LABELS,
    SWIPES,
)
from shiftedge.runtime.capture.synthetic.moving import MovingScene, moving_scene

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic.clip import Conditions, RenderedClip, render_clip
    from shiftedge.runtime.capture.synthetic.film import Film
    from shiftedge.runtime.capture.synthetic.pictures import Pictures
    from shiftedge.runtime.capture.synthetic.ranges import CLEAN, NARROW, WIDE, Ranges
    from shiftedge.runtime.capture.synthetic.timeline import TrueEvent

__all__ = [
    "CLEAN",
    "GESTURES",
    "IGNORED",
    "LABELS",
    "MIRRORED",
    "NARROW",
    "NO_GESTURE",
    "OTHER",
    "REVERSED",
    "SWIPES",
    "SWIPE_LABELS",
    "WIDE",
    "Conditions",
    "Film",
    "MovingScene",
    "Pictures",
    "Ranges",
    "RenderedClip",
    "TrueEvent",
    "moving_scene",
    "render_clip",
]

_HOMES = {
    "clip": ("RenderedClip", "Conditions", "render_clip"),
    "film": ("Film",),
    "pictures": ("Pictures",),
    "ranges": ("CLEAN", "NARROW", "WIDE", "Ranges"),
    "timeline": ("TrueEvent",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
