"""Calibration clips: whatever a user names, as frames of the model's size and rate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture import FrameSource, ImageFolder, open_source, open_video
from shiftedge.runtime.capture.folder import IMAGE_SUFFIXES, natural_key
from shiftedge.runtime.errors import DataError, FrameError, SourceError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.progress import ProgressFactory, progress
from shiftedge.runtime.spec import ModelSpec

__all__ = ["FRAMES", "FRAMES_LEAST", "Clips", "checked", "read_clips"]

FRAMES = 480
"""Taken for calibration unless told otherwise: 20 rendered clips of 24 frames. Measured on the
bundled model: 240 frames and 960 give scales within a few percent of these."""

FRAMES_LEAST = 64
"""Fewer do not show what a stream's states can hold."""

CLIP_MOST = 120
"""Frames taken of one clip among several, so that one long film does not speak for all."""

CLIP_FRAMES = 24
"""Of a rendered clip."""

SEED = 77
"""Of rendered clips; the split's name keeps them apart from those of training."""

VIDEO_SUFFIXES = frozenset(
    {".avi", ".gif", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".y4m"}
)

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Clips:
    """What to calibrate on."""

    source: str
    """As the user typed it."""
    clips: tuple[Images, ...]
    """Each uint8 (frames, H, W, 3), BGR, of the model's size and at its rate."""
    notes: tuple[str, ...] = ()
    """A sentence for each clip that was left out."""

    @property
    def frames(self) -> int:
        """Of all clips together."""
        return sum(len(clip) for clip in self.clips)


def read_clips(
    source: str, spec: ModelSpec, *, frames: int = FRAMES, bar: ProgressFactory = progress
) -> Clips:
    """Open ``source`` and read clips from it until there are ``frames`` frames.

    Args:
        source: a folder of clips (videos and folders of pictures, in folders of labels or not), a
            folder of pictures, ``synthetic:`` for rendered clips, or any other source of frames,
            which is one clip.
        spec: of the model: size and rate.
        frames: to stop at; from :data:`FRAMES_LEAST`.
        bar: shows how far it has come.

    Raises:
        DataError: no clips, too few frames, most clips unreadable, or frames that are all alike.
        SourceError: the source does not exist or is of no known form.
        MissingExtraError: OpenCV is needed and not installed.
    """
    if frames < FRAMES_LEAST:
        raise DataError(f"{frames} frames were asked for; expected at least {FRAMES_LEAST}.")
    fit = Preprocessor(spec).fit
    with bar("reading clips", frames, "frames") as advance:

        def take(opened: FrameSource, most: int) -> Images:
            return _clip(opened, spec.frame_rate_hz, fit, most, advance)

        if source.strip().rstrip(":") == "synthetic":
            return checked(Clips(source, tuple(_rendered(spec, frames, advance))))
        folder = Path(source).expanduser()
        if not folder.is_dir():
            with closing(open_source(source)) as opened:
                return checked(Clips(source, (take(opened, frames),)))
        found = _find(folder)
        if found == [folder]:
            return checked(Clips(source, (take(_opened(folder), frames),)))
        return checked(_read_all(source, found, take, frames))


def _read_all(
    source: str, found: list[Path], take: Callable[[FrameSource, int], Images], frames: int
) -> Clips:
    clips: list[Images] = []
    notes: list[str] = []
    total = 0
    for path in found:
        if total >= frames:
            break
        try:
            with closing(_opened(path)) as opened:
                clip = take(opened, min(CLIP_MOST, frames - total))
        except (SourceError, DataError, FrameError) as error:
            notes.append(f"{path} was left out: {error}")
            continue
        clips.append(clip)
        total += len(clip)
    if len(notes) > len(clips):
        raise DataError(
            f"{len(notes)} of {len(notes) + len(clips)} clips in {source} cannot be read; expected "
            f"most of them to be good. The first: {notes[0]}"
        )
    return Clips(source, tuple(clips), tuple(notes))


def checked(clips: Clips) -> Clips:
    """``clips``, where they are enough and move.

    Raises:
        DataError: they are not.
    """
    if clips.frames < FRAMES_LEAST:
        raise DataError(
            f"{clips.source} gives {clips.frames} frames in {len(clips.clips)} clips at the "
            f"model's rate; calibration needs at least {FRAMES_LEAST}: add clips, or longer ones."
        )
    first = clips.clips[0][0]
    if all((clip == first).all() for clip in clips.clips):
        raise DataError(
            f"All {clips.frames} frames of {clips.source} are the same picture; expected clips "
            "with movement, since still ones do not show what the states can hold."
        )
    return clips


def _rendered(spec: ModelSpec, frames: int, advance: Callable[[int], None]) -> Iterator[Images]:
    from shiftedge.export.training.clips import synthetic_clips

    rendered = synthetic_clips(
        math.ceil(frames / CLIP_FRAMES),
        seed=SEED,
        split="calibration",
        frames=CLIP_FRAMES,
        rate_hz=spec.frame_rate_hz,
        height=spec.height,
        width=spec.width,
        advance=lambda count: advance(CLIP_FRAMES * count),
    )
    yield from (np.array(clip) for clip in rendered.frames)


def _find(folder: Path) -> list[Path]:
    """Clips of a folder, in an order that mixes its labels and does not change between runs."""
    clips = _entries(folder, _is_clip)
    for label in _entries(folder, lambda path: path.is_dir() and not _is_clip(path)):
        clips += _entries(label, _is_clip)
    if clips:
        return sorted(clips, key=lambda path: _draw(path.relative_to(folder)))
    if _has_pictures(folder):
        return [folder]
    raise DataError(
        f"{folder} holds no clips; expected videos or folders of pictures, in folders of labels or "
        "not, or pictures."
    )


def _entries(folder: Path, good: Callable[[Path], bool]) -> list[Path]:
    try:
        entries: Iterable[Path] = list(folder.iterdir())
    except OSError as error:
        raise DataError(f"Cannot read {folder}: {error.strerror or error}.") from error
    shown = (path for path in entries if not path.name.startswith("."))
    return sorted((path for path in shown if good(path)), key=lambda path: natural_key(path.name))


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES if path.is_file() else _has_pictures(path)


def _has_pictures(folder: Path) -> bool:
    try:
        return folder.is_dir() and any(
            path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            for path in folder.iterdir()
        )
    except OSError as error:
        raise DataError(f"Cannot read {folder}: {error.strerror or error}.") from error


def _draw(path: Path) -> str:
    return hashlib.sha256(path.as_posix().encode()).hexdigest()


def _opened(path: Path) -> FrameSource:
    return ImageFolder(path) if path.is_dir() else open_video(path)


def _clip(
    source: FrameSource,
    rate_hz: float,
    fit: Callable[[Images], Images],
    most: int,
    advance: Callable[[int], None],
) -> Images:
    """Frames of one source at ``rate_hz``; of a slower source all."""
    taken: list[Images] = []
    size: tuple[int, ...] | None = None
    for frame in source:
        if size is not None and frame.image.shape != size:
            raise DataError(
                f"{source.name} changes from {size[1]}x{size[0]} pixels to "
                f"{frame.image.shape[1]}x{frame.image.shape[0]} at frame {frame.index}; expected "
                "one size in a clip: split it there."
            )
        size = frame.image.shape
        if frame.time_s * rate_hz >= len(taken) - 0.5:
            taken.append(np.array(fit(frame.image)))
            advance(1)
        if len(taken) == most:
            break
    if not taken:
        raise DataError(f"{source.name} gives no frames; remove it, or convert it to MP4.")
    return np.stack(taken)
