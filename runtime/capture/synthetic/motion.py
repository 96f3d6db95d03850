"""Key poses of an arm and of the body over time, and how they are interpolated.

Positions are in heads (height of the head = 1) from the centre of the head, x right and y down in
the image, z towards the camera; times are in seconds. Tracks describe the person's right arm, which
is on the left of the image; the left arm is its mirror image.

A hand's own lengths are in hands (wrist to the tip of the middle finger = 1), angles in radians.
Everything is computed for N moments at once, because numpy's cost is per call; drawing then is a
row of ``fillConvexPoly`` calls per frame, see :mod:`.paint`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A float between low and high."""
    return float(rng.uniform(low, high))


@dataclass(frozen=True)
class Key:
    """Where a hand is at one moment."""

    time_s: float
    wrist: Floats
    """(3,), heads."""
    forward: Floats
    """(3,), from wrist to fingers."""
    normal: Floats
    """(3,), out of the palm."""
    pose: Floats
    """(12,), see ``_POSES``."""
    bulge: Floats | None = None
    """(3,), heads: how far the way here leaves the straight line, at its middle."""
    moving: bool = True
    """Whether the way here is a movement that somebody may see (a rest or a hold is not)."""

    def at(self, time_s: float) -> Key:
        """The same, later or earlier."""
        return replace(self, time_s=time_s)


@dataclass(frozen=True)
class Wobble:
    """A periodic movement on top of the keys: rubbing, drumming, waving."""

    start_s: float
    end_s: float
    rate_hz: float
    wrist: Floats
    """(3,), heads, amplitude."""
    pose: Floats
    """(12,), amplitude; neighbouring fingers are out of step."""
    forward: Floats
    """(3,), amplitude of the direction."""


@dataclass(frozen=True)
class BodyKey:
    """Where the trunk and the head are at one moment."""

    time_s: float
    shift: tuple[float, float] = (0.0, 0.0)
    """Heads, right and down."""
    roll: float = 0.0
    """Radians, of the trunk."""
    yaw: float = 0.0
    """-1..1, of the face, left to right in the image."""
    nod: float = 0.0
    """-1..1, of the face, up to down."""


@dataclass(frozen=True)
class Act:
    """Something a person does from a rest to a rest, or to where the next act begins."""

    label: str
    right: tuple[Key, ...]
    left: tuple[Key, ...] = ()
    body: tuple[BodyKey, ...] = ()
    wobbles: tuple[Wobble, ...] = ()
    """For the hand that acts; both hands when both act."""
    stroke: tuple[float, float] | None = None
    """Start and end of what the label means, in the act's time."""
    prop: str = ""
    """What the hand holds: "cup", "phone" or nothing."""
    prop_s: tuple[float, float] = (0.0, 0.0)

    @property
    def end_s(self) -> float:
        """Time of the last key."""
        times = [keys[-1].time_s for keys in (self.right, self.left, self.body) if keys]
        return max(times)


def _fractions(key_times: Floats, times: Floats) -> tuple[np.ndarray, Floats]:
    """Index of the key before each time, and how far along to the next one, eased."""
    index = np.clip(np.searchsorted(key_times, times, side="right") - 1, 0, len(key_times) - 2)
    span = np.maximum(key_times[index + 1] - key_times[index], 1e-6)
    along = np.clip((times - key_times[index]) / span, 0.0, 1.0)
    # Minimum jerk, as people reach (Flash and Hogan 1985).
    return index, along**3 * (10.0 - 15.0 * along + 6.0 * along**2)


