"""Cheap variations of clips, so that each is another one every time it is seen."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.clip_set import IGNORED, ClipSet
from shiftedge.export.data.silent import plain_name
from shiftedge.runtime.capture.synthetic.hand import HAND_FIELDS
from shiftedge.runtime.process.extras import require

cv2 = require("cv2")

_ACROSS = [number for number, name in enumerate(HAND_FIELDS) if name.endswith(" x")]
"""What changes its sign in a mirror."""
_UNSEEN = 6
"""Frames after a cut into a clip in which a gesture's label is dropped: its stroke may lie before
the cut. A label outlasts its stroke by 0.4 s, which is 5 frames at 12 Hz."""
_LEAST_FRAMES = 2
"""A clip keeps its label after a cut if this many of its frames still have it."""

_PAIRS = (
    ("counterclockwise", "clockwise"),
    ("left", "right"),
    ("links", "rechts"),
    ("gauche", "droite"),
    ("izquierda", "derecha"),
    ("esquerda", "direita"),
    ("sinistra", "destra"),
    ("左", "右"),
)
_SWAP = {**dict(_PAIRS), **{second: first for first, second in _PAIRS}}
_DIRECTION = re.compile("|".join(_SWAP))
_OPPOSITES = (
    ("Swiping Left", "Swiping Right"),
    ("Swiping Up", "Swiping Down"),
    ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
    ("Sliding Two Fingers Up", "Sliding Two Fingers Down"),
    ("Pushing Hand Away", "Pulling Hand In"),
    ("Pushing Two Fingers Away", "Pulling Two Fingers In"),
    ("Rolling Hand Forward", "Rolling Hand Backward"),
    ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
    ("Zooming In With Full Hand", "Zooming Out With Full Hand"),
    ("Zooming In With Two Fingers", "Zooming Out With Two Fingers"),
)
"""Jester's labels that are each other's backwards."""
_AIMED = 0.8
"""Share of the cuts that are made where something is to be seen."""
_REVERSED = 0.25
"""Share of the clips that are played backwards, of those that may be: hands seldom fall as they
rise."""
_SHORT = {"l": "left", "r": "right", "cw": "clockwise", "ccw": "counterclockwise"}
_NAMELESS = re.compile(r"(?:class|label|gesture|action|g|c)?[0-9]*")


@dataclass(frozen=True)
class Batch:
    """What one training step sees."""

    frames: NDArray[np.float32]
    """float32 (N * T, H, W, 3), RGB, normalised."""
    labels: NDArray[np.int64]
    """int64 (N,), IGNORED where the cut took what the label means."""
    frame_labels: NDArray[np.int64]
    """int64 (N * T,), IGNORED where a frame does not count."""
    hands: NDArray[np.float32] | None
    """float32 (N * T, 2, K), see
    :data:`~shiftedge.runtime.capture.synthetic.hand.HAND_FIELDS`; None where the clips come
    without."""
    cut: float = 1.0
    """Sides of what is seen, as a share of the frame's."""

    @property
    def length(self) -> int:
        """T, the frames of each clip."""
        return len(self.frame_labels) // max(1, len(self.labels))

    def without_frames(self) -> Batch:
        """What is known of the clips alone."""
        return dataclasses.replace(self, frames=np.empty((0, 0, 0, 3), np.float32), hands=None)

    @classmethod
    def of(cls, parts: Sequence[Batch]) -> Batch:
        """What is known of several batches' clips, without their frames."""
        labels = np.concatenate([part.labels for part in parts])
        frame_labels = np.concatenate([part.frame_labels for part in parts])
        return cls(np.empty((0, 0, 0, 3), np.float32), labels, frame_labels, None)


