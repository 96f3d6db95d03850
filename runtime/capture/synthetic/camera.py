"""What light, lens, sensor and codec do to a picture."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.ranges import Dice
from shiftedge.runtime.capture.synthetic.room import Image
from shiftedge.runtime.process.extras import require

cv2 = require("cv2")

_SPARE_PX = 48
"""The grain is larger than a frame by this much, so that each frame sees another part."""
_DRAWS = 509
"""Draws that frames share out among them, by their number."""
_GRAIN = 28.0
"""Deviation of the grain as it is kept, in levels about 128."""


@functools.lru_cache(maxsize=4)
def _grain(height: int, width: int) -> Image:
    """Noise of brightness and, less, of colour; drawn once a process, since drawing is dear."""
    rng = np.random.default_rng(20)
    shape = (height + _SPARE_PX, width + _SPARE_PX)
    colour = rng.standard_normal((*shape, 3), np.float32)
    grey = rng.standard_normal((*shape, 1), np.float32)
    grain = 128.0 + _GRAIN * (0.55 * colour + 0.75 * grey)
    levels: Image = np.clip(np.rint(grain), 0, 255).astype(np.uint8)
    return levels


class Camera:
    """One webcam in one room: fixed for a clip or a film. ``codec``: frames may go through JPEG,
    slow at large sizes; ``moments`` are what happens to it: "shake" or "lamp", from, until,
    seconds."""

    def __init__(
        self,
        dice: Dice,
        height: int,
        width: int,
        *,
        codec: bool,
        moments: list[tuple[str, float, float]],
    ) -> None:
        self._size = (width, height)
        self.light = dice.of("light")
        self._field = self._light_field(dice, height, width)
        self._curve = self._tone_curve(dice)
        self._level = 0.0 if dice.happens("frozen") else dice.of("noise") / _GRAIN
        self._jpeg = int(dice.of("jpeg_quality")) if dice.happens("jpeg") and codec else 0
        self._palette = dice.of("palette_step") if dice.happens("palette") else 0.0
        self._grey = dice.happens("grey")
        self._blur = dice.of("blur_px") * height / 96.0 if dice.happens("blur") else 0.0
        self._flicker = dice.even(0.0, 0.02) if dice.chance(0.4) else 0.0
        self._shake = dice.of("shake") * height if dice.happens("shaky") else 0.0
        self._roll = dice.near(0.0, dice.of("roll")) if dice.happens("tilted") else 0.0
        # Exposure and white balance that roll: how far, how fast, from where.
        self._drift = dice.near3(0.14) * 0.35 + dice.near(0.0, 0.14)
        self._drift *= dice.happens("drift")
        self._drift_s = (dice.even(1.5, 6.0), dice.even(0.0, 6.0))
        self._moments = list(moments)
        if dice.happens("lamp"):
            self._moments.append(("lamp", dice.even(0.0, 2.5), 0.0))
        self._lamp = float(np.exp(dice.even(0.3, 0.9)) - 1.0)
        if dice.chance(0.5):  # off
            self._lamp = -self._lamp / (1.0 + self._lamp)
        self._knock = dice.even(0.004, 0.03) * height
        self._draws = dice.rng.standard_normal((_DRAWS, 4))
        self._threshold = np.zeros((0,), np.float32)
        if self._palette:
            pattern = dice.rng.random((height, width, 1)) - 0.5
            self._threshold = np.repeat(pattern, 3, axis=2).astype(np.float32)

    def _light_field(self, dice: Dice, height: int, width: int) -> NDArray[np.float32]:
        y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
        x = np.linspace(-1.0, 1.0, width, dtype=np.float32)
        angle, slope = dice.even(0.0, 2.0 * np.pi), dice.of("light_slope")
        field = 1.0 + np.float32(slope * np.cos(angle)) * x + np.float32(slope * np.sin(angle)) * y
        field -= np.float32(dice.even(0.0, 0.12)) * (x * x + y * y)
        patches = dice.rng.normal(0.0, 0.35 * slope, (3, 4)).astype(np.float32)
        field += cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR)
        balance = self.light * (1.0 + dice.near3(dice.of("balance")))
        result: NDArray[np.float32] = field[..., None] * balance.astype(np.float32)
        return result

    @staticmethod
    def _tone_curve(dice: Dice) -> Image:
        x = np.arange(256) / 255.0
        contrast = 1.0 + dice.of("contrast")
        gamma = np.exp(dice.near(0.0, dice.of("gamma")))
        curve = np.clip((x - 0.5) * contrast + 0.5, 0.0, 1.0) ** gamma
        table: Image = np.clip(curve * 255.0 + dice.of("lift"), 0.0, 255.0).astype(np.uint8)
        return table

    def shoot(self, scene: Image, index: int, time_s: float) -> Image:
        """The frame that the camera gives of ``scene``; depends on nothing but the arguments."""
        draw = self._draws[index % _DRAWS]
        width, height = self._size
        knock = sum(
            self._knock
            for what, start, stop in self._moments
            if what == "shake" and start <= time_s <= stop
        )
        if self._roll or self._shake or knock:
            swing = np.array([np.sin(17.0 * time_s), np.cos(23.0 * time_s)])
            scene = self._aim(scene, self._shake * draw[:2] + knock * (swing + 0.4 * draw[:2]))
        if self._blur:
            scene = cv2.GaussianBlur(scene, (0, 0), self._blur)
        gain = 1.0 + self._flicker * float(draw[2])
        for what, start, _ in self._moments:
            if what == "lamp":  # and the exposure adapts a little
                gain *= 1.0 + self._lamp / (1.0 + np.exp(-14.0 * (time_s - start - 0.4)))
        frame = cv2.multiply(scene, self._field, scale=gain, dtype=cv2.CV_8U)
        curve = self._curve
        if self._drift.any():
            period, phase = self._drift_s
            rolled = np.exp(self._drift * np.sin(2.0 * np.pi * (time_s + phase) / period))
            curve = np.clip(curve[:, None] * rolled, 0, 255).astype(np.uint8)[None]
        frame = cv2.LUT(frame, curve)
        if self._level:
            y, x = (np.abs(draw[2:] * 1000.0) % _SPARE_PX).astype(int)
            grain = _grain(height, width)[y : y + height, x : x + width]
            frame = cv2.addWeighted(frame, 1.0, grain, self._level, -128.0 * self._level)
        if self._grey:
            frame = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        if self._palette:
            steps = np.rint(frame / np.float32(self._palette) + self._threshold)
            frame = np.clip(steps * self._palette, 0, 255).astype(np.uint8)
        if self._jpeg:
            quality = [cv2.IMWRITE_JPEG_QUALITY, self._jpeg]
            frame = cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR)
        result: Image = frame
        return result

    def _aim(self, scene: Image, offset: NDArray[np.float64]) -> Image:
        width, height = self._size
        zoom = 1.0 + 1.2 * abs(self._roll) + 2.0 * self._shake / height
        degrees = float(np.degrees(self._roll))
        matrix = cv2.getRotationMatrix2D((width / 2.0, height / 2.0), degrees, zoom)
        matrix[:, 2] += offset
        turned: Image = cv2.warpAffine(scene, matrix, self._size, borderMode=cv2.BORDER_REPLICATE)
        return turned


_EXACT_HZ = 200.0
"""A camera this fast has a frame for every tick."""
_JITTER = 0.12
"""Frames come late by up to this share of a period, as from real webcams."""


def shown_frames(
    dice: Dice, ticks: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[int], float]:
    """Which frames of a camera a model sees at the ticks of its clock.

    As :class:`~shiftedge.runtime.clock.FrameClock` has it, each tick takes the frame nearest to it,
    so frames of a slow camera, and those before lost ones, are seen several times.

    Returns:
        For each tick the time and the number of its frame; and the camera's rate.
    """
    rate = dice.of("source_hz")
    if rate >= _EXACT_HZ:
        return ticks, list(range(len(ticks))), rate
    count = int((ticks[-1] - ticks[0]) * rate) + 4
    numbers = np.arange(count)
    times = ticks[0] + (numbers - 1.0 + dice.rng.uniform(0.0, _JITTER, count)) / rate
    times -= dice.even(0.0, 1.0) / rate
    kept = dice.rng.random(count) >= dice.of("dropped")
    kept[0] = kept[-1] = True
    times, numbers = times[kept], numbers[kept]
    nearest = np.abs(times[None] - ticks[:, None]).argmin(1)
    return times[nearest], numbers[nearest].tolist(), rate
