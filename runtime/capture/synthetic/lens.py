"""Where the camera stands, and whether it sees a gesture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shiftedge.runtime.capture.synthetic.hand import Floats
from shiftedge.runtime.capture.synthetic.motion import Act, arm_at
from shiftedge.runtime.capture.synthetic.tracks import uniform

__all__ = ["Lens", "draw_lens", "in_view"]

_LEAST_TRAVEL = 0.15
"""A stroke shorter than this share of the image's height is too small to ask for."""
_LEAST_SEEN = 0.75
"""Share of the stroke during which the middle of the hand must be inside the image."""


@dataclass(frozen=True)
class Lens:
    """Pinhole projection of space in heads (see :mod:`.motion`) to pixels."""

    scale: float
    """Pixels per head at z = 0."""
    distance: float
    """Heads from the camera to z = 0."""
    size: tuple[int, int]
    """Height and width of the image; the optical axis meets its middle."""
    head: tuple[float, float]
    """Pixel of the centre of the head when the person sits straight."""

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Points (..., 3) in heads -> pixels (..., 2) and pixels per head there (...)."""
        centre = np.array([self.size[1] / 2.0, self.size[0] / 2.0])
        # Nobody's hand goes into the lens: at most three times as large as at the trunk.
        nearer = self.distance / np.maximum(self.distance - points[..., 2], self.distance / 3.0)
        flat = points[..., :2] * self.scale + (np.array(self.head) - centre)
        return flat * nearer[..., None] + centre, self.scale * nearer


def draw_lens(rng: np.random.Generator, height: int, width: int, *, clean: bool) -> Lens:
    """A place for the camera: the person in the middle, or near, far and off-centre."""
    share = uniform(rng, 0.27, 0.32) if clean else uniform(rng, 0.21, 0.40)
    if not clean and rng.random() < 0.12:
        share = uniform(rng, 0.40, 0.52)
    top = uniform(rng, 0.27, 0.33) if clean else uniform(rng, 0.52, 0.85) * share + 0.03
    if not clean and rng.random() < 0.3:
        top = uniform(rng, 0.28, 0.45)
    aside = rng.normal(0.0, 0.03 if clean else 0.09)
    # Webcams see 40 to 55 degrees of height, from an arm's length or farther.
    distance = max(3.2, 1.0 / (share * uniform(rng, 0.75, 1.05)))
    return Lens(share * height, distance, (height, width), (width * (0.5 + aside), height * top))


def in_view(act: Act, lens: Lens, left: bool) -> bool:
    """Whether the stroke of ``act`` happens inside the image and is large enough to see."""
    if act.stroke is None:
        return True
    times: Floats = np.linspace(*act.stroke, 9)
    wrist, forward, _, _ = arm_at(act.right, (), times)
    middle = (wrist + 0.35 * forward) * np.array([-1.0 if left else 1.0, 1.0, 1.0])
    pixels, _ = lens.project(middle)
    height, width = lens.size
    inside = (pixels >= 0.0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    clipped = np.clip(pixels, 0.0, (width, height))
    travel = np.abs(clipped[-1] - clipped[0]).max()
    return bool(inside.mean() >= _LEAST_SEEN and travel >= _LEAST_TRAVEL * height)