def make_batch(
    clips: ClipSet,
    chosen: NDArray[np.int64],
    rng: np.random.Generator | None,
    *,
    frames: int,
    height: int,
    width: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    cut: float = 1.0,
    mirror: NDArray[np.int64] | None = None,
    reverse: NDArray[np.int64] | None = None,
    steady: frozenset[int] = frozenset(),
) -> Batch:
    """Cut, vary and normalise some clips.

    Args:
        chosen: int64 (N,), which clips.
        rng: draws the variations; None: none, and the clips are taken from their first frame.
        frames: number of frames T of each clip in the batch, at most the set's.
        height, width: of the whole frame, pixels.
        mean, std: RGB, for pixels divided by 255.
        cut: see only this share of the frame's sides, mostly where a hand is, and mostly while the
            gesture lasts; of clips that come with hands.
        mirror: see :func:`mirror_table`; None: never mirror.
        reverse: see :func:`reverse_table`; None: never play backwards.
        steady: labels that hold at any moment, such as "No gesture", whatever a cut takes away.
    """
    count = len(chosen)
    total = clips.frames.shape[1]
    height, width = round(height * cut), round(width * cut)
    pictures = np.empty((count, frames, height, width, 3), np.float32)
    labels = clips.labels[chosen].copy()
    frame_labels = np.empty((count, frames), np.int64)
    hands = (
        None if clips.hands is None else np.empty((count, frames, 2, len(HAND_FIELDS)), np.float32)
    )
    # One table lookup or multiplication per pixel is what this can cost.
    bgr_std = np.array(std[::-1], np.float32)
    scale: NDArray[np.float32] = np.float32(1.0 / 255.0) / bgr_std
    shift: NDArray[np.float32] = np.array(mean[::-1], np.float32) / bgr_std
    for row, clip in enumerate(chosen.tolist()):
        start = 0
        if rng is not None:
            acted = np.flatnonzero(~np.isin(clips.frame_labels[clip], [IGNORED, *steady]))
            start = _start(rng, total, frames, acted if cut < 1.0 else acted[:0])
        truth = clips.frame_labels[clip, start : start + frames].astype(np.int64)
        source = clips.frames[clip, start : start + frames]
        backwards = False
        if rng is not None and reverse is not None and reverse[labels[row]] >= 0:
            # Where frames have labels, these follow the stroke, and would lead it backwards.
            free = bool(np.isin(truth, [IGNORED, *steady]).all())
            backwards = free and bool(rng.random() < _REVERSED)
        matrix = np.eye(2, 3)
        if start:
            lost = ~np.isin(truth[:_UNSEEN], list(steady))
            truth[:_UNSEEN][lost] = IGNORED
            meant = int(labels[row])
            if meant not in steady and (truth == meant).sum() < _LEAST_FRAMES:
                labels[row] = IGNORED
        if rng is None:
            for t in range(frames):
                pictures[row, t] = _resized(source[t], height, width)
            pictures[row] = pictures[row] * scale - shift
        else:
            flip = bool(rng.random() < 0.5)
            if mirror is None or mirror[clips.labels[clip]] < 0:
                flip = False  # what the mirrored clip would show is not among the labels
            if mirror is not None and flip:
                partners = np.append(mirror, IGNORED)  # IGNORED, which is -1, stays what it is
                truth = partners[truth]
                labels[row] = partners[labels[row]]
            if backwards and reverse is not None:
                source, truth = source[::-1], truth[::-1]
                labels[row] = np.append(reverse, IGNORED)[labels[row]]
            matrix = _view(source.shape[1:3], rng, flip)
        size = np.array(source.shape[2:0:-1])
        if hands is not None and clips.hands is not None:
            held = clips.hands[clip, start : start + frames].astype(np.float64)
            held = held[::-1] if backwards else held
            held[..., :2] = (held[..., :2] * size) @ matrix[:, :2].T + matrix[:, 2]
            if rng is not None and cut < 1.0:
                corner = _corner(rng, held[..., :2], size, cut)
                held[..., :2] -= corner
                matrix[:, 2] -= corner
            held[..., :2] /= size * cut
            held[..., 2] *= matrix[1, 1] / cut
            held[..., _ACROSS] *= np.sign(matrix[0, 0])
            hands[row] = held
        if rng is not None:
            seen = np.round(size * cut).astype(int)
            _vary(pictures[row], source, rng, matrix, (int(seen[0]), int(seen[1])), scale, shift)
        frame_labels[row] = truth
    rgb = np.ascontiguousarray(pictures.reshape(count * frames, height, width, 3)[..., ::-1])
    flat = None if hands is None else hands.reshape(-1, 2, len(HAND_FIELDS))
    return Batch(rgb, labels, frame_labels.reshape(-1), flat, cut)


