"""One person in one room before one camera, painted at any moment of a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.arm import ArmShapes, Physique, arm_shapes, fixed
from shiftedge.runtime.capture.synthetic.camera import Camera
from shiftedge.runtime.capture.synthetic.crowd import draw_crowd
from shiftedge.runtime.capture.synthetic.hand import HAND_FIELDS, Floats
from shiftedge.runtime.capture.synthetic.lens import Lens
from shiftedge.runtime.capture.synthetic.motion import arm_at, body_at
from shiftedge.runtime.capture.synthetic.person import (
    LAYERS_FAR,
    LAYERS_LARGE,
    LAYERS_SMALL,
    ArmPaint,
    Head,
    Looks,
    trunk_sprite,
)
from shiftedge.runtime.capture.synthetic.pictures import Pictures
from shiftedge.runtime.capture.synthetic.ranges import Dice
from shiftedge.runtime.capture.synthetic.room import FRACTION_BITS, Image, bgr, colour, draw_room
from shiftedge.runtime.capture.synthetic.timeline import Timeline
from shiftedge.runtime.process.extras import require

cv2 = require("cv2")

_LARGE_PX = 200
"""Frames of at least this height get rounder shading and finer motion blur."""
_FAR_PX = 13.0
"""Heads smaller than this have arms of one colour."""
_CODEC_PX = 320
"""Frames up to this width may go through JPEG: it costs 5 ms at 640x480."""
_STEPS_SMALL, _STEPS_LARGE = (
    np.array([place, place, turn, turn]) for place, turn in ((2.0, 60.0), (4.0, 120.0))
)
"""Trunks and heads stand still until they have moved by half a pixel or turned by 1/60 radian;
half of that in large frames."""


@dataclass(frozen=True)
class _Idle:
    """What nobody can stop: sway, breath, glances, blinks and the moving mouth of a talker."""

    amplitude: Floats
    rate_hz: Floats
    phase: Floats
    talks: bool
    blink_s: float

    @classmethod
    def draw(cls, dice: Dice) -> _Idle:
        size = 0.05 if dice.happens("restless") else 0.012
        spread = np.array([size, 0.5 * size, 0.3 * size, 0.25, 0.2, size])
        amplitude = np.abs(dice.rng.normal(0.0, 1.0, 6)) * spread
        rate = dice.rng.uniform(0.05, 0.45, 6)
        phase = dice.rng.uniform(0.0, 2.0 * np.pi, 6)
        return cls(amplitude, rate, phase, dice.chance(0.35), dice.even(1.5, 5.0))

    def at(self, times: Floats) -> Floats:
        """(N, 6): shift right, shift down, roll, yaw, nod, tilt of the head."""
        wave: Floats = self.amplitude * np.sin(
            2.0 * np.pi * self.rate_hz * times[:, None] + self.phase
        )
        return wave

    def blinks(self, time_s: float) -> bool:
        return time_s % self.blink_s < 0.12

    def mouth(self, time_s: float) -> float:
        """How far the mouth is open, heads."""
        wave = np.sin(time_s * 17.0) + np.sin(time_s * 11.3 + 1.0) if self.talks else 0.0
        return 0.022 * max(0.0, float(wave))


@dataclass(frozen=True, eq=False)
class _Arm:
    """One arm during the exposures of some frames."""

    side: int
    """0 right, 1 left."""
    shapes: ArmShapes
    """Of both arms."""
    first: NDArray[np.intp]
    """Of each frame, the number of its first moment in ``shapes``."""
    counts: NDArray[np.intp]
    """Of each frame, how many moments it has."""
    seen: list[bool]
    """Of each frame, whether any of the arm may be inside the image."""


class Scene:
    """Paints frames of a timeline; ``empty``: a room with nobody in it; ``pictures``: real pixels
    to use."""

    def __init__(
        self,
        dice: Dice,
        timeline: Timeline,
        lens: Lens,
        *,
        standing: bool = False,
        empty: bool = False,
        pictures: Pictures | None = None,
    ) -> None:
        height, width = self._size = lens.size
        self._timeline, self._lens, self._empty = timeline, lens, empty
        large = height >= _LARGE_PX
        self._moments = 7 if large else 3
        self._blur_step = 0.03 if large else 0.06
        self._steps = _STEPS_LARGE if large else _STEPS_SMALL
        self._layers = LAYERS_LARGE if large else LAYERS_SMALL
        if lens.scale < _FAR_PX:
            self._layers = LAYERS_FAR
        self._exposure_s = dice.of("exposure_s")
        self._camera = Camera(
            dice, height, width, codec=width <= _CODEC_PX, moments=timeline.camera
        )
        self.light = self._camera.light
        """Of the room, 1 where it is as it should be."""
        self._crowd = draw_crowd(dice, height, width)
        self._photographed = False
        room = None
        if pictures is not None:
            self._photographed = not empty and dice.happens("photo_people")
            if self._photographed or dice.happens("photo_room"):
                room = pictures.room(dice, height, width, people=self._photographed)
            self._photographed &= room is not None
        self._room = draw_room(dice.rng, height, width) if room is None else room
        if empty:
            return
        looks = self._looks = Looks.draw(dice)
        self._build = self._drawn_build(dice, looks)
        rise = 0.5 - min(key.shift[1] for key in timeline.body())
        self._trunk = trunk_sprite(dice, looks, lens, rise, standing=standing)
        self._head = Head(dice, looks, lens)
        paint = None
        if pictures is not None and dice.happens("photo_hand"):
            paint = pictures.person(dice, looks, self._layers)
        self._paint = paint or ArmPaint(dice, looks, self._layers)
        self._idle = _Idle.draw(dice)
        self._furniture(dice, standing)
        self._kept: list[tuple[tuple[int, ...], Image]] = [((), self._room)] * 2

    def _furniture(self, dice: Dice, standing: bool) -> None:
        """A chair behind and a desk before who sits."""
        (x, y), k = self._lens.head, self._lens.scale
        self._desk: list[tuple[float, float, float, float, Floats]] = []
        """Its boxes: left, top, right, bottom, colour."""
        if standing:
            return
        if dice.chance(0.35) or y + 3.6 * k < self._size[0]:
            seat = y + 4.4 * k
            back = (x - 0.75 * k, y + 0.35 * k, x + 0.75 * k, seat)
            self._box(self._room, *back, 0.7 * colour(dice.rng))
        if dice.happens("desk"):
            left, right = (x - dice.even(2.0, 7.0) * k, x + dice.even(2.0, 7.0) * k)
            top, wood = y + dice.even(2.2, 2.7) * k, colour(dice.rng, dull=0.8) * 0.8
            bottom = top + dice.even(1.5, 4.0) * k
            self._desk.append((left, top, right, top + 0.25 * k, wood * 1.2))
            self._desk.append((left + 0.1 * k, top + 0.25 * k, right - 0.1 * k, bottom, wood))

    @staticmethod
    def _drawn_build(dice: Dice, looks: Looks) -> Physique:
        thick = dice.even(0.88, 1.15)
        return Physique(
            np.array([-0.90 * looks.shoulders, 1.05, 0.0]),
            hand=dice.even(0.74, 0.90),
            upper_radius=0.24 * thick,
            elbow_radius=0.18 * thick,
            wrist_radius=0.12 * thick,
            elbow_out=dice.even(0.1, 1.1),
            elbow_follows=dice.of("elbow"),
        )

    def frames(self, times: Floats, numbers: Sequence[int]) -> list[Image]:
        """Frames at ``times`` (seconds); ``numbers`` are those that the camera gives them."""
        return self.frames_and_hands(times, numbers)[0]

    def frames_and_hands(self, times: Floats, numbers: Sequence[int]) -> tuple[list[Image], Floats]:
        """Frames, and how the right and the left hand are held in them.

        Returns:
            N frames, and (N, 2, K), see
            :data:`~shiftedge.runtime.capture.synthetic.hand.HAND_FIELDS`; NaN if nobody is there.
            The camera's roll and shake are not in them.
        """
        if self._empty:
            empty = [
                self._camera.shoot(self._background(float(t)), number, float(t))
                for t, number in zip(times, numbers, strict=True)
            ]
            return empty, np.full((len(times), 2, len(HAND_FIELDS)), np.nan)
        state = self._state_at(times)
        arms = self._arms(times, state)
        frames = []
        for i, (time_s, number) in enumerate(zip(times.tolist(), numbers, strict=True)):
            picture = self._paint_moment([arm for arm in arms if arm.seen[i]], state[i], i, time_s)
            frames.append(self._camera.shoot(picture, number, time_s))
        held = arms[0].shapes.held(self._lens.size)
        return frames, np.stack([held[arm.first] for arm in arms], axis=1)

    def _state_at(self, times: Floats) -> Floats:
        """(N, 6): what trunk and head do, see :class:`_Idle`."""
        state = self._idle.at(times)
        state[:, :5] += body_at(self._timeline.body(), times)
        return state

    def _arms(self, times: Floats, state: Floats) -> list[_Arm]:
        """Both arms during the exposures of frames: at more moments where they move."""
        late = times + self._exposure_s
        swayed = self._state_at(late)[:, :2] - state[:, :2]
        hands, moments, parts = [], [], []
        for side in (0, 1):
            keys, wobbles = self._timeline.arm(side)
            moved = arm_at(keys, wobbles, late)[0] - arm_at(keys, wobbles, times)[0]
            moved[:, :2] += swayed
            travel = np.abs(moved).max(1) / (self._build.hand * self._blur_step)
            counts = np.minimum(1 + travel.astype(int), self._moments)
            first = np.cumsum(counts) - counts
            frame = np.repeat(np.arange(len(times)), counts)
            share = (np.arange(len(frame)) - first[frame]) / np.maximum(counts[frame] - 1, 1)
            moments.append(times[frame] + self._exposure_s * share)
            hands.append(arm_at(keys, wobbles, moments[-1]))
            parts.append((first + sum(map(len, moments[:-1])), counts))
        shapes = arm_shapes(
            tuple(np.concatenate(both) for both in zip(*hands, strict=True)),
            np.repeat([1.0, -1.0], [len(part) for part in moments]),
            self._state_at(np.concatenate(moments))[:, :2],
            self._build,
            self._lens,
            self._looks.light,
            self._layers[:, :2],
        )
        return [
            _Arm(side, shapes, first, counts, self._in_frame(shapes, first))
            for side, (first, counts) in enumerate(parts)
        ]

    def _background(self, time_s: float) -> Image:
        if not self._crowd:
            return self._room
        picture: Image = self._room.copy()
        for mover in self._crowd:
            mover(picture, time_s)
        return picture

    def _paint_moment(self, arms: list[_Arm], state: Floats, index: int, time_s: float) -> Image:
        behind = [arm for arm in arms if arm.shapes.near[arm.first[index]] < 0.0]
        front = [arm for arm in arms if arm not in behind]
        shift, down, roll, yaw, nod, tilt = state.tolist()
        k = self._lens.scale
        # In steps, so that most moments look like the one before. Nothing finer may be painted:
        # a frame must not depend on those that were painted before it.
        across = np.array([shift * k, down * k, roll, roll + tilt]) * self._steps
        place = tuple(np.rint(across).astype(int).tolist())
        face = Head.face(yaw, nod, self._idle.blinks(time_s), self._idle.mouth(time_s))
        if behind:
            picture: Image = self._with_trunk(place[:3], time_s).copy()
            self._expose(picture, behind, index, time_s)
            self._add_head(picture, place, face)
        else:
            picture = self._with_head(place, face, time_s).copy()
        self._expose(picture, front, index, time_s)
        return picture

    def _with_trunk(self, place: tuple[int, ...], time_s: float) -> Image:
        """The room with the trunk in it; kept for as long as nothing moves."""
        key, kept = self._kept[0]
        if key == place and not self._crowd:
            return kept
        picture: Image = self._background(time_s).copy()
        lens, k = self._lens, self._lens.scale
        if not self._photographed:
            right, down, turn = np.array(place) / self._steps[:3]
            at = (lens.head[0] + right, lens.head[1] + down + 2.6 * k)
            self._trunk.place(picture, at, turn, 1.0)
            for box in self._desk:
                self._box(picture, *box)
        self._kept[0] = (place, picture)
        return picture

    def _with_head(self, place: tuple[int, ...], face: tuple[int, ...], time_s: float) -> Image:
        whole = (*place, *face)
        key, kept = self._kept[1]
        if key == whole and not self._crowd:
            return kept
        picture: Image = self._with_trunk(place[:3], time_s).copy()
        self._add_head(picture, place, face)
        self._kept[1] = (whole, picture)
        return picture

    def _add_head(self, picture: Image, place: tuple[int, ...], face: tuple[int, ...]) -> None:
        right, down, _, turn = np.array(place) / self._steps
        x, y = self._lens.head[0] + right, self._lens.head[1] + down
        if not self._photographed and y + 1.5 * self._lens.scale > 0.0:
            self._head.sprite(face).place(picture, (x, y), turn, 1.0 - 0.015 * abs(face[0]))

    @staticmethod
    def _box(
        picture: Image, left: float, top: float, right: float, bottom: float, fill: Floats
    ) -> None:
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        cv2.fillConvexPoly(picture, fixed(corners), bgr(fill), cv2.LINE_AA, FRACTION_BITS)

    def _in_frame(self, arm: ArmShapes, first: NDArray[np.intp]) -> list[bool]:
        height, width = self._size
        left, top, right, bottom = arm.span[first].T
        # The upper arm hangs beside the trunk and shows even where the hand does not.
        top = np.minimum(top, self._lens.head[1] + self._lens.scale)
        slack = 0.1 * width  # it may move into the image within an exposure
        shown = (top < height + slack) & (left < width + slack) & (right > -slack)
        result: list[bool] = (shown & (bottom > -slack)).tolist()
        return result

    def _expose(self, picture: Image, arms: list[_Arm], index: int, time_s: float) -> None:
        """Paint arms over ``picture``, blurred as far as they move within the exposure."""
        height, width = self._size
        for arm in arms:
            shapes, first, count = arm.shapes, int(arm.first[index]), int(arm.counts[index])
            prop = self._prop(arm.side, time_s)
            if count == 1:
                self._paint.draw(picture, shapes, first, prop)
                continue
            moments = shapes.span[first : first + count]
            left, top = (max(0, int(v)) for v in moments[:, :2].min(0))
            right, bottom = (int(v) + 1 for v in moments[:, 2:].max(0))
            right, bottom = min(right, width), min(bottom, height)
            region = np.s_[top : max(top, bottom), left : max(left, right)]
            base = picture[region].copy()
            self._paint.draw(picture, shapes, first, prop)
            if not base.size:
                continue
            other = picture.copy()
            for n in range(1, count):
                other[region] = base
                self._paint.draw(other, shapes, first + n, prop)
                weight = 1.0 / (n + 1.0)
                mixed = cv2.addWeighted(picture[region], 1 - weight, other[region], weight, 0)
                picture[region] = mixed

    def _prop(self, side: int, time_s: float) -> str:
        for name, hand, start, stop in self._timeline.props:
            if hand == side and start <= time_s <= stop:
                return name
        return ""
