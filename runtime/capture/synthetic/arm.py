"""From key poses to polygons: shoulder, elbow, forearm and hand, projected and shaded.

Everything is computed for N moments at once, because numpy's cost is per call; drawing then is a
row of ``fillConvexPoly`` calls per frame, see :mod:`~shiftedge.runtime.capture.synthetic.person`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.hand import FINGER_RADII, Floats, joints, unit
from shiftedge.runtime.capture.synthetic.lens import Lens
from shiftedge.runtime.capture.synthetic.motion import Key, Wobble, arm_at

__all__ = ["ARM", "FRACTION_BITS", "HAND", "ArmShapes", "Build", "arm_shapes", "capsules"]

FRACTION_BITS = 4
"""Fractional bits of pixel coordinates handed to OpenCV."""

_ARCS = {2: 5}
_ARC_LARGE = 9
"""Points on each round end of a capsule, by the number of layers."""

_LIMIT_PX = 16000.0
"""Coordinates beyond are clipped: OpenCV's fixed point would overflow."""


@dataclass(frozen=True)
class Build:
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


# Order of the capsules of an arm.
ARM = slice(0, 2)
"""Upper arm and forearm."""
HAND = 2
"""Index of the first capsule of the hand: four of the palm, one of the thumb's base, then three
a finger from the index finger to the little one, then two of the thumb."""


@dataclass(frozen=True)
class ArmShapes:
    """One arm at N moments, ready to draw. K capsules."""

    polygons: NDArray[np.int32]
    """(N, L, K, P, 2) pixels << FRACTION_BITS, for L layers of shading, darkest first."""
    palms: NDArray[np.int32]
    """(N, L, 6, 2), the flat of the hand between its capsules."""
    sleeves: NDArray[np.int32]
    """(N, L, 2, P, 2), the sleeve over the upper arm and over the forearm."""
    order: NDArray[np.intp]
    """(N, 6), parts of the hand from the farthest: 0-3 fingers, 4 thumb, 5 palm."""
    light: Floats
    """(N, K), 0..1, how much each capsule faces the light."""
    wrist: Floats
    """(N, 2), pixels."""
    span: Floats
    """(N, 4), pixels: left, top, right, bottom of forearm and hand."""
    hand_px: Floats
    """(N,), length of the hand in pixels."""
    middle: Floats
    """(N, 2), pixels: the middle of the hand."""
    cup: Floats
    """(N, 4, 2), pixels: corners of a thing in the hand."""
    near: Floats
    """(N,), depth of the wrist in heads."""
    mirror: float
    """1 for the right arm, -1 for the left one."""


def capsules(
    a: Floats, b: Floats, radius_a: Floats, radius_b: Floats, layers: Floats, light: Floats
) -> NDArray[np.int32]:
    """Outlines of round-ended strokes.

    Args:
        a, b: (N, K, 2), ends in pixels.
        radius_a, radius_b: (N, K), pixels.
        layers: (L, 2), share of the radius, and shift towards the light in radii.
        light: (2,), direction of the light in the image.

    Returns:
        (N, L, K, P, 2), fixed point.
    """
    axis = b - a
    angle = np.arctan2(axis[..., 1], axis[..., 0])[..., None]
    # The outline touches both circles: its points lie on the normals, or a little off them where
    # the stroke tapers, which at these sizes does not show.
    half = np.linspace(0.5, 1.5, _ARCS.get(len(layers), _ARC_LARGE)) * np.pi
    round_a = np.stack([np.cos(angle + half), np.sin(angle + half)], -1)
    share = layers[None, :, None, None, None, 0]
    offset = layers[None, :, None, None, None, 1] * light
    ends = []
    for point, radius, arc in ((a, radius_a, round_a), (b, radius_b, -round_a)):
        r = radius[:, None, :, None, None]
        ends.append(point[:, None, :, None] + r * (share * arc[:, None] + offset))
    outline = np.concatenate(ends, axis=3)
    return _fixed(outline)


def _fixed(points: Floats) -> NDArray[np.int32]:
    clipped = np.clip(points, -_LIMIT_PX, _LIMIT_PX)
    # OpenCV refuses outlines that are not contiguous.
    return np.ascontiguousarray(np.rint(clipped * (1 << FRACTION_BITS)), np.int32)


def _elbow(shoulder: Floats, wrist: Floats, build: Build, mirror: float) -> Floats:
    """Two-bone reach: the elbow (N, 3) hangs down and outwards; arms too short stretch."""
    reach = wrist - shoulder
    distance = np.sqrt((reach * reach).sum(-1, keepdims=True))
    stretch = np.maximum(1.0, distance / (0.99 * (build.upper + build.lower)))
    upper, lower = build.upper * stretch, build.lower * stretch
    distance = np.maximum(distance, np.abs(upper - lower) + 0.05)
    along = (upper**2 - lower**2 + distance**2) / (2.0 * distance)
    height = np.sqrt(np.maximum(upper**2 - along**2, 0.0))
    axis = unit(reach)
    pole = np.array([-build.elbow_out * mirror, 1.0, -0.35])
    bend = unit(pole - axis * (axis @ pole)[:, None])
    result: Floats = shoulder + axis * along + bend * height
    return result