def _start(rng: np.random.Generator, total: int, frames: int, wanted: NDArray[np.int64]) -> int:
    """First frame of a cut in time: mostly one that has a frame of ``wanted`` in its second half,
    where what leads to it is seen as well."""
    if len(wanted) and rng.random() < _AIMED:
        return int(
            np.clip(rng.choice(wanted) - rng.integers(frames // 2, frames), 0, total - frames)
        )
    return int(rng.integers(0, total - frames + 1))


def _corner(
    rng: np.random.Generator, hands: NDArray[np.float64], size: NDArray[np.int64], cut: float
) -> NDArray[np.float64]:
    """Upper left corner (x, y) of what is seen: mostly around one of the hands.

    Args:
        hands: (T, 2, 2), pixels.
        size: width and height of the frame in pixels.
    """
    places = hands[:, int(rng.integers(0, 2))]
    places = places[np.isfinite(places).all(1)]
    places = places[((places >= 0) & (places < size)).all(1)]
    middle = rng.uniform(0.0, size)
    if len(places) and rng.random() < _AIMED:
        middle = places.mean(0) + rng.normal(0.0, 0.07, 2) * size
    return np.floor(np.clip(middle - size * cut / 2, 0.0, size * (1.0 - cut)))


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    smaller: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return smaller


def _view(size: tuple[int, ...], rng: np.random.Generator, flip: bool) -> NDArray[np.float64]:
    """Crop and mirror as a matrix (2, 3) from the clip's pixels to the batch's."""
    height, width = size
    zoom = rng.uniform(0.88, 1.18)
    stretch = rng.uniform(0.94, 1.06)
    dx, dy = rng.normal(0.0, 0.04, 2) * (width, height)
    across, down = zoom * stretch * (-1.0 if flip else 1.0), zoom / stretch
    return np.array(
        [
            [across, 0.0, 0.5 * width * (1.0 - across) + dx],
            [0.0, down, 0.5 * height * (1.0 - down) + dy],
        ]
    )


def _vary(
    target: NDArray[np.float32],
    source: NDArray[np.uint8],
    rng: np.random.Generator,
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
) -> None:
    """Move, stutter, and change light and colour; the same for all frames of a clip.

    Args:
        matrix: from the source's pixels to those seen.
        size: width and height of what is seen, in the source's pixels.
    """
    gain = np.exp(rng.normal(0.0, 0.15) + rng.normal(0.0, 0.05, 3)).astype(np.float32)
    lift = np.float32(rng.normal(0.0, 0.12)) + rng.normal(0.0, 0.04, 3).astype(np.float32)
    grey = rng.random() < 0.08
    stutter = rng.random() < 0.12
    for t in range(len(target)):
        if t and stutter and rng.random() < 0.15:  # a camera gives the same frame twice
            target[t] = target[t - 1]
            continue
        image = np.ascontiguousarray(source[t])
        image = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        image = _resized(image, target.shape[1], target.shape[2])
        if grey:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
        np.multiply(image, scale * gain, out=target[t])
        target[t] -= shift - lift


def mirror_table(names: Sequence[str]) -> NDArray[np.int64]:
    """Index of what each label becomes in a mirrored image; -1 where its clips are not mirrored.

    Training shows clips mirrored too, which is worth twice the clips, and would teach that "left"
    and "right" are the same if the label did not go with the image. So a label with a direction in
    its name takes that of its partner; where there is none, its clips are never mirrored, and
    neither are those of a label whose name says nothing, such as a number.
    """
    spelled = [_spelled(name) for name in names]
    place = {text: index for index, text in enumerate(spelled)}
    partners = []
    for text in spelled:
        mirrored = _DIRECTION.sub(lambda found: _SWAP[found[0]], text)
        partners.append(-1 if _NAMELESS.fullmatch(text) else place.get(mirrored, -1))
    return np.array(partners, np.int64)


def reverse_table(names: Sequence[str], steady: frozenset[int] = frozenset()) -> NDArray[np.int64]:
    """Index of what each label becomes when its clip is played backwards; -1 where it never is.

    Args:
        steady: labels that hold at any moment, and stay what they are.
    """
    place = {_spelled(name): index for index, name in enumerate(names)}
    table = np.full(len(names), IGNORED, np.int64)
    for pair in _OPPOSITES:
        first, second = (place.get(_spelled(name), -1) for name in pair)
        if first >= 0 and second >= 0:
            table[first], table[second] = second, first
    table[list(steady)] = list(steady)
    return table


def _spelled(name: str) -> str:
    """A name without case and signs, its abbreviated directions written out."""
    words = re.findall(r"[^\W_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name))
    whole = "".join(_SHORT.get(word.lower(), plain_name(word)) for word in words)
    return re.sub("anticlockwise|counterclock(?!wise)|anticlock(?!wise)", "counterclockwise", whole)
