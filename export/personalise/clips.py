"""Somebody's own clips, a folder a label, as they become examples.

Clips are read one after the other, and of each only what the model makes of it is kept: frames of
fifty clips would not fit into a small board's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.clip_set import LEAST_FRAMES
from shiftedge.export.data.files import entries, has_pictures, is_clip, is_video, open_clip
from shiftedge.export.data.listed import label_text
from shiftedge.export.data.reader import middle_frames
from shiftedge.export.data.silent import looks_silent
from shiftedge.runtime.capture.recording import alike, signature
from shiftedge.runtime.capture.synthetic import MIRRORED
from shiftedge.runtime.errors import DataError, FrameError, SourceError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.progress import Advance
from shiftedge.runtime.spec import ModelSpec

Images = NDArray[np.uint8]
"""uint8 (T, H, W, 3), BGR, at a model's rate and size."""

LONGEST_S = 5.0
"""Of a clip its middle is taken: a gesture takes less, and what is around it teaches little."""
FEWEST = 2
"""Clips of a gesture: one says nothing of how it varies, and leaves none to check with."""
ENOUGH = 10
"""Clips of a gesture that are asked for."""
SPEED, ZOOM, SHIFT, GAIN, LIFT = 1.33, 1.16, 0.08, 1.16, 10.0
"""How far variants of a clip go: as the same person varies from day to day."""


@dataclass(frozen=True)
class Labels:
    """The folders of a data folder, and what a model makes of them."""

    paths: dict[str, tuple[Path, ...]]
    """Of each label, its clips in order; gestures first."""
    background: frozenset[str]
    """Labels of a person who shows no gesture."""

    @property
    def gestures(self) -> list[str]:
        """Labels that are to become events."""
        return [label for label in self.paths if label not in self.background]


def find_labels(data: Path, spec: ModelSpec) -> Labels:
    """The labels and clips of ``data``.

    Args:
        spec: of the model that is to learn them.

    Raises:
        DataError: there are none, a label is empty or has one clip, or two labels, or one and one
            of the model's, differ in upper and lower case alone.
    """
    if not data.is_dir():
        raise DataError(
            f"There is no folder {data}; record clips into it with `shiftedge record --label NAME "
            f"--data {data}`."
        )
    paths: dict[str, tuple[Path, ...]] = {}
    for folder in entries(data):
        if not folder.is_dir():
            continue
        label = label_text(folder.name)
        if label is None:
            raise DataError(f"The name of {folder} is not UTF-8 and cannot be a label; rename it.")
        clips = tuple(path for path in entries(folder) if is_clip(path))
        if has_pictures(folder):
            raise DataError(
                f"{folder} holds pictures, so it is one clip, and a label is a folder of clips: "
                f"expected {data}/<label>/<clip>."
            )
        if not clips:
            raise DataError(
                f"{folder} holds no clips; record some with `shiftedge record --label {label!r} "
                f"--data {data}`, or remove it."
            )
        paths[label] = clips
    if not paths:
        loose = any(map(is_video, entries(data)))
        raise DataError(
            f"{data} holds {'clips, and no folders of labels' if loose else 'no labels'}; expected "
            f"{data}/<label>/<clip>, as `shiftedge record` writes."
        )
    _refuse_twins(data, list(paths), spec)
    background = frozenset(
        label for label in paths if looks_silent(label) or label in spec.silent_labels
    )
    found = Labels(dict(sorted(paths.items(), key=lambda item: item[0] in background)), background)
    for label in found.gestures:
        if len(paths[label]) < FEWEST:
            raise DataError(
                f"The label {label!r} has 1 clip; expected {ENOUGH}, and {FEWEST} at least: "
                f"`shiftedge record --label {label!r} --data {data}` adds some."
            )
    if not found.gestures:
        raise DataError(
            f"{data} holds background alone ({', '.join(map(repr, paths))}); expected a gesture of "
            "your own too."
        )
    return found


