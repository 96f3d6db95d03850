"""Synthetic webcam footage: a seated person who gestures, rendered with numpy and OpenCV.

``moving_scene`` needs numpy only. The rest needs OpenCV and is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shiftedge.runtime.capture.synthetic.labels import IGNORED, LABELS, MIRRORED
from shiftedge.runtime.capture.synthetic.moving import MovingScene, moving_scene

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic.clip import Clip, render_clip
    from shiftedge.runtime.capture.synthetic.film import Film
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

_HOMES = {"Clip": "clip", "render_clip": "clip", "Film": "film", "TrueEvent": "timeline"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
