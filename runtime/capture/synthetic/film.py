"""A long session of one person before a webcam, with the truth of what happens when.

A film is a function of its seed: any frame may be asked for at any time, in any order, and comes
out the same. Frames are painted as they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from shiftedge.runtime.capture.synthetic.acting import SITTING, STANDING, resting_hand
from shiftedge.runtime.capture.synthetic.camera import shown_frames
from shiftedge.runtime.capture.synthetic.clip import Conditions
from shiftedge.runtime.capture.synthetic.labels import OTHER, REVERSED, SLIDES, SWIPES
from shiftedge.runtime.capture.synthetic.lens import Lens, draw_lens
from shiftedge.runtime.capture.synthetic.motion import Key
from shiftedge.runtime.capture.synthetic.pictures import Pictures
from shiftedge.runtime.capture.synthetic.ranges import CLEAN, Dice, Ranges
from shiftedge.runtime.capture.synthetic.room import Image
from shiftedge.runtime.capture.synthetic.scene import Scene
from shiftedge.runtime.capture.synthetic.timeline import Timeline, TrueEvent, visible_act

_CHAINED = 0.15
"""Share of strokes after which the hand is held and goes the other way."""
_BATCH = 8
"""Frames computed together: numpy's calls cost as much for one moment as for some."""


class Film:
    """One person, one room, one camera, for ``seconds``.

    Args:
        acts: labels of what the person does, other things among them; nothing: sits there, talks
            and looks about.
        empty: nobody is there.
        ranges: how far everything may vary; the default is a good camera in good light.
        pictures: real pixels to use; None: everything is painted.
    """

    def __init__(
        self,
        seed: int,
        *,
        seconds: float = 60.0,
        rate_hz: float = 30.0,
        height: int = 480,
        width: int = 640,
        acts: Sequence[str] = (*SWIPES, OTHER),
        empty: bool = False,
        ranges: Ranges = CLEAN,
        pictures: Pictures | None = None,
    ) -> None:
        if seconds <= 0 or rate_hz <= 0:
            raise ValueError(f"seconds is {seconds} and rate_hz {rate_hz}; expected above 0")
        self.rate_hz = rate_hz
        self.seconds = seconds
        # What happens must not depend on the size, so it has a generator of its own.
        plot, looks, view, clock = (
            Dice(np.random.default_rng((seed, part)), ranges) for part in (1, 2, 3, 4)
        )
        lens = draw_lens(view, height, width)
        standing = plot.happens("standing")
        places: Sequence[str] = STANDING if standing else SITTING
        if ranges is CLEAN:
            places = ("lap", "desk")
        rests = (resting_hand(plot, places), resting_hand(plot, places))
        self.timeline = Timeline(*rests)
        if acts and not empty:
            _play(plot, self.timeline, rests, lens, seconds, list(acts))
        self.events: tuple[TrueEvent, ...] = tuple(self.timeline.events)
        """The gestures in order of time. None begins before 1 s or ends after the film."""
        self._scene = Scene(
            looks, self.timeline, lens, standing=standing, empty=empty, pictures=pictures
        )
        ticks = np.arange(len(self)) / rate_hz
        self._times, self._numbers, source_hz = shown_frames(clock, ticks)
        self.conditions = Conditions.of(lens, self._scene, source_hz, standing, None)
        self._batch: tuple[int, list[Image]] = (-1, [])

    def __len__(self) -> int:
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
            part = slice(number * _BATCH, min((number + 1) * _BATCH, len(self)))
            painted = self._scene.frames(self._times[part], self._numbers[part])
            self._batch = (number, painted)
        frame: Image = self._batch[1][place].copy()  # others must not see what is drawn on it
        return frame

    def __iter__(self) -> Iterator[Image]:
        for index in range(len(self)):
            yield self.frame_at(index)


def _play(
    dice: Dice,
    timeline: Timeline,
    rests: tuple[Key, Key],
    lens: Lens,
    seconds: float,
    acts: list[str],
) -> None:
    """Fill the timeline with gestures, other things and pauses."""
    time = dice.even(1.0, 1.8)
    gestures = [label for label in acts if label != OTHER]
    # Other things come up half as often as gestures, and alone where there are none.
    others = [OTHER] * (max(1, len(gestures) // 2) if OTHER in acts else 0)
    deck: list[str] = []
    while True:
        if not deck:  # every gesture comes up, in random order, with other things between
            deck = [*gestures, *others]
            dice.rng.shuffle(deck)
        label = deck.pop()
        if label == OTHER and gestures and not timeline.events:
            deck.insert(0, label)  # who watches a film wants to see a gesture
            continue
        left = dice.happens("left")
        act = visible_act(dice, label, rests[int(left)], left, lens)
        if time + act.end_s > seconds - 0.3:
            return
        time = timeline.add(act, time, left=left)
        if label in SWIPES + SLIDES and dice.chance(_CHAINED):
            # The hand stays out for a moment and goes back, as who leafs to and fro does.
            stop = timeline.events[-1].end_s
            timeline.cut_return(stop)
            time = stop + dice.even(0.8, 1.6)
            back = visible_act(dice, REVERSED[label], rests[int(left)], left, lens)
            if time + back.end_s > seconds - 0.3:
                return
            time = timeline.add(back, time, left=left, chained=True)
        time += dice.even(0.6, 2.4) if dice.chance(0.85) else dice.even(2.4, 5.0)
