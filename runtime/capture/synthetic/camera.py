"""What light, lens, sensor and codec do to a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.room import Image
from shiftedge.runtime.capture.synthetic.tracks import uniform
from shiftedge.runtime.extras import require

cv2 = require("cv2")

__all__ = ["Camera"]

_SPARE_PX = 48
"""The noise bank is larger than a frame by this much, so that each frame sees another part."""


class Camera:
    """One webcam in one room: fixed for a clip or a film.

    Args:
        rng: draws its properties.
        height, width: of the frames, pixels.
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
