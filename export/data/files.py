"""Clips as files: a video, or a folder of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shiftedge.runtime.capture import FrameSource, ImageFolder, open_video
from shiftedge.runtime.capture.base import EventHandler, log_event
from shiftedge.runtime.capture.folder import DEFAULT_RATE_HZ, IMAGE_SUFFIXES, natural_key
from shiftedge.runtime.errors import DataError

_VIDEOS = """
    .264 .265 .3gp .asf .avi .flv .gif .h264 .h265 .hevc .ivf .m2ts .m4v .mjpeg .mjpg .mkv .mov
    .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv .y4m
"""
VIDEO_SUFFIXES = frozenset(_VIDEOS.split())
"""Of files that are taken for videos, in lower case; whether one can be decoded is seen when it is
opened. Those that FFmpeg writes and cameras, phones and browsers give."""

_NOT_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "lost+found"})
"""What systems leave in folders."""


@dataclass(frozen=True)
class Clip:
    label: str
    path: Path
    frames: int | None = None
    """Of a folder of pictures: only so many, from the first on, as lists say; None: all."""


@dataclass(frozen=True)
class Layout:
    """Labelled clips of a data set."""

    learn: tuple[Clip, ...]
    check: tuple[Clip, ...] | None
    """None where the data is not split."""
    labels: tuple[str, ...]
    """Of both, in the order of their names or of the file that lists them."""
    missing: tuple[Path, ...] = ()
    """Clips that a list names and that are not there."""
    notes: tuple[str, ...] = ()
    """A sentence for whatever a reader of the results should know."""


def open_clip(
    path: Path,
    frames: int | None = None,
    *,
    rate_hz: float | None = None,
    rate_hint: str | None = None,
    on_event: EventHandler = log_event,
) -> FrameSource:
    """Open a clip as the runtime would: pictures in the natural order of their names.

    Args:
        path: a video, or a folder of pictures.
        frames: of a folder, see :class:`Clip`.
        rate_hz: of clips that do not say theirs: pictures, and raw streams such as ``.h264``. None:
            12 a second, and 25, as the runtime assumes.
        rate_hint: how the user gives that rate.
        on_event: told where a rate is assumed, and what else a recording lacks.

    Raises:
        SourceError: it cannot be opened.
        MissingExtraError: OpenCV is not installed.
    """
    if not path.is_dir():
        if rate_hz is None:
            return open_video(path, rate_hint=rate_hint, on_event=on_event)
        assumed: list[str] = []
        told = assumed.append  # while it is opened; afterwards whoever asked

        video = open_video(path, on_event=lambda text: told(text))
        if not assumed:
            told = on_event
            return video
        video.close()
        return open_video(path, rate_hz=rate_hz, on_event=on_event)
    return ImageFolder(path, rate_hz or DEFAULT_RATE_HZ, frames)


def entries(folder: Path) -> list[Path]:
    """What a folder holds in natural order, without hidden files and what systems leave there.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        found: Iterable[Path] = list(folder.iterdir())
    except OSError as error:
        raise DataError(f"Cannot read {folder}: {error.strerror or error}.") from error
    shown = (
        path
        for path in found
        if not path.name.startswith(".") and path.name.lower() not in _NOT_FOLDERS
    )
    return sorted(shown, key=lambda path: natural_key(path.name))


def is_clip(path: Path) -> bool:
    """Whether ``path`` is a video by its name, or a folder of pictures without videos."""
    return has_pictures(path) if path.is_dir() else is_video(path)


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def has_pictures(folder: Path) -> bool:
    """Whether a folder holds pictures and no videos, whose previews they might be.

    Raises:
        DataError: the folder cannot be read.
    """
    pictures = False
    try:
        with closing(os.scandir(folder)) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                suffix = os.path.splitext(entry.name)[1].lower()
                if suffix in VIDEO_SUFFIXES:
                    return False
                pictures = pictures or suffix in IMAGE_SUFFIXES
    except OSError as error:
        raise DataError(f"Cannot read {folder}: {error.strerror or error}.") from error
    return pictures


def clips_in(folder: Path, levels: int) -> list[Path]:
    """The clips of a folder and of the folders in it, so many levels down; none of a clip's own.

    Raises:
        DataError: a folder cannot be read.
    """
    found = []
    for path in entries(folder):
        if is_clip(path):
            found.append(path)
        elif path.is_dir() and levels > 0:
            found += clips_in(path, levels - 1)
    return found


def path_bytes(path: Path) -> bytes:
    """A name as it is on disk, which need not be text: to draw by, or to compare."""
    return os.fsencode(path.as_posix())