def _refuse_twins(data: Path, labels: Sequence[str], spec: ModelSpec) -> None:
    spelled: dict[str, str] = {}
    for label in (*spec.labels, *labels):
        other = spelled.setdefault(label.casefold(), label)
        if other != label:
            whose = "the model has" if other in spec.labels else "there is"
            raise DataError(
                f"{data} has the label {label!r}, and {whose} {other!r}: they differ in upper and "
                "lower case alone; rename the folder, or move its clips to the other one."
            )


@dataclass
class Reading:
    """What reading clips has found; see :func:`read`."""

    unusable: list[str] = field(default_factory=list)
    """A sentence for each clip that was left out."""
    remarks: list[str] = field(default_factory=list)
    """What else is to be known."""


def read(
    labels: Labels, spec: ModelSpec, found: Reading, advance: Advance = lambda count: None
) -> Iterator[tuple[str, Path, Images]]:
    """Label, path and frames of each clip that can be used, one after the other.

    What cannot is told in ``found``, and so are clips that are nearly the same as another one.

    Raises:
        DataError: two clips are nearly the same and have different labels.
    """
    fit, rate_hz = Preprocessor(spec).fit, spec.frame_rate_hz
    most = round(LONGEST_S * rate_hz)
    seen: list[tuple[str, Path, NDArray[np.float32]]] = []
    for label, paths in labels.paths.items():
        for path in paths:
            advance(1)
            try:
                images, length = middle_frames(
                    lambda path=path: open_clip(path, on_event=found.remarks.append),  # type: ignore[misc]
                    rate_hz,
                    fit,
                    most,
                )
                if length < LEAST_FRAMES:
                    raise DataError(
                        f"{path} gives {length} frames at {rate_hz:g} a second; expected at least "
                        f"{LEAST_FRAMES}."
                    )
            except (SourceError, DataError, FrameError) as error:
                found.unusable.append(str(error))
                continue
            looks = signature(images)
            for other, twin, before in seen:
                if {label, other} <= labels.background or not alike(looks, before):
                    continue
                if other != label:
                    raise DataError(
                        f"{path} and {twin} are nearly the same clip and have different labels; "
                        "remove it from the wrong one."
                    )
                found.remarks.append(f"{path} is nearly the same as {twin}, so it teaches little.")
                break
            seen.append((label, path, looks))
            yield label, path, np.stack(images)


def variants(
    images: Images, count: int, rng: np.random.Generator, *, mirror: bool
) -> Iterator[Images]:
    """A clip as it might have been: slower or quicker, nearer, elsewhere, in other light; every
    other one mirrored, if it may be, the first of them otherwise unchanged."""
    cv2 = require("cv2")
    length, height, width = images.shape[:3]
    for number in range(count):
        turned = mirror and number % 2 == 0
        if turned and number == 0:
            yield np.ascontiguousarray(images[:, :, ::-1])
            continue
        speed = np.exp(rng.uniform(-1.0, 1.0) * np.log(SPEED))
        zoom = np.exp(rng.uniform(-1.0, 1.0) * np.log(ZOOM))
        gain = np.exp(rng.uniform(-1.0, 1.0) * np.log(GAIN))
        lift = rng.uniform(-LIFT, LIFT)
        centre = np.array([width, height]) / 2.0
        move = rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
        matrix = np.column_stack([np.eye(2) * zoom, centre * (1.0 - zoom) + move])
        shown = np.minimum((np.arange(round(length / speed)) * speed).astype(int), length - 1)
        out = np.empty((len(shown), height, width, 3), np.uint8)
        for row, index in enumerate(shown):
            moved = cv2.warpAffine(
                images[index], matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
            )
            moved = cv2.convertScaleAbs(moved, alpha=gain, beta=lift)
            out[row] = moved[:, ::-1] if turned else moved
        yield out


def may_mirror(label: str) -> bool:
    """Whether a clip means the same when its image is mirrored, by the words of its label."""
    words = set(label.casefold().replace("_", " ").replace("-", " ").split())
    sided = words & {"left", "right", "clockwise", "counterclockwise", "anticlockwise"}
    return label not in MIRRORED and not sided
