"""An articulated hand: named poses, and the joints of a pose in space.

Lengths are in hands (wrist to the tip of the middle finger = 1), angles in radians. Space has x to
the right of the image, y down and z towards the camera. Everything is vectorised over N moments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POSE_SIZE = 12
"""A pose is: bend of 4 knuckles, bend of 4 middle joints, splay, thumb (across, along, in)."""

HAND_FIELDS = (
    "x", "y", "size", "fingers x", "fingers y", "thumb side x", "thumb side y", "palm",
    "index", "middle", "others", "thumb", "splay",
)  # fmt: skip
"""How a hand is held in the image: its middle as shares of width and height (outside 0..1 out of
sight) and its length as a share of the height; where fingers point and on which side the thumb is,
in hands, shorter where they point at the camera; 1 where the palm faces the camera and -1 where its
back does; bend of index, middle and the other fingers (0 straight, 1 in a fist); how far the thumb
is out, and the splay of a :data:`POSES` entry."""
FIST = 3.1
"""Radians that both joints of a finger are bent by in a fist."""

# Index, middle, ring and little finger. Proportions after the usual anthropometric tables
# (palm about 0.53 of the hand, middle finger 0.47), rounded.
_KNUCKLES = np.array([[0.165, 0.50], [0.055, 0.53], [-0.055, 0.515], [-0.16, 0.46]])
_LENGTHS = np.array([0.42, 0.47, 0.44, 0.345])
_PHALANGES = np.array([0.45, 0.30, 0.25])
_SPLAY = np.array([0.9, 0.25, -0.35, -1.1])
FINGER_RADII = np.array([0.060, 0.062, 0.058, 0.052, 0.070])
"""Of the four fingers and the thumb, at their base."""

# Bend of knuckles, bend of middle joints (index to little), splay, thumb.
_TABLE: dict[str, tuple[tuple[float, ...], tuple[float, ...], float, tuple[float, ...]]] = {
    "open": ((0.0,) * 4, (0.08,) * 4, 0.18, (0.6, 0.8, 0.15)),
    "flat": ((0.05,) * 4, (0.10,) * 4, 0.03, (0.35, 0.9, 0.2)),
    "relaxed": ((0.35, 0.4, 0.45, 0.5), (0.45, 0.5, 0.5, 0.5), 0.08, (0.4, 0.8, 0.4)),
    "cupped": ((0.3,) * 4, (0.7,) * 4, 0.05, (0.5, 0.7, 0.5)),
    "fist": ((1.35, 1.4, 1.4, 1.45), (1.75,) * 4, 0.0, (0.1, 0.65, 0.65)),
    "thumb": ((1.35, 1.4, 1.4, 1.45), (1.75,) * 4, 0.0, (1.0, 0.05, 0.0)),
    "point": ((0.0, 1.3, 1.35, 1.4), (0.1, 1.65, 1.7, 1.7), 0.0, (0.1, 0.7, 0.6)),
    "two": ((0.0, 0.0, 1.35, 1.4), (0.1, 0.1, 1.7, 1.7), 0.02, (0.05, 0.6, 0.75)),
    "vee": ((0.0, 0.0, 1.35, 1.4), (0.1, 0.1, 1.7, 1.7), 0.28, (0.05, 0.6, 0.75)),
    "three": ((0.0, 0.0, 0.0, 1.4), (0.1, 0.1, 0.1, 1.7), 0.2, (0.1, 0.7, 0.6)),
    "spread": ((-0.05,) * 4, (0.04,) * 4, 0.34, (0.95, 0.6, 0.05)),
    "bunch": ((0.95, 0.85, 0.85, 0.9), (0.75,) * 4, -0.1, (0.25, 0.75, 0.75)),
    "claw": ((0.3,) * 4, (0.95,) * 4, 0.22, (0.7, 0.6, 0.5)),
    "pinch": ((0.85, 0.6, 0.5, 0.45), (0.75, 0.5, 0.4, 0.4), 0.05, (0.3, 0.6, 0.7)),
    "grip": ((0.75,) * 4, (1.0,) * 4, 0.04, (0.5, 0.5, 0.9)),
}
POSES: dict[str, Floats] = {
    name: np.array([*knuckles, *middles, splay, *thumb])
    for name, (knuckles, middles, splay, thumb) in _TABLE.items()
}
"""Named poses as they are meant."""


def pose(rng: np.random.Generator, name: str) -> Floats:
    """One person's version of a named pose, shape (12,)."""
    bends, splay, thumb = np.split(POSES[name], (8, 9))
    bent = rng.normal(0.0, 0.09, 8)
    values = np.maximum(bends + bent + rng.normal(0.0, 0.06), -0.15)
    loose = rng.normal(splay, 0.05)
    if splay >= 0.0:
        loose = abs(loose)
    return np.concatenate([values, loose, thumb + rng.normal(0.0, 0.08, 3)])


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1 along the last axis; the zero vector stays."""
    length = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    result: Floats = vectors / np.maximum(length, 1e-9)
    return result


def cross(a: Floats, b: Floats) -> Floats:
    """``np.cross`` along the last axis, without its overhead."""
    return a[..., [1, 2, 0]] * b[..., [2, 0, 1]] - a[..., [2, 0, 1]] * b[..., [1, 2, 0]]


def frame_of(forward: Floats, roll: float) -> tuple[Floats, Floats]:
    """Axes of a hand from where its fingers point and its roll about that direction.

    Args:
        forward: shape (3,), from the wrist to the fingers.
        roll: radians; 0 turns the palm as much to the camera as ``forward`` allows.

    Returns:
        forward and the palm's normal, both of length 1, at right angles.
    """
    forward = unit(np.asarray(forward, float))
    toward = np.array([0.0, 0.0, 1.0])
    normal = toward - forward * (forward @ toward)
    if np.linalg.norm(normal) < 0.2:  # fingers point at the camera: let the palm face down
        normal = np.array([0.0, 1.0, 0.0]) - forward * forward[1]
    normal = unit(normal)
    side = cross(normal, forward)
    return forward, np.cos(roll) * normal + np.sin(roll) * side


def frame_by_thumb(forward: Floats, thumb: Floats) -> tuple[Floats, Floats]:
    """Axes of a right hand from where its fingers and its thumb point, as :func:`frame_of`."""
    forward = unit(np.asarray(forward, float))
    side = np.asarray(thumb, float) - forward * (forward @ np.asarray(thumb, float))
    return forward, cross(forward, unit(side))


def joints(forward: Floats, normal: Floats, poses: Floats) -> tuple[Floats, Floats, Floats]:
    """Joints of a right hand relative to the wrist.

    Args:
        forward: (N, 3), wrist to fingers.
        normal: (N, 3), out of the palm.
        poses: (N, 12).

    Returns:
        fingers (N, 4, 4, 3): index to little, knuckle to tip; thumb (N, 4, 3); and the hand's
        side axis (N, 3), which points to the thumb.
    """
    forward = unit(forward)
    normal = unit(normal - forward * (forward * normal).sum(-1, keepdims=True))
    side = cross(normal, forward)
    n, f, s = normal[:, None], forward[:, None], side[:, None]
    point = s * _KNUCKLES[:, :1] + f * _KNUCKLES[:, 1:]
    splay = (poses[:, 8:9] * _SPLAY)[..., None]
    straight = f * np.cos(splay) + s * np.sin(splay)
    angle = np.zeros((len(poses), 4))
    bends = (poses[:, :4], poses[:, 4:8], 0.7 * poses[:, 4:8])
    chain = [point]
    for bend, part in zip(bends, _PHALANGES, strict=True):
        angle = angle + bend
        step = straight * np.cos(angle)[..., None] + n * np.sin(angle)[..., None]
        point = point + step * (_LENGTHS * part)[:, None]
        chain.append(point)
    across, along, inward = (poses[:, k : k + 1] for k in (9, 10, 11))
    aim = unit(side * across + forward * along + normal * inward)
    root = side * 0.12 + forward * 0.08
    first = root + unit(aim + 0.6 * forward + 0.3 * side) * 0.20
    second = first + aim * 0.17
    tip = second + unit(aim + 0.12 * forward) * 0.14
    return np.stack(chain, axis=2), np.stack([root, first, second, tip], axis=1), side