def arm_shapes(
    keys: tuple[Key, ...],
    wobbles: tuple[Wobble, ...],
    times: Floats,
    body: Floats,
    build: Build,
    lens: Lens,
    light: Floats,
    layers: Floats,
    mirror: float,
) -> ArmShapes:
    """Shapes of one arm at N times.

    Args:
        keys, wobbles: as a right arm does it.
        times: (N,), seconds.
        body: (N, 2), how far the trunk has moved, heads.
        build: lengths and widths.
        lens: the projection.
        light: (3,), direction to the light.
        layers: (L, 2), see :func:`capsules`.
        mirror: 1 for the right arm, -1 for the left one.
    """
    wrist, forward, normal, poses = arm_at(keys, wobbles, times)
    fingers, thumb, side = joints(forward, normal, poses)
    across = np.array([mirror, 1.0, 1.0])
    hand = build.hand
    shift = np.concatenate([body, np.zeros((len(times), 1))], axis=1)
    wrist = wrist * across + shift
    forward, normal, side = forward * across, normal * across, side * across
    fingers = wrist[:, None, None] + hand * fingers * across
    thumb = wrist[:, None] + hand * thumb * across
    shoulder = build.shoulder * across + shift
    elbow = _elbow(shoulder, wrist, build, mirror)
    heels = wrist[:, None] + hand * (
        side[:, None] * np.array([0.10, 0.035, -0.035, -0.10])[:, None] + 0.06 * forward[:, None]
    )

    starts = [shoulder[:, None], elbow[:, None], heels, heels[:, :1]]
    stops = [elbow[:, None], wrist[:, None], fingers[:, :, 0], thumb[:, 1:2]]
    palm = hand * np.array([0.085, 0.09, 0.088, 0.08, 0.095])
    widths = [(build.upper_radius, build.elbow_radius), (build.elbow_radius, build.wrist_radius)]
    widths += [(r, r * 0.9) for r in palm]
    for finger in range(4):
        starts.append(fingers[:, finger, :3])
        stops.append(fingers[:, finger, 1:])
        r = hand * FINGER_RADII[finger]
        widths += [(r, r * 0.95), (r * 0.95, r * 0.88), (r * 0.88, r * 0.72)]
    starts.append(thumb[:, 1:3])
    stops.append(thumb[:, 2:])
    r = hand * FINGER_RADII[4]
    widths += [(r, r * 0.9), (r * 0.95, r * 0.72)]
    a, b = np.concatenate(starts, axis=1), np.concatenate(stops, axis=1)
    pixels_a, scale_a = lens.project(a)
    pixels_b, scale_b = lens.project(b)
    radius = np.array(widths)
    polygons = capsules(
        pixels_a, pixels_b, scale_a * radius[:, 0], scale_b * radius[:, 1], layers, light[:2]
    )

    loose = np.array([1.12, 1.18])
    cuff_a = pixels_a[:, :2]
    cuff_b = pixels_a[:, :2] + (pixels_b[:, :2] - pixels_a[:, :2]) * np.array([[1.0], [0.86]])
    sleeves = capsules(
        cuff_a,
        cuff_b,
        scale_a[:, :2] * radius[:2, 0] * loose,
        scale_b[:, :2] * radius[:2, 1] * loose * np.array([1.0, 1.15]),
        layers,
        light[:2],
    )

    # The flat of the hand closes the gaps between its four rays.
    flat = np.concatenate([pixels_a[:, [2, 5]], pixels_b[:, [5, 4, 3, 2]]], axis=1)
    middle = flat.mean(axis=1, keepdims=True)
    share = layers[None, :, None, None, 0]
    palms = _fixed(middle[:, None] + (flat - middle)[:, None] * (0.7 + 0.3 * share))

    depth = np.concatenate([fingers[:, :, 1:, 2].mean(2), thumb[:, 1:, 2].mean(1)[:, None]], axis=1)
    palm_depth = 0.5 * (fingers[:, :, 0, 2].mean(1) + wrist[:, 2])[:, None] - 0.03
    order = np.argsort(np.concatenate([depth, palm_depth], axis=1), axis=1)

    axis = unit(b - a)
    facing = np.sqrt(np.maximum(0.0, 1.0 - (axis @ light) ** 2))
    turned = 0.5 + 0.5 * (normal @ light) * np.sign(normal[:, 2] + 1e-9)
    lit = 0.55 * facing + 0.45 * turned[:, None]
    # Backs of hands are darker than palms.
    lit[:, HAND:] -= 0.12 * (normal[:, 2] < 0.0)[:, None]

    shown = np.concatenate([pixels_a[:, 1:], pixels_b[:, 1:]], axis=1)
    room = (scale_a[:, 1] * 0.25)[:, None]
    span = np.concatenate([shown.min(1) - room, shown.max(1) + room], axis=1)
    held = wrist + hand * (0.42 * forward + 0.12 * normal)
    corners = np.stack([held + 0.32 * (u * side) + 0.17 * v * forward for u, v in _CORNERS], axis=1)
    return ArmShapes(
        polygons=polygons,
        palms=palms,
        sleeves=sleeves,
        order=order,
        light=np.clip(lit, 0.0, 1.0),
        wrist=pixels_b[:, 1],
        span=span,
        hand_px=hand * scale_b[:, 1],
        middle=lens.project(wrist + 0.45 * hand * forward)[0],
        cup=lens.project(corners)[0],
        near=wrist[:, 2],
        mirror=mirror,
    )


_CORNERS = ((1.0, 1.15), (1.0, -1.15), (-1.0, -0.9), (-1.0, 0.9))
