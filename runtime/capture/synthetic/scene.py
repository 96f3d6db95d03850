"""One person in one room before one camera, painted at any moment of a timeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.motion import (
    ArmShapes,
    Build,
    Floats,
    Lens,
    arm_shapes,
    body_at,
    uniform,
)
from shiftedge.runtime.capture.synthetic.paint import (
    LAYERS_LARGE,
    LAYERS_SMALL,
    ArmPaint,
    Image,
    Looks,
    bgr,
    colour,
    draw_room,
    head_sprite,
    trunk_sprite,
)
from shiftedge.runtime.capture.synthetic.timeline import Timeline
from shiftedge.runtime.process.extras import require

cv2 = require("cv2")


_MOMENTS_SMALL, _MOMENTS_LARGE = 3, 7
"""Moments within one exposure at which arms are computed, for motion blur."""
_LARGE_PX = 200
"""Frames of at least this height get rounder shading."""
_CODEC_PX = 320
"""Frames up to this width may go through JPEG: it costs 5 ms at 640x480."""


@dataclass(frozen=True)
class _Idle:
    """What nobody can stop: sway, breath, glances, blinks and the moving mouth of a talker."""

    amplitude: Floats
    rate_hz: Floats
    phase: Floats
    talks: bool
    blink_s: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Idle:
        size = 0.012 if rng.random() < 0.6 else 0.05
        spread = np.array([size, 0.5 * size, 0.3 * size, 0.25, 0.2, size])
        amplitude = np.abs(rng.normal(0.0, 1.0, 6)) * spread
        rate = rng.uniform(0.05, 0.45, 6)
        phase = rng.uniform(0.0, 2.0 * np.pi, 6)
        return cls(amplitude, rate, phase, bool(rng.random() < 0.35), uniform(rng, 1.5, 5.0))

    def at(self, times: Floats) -> Floats:
        """(N, 6): shift right, shift down, roll, yaw, nod, tilt of the head."""
        wave: Floats = self.amplitude * np.sin(
            2.0 * np.pi * self.rate_hz * times[:, None] + self.phase
        )
        return wave


class Scene:
    """Paints frames of a timeline.

    Args:
        clean: good light and a good camera, for films that people look at.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        timeline: Timeline,
        lens: Lens,
        height: int,
        width: int,
        *,
        clean: bool = False,
        empty: bool = False,
    ) -> None:
        self._size = (height, width)
        self._timeline = timeline
        self._empty = empty
        self._lens = lens
        looks = Looks.draw(rng)
        self._looks = looks
        self._layers = LAYERS_LARGE if height >= _LARGE_PX else LAYERS_SMALL
        self._moments = _MOMENTS_LARGE if height >= _LARGE_PX else _MOMENTS_SMALL
        shoulder = np.array([-0.90 * looks.shoulders, 1.05, 0.0])
        thick = uniform(rng, 0.88, 1.15)
        self._build = Build(
            shoulder,
            hand=uniform(rng, 0.74, 0.90),
            upper_radius=0.24 * thick,
            elbow_radius=0.18 * thick,
            wrist_radius=0.12 * thick,
            elbow_out=uniform(rng, 0.1, 1.1),
        )
        self._room = draw_room(rng, height, width)
        self._trunk = trunk_sprite(rng, looks, self._lens)
        self._head = head_sprite(rng, looks, self._lens)
        self._paint = ArmPaint(rng, looks, self._layers)
        self._idle = _Idle.draw(rng)
        self._chair = colour(rng) * 0.6 if rng.random() < 0.35 else None
        self._exposure_s = uniform(rng, 0.012, 0.03) if clean else uniform(rng, 0.01, 0.075)
        self._camera = Camera(rng, height, width, clean=clean, codec=width <= _CODEC_PX)

    def frames(self, times: Floats, first_index: int) -> list[Image]:
        """Frames at ``times`` (seconds); ``first_index`` numbers the first one for the camera."""
        return self.frames_and_hands(times, first_index)[0]

    def frames_and_hands(self, times: Floats, first_index: int) -> tuple[list[Image], Floats]:
        """Frames, and where the middles of the right and left hand are in them.

        Returns:
            N frames, and (N, 2, 2) pixels x and y, which may be outside the image; NaN if nobody
            is there. The camera's roll and shake are not in them.
        """
        if self._empty:
            empty = [
                self._camera.shoot(self._room, first_index + i, float(t))
                for i, t in enumerate(times)
            ]
            return empty, np.full((len(times), 2, 2), np.nan)
        offsets = np.linspace(0.0, self._exposure_s, self._moments)
        fine = (times[:, None] + offsets).ravel()
        body = body_at(self._timeline.body(), fine)
        idle = self._idle.at(fine)
        idle[:, :5] += body
        arms = []
        for side, mirror in ((0, 1.0), (1, -1.0)):
            keys, wobbles = self._timeline.arm(side)
            shapes = arm_shapes(
                keys,
                wobbles,
                fine,
                idle[:, :2],
                self._build,
                self._lens,
                self._looks.light,
                self._layers[:, :2],
                mirror,
            )
            arms.append(shapes)
        frames = []
        for i, time_s in enumerate(times):
            moment = i * self._moments
            scene = self._paint_moment(arms, idle[moment], moment, float(time_s))
            frames.append(self._camera.shoot(scene, first_index + i, float(time_s)))
        hands = np.stack([arm.middle[:: self._moments] for arm in arms], axis=1)
        return frames, hands

    def _paint_moment(
        self, arms: list[ArmShapes], state: Floats, index: int, time_s: float
    ) -> Image:
        scene: Image = self._room.copy()
        lens, k = self._lens, self._lens.scale
        x, y = lens.head[0] + state[0] * k, lens.head[1] + state[1] * k
        if self._chair is not None:
            self._box(scene, lens.head[0], lens.head[1] + 0.35 * k, 0.75 * k, self._chair)
        self._trunk.place(scene, (x, y + 2.6 * k), state[2], 1.0)
        # The head follows the shoulders, which turn about the waist.
        tilt = state[2] + state[5]
        x += 2.6 * k * np.sin(state[2])
        yaw, nod = np.clip(state[3], -1.2, 1.2), np.clip(state[4], -1.0, 1.0)
        x, y = x + 0.05 * yaw * k, y + 0.03 * nod * k
        visible = [a for a in arms if self._in_frame(a, index)]
        for arm in visible:
            if arm.near[index] < 0.0:
                self._expose(scene, [arm], index, time_s)
        self._head.place(scene, (x, y), tilt, 1.0 - 0.06 * abs(yaw))
        self._face(scene, x, y, tilt, yaw, nod, time_s)
        self._expose(scene, [a for a in visible if a.near[index] >= 0.0], index, time_s)
        return scene

    @staticmethod
    def _box(scene: Image, x: float, top: float, half: float, fill: Floats) -> None:
        bottom = float(scene.shape[0])
        left, right = x - half, x + half
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        fixed = np.rint(corners * 16).astype(np.int32)
        cv2.fillConvexPoly(scene, fixed, bgr(fill), cv2.LINE_AA, 4)

    def _in_frame(self, arm: ArmShapes, index: int) -> bool:
        height, width = self._size
        span = np.stack([arm.span[index], arm.span[index + self._moments - 1]])
        # The upper arm hangs beside the trunk and shows even where the hand does not.
        left, top, right, _ = span[:, 0].min(), span[:, 1].min(), span[:, 2].max(), 0
        shoulder = self._lens.head[1] + 1.0 * self._lens.scale
        return bool(min(top, shoulder) < height and left < width and right > 0)

    def _expose(self, scene: Image, arms: list[ArmShapes], index: int, time_s: float) -> None:
        """Paint arms over ``scene``, blurred as far as they move within the exposure."""
        for arm in arms:
            prop = self._prop(arm, time_s)
            moments = arm.span[index : index + self._moments]
            travel = float(np.abs(arm.wrist[index + self._moments - 1] - arm.wrist[index]).max())
            step = arm.hand_px[index] * (0.05 if self._moments == _MOMENTS_SMALL else 0.03)
            count = min(self._moments, 1 + int(travel / step))
            if count == 1:
                self._paint.draw(scene, arm, index, prop)
                continue
            height, width = self._size
            left, top = (max(0, int(v)) for v in moments[:, :2].min(0))
            right, bottom = (int(v) + 1 for v in moments[:, 2:].max(0))
            right, bottom = min(right, width), min(bottom, height)
            base = scene.copy()
            self._paint.draw(scene, arm, index, prop)
            if right <= left or bottom <= top:
                continue
            region = np.s_[top:bottom, left:right]
            other = base.copy()
            for n in range(1, count):
                moment = index + round(n * (self._moments - 1) / (count - 1))
                other[region] = base[region]
                self._paint.draw(other, arm, moment, prop)
                weight = 1.0 / (n + 1.0)
                scene[region] = cv2.addWeighted(scene[region], 1 - weight, other[region], weight, 0)

    def _prop(self, arm: ArmShapes, time_s: float) -> str:
        for name, side, start, stop in self._timeline.props:
            mine = arm.mirror < 0 if side == 1 else arm.mirror > 0
            if mine and start <= time_s <= stop:
                return name
        return ""

    def _face(
        self, scene: Image, x: float, y: float, tilt: float, yaw: float, nod: float, time_s: float
    ) -> None:
        """Eyes, brows, nose and mouth, which move with the turn of the head."""
        looks, k = self._looks, self._lens.scale
        c, s = np.cos(tilt), np.sin(tilt)
        ox, oy = 0.10 * yaw, 0.07 * nod
        degrees = float(np.degrees(tilt))

        def at(u: float, v: float) -> tuple[int, int]:
            u, v = u + ox, v + oy
            return round((x + (c * u - s * v) * k) * 16), round((y + (s * u + c * v) * k) * 16)

        def oval(u: float, v: float, a: float, b: float, fill: Floats, width: int = -1) -> None:
            axes = (max(4, round(a * k * 16)), max(4, round(b * k * 16)))
            cv2.ellipse(scene, at(u, v), axes, degrees, 0, 360, bgr(fill), width, cv2.LINE_AA, 4)

        dark = np.minimum(looks.hair * 0.8, looks.skin * 0.5)
        line = max(1, round(0.028 * k))
        blink = (time_s % self._idle.blink_s) < 0.12
        eye_line = looks.skin * 0.55
        for u in (-0.155, 0.155):
            ends = at(u - 0.075, -0.10), at(u + 0.075, -0.105)
            cv2.line(scene, *ends, bgr(dark), line, cv2.LINE_AA, 4)
            if blink:
                oval(u, 0.0, 0.06, 0.008, eye_line)
            else:
                oval(u, 0.0, 0.062, 0.032, np.minimum(looks.skin * 0.4 + 125.0, 235.0))
                oval(u + 0.03 * yaw, 0.0, 0.028, 0.030, np.array([30.0, 35.0, 45.0]))
            if looks.glasses:
                oval(u, 0.01, 0.125, 0.10, np.array([25.0, 25.0, 28.0]), line)
        oval(0.02 * yaw, 0.14, 0.055, 0.03, looks.skin * 0.80)
        oval(0.015 + 0.03 * yaw, 0.08, 0.022, 0.06, np.minimum(looks.skin * 1.08, 250.0))
        open_mouth = 0.012
        if self._idle.talks:
            wave = np.sin(time_s * 17.0) + np.sin(time_s * 11.3 + 1.0)
            open_mouth += 0.022 * max(0.0, float(wave))
        oval(0.0, 0.27, 0.105, 0.014 + open_mouth, looks.skin * np.array([0.62, 0.58, 0.80]))
        oval(0.0, 0.27, 0.085, open_mouth * 0.6, looks.skin * 0.3)


