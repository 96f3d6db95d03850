"""Labelled clips, for training and for tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.hand import Floats
from shiftedge.runtime.capture.synthetic.labels import LABELS, NO_GESTURE
from shiftedge.runtime.capture.synthetic.lens import draw_lens
from shiftedge.runtime.capture.synthetic.scene import Scene
from shiftedge.runtime.capture.synthetic.timeline import Timeline
from shiftedge.runtime.capture.synthetic.tracks import resting_hand

__all__ = ["Clip", "render_clip"]

_EMPTY_ROOMS = 0.08
"""Share of "No gesture" clips in which nobody is there."""
_JITTER = 0.12
"""Frames come early or late by up to this share of a period, as from real webcams."""


@dataclass(frozen=True)
class Clip:
    """A few seconds of one person, with what is true of them."""

    frames: NDArray[np.uint8]
    """uint8 (T, H, W, 3), BGR."""
    label: str
    """What the clip shows, one of LABELS."""
    frame_labels: NDArray[np.int8]
    """int8 (T,): index into LABELS of what a decoder should say at each frame, -1 where either
    answer is right. A gesture's index runs from 60% of its stroke to 0.4 s after its end."""
    hands: NDArray[np.float32]
    """float32 (T, 2, 2): x and y of the middle of the right and the left hand, as shares of the
    image's width and height; outside 0..1 where a hand is out of sight, NaN if nobody is there."""


def render_clip(
    rng: np.random.Generator,
    label: str,
    *,
    frames: int = 24,
    rate_hz: float = 12.0,
    height: int = 96,
    width: int = 128,
) -> Clip:
    """Render one clip of ``label`` with a person, a room and a camera drawn from ``rng``.

    Args:
        rng: the same state gives the same clip.
        label: one of LABELS.
        frames: number of frames T.
        rate_hz: frames per second.
        height, width: pixels.

    Raises:
        KeyError: an unknown label.
    """
    rests = (resting_hand(rng), resting_hand(rng))
    seconds = frames / rate_hz
    lens = draw_lens(rng, height, width, clean=False)
    timeline, start = Timeline.around(rng, label, rests, lens, seconds)
    empty = label == NO_GESTURE and rng.random() < _EMPTY_ROOMS
    scene = Scene(rng, timeline, lens, height, width, empty=bool(empty))
    times: Floats = start + (np.arange(frames) + rng.uniform(0.0, _JITTER, frames)) / rate_hz
    pictures, hands = scene.frames_and_hands(times, 0)
    shares = (hands / np.array([width, height])).astype(np.float32)
    truth = timeline.labels_at(times)
    if empty:
        truth[:] = LABELS.index(NO_GESTURE)
    return Clip(np.stack(pictures), label, truth, shares)