def arm_at(
    keys: tuple[Key, ...], wobbles: tuple[Wobble, ...], times: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Wrist (N, 3), forward (N, 3), normal (N, 3) and pose (N, 12) at N times."""
    index, along = _fractions(np.array([key.time_s for key in keys]), times)
    a = along[:, None]
    values = []
    for name in ("wrist", "forward", "normal", "pose"):
        table = np.array([getattr(key, name) for key in keys])
        values.append(table[index] * (1.0 - a) + table[index + 1] * a)
    wrist, forward, normal, poses = values
    bulges = np.array([np.zeros(3) if key.bulge is None else key.bulge for key in keys])
    wrist = wrist + bulges[index + 1] * (4.0 * a * (1.0 - a))
    for wobble in wobbles:
        fade = np.clip(np.minimum(times - wobble.start_s, wobble.end_s - times) / 0.15, 0.0, 1.0)
        phase = 2.0 * np.pi * wobble.rate_hz * (times - wobble.start_s)
        wave = (fade * np.sin(phase))[:, None]
        wrist = wrist + wave * wobble.wrist
        forward = forward + wave * wobble.forward
        steps = np.array([0.0, 0.8, 1.6, 2.4, 0.0, 0.8, 1.6, 2.4, 0, 0, 0, 0])
        poses = poses + fade[:, None] * np.sin(phase[:, None] - steps) * wobble.pose
    return wrist, unit(forward), unit(normal), poses


def body_at(keys: tuple[BodyKey, ...], times: Floats) -> Floats:
    """Shift right, shift down, roll, yaw and nod, shape (N, 5)."""
    if len(keys) < 2:
        return np.zeros((len(times), 5))
    index, along = _fractions(np.array([key.time_s for key in keys]), times)
    table = np.array([(*key.shift, key.roll, key.yaw, key.nod) for key in keys])
    a = along[:, None]
    result: Floats = table[index] * (1.0 - a) + table[index + 1] * a
    return result


Floats = NDArray[np.float64]

POSE_SIZE = 12
"""A pose is: bend of 4 knuckles, bend of 4 middle joints, splay, thumb (across, along, in)."""

# Index, middle, ring and little finger. Proportions after the usual anthropometric tables
# (palm about 0.53 of the hand, middle finger 0.47), rounded.
_KNUCKLES = np.array([[0.165, 0.50], [0.055, 0.53], [-0.055, 0.515], [-0.16, 0.46]])
_LENGTHS = np.array([0.42, 0.47, 0.44, 0.345])
_PHALANGES = np.array([0.45, 0.30, 0.25])
_SPLAY = np.array([0.9, 0.25, -0.35, -1.1])
FINGER_RADII = np.array([0.060, 0.062, 0.058, 0.052, 0.070])
"""Of the four fingers and the thumb, at their base."""

# Name -> bend of knuckles, bend of middle joints (index to little), splay, thumb. A new gesture
# that is a held shape ("Thumb Up", "Stop Sign") needs a row here and a track, nothing else.
_POSES: dict[str, tuple[tuple[float, ...], tuple[float, ...], float, tuple[float, ...]]] = {
    "open": ((0.0,) * 4, (0.08,) * 4, 0.18, (0.6, 0.8, 0.15)),
    "flat": ((0.05,) * 4, (0.10,) * 4, 0.03, (0.35, 0.9, 0.2)),
    "relaxed": ((0.35, 0.4, 0.45, 0.5), (0.45, 0.5, 0.5, 0.5), 0.08, (0.4, 0.8, 0.4)),
    "cupped": ((0.3,) * 4, (0.7,) * 4, 0.05, (0.5, 0.7, 0.5)),
    "fist": ((1.35, 1.4, 1.4, 1.45), (1.75,) * 4, 0.0, (0.1, 0.65, 0.65)),
    "thumb": ((1.35, 1.4, 1.4, 1.45), (1.75,) * 4, 0.0, (1.0, 0.05, 0.0)),
    "point": ((0.0, 1.3, 1.35, 1.4), (0.1, 1.65, 1.7, 1.7), 0.0, (0.1, 0.7, 0.6)),
    "two": ((0.0, 0.0, 1.35, 1.4), (0.1, 0.1, 1.7, 1.7), 0.12, (0.1, 0.7, 0.6)),
    "claw": ((0.3,) * 4, (0.95,) * 4, 0.22, (0.7, 0.6, 0.5)),
    "pinch": ((0.85, 0.6, 0.5, 0.45), (0.75, 0.5, 0.4, 0.4), 0.05, (0.3, 0.6, 0.7)),
    "grip": ((0.75,) * 4, (1.0,) * 4, 0.04, (0.5, 0.5, 0.9)),
}


def pose(rng: np.random.Generator, name: str) -> Floats:
    """One person's version of a named pose, shape (12,)."""
    knuckles, middles, splay, thumb = _POSES[name]
    bent = rng.normal(0.0, 0.09, 8)
    values = np.concatenate([knuckles, middles]) + bent + rng.normal(0.0, 0.06)
    values = np.maximum(values, -0.15)
    loose = abs(rng.normal(splay, 0.06))
    return np.concatenate([values, [loose], np.asarray(thumb) + rng.normal(0.0, 0.08, 3)])


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1 along the last axis; the zero vector stays."""
    length = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    result: Floats = vectors / np.maximum(length, 1e-9)
    return result


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
    side = np.cross(normal, forward)
    return forward, np.cos(roll) * normal + np.sin(roll) * side


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
    side = np.cross(normal, forward)
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
        body: (N, 2), how far the trunk has moved, heads.
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