_SPARE_PX = 48
"""The noise bank is larger than a frame by this much, so that each frame sees another part."""


class Camera:
    """One webcam in one room: fixed for a clip or a film.

    Args:
        clean: a good camera in good light, for films that people look at.
        codec: whether frames may go through JPEG (slow at large sizes).
    """

    def __init__(
        self, rng: np.random.Generator, height: int, width: int, *, clean: bool, codec: bool
    ) -> None:
        self._size = (width, height)
        self._seed = int(rng.integers(1 << 31))
        self._light = self._light_field(rng, height, width, clean)
        self._curve = self._tone_curve(rng, clean)
        self._noise = self._noise_bank(rng, height, width, clean)
        self._jpeg = int(uniform(rng, 25, 92)) if codec and rng.random() < 0.5 else 0
        # Films of 256 colours and strong codecs leave a fixed pattern on what does not move.
        self._dither = uniform(rng, 6.0, 28.0) if not clean and rng.random() < 0.18 else 0.0
        pattern = np.random.default_rng(self._seed).random((height, width, 1))
        self._threshold = np.repeat(pattern - 0.5, 3, axis=2).astype(np.float32)
        self._grey = bool(not clean and rng.random() < 0.03)
        soft = rng.random()
        self._blur = uniform(rng, 0.4, 0.9) * height / 96.0 if not clean and soft < 0.35 else 0.0
        self._flicker = uniform(rng, 0.0, 0.02) if not clean and rng.random() < 0.4 else 0.0
        shaky = not clean and rng.random() < 0.12
        self._shake = uniform(rng, 0.0, 0.006) * height if shaky else 0.0
        roll = rng.normal(0.0, 0.035) if not clean else 0.0
        self._roll = roll if rng.random() < 0.5 else 0.0
        self._step = uniform(rng, -0.5, 0.6) if not clean and rng.random() < 0.06 else 0.0
        self._step_s = uniform(rng, 0.0, 2.5)

    @staticmethod
    def _light_field(
        rng: np.random.Generator, height: int, width: int, clean: bool
    ) -> NDArray[np.float32]:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        angle = uniform(rng, 0.0, 2.0 * np.pi)
        slope = uniform(rng, 0.0, 0.12 if clean else 0.3)
        field = 1.0 + slope * (x * np.cos(angle) + y * np.sin(angle))
        field -= uniform(rng, 0.0, 0.12) * (x * x + y * y)
        strength = uniform(rng, 0.0, 0.04 if clean else 0.12)
        patches = rng.normal(0.0, strength, (3, 4)).astype(np.float32)
        field += cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
        balance = 1.0 + rng.normal(0.0, 0.02 if clean else 0.06, 3)
        gain = uniform(rng, 0.95, 1.1) if clean else uniform(rng, 0.75, 1.25)
        if not clean and rng.random() < 0.15:
            gain = uniform(rng, 0.35, 0.75)
        result: NDArray[np.float32] = (field[..., None] * (balance * gain)).astype(np.float32)
        return result

    @staticmethod
    def _tone_curve(rng: np.random.Generator, clean: bool) -> Image:
        x = np.arange(256) / 255.0
        spread = 0.06 if clean else 0.22
        contrast = 1.0 + (uniform(rng, -0.2, 0.35) if not clean else 0.05)
        curve = np.clip((x - 0.5) * contrast + 0.5, 0.0, 1.0) ** np.exp(rng.normal(0.0, spread))
        lift = 0.0 if clean else uniform(rng, -12.0, 22.0)
        table: Image = np.clip(curve * 255.0 + lift, 0.0, 255.0).astype(np.uint8)
        return table

    @staticmethod
    def _noise_bank(
        rng: np.random.Generator, height: int, width: int, clean: bool
    ) -> NDArray[np.int8]:
        level = abs(rng.normal(0.0, 3.2)) if rng.random() < 0.9 else uniform(rng, 5.0, 13.0)
        if clean:
            level = uniform(rng, 0.8, 1.8)
        elif rng.random() < 0.2:
            level = 0.0  # codecs freeze what does not move
        shape = (height + _SPARE_PX, width + _SPARE_PX)
        colour = rng.standard_normal((*shape, 3), np.float32)
        grey = rng.standard_normal((*shape, 1), np.float32)
        grain = np.rint(level * (0.55 * colour + 0.75 * grey))
        result: NDArray[np.int8] = np.clip(grain, -120, 120).astype(np.int8)
        return result

    def shoot(self, scene: Image, index: int, time_s: float) -> Image:
        """The frame that the camera gives of ``scene``; depends on nothing but the arguments."""
        draw = np.random.default_rng((self._seed, index))
        width, height = self._size
        if self._roll or self._shake:
            scene = self._aim(scene, draw)
        if self._blur:
            scene = cv2.GaussianBlur(scene, (0, 0), self._blur)
        gain = 1.0 + self._flicker * float(draw.standard_normal())
        if self._step:
            # Somebody switches a lamp on, or the exposure adapts.
            gain *= 1.0 + self._step / (1.0 + np.exp(-8.0 * (time_s - self._step_s)))
        frame = cv2.multiply(scene, self._light, scale=gain, dtype=cv2.CV_8U)
        frame = cv2.LUT(frame, self._curve)
        y, x = draw.integers(0, _SPARE_PX, 2)
        noise = self._noise[y : y + height, x : x + width]
        frame = cv2.add(frame, noise, dtype=cv2.CV_8U)
        if self._grey:
            frame = np.repeat(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
        if self._dither:
            steps = np.rint(frame / np.float32(self._dither) + self._threshold)
            frame = np.clip(steps * self._dither, 0, 255).astype(np.uint8)
        if self._jpeg:
            quality = [cv2.IMWRITE_JPEG_QUALITY, self._jpeg]
            frame = cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR)
        result: Image = frame
        return result

    def _aim(self, scene: Image, draw: np.random.Generator) -> Image:
        width, height = self._size
        jitter = draw.normal(0.0, 1.0, 2) * self._shake
        zoom = 1.0 + 1.2 * abs(self._roll) + 2.0 * self._shake / height
        degrees = float(np.degrees(self._roll))
        matrix = cv2.getRotationMatrix2D((width / 2.0, height / 2.0), degrees, zoom)
        matrix[:, 2] += jitter
        turned: Image = cv2.warpAffine(scene, matrix, self._size, borderMode=cv2.BORDER_REPLICATE)
        return turned
