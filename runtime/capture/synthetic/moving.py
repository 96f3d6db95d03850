"""A cheap moving scene in numpy alone, for verification and benchmarks.

Numbers are compared and times taken on it, so that it must be neither still nor flat: textured
discs cross a textured background that drifts, under camera noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["moving_scene"]

OBJECTS = 4
NOISE = 4
"""Half the range of the camera noise, in grey levels."""


def moving_scene(seed: int, *, frames: int, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    """Yield ``frames`` images, uint8 (height, width, 3), BGR. The same seed gives the same scene."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    size = float(min(height, width))
    wave = generator.uniform(2.0, 9.0, (3, 2)) * (2 * np.pi / size)
    phase = generator.uniform(0, 2 * np.pi, 3)
    drift = generator.uniform(-0.2, 0.2, 3)  # radians a frame
    start = generator.uniform(0, 1, (OBJECTS, 2)) * (height, width)
    speed = generator.uniform(-0.06, 0.06, (OBJECTS, 2)) * size  # pixels a frame
    radius = generator.uniform(0.08, 0.25, OBJECTS) * size
    colour = generator.uniform(0, 255, (OBJECTS, 3)).astype(np.float32)
    waves = [rows * wave[c, 0] + columns * wave[c, 1] + phase[c] for c in range(3)]
    for index in range(frames):
        image = np.stack(
            [128 + 70 * np.sin(waves[c] + drift[c] * index) for c in range(3)], axis=-1
        ).astype(np.float32)
        for number in range(OBJECTS):
            y, x = (start[number] + speed[number] * index) % (height, width)
            distance = np.hypot(rows - y, columns - x)
            inside = distance < radius[number]
            stripes = 0.75 + 0.25 * np.cos(distance[inside] * (12 * np.pi / size))
            image[inside] = colour[number] * stripes[:, None]
        noise = generator.integers(-NOISE, NOISE + 1, image.shape)
        yield np.clip(image + noise, 0, 255).astype(np.uint8)
