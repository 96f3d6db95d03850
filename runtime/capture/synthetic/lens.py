"""Where the camera stands, and how a gesture is brought into its view."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shiftedge.runtime.capture.synthetic.hand import Floats
from shiftedge.runtime.capture.synthetic.motion import Act, arm_at
from shiftedge.runtime.capture.synthetic.ranges import Dice

_OVER_EDGE = 0.02
"""A stroke may reach this share of the image beyond its edges."""
_SMALLEST = 0.4
"""A close-up makes strokes shorter, down to this share of what they were."""
SEEN = 0.75
"""Share of a stroke during which the middle of the hand is inside the image, at least."""


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


def draw_lens(dice: Dice, height: int, width: int) -> Lens:
    """A place for the camera: the person in the middle, or near, far, off-centre or cut."""
    share, across, down = dice.of("head"), dice.of("across"), dice.of("down")
    if dice.happens("headless") and share > 0.12:
        top = -share * (0.55 + 0.6 * down)
    else:
        # From where the head touches the upper edge to where the chest is at the lower one.
        highest = 0.52 * share + 0.01
        top = highest + down * (max(0.45, 0.75 - 1.6 * share) - highest)
    # Who fills the image cannot be far from its middle.
    across = 0.5 + (across - 0.5) * (1.0 - share)
    distance = max(2.6, 1.0 / (share * dice.of("perspective")))
    return Lens(share * height, distance, (height, width), (width * across, height * top))


def hand_path(act: Act, stroke: tuple[float, float], lens: Lens, left: bool) -> Floats:
    """(9, 2), pixels: where the middle of the hand is during a stroke."""
    times: Floats = np.linspace(*stroke, 9)
    wrist, forward, _, _ = arm_at(act.right, act.wobbles, times)
    middle = (wrist + 0.35 * forward) * np.array([-1.0 if left else 1.0, 1.0, 1.0])
    return lens.project(middle)[0]


def share_seen(path: Floats, lens: Lens) -> float:
    """Share of a path (N, 2) inside the image."""
    inside = (path >= 0.0).all(1) & (path < np.array(lens.size[::-1])).all(1)
    return float(inside.mean())


def into_view(act: Act, lens: Lens, left: bool) -> Act:
    """The act, its strokes moved and if need be made smaller until the camera sees them.

    People do so too: they look at the screen and raise the hand to where it is seen. Only where
    the hand moves between its rests is changed, so the act still begins and ends at a rest.
    """
    if not act.strokes:
        return act
    span = (act.strokes[0][0], act.strokes[-1][1])
    path = np.concatenate([hand_path(act, stroke, lens, left) for stroke in act.strokes])
    first, last = path.min(0), path.max(0)
    size = np.array(lens.size[::-1], float)
    # The hand reaches out from its middle: of a sign that is held all of it should be seen, and a
    # stroke is one all the same when the fingers leave the image at its end.
    held = bool(act.shown_until_s) or not (last - first > 0.7 * lens.scale).any()
    reach = (0.5 if held else 0.2) * lens.scale * 1.3
    room = np.minimum(reach, 0.3 * size)
    low, high = -_OVER_EDGE * size + room, size * (1.0 + _OVER_EDGE) - room
    if (first >= low).all() and (last <= high).all():
        return act
    shrink = np.clip((high - low) / np.maximum(last - first, 1e-6), _SMALLEST, 1.0)
    middle = 0.5 * (first + last)
    half = 0.5 * (last - first) * shrink
    goal = np.where(
        low + half <= high - half, np.clip(middle, low + half, high - half), 0.5 * (low + high)
    )
    moved = [key for key in act.right[1:-1] if key.time_s >= span[0] - 1e-6]
    depth = float(np.mean([key.wrist[2] for key in moved])) if moved else 0.0
    origin, scale = lens.project(np.array([0.0, 0.0, depth]))
    sign = np.array([-1.0 if left else 1.0, 1.0])
    centre = (middle - origin) / float(scale) * sign
    shift = (goal - middle) / float(scale) * sign

    def put(wrist: Floats) -> Floats:
        flat = centre + (wrist[:2] - centre) * shrink + shift
        return np.array([flat[0], flat[1], wrist[2]])

    keys = [
        key if number in (0, len(act.right) - 1) else replace(key, wrist=put(key.wrist))
        for number, key in enumerate(act.right)
    ]
    return replace(act, right=tuple(keys))
