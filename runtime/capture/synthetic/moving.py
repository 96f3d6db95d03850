"""A textured scene with moving things, from numpy alone: for verification and benchmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OBJECTS = 6
_CELLS = 12
"""Patches of the texture along the longer side of a picture."""


def _texture(rng: np.random.Generator, height: int, width: int, base: float) -> NDArray[np.float32]:
    """Patches and grain about a base value, float32 (height, width, 3)."""
    cell = max(1, max(height, width) // _CELLS)
    rows, columns = -(-height // cell), -(-width // cell)
    patches = rng.normal(base, 28.0, (rows, columns, 3)).astype(np.float32)
    large = np.repeat(np.repeat(patches, cell, axis=0), cell, axis=1)[:height, :width]
    grain = rng.normal(0.0, 9.0, (height, width, 1)).astype(np.float32)
    texture: NDArray[np.float32] = large + grain
    return texture


class MovingScene:
    """Textured things that move over a textured ground, rendered frame by frame in any order.

    Cheap and busy rather than lifelike: every part of the image changes now and then, the values
    use the whole range, and the sensor is noisy, so that a model fed with it has no dead channels
    by accident.

    Raises:
        ValueError: a size is too small.
    """

    def __init__(self, seed: int, *, height: int, width: int) -> None:
        if height < 8 or width < 8:
            raise ValueError(f"a scene of {height}x{width} pixels; expected at least 8x8")
        rng = np.random.default_rng(seed)
        self._seed = seed
        self._ground = _texture(rng, height, width, 120.0)
        sizes = rng.uniform(0.12, 0.4, (_OBJECTS, 2)) * (height, width)
        self._things = [
            _texture(rng, int(h) + 4, int(w) + 4, rng.uniform(20, 235)) for h, w in sizes
        ]
        self._phases = rng.uniform(0.0, 2.0 * np.pi, (_OBJECTS, 2))
        self._speeds = rng.uniform(0.03, 0.25, (_OBJECTS, 2))  # radians per frame

    def frame_at(self, index: int) -> NDArray[np.uint8]:
        """Frame ``index``, from 0: uint8 (height, width, 3), BGR, the caller's own."""
        picture = self._ground.copy()
        height, width = picture.shape[:2]
        # A little over the edges now and then.
        where = 0.5 + 0.55 * np.sin(self._phases + self._speeds * index)
        for thing, (y, x) in zip(self._things, where, strict=True):
            h, w = thing.shape[:2]
            top, left = int(y * height - h / 2), int(x * width - w / 2)
            y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + h, height), min(left + w, width)
            if y1 > y0 and x1 > x0:
                picture[y0:y1, x0:x1] = thing[y0 - top : y1 - top, x0 - left : x1 - left]
        noise = np.random.default_rng((self._seed, index)).normal(0.0, 3.0, (height, width, 1))
        picture += noise.astype(np.float32)
        frame: NDArray[np.uint8] = np.clip(picture, 0.0, 255.0).astype(np.uint8)
        return frame


def moving_scene(seed: int, *, frames: int, height: int, width: int) -> NDArray[np.uint8]:
    """The first frames of a :class:`MovingScene`, uint8 (frames, height, width, 3), BGR.

    Raises:
        ValueError: there are no frames, or a size is too small.
    """
    if frames < 1:
        raise ValueError(f"a scene of {frames} frames; expected at least 1")
    scene = MovingScene(seed, height=height, width=width)
    return np.stack([scene.frame_at(index) for index in range(frames)])
