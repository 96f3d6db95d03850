"""Labelled clips, for training and for tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.acting import SITTING, STANDING, resting_hand
from shiftedge.runtime.capture.synthetic.camera import shown_frames
from shiftedge.runtime.capture.synthetic.labels import LABELS, NO_GESTURE
from shiftedge.runtime.capture.synthetic.lens import Lens, draw_lens
from shiftedge.runtime.capture.synthetic.pictures import Pictures
from shiftedge.runtime.capture.synthetic.ranges import WIDE, Dice, Ranges
from shiftedge.runtime.capture.synthetic.scene import Scene
from shiftedge.runtime.capture.synthetic.timeline import Timeline, TrueEvent


@dataclass(frozen=True)
class Conditions:
    """Under which a clip or a film was taken, so that scores can be told apart by them."""

    head: float
    """Height of the head as a share of the image's: 0.2 is near, 0.06 4 m away."""
    head_seen: bool
    """Whether the middle of the head is inside the image."""
    light: float
    """1 where the room is lit well."""
    rate_hz: float
    """Frames per second of the camera; 240 stands for one that is never too slow."""
    standing: bool
    hand: str = ""
    """"right" or "left", the performer's; of a film, and where no hand acts, nothing."""
    stroke_s: float = 0.0
    """Length of the stroke in a clip of a gesture."""

    @classmethod
    def of(
        cls, lens: Lens, scene: Scene, rate_hz: float, standing: bool, event: TrueEvent | None
    ) -> Conditions:
        """Of a scene, and of the gesture in a clip."""
        (x, y), (height, width) = lens.head, lens.size
        head_seen = 0.0 <= y < height and 0.0 <= x < width
        hand, stroke_s = ("", 0.0) if event is None else (event.hand, event.end_s - event.start_s)
        head = lens.scale / height
        return cls(head, head_seen, scene.light, rate_hz, standing, hand, stroke_s)


@dataclass(frozen=True)
class RenderedClip:
    """A few seconds of one person, with what is true of them."""

    frames: NDArray[np.uint8]
    """uint8 (T, H, W, 3), BGR."""
    label: str
    """What the clip shows, one of LABELS."""
    frame_labels: NDArray[np.int8]
    """int8 (T,): index into LABELS of what a decoder should say at each frame, -1 where either
    answer is right. A gesture's index runs from 60% of its stroke to 0.4 s after its end, or for
    as long as a sign is held."""
    hands: NDArray[np.float32]
    """float32 (T, 2, K): how the right and the left hand are held, see
    :data:`~shiftedge.runtime.capture.synthetic.hand.HAND_FIELDS`; NaN if nobody is there."""
    events: tuple[TrueEvent, ...]
    """The gestures, in seconds from the clip's first tick; they may begin before it."""
    conditions: Conditions


def render_clip(
    rng: np.random.Generator,
    label: str,
    *,
    frames: int = 24,
    rate_hz: float = 12.0,
    height: int = 96,
    width: int = 128,
    ranges: Ranges = WIDE,
    pictures: Pictures | None = None,
    person: int | None = None,
) -> RenderedClip:
    """Render one clip of ``label`` with a person, a room and a camera drawn from ``rng``.

    Args:
        rate_hz: of the model's clock; the camera's rate is drawn.
        ranges: how far everything may vary.
        pictures: real pixels to use; None: everything is painted.
        person: a seed of the person, the room and the camera, so that many clips show the same
            one; only what is done, and how, is drawn from ``rng`` then.

    Raises:
        KeyError: an unknown label.
    """
    if label not in LABELS:
        raise KeyError(label)
    dice = Dice(rng, ranges)
    who = dice if person is None else Dice(np.random.default_rng(person), ranges)
    lens = draw_lens(who, height, width)
    standing = who.happens("standing")
    places = STANDING if standing else SITTING
    rests = (resting_hand(who, places), resting_hand(who, places))
    timeline, start = Timeline.around(dice, label, rests, lens, frames / rate_hz)
    empty = label == NO_GESTURE and dice.happens("empty")
    scene = Scene(who, timeline, lens, standing=standing, empty=empty, pictures=pictures)
    ticks = start + np.arange(frames) / rate_hz
    times, numbers, source_hz = shown_frames(who, ticks)
    # What is seen twice is painted once.
    _, first, again = np.unique(numbers, return_index=True, return_inverse=True)
    painted, hands = scene.frames_and_hands(times[first], [numbers[i] for i in first])
    truth = timeline.labels_at(times)
    if empty:
        truth[:] = LABELS.index(NO_GESTURE)
    events = tuple(
        TrueEvent(event.label, event.start_s - start, event.end_s - start, event.hand)
        for event in timeline.events
    )
    held = hands.astype(np.float32)[again]
    conditions = Conditions.of(lens, scene, source_hz, standing, events[0] if events else None)
    return RenderedClip(
        np.stack([painted[i] for i in again]), label, truth, held, events, conditions
    )
