"""From key poses to polygons: shoulder, elbow, forearm and hand, projected and shaded.

Everything is computed for N moments at once, because numpy's cost is per call; drawing then is a
row of ``fillConvexPoly`` calls per frame, see :mod:`~shiftedge.runtime.capture.synthetic.person`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.hand import FINGER_RADII, FIST, Floats, joints, unit
from shiftedge.runtime.capture.synthetic.lens import Lens
from shiftedge.runtime.capture.synthetic.room import FRACTION_BITS

_LIMIT_PX = 16000.0
"""Coordinates beyond are clipped: OpenCV's fixed point would overflow."""
_STRAIGHT, _STRAIGHT_FAR = 0.33, 1.0
"""Fingers bent less than this (radians, at the middle joint) are drawn in one stroke: near and
far from the camera."""
_FAR_PX = 13.0
"""Hands shorter than this are far."""


@dataclass(frozen=True)
class Physique:
    """Lengths and widths of a person's arms, in heads."""

    shoulder: Floats
    """(3,), of the right arm."""
    upper: float = 1.30
    lower: float = 1.10
    hand: float = 0.80
    upper_radius: float = 0.24
    elbow_radius: float = 0.18
    wrist_radius: float = 0.125
    elbow_out: float = 0.5
    """How far the elbow is held from the trunk: 0 close, 1 wide."""
    elbow_follows: float = 0.0
    """How far the elbow goes to where the hand's direction wants it: 0 not at all."""


# Order of the capsules of an arm: upper arm, forearm, four of the palm, one of the thumb's base,
# three a finger from the index finger to the little one, two of the thumb, four whole fingers.
HAND = 2
PALM, PALM_EDGES = (2, 3, 4, 5, 6), (2, 5, 6)
"""The rays of the palm and the thumb's base; and those without which its flat has no outline."""
THUMB = range(19, 21)
_BONES = tuple(range(7 + 3 * finger, 10 + 3 * finger) for finger in range(4))
_WHOLE = tuple(range(21 + finger, 22 + finger) for finger in range(4))


@dataclass(frozen=True)
class ArmShapes:
    """Arms at N moments, ready to draw. K capsules."""

    polygons: NDArray[np.int32]
    """(N, L, K, P, 2) pixels << FRACTION_BITS, for L layers of shading, darkest first."""
    palms: NDArray[np.int32]
    """(N, L, 6, 2), the flat of the hand between its capsules."""
    sleeves: NDArray[np.int32]
    """(N, L, 2, P, 2), the sleeve over the upper arm and over the forearm."""
    order: NDArray[np.intp]
    """(N, 6), parts of the hand from the farthest: 0-3 fingers, 4 thumb, 5 palm."""
    straight: NDArray[np.bool_]
    """(N, 4), fingers that are drawn in one stroke."""
    light: Floats
    """(N, K), 0..1, how much each capsule faces the light."""
    wrist: Floats
    """(N, 2), pixels."""
    span: Floats
    """(N, 4), pixels: left, top, right, bottom of forearm and hand."""
    hand_seen: NDArray[np.bool_]
    """(N,), whether any of the hand may be inside the image."""
    hand_px: Floats
    """(N,), length of the hand in pixels."""
    middle: Floats
    """(N, 2), pixels: the middle of the hand."""
    axes: Floats
    """(N, 2, 2), pixels: what a hand's length makes to the thumb's side and to the fingers."""
    facing: Floats
    """(N,), 1 where the palm is turned to the camera, -1 where it is turned away."""
    poses: Floats
    """(N, 12), see :mod:`~shiftedge.runtime.capture.synthetic.hand`."""
    cup: Floats
    """(N, 4, 2), pixels: corners of a thing in the hand."""
    near: Floats
    """(N,), depth of the wrist in heads."""

    def held(self, size: tuple[int, int]) -> Floats:
        """(N, K) of :data:`~shiftedge.runtime.capture.synthetic.hand.HAND_FIELDS`, in an image of
        ``size`` (height, width)."""
        length = self.hand_px[:, None]
        bends = (self.poses[:, :4] + self.poses[:, 4:8]) / FIST
        return np.column_stack(
            [
                self.middle / np.array(size[::-1]),
                self.hand_px / size[0],
                self.axes[:, 1] / length,
                self.axes[:, 0] / length,
                self.facing,
                bends[:, :2],
                bends[:, 2:].mean(1),
                self.poses[:, 9],
                self.poses[:, 8],
            ]
        )

    def finger(self, moment: int, number: int) -> range:
        """Numbers of the capsules that draw a finger."""
        return (_WHOLE if self.straight[moment, number] else _BONES)[number]


