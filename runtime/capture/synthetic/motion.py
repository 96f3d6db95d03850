"""Key poses of an arm and of the body over time, and how they are interpolated.

Positions are in heads (height of the head = 1) from the centre of the head, x right and y down in
the image, z towards the camera; times are in seconds. Tracks describe the person's right arm, which
is on the left of the image; the left arm is its mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shiftedge.runtime.capture.synthetic.hand import Floats, unit


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
    """(12,), see :mod:`~shiftedge.runtime.capture.synthetic.hand`."""
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

    def seen_at(self, offset_s: float, mirror: float) -> BodyKey:
        """The same, later, and with ``mirror`` -1 on the other side."""
        shift = (mirror * self.shift[0], self.shift[1])
        yaw = mirror * self.yaw
        return BodyKey(self.time_s + offset_s, shift, mirror * self.roll, yaw, self.nod)


@dataclass(frozen=True)
class Act:
    """Something a person does from a rest to a rest, or to where the next act begins."""

    label: str
    right: tuple[Key, ...]
    left: tuple[Key, ...] = ()
    body: tuple[BodyKey, ...] = ()
    wobbles: tuple[Wobble, ...] = ()
    """For the hand that acts."""
    left_wobbles: tuple[Wobble, ...] = ()
    strokes: tuple[tuple[float, float], ...] = ()
    """Start and end of each time that the label comes true, in the act's time."""
    shown_until_s: float = 0.0
    """Until when a held sign can be seen after its stroke; 0 where nothing is held."""
    camera: str = ""
    """What happens to the camera: "shake", "lamp" or nothing."""
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
