"""A long session of one person before a webcam, with the truth of what happens when.

A film is a function of its seed: any frame may be asked for at any time, in any order, and comes
out the same. Frames are painted as they are asked for. A clip is a few labelled seconds, for
training and for tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic import (
    LABELS,
    NO_GESTURE,
    OPPOSITE,
    OTHER,
    SWIPES,
)
from shiftedge.runtime.capture.synthetic.acts import resting_hand
from shiftedge.runtime.capture.synthetic.motion import (
    Floats,
    Key,
    Lens,
    draw_lens,
    uniform,
)
from shiftedge.runtime.capture.synthetic.paint import Image
from shiftedge.runtime.capture.synthetic.scene import Scene
from shiftedge.runtime.capture.synthetic.timeline import Timeline, TrueEvent, visible_act

_CHAINED = 0.15
"""Share of swipes after which the hand is held and swipes the other way."""
_BATCH = 8
"""Frames computed together: numpy's calls cost as much for one moment as for some."""


class Film:
    """One person, one room, one camera, for ``seconds``.

    Args:
        gestures: whether the person does anything but sit there, talk and look about.
        clean: good light and a good camera, as suits a demonstration; otherwise anything that
            training clips show may happen here too.
    """

    def __init__(
        self,
        seed: int,
        *,
        seconds: float = 60.0,
        rate_hz: float = 30.0,
        height: int = 480,
        width: int = 640,
        gestures: bool = True,
        clean: bool = True,
    ) -> None:
        if seconds <= 0 or rate_hz <= 0:
            raise ValueError(f"seconds is {seconds} and rate_hz {rate_hz}; expected above 0")
        self.rate_hz = rate_hz
        self.seconds = seconds
        # What happens must not depend on the size, so it has a generator of its own.
        plot = np.random.default_rng((seed, 1))
        looks = np.random.default_rng((seed, 2))
        lens = draw_lens(np.random.default_rng((seed, 3)), height, width, clean=clean)
        places = ("lap", "desk") if clean else ("lap", "desk", "lap", "desk", "chin")
        rests = [resting_hand(plot, places[int(plot.integers(len(places)))]) for _ in range(2)]
        timeline = Timeline(rests[0], rests[1])
        if gestures:
            _play(plot, timeline, (rests[0], rests[1]), lens, seconds)
        self.events: tuple[TrueEvent, ...] = tuple(timeline.events)
        """The gestures in order of time. None begins before 1 s or ends after the film."""
        self.timeline = timeline
        self._scene = Scene(looks, timeline, lens, height, width, clean=clean)
        self._batch: tuple[int, list[Image]] = (-1, [])

    def __len__(self) -> int:
        """Number of frames."""
        return max(1, round(self.seconds * self.rate_hz))

    def frame_at(self, index: int) -> Image:
        """The frame ``index``, uint8 (height, width, 3) BGR; in order is fastest.

        Raises:
            IndexError: before the first frame or past the last one.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of a film of {len(self)} frames")
        number, place = divmod(index, _BATCH)
        if self._batch[0] != number:
            first = number * _BATCH
            times: Floats = np.arange(first, min(first + _BATCH, len(self))) / self.rate_hz
            self._batch = (number, self._scene.frames(times, first))
        frame: Image = self._batch[1][place].copy()  # others must not see what is drawn on it
        return frame

    def __iter__(self) -> Iterator[Image]:
        for index in range(len(self)):
            yield self.frame_at(index)


def _play(
    rng: np.random.Generator, timeline: Timeline, rests: tuple[Key, Key], lens: Lens, seconds: float
) -> None:
    """Fill the timeline with gestures, other things and pauses."""
    time = uniform(rng, 1.0, 1.8)
    deck: list[str] = []
    while True:
        if not deck:  # every gesture comes up, in random order, with other things between
            deck = [*SWIPES, OTHER, OTHER]
            rng.shuffle(deck)
        label = deck.pop()
        if label == OTHER and not timeline.events:  # who watches a film wants to see a gesture
            deck.insert(0, label)
            continue
        left = bool(rng.random() < 0.5)
        act = visible_act(rng, label, rests[int(left)], left, lens)
        if time + act.end_s > seconds - 0.3:
            return
        time = timeline.add(act, time, left=left)
        if label in SWIPES and rng.random() < _CHAINED:
            # The hand stays out for a moment and swipes back, as who leafs to and fro does.
            stop = timeline.events[-1].end_s
            timeline.cut_return(stop)
            time = stop + uniform(rng, 0.8, 1.6)
            back = visible_act(rng, OPPOSITE[label], rests[int(left)], left, lens)
            if time + back.end_s > seconds - 0.3:
                return
            time = timeline.add(back, time, left=left, chained=True)
        time += uniform(rng, 0.6, 2.4) if rng.random() < 0.85 else uniform(rng, 2.4, 5.0)


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