def capsules(
    a: Floats, b: Floats, radius_a: Floats, radius_b: Floats, layers: Floats, light: Floats
) -> NDArray[np.int32]:
    """Outlines (N, L, K, P, 2), fixed point, of round-ended strokes with ends a and b (N, K, 2) and
    radii (N, K) in pixels; ``layers`` (L, 2) are shares of the radius and shifts towards the light
    (2,) in radii."""
    along = np.asarray(unit(b - a), np.float32)
    normal = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    # The outline touches both circles: its points lie on the normals, or a little off them where
    # the stroke tapers, which at these sizes does not show.
    half = np.linspace(0.5, 1.5, 9 if len(layers) > 2 else 4) * np.pi
    turn = np.stack([np.cos(half), np.sin(half)], axis=-1).astype(np.float32)
    arc = turn[:, :1] * along[:, :, None] + turn[:, 1:] * normal[:, :, None]
    size = np.float32(1 << FRACTION_BITS)
    points = len(half)
    outline = np.empty((len(a), len(layers), a.shape[1], 2 * points, 2), np.float32)
    for number, (share, offset) in enumerate(layers.astype(np.float32)):
        shift = (offset * light).astype(np.float32)
        for half_place, point, radius, sign in (
            (slice(0, points), a, radius_a, np.float32(1)),
            (slice(points, None), b, radius_b, np.float32(-1)),
        ):
            r = (radius[:, :, None, None] * size).astype(np.float32)
            place = (point[:, :, None] * size).astype(np.float32)
            outline[:, number, :, half_place] = place + r * (sign * share * arc + shift)
    limit = _LIMIT_PX * size
    return np.rint(np.clip(outline, -limit, limit, out=outline)).astype(np.int32)


def fixed(points: Floats) -> NDArray[np.int32]:
    """Pixels as OpenCV's fixed point."""
    clipped = np.clip(points, -_LIMIT_PX, _LIMIT_PX)
    # OpenCV refuses outlines that are not contiguous.
    return np.ascontiguousarray(np.rint(clipped * (1 << FRACTION_BITS)), np.int32)


def _elbow(
    shoulder: Floats, wrist: Floats, forward: Floats, build: Physique, mirror: Floats
) -> Floats:
    """Two-bone reach: the elbow (N, 3) hangs down and outwards; arms too short stretch.

    Wrists bend only so far, so the elbow also follows the hand's direction.
    """
    reach = wrist - shoulder
    distance = np.sqrt((reach * reach).sum(-1, keepdims=True))
    stretch = np.maximum(1.0, distance / (0.99 * (build.upper + build.lower)))
    upper, lower = build.upper * stretch, build.lower * stretch
    distance = np.maximum(distance, np.abs(upper - lower) + 0.05)
    along = (upper**2 - lower**2 + distance**2) / (2.0 * distance)
    height = np.sqrt(np.maximum(upper**2 - along**2, 0.0))
    axis = unit(reach)
    pole = np.array([-build.elbow_out, 1.0, -0.35]) * mirror - build.elbow_follows * forward
    bend = unit(pole - axis * (axis * pole).sum(-1, keepdims=True))
    result: Floats = shoulder + axis * along + bend * height
    return result


