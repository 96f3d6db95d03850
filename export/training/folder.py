"""A user's own clips: ``DATA/<Label name>/<clip.mp4 | clip.gif | folder of images>``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.training.clips import IGNORED, Advance, ClipSet
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.extras import require

cv2 = require("cv2")

__all__ = ["FolderClip", "find_clips", "load_clips", "split_clips"]

VIDEO_SUFFIXES = (".mp4", ".gif", ".avi", ".mkv", ".mov", ".webm")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")

STEADY = ("No gesture", "Doing other things")
"""Labels whose frames all show them; where in its clip a gesture happens is not known."""

_LEAST_FRAMES = 4
"""A shorter clip shows no movement."""
_IMAGE_RATE_HZ = 12.0
"""Of folders of images, which do not say: Jester's."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class FolderClip:
    """One clip on disk."""

    label: str
    path: Path


def find_clips(data: Path) -> list[FolderClip]:
    """Every clip below ``data``, in the order of labels and names.

    Raises:
        DataError: no such folder, fewer than two labels, or a label without clips.
    """
    if not data.is_dir():
        raise DataError(
            f"{data} is no folder; expected a folder with one folder of clips for each label, or "
            "synthetic: for rendered clips."
        )
    folders = sorted(entry for entry in data.iterdir() if _visible(entry) and entry.is_dir())
    if len(folders) < 2:
        raise DataError(
            f"{data} has {len(folders)} folders; expected one of clips for each label and at least "
            f"two labels, such as {data / 'Swiping Left'}/1.mp4 and {data / 'No gesture'}/1.mp4."
        )
    clips = []
    for folder in folders:
        found = [
            FolderClip(folder.name, entry)
            for entry in sorted(folder.iterdir())
            if _visible(entry) and (entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES)
        ]
        if len(found) < 2:
            raise DataError(
                f"{folder} has {len(found)} clips; expected at least two, one to learn from and "
                f"one to check with: videos ({', '.join(VIDEO_SUFFIXES)}) or folders of images."
            )
        clips += found
    return clips


def _visible(path: Path) -> bool:
    return not path.name.startswith(".")


def split_clips(
    clips: list[FolderClip], *, share: float = 0.2
) -> tuple[list[FolderClip], list[FolderClip]]:
    """Clips to learn from and clips to check with; every label is in both.

    A clip's side depends on its name and not on the others', so that adding clips later moves as
    few of them as possible across.
    """
    train: list[FolderClip] = []
    check: list[FolderClip] = []
    for label in sorted({clip.label for clip in clips}):
        mine = sorted((c for c in clips if c.label == label), key=lambda clip: _draw(clip))
        count = max(1, round(share * len(mine)))
        check += mine[:count]
        train += mine[count:]
    return train, check


def _draw(clip: FolderClip) -> str:
    return hashlib.sha256(f"{clip.label}/{clip.path.name}".encode()).hexdigest()


def load_clips(
    clips: list[FolderClip],
    names: tuple[str, ...],
    *,
    frames: int,
    rate_hz: float,
    height: int,
    width: int,
    advance: Advance | None = None,
) -> ClipSet:
    """Read clips at the model's rate and size.

    A clip longer than ``frames`` gives its middle, a shorter one is held on its last frame. Only
    labels in :data:`STEADY` count for each frame; a gesture counts for its clip as a whole.

    Raises:
        DataError: a clip cannot be read or is too short.
    """
    pictures = np.empty((len(clips), frames, height, width, 3), np.uint8)
    labels = np.array([names.index(clip.label) for clip in clips], np.int64)
    frame_labels = np.full((len(clips), frames), IGNORED, np.int8)
    for row, clip in enumerate(clips):
        taken = _at_rate(clip.path, rate_hz)
        if len(taken) < _LEAST_FRAMES:
            raise DataError(
                f"{clip.path} gives {len(taken)} frames at {rate_hz:g} a second; expected at least "
                f"{_LEAST_FRAMES}. Remove it, or replace it by a longer clip."
            )
        start = max(0, (len(taken) - frames) // 2)
        taken = taken[start : start + frames]
        for t in range(frames):
            pictures[row, t] = _fit(taken[min(t, len(taken) - 1)], height, width)
        if clip.label in STEADY:
            frame_labels[row] = labels[row]
        if advance is not None:
            advance(1)
    return ClipSet(pictures, labels, frame_labels, names)


def _fit(image: Image, height: int, width: int) -> Image:
    """Scale so that the frame is covered, and cut out its middle, as the runtime does."""
    rows, columns = image.shape[:2]
    scale = max(height / rows, width / columns)
    size = (max(width, round(columns * scale)), max(height, round(rows * scale)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    middle: Image = scaled[top : top + height, left : left + width]
    return middle


def _at_rate(path: Path, rate_hz: float) -> list[Image]:
    """Frames of a clip, the nearest one in time for each tick of ``rate_hz``."""
    source_hz, images = (_IMAGE_RATE_HZ, _images(path)) if path.is_dir() else _video(path)
    everything = list(images)
    if not everything:
        raise DataError(
            f"{path} gives no frames; expected a video or images that OpenCV can read. Remove it, "
            "or convert it to MP4."
        )
    count = max(1, round(len(everything) / source_hz * rate_hz))
    ticks = np.minimum(np.rint(np.arange(count) * source_hz / rate_hz), len(everything) - 1)
    return [everything[int(tick)] for tick in ticks]


def _images(folder: Path) -> Iterator[Image]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or not _visible(path):
            continue
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{path} is no image that OpenCV can read; remove or replace it.")
        yield image


def _video(path: Path) -> tuple[float, Iterator[Image]]:
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise DataError(
            f"{path} is no video that OpenCV can read; remove it, or convert it to MP4 (H.264)."
        )
    rate = float(video.get(cv2.CAP_PROP_FPS))

    def images() -> Iterator[Image]:
        try:
            while True:
                good, image = video.read()
                if not good:
                    return
                yield image
        finally:
            video.release()

    return (rate if 1.0 <= rate <= 240.0 else _IMAGE_RATE_HZ), images()