def arm_shapes(
    hands: tuple[Floats, ...],
    mirror: Floats,
    body: Floats,
    build: Physique,
    lens: Lens,
    light: Floats,
    layers: Floats,
) -> ArmShapes:
    """Shapes of arms at N moments, right and left ones together.

    Args:
        hands: as :func:`~shiftedge.runtime.capture.synthetic.motion.arm_at` gives them, all as
            right ones.
        mirror: (N,), 1 for a right arm, -1 for a left one.
        body: (N, 2), how far the trunk has moved, heads.
        light: (3,), direction to the light.
        layers: (L, 2), see :func:`capsules`.
    """
    wrist, forward, normal, poses = hands
    fingers, thumb, side = joints(forward, normal, poses)
    hand, across = build.hand, np.ones((len(wrist), 3))
    across[:, 0] = mirror
    shift = np.concatenate([body, np.zeros((len(wrist), 1))], axis=1)
    wrist = wrist * across + shift
    forward, normal, side = forward * across, normal * across, side * across
    fingers = wrist[:, None, None] + hand * fingers * across[:, None, None]
    thumb = wrist[:, None] + hand * thumb * across[:, None]
    shoulder = build.shoulder * across + shift
    elbow = _elbow(shoulder, wrist, forward, build, across)
    heels = wrist[:, None] + hand * (
        side[:, None] * np.array([0.10, 0.035, -0.035, -0.10])[:, None] + 0.06 * forward[:, None]
    )

    starts = [shoulder[:, None], elbow[:, None], heels, heels[:, :1]]
    stops = [elbow[:, None], wrist[:, None], fingers[:, :, 0], thumb[:, 1:2]]
    starts += [fingers[:, finger, :3] for finger in range(4)] + [thumb[:, 1:3], fingers[:, :, 0]]
    stops += [fingers[:, finger, 1:] for finger in range(4)] + [thumb[:, 2:], fingers[:, :, 3]]
    a, b = np.concatenate(starts, axis=1), np.concatenate(stops, axis=1)
    radius = _radii(build)
    pixels_a, scale_a = lens.project(a)
    pixels_b, scale_b = lens.project(b)
    radius_a, radius_b = scale_a * radius[:, 0], scale_b * radius[:, 1]

    loose = np.array([1.12, 1.18])
    cuff = pixels_a[:, :2] + (pixels_b[:, :2] - pixels_a[:, :2]) * np.array([[1.0], [0.86]])
    outlines = capsules(
        np.concatenate([pixels_a, pixels_a[:, :2]], axis=1),
        np.concatenate([pixels_b, cuff], axis=1),
        np.concatenate([radius_a, radius_a[:, :2] * loose], axis=1),
        np.concatenate([radius_b, radius_b[:, :2] * loose * np.array([1.0, 1.15])], axis=1),
        layers,
        light[:2],
    )

    # The flat of the hand closes the gaps between its four rays.
    flat = np.concatenate([pixels_a[:, [2, 5]], pixels_b[:, [5, 4, 3, 2]]], axis=1)
    centre = flat.mean(axis=1, keepdims=True)
    share = layers[None, :, None, None, 0]
    palms = fixed(centre[:, None] + (flat - centre)[:, None] * (0.7 + 0.3 * share))

    depth = np.concatenate([fingers[:, :, 1:, 2].mean(2), thumb[:, 1:, 2].mean(1)[:, None]], axis=1)
    palm_depth = 0.5 * (fingers[:, :, 0, 2].mean(1) + wrist[:, 2])[:, None] - 0.03
    order = np.argsort(np.concatenate([depth, palm_depth], axis=1), axis=1)

    facing = np.sqrt(np.maximum(0.0, 1.0 - (unit(b - a) @ light) ** 2))
    turned = 0.5 + 0.5 * (normal @ light) * np.sign(normal[:, 2] + 1e-9)
    lit = 0.55 * facing + 0.45 * turned[:, None]
    # Backs of hands are darker than palms.
    lit[:, HAND:] -= 0.12 * (normal[:, 2] < 0.0)[:, None]

    hand_px = hand * scale_b[:, 1]
    bent = np.where(hand_px[:, None] < _FAR_PX, _STRAIGHT_FAR, _STRAIGHT)
    room = (scale_a[:, 1] * 0.25)[:, None]
    shown = np.concatenate([pixels_a[:, 1:], pixels_b[:, 1:]], axis=1)
    low, high = pixels_b[:, 1:].min(1) - room, pixels_b[:, 1:].max(1) + room
    held = wrist + hand * (0.42 * forward + 0.12 * normal)
    corners = np.stack([held + 0.32 * (u * side) + 0.17 * v * forward for u, v in _CORNERS], axis=1)
    ends = np.stack([wrist + 0.45 * hand * forward, wrist + hand * side, wrist + hand * forward], 1)
    places = lens.project(ends)[0]
    return ArmShapes(
        polygons=outlines[:, :, :-2],
        palms=palms,
        sleeves=outlines[:, :, -2:],
        order=order,
        straight=poses[:, 4:8] < bent,
        light=np.clip(lit, 0.0, 1.0),
        wrist=pixels_b[:, 1],
        span=np.concatenate([shown.min(1) - room, shown.max(1) + room], axis=1),
        hand_seen=(high > 0.0).all(1) & (low < np.array(lens.size[::-1])).all(1),
        hand_px=hand_px,
        middle=places[:, 0],
        axes=places[:, 1:] - pixels_b[:, 1:2],
        facing=normal[:, 2],
        poses=poses,
        cup=lens.project(corners)[0],
        near=wrist[:, 2],
    )


def _radii(build: Physique) -> Floats:
    """(K, 2), heads: radii of both ends of every capsule."""
    hand = build.hand
    widths = [(build.upper_radius, build.elbow_radius), (build.elbow_radius, build.wrist_radius)]
    widths += [(r, 0.9 * r) for r in hand * np.array([0.085, 0.09, 0.088, 0.08, 0.095])]
    *fingers, thumb = hand * FINGER_RADII
    for r in fingers:
        widths += [(r, 0.95 * r), (0.95 * r, 0.88 * r), (0.88 * r, 0.72 * r)]
    widths += [(thumb, 0.9 * thumb), (0.95 * thumb, 0.72 * thumb)]
    widths += [(r, 0.75 * r) for r in fingers]
    return np.array(widths)


_CORNERS = ((1.0, 1.15), (1.0, -1.15), (-1.0, -0.9), (-1.0, 0.9))
