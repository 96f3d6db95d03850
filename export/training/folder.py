"""A user's own clips: which are learned from, and how they lie in memory."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.files import Clip, open_clip, path_bytes
from shiftedge.export.data.reader import fitter, middle_frames
from shiftedge.export.data.silent import silent_labels
from shiftedge.export.training.clips import IGNORED, Advance, ClipSet, reserve
from shiftedge.runtime.capture.base import log_event
from shiftedge.runtime.errors import DataError, FrameError, SourceError

__all__ = ["load_clips", "problems", "some", "split_clips"]

LEAST_FRAMES = 4
"""A shorter clip shows no movement."""
_IN_MEMORY_BYTES = 1 << 30
"""A set of more lies in a file that is mapped, so that it may be larger than the memory."""
_MOST_NAMED = 5
"""Of clips that cannot be used."""


def split_clips(clips: Sequence[Clip], *, share: float = 0.2) -> tuple[list[Clip], list[Clip]]:
    """Clips to learn from and clips to check with; every label is in both.

    A clip's side depends on its name and not on the others', so that adding clips later moves as
    few of them as possible across.

    Raises:
        DataError: a label has one clip alone.
    """
    train: list[Clip] = []
    check: list[Clip] = []
    for label in sorted({clip.label for clip in clips}):
        mine = sorted((c for c in clips if c.label == label), key=_draw)
        if len(mine) < 2:
            raise DataError(
                f"The label {label!r} has 1 clip ({mine[0].path}); expected at least two, one to "
                "learn from and one to check with."
            )
        count = max(1, round(share * len(mine)))
        check += mine[:count]
        train += mine[count:]
    return train, check


def _draw(clip: Clip) -> str:
    name = clip.label.encode("utf-8", "surrogateescape") + b"/" + path_bytes(Path(clip.path.name))
    return hashlib.sha256(name).hexdigest()


def load_clips(
    clips: Sequence[Clip],
    names: tuple[str, ...],
    *,
    frames: int,
    rate_hz: float,
    height: int,
    width: int,
    short_side: int | None = None,
    silent: Sequence[str] | None = None,
    clip_rate_hz: float | None = None,
    unusable: list[str] | None = None,
    remarks: list[str] | None = None,
    folder: Path | None = None,
    advance: Advance | None = None,
) -> ClipSet:
    """Read clips at the model's rate and size, as the runtime makes frames of a camera's.

    A clip longer than ``frames`` gives its middle, a shorter one is held on its last frame. Only
    silent labels count for each frame; where in its clip a gesture happens is not known, so it
    counts for its clip as a whole.

    Args:
        clips: to read.
        names: every label, in the model's order.
        frames: of each clip in the set.
        rate_hz, height, width: of the model's frames.
        short_side: see ``ModelSpec.resize_short_side``; None: of the model's frame.
        silent: labels of a person who shows no gesture; None: those known by their names.
        clip_rate_hz: of clips that do not say theirs; see :func:`open_clip`.
        unusable: gets a sentence for each clip that is left out; None: none may be.
        remarks: gets what else is to be known of clips; None: it is logged.
        folder: for a set that does not fit in memory; None: where temporary files go.
        advance: told about each clip.

    Raises:
        DataError: clips cannot be read or are too short, and ``unusable`` is None; or there is no
            room for them.
    """
    fit = fitter(height, width, min(height, width) if short_side is None else short_side)
    pictures = _store((len(clips), frames, height, width, 3), folder)
    labels = np.zeros(len(clips), np.int64)
    lengths = np.zeros(len(clips), np.int64)
    read: list[Path] = []
    bad: list[str] = []
    told = log_event if remarks is None else remarks.append
    for clip in clips:
        try:
            taken, length = middle_frames(
                lambda clip=clip: open_clip(  # type: ignore[misc]
                    clip.path,
                    clip.frames,
                    rate_hz=clip_rate_hz,
                    rate_hint="--fps gives another rate",
                    on_event=told,
                ),
                rate_hz,
                fit,
                frames,
            )
            if length < LEAST_FRAMES:
                raise DataError(
                    f"{clip.path} gives {length} frames at {rate_hz:g} a second; expected at least "
                    f"{LEAST_FRAMES}. Remove it, or replace it by a longer clip."
                )
        except (SourceError, DataError, FrameError) as error:
            bad.append(str(error))
        else:
            row = len(read)
            pictures[row, : len(taken)] = taken
            pictures[row, len(taken) :] = taken[-1]
            labels[row], lengths[row] = names.index(clip.label), length
            read.append(clip.path)
        if advance is not None:
            advance(1)
    if unusable is not None:
        unusable += bad
    elif bad:
        raise DataError(problems(bad, len(clips)))
    count = len(read)
    steady = [names.index(name) for name in (silent_labels(names) if silent is None else silent)]
    frame_labels = np.full((count, frames), IGNORED, np.int16)
    for index in steady:
        frame_labels[labels[:count] == index] = index
    return ClipSet(
        pictures[:count],
        labels[:count],
        frame_labels,
        names,
        lengths=lengths[:count],
        paths=tuple(read),
    )


def problems(bad: Sequence[str], clips: int) -> str:
    """One sentence or a few about the clips that cannot be used, of so many."""
    return f"{len(bad)} of {clips} clips cannot be used: {some(bad)}"


def some(sentences: Sequence[str]) -> str:
    """The first of many sentences, and how many more there are."""
    more = f" And {len(sentences) - _MOST_NAMED} more." if len(sentences) > _MOST_NAMED else ""
    return " ".join(sentences[:_MOST_NAMED]) + more


def _store(shape: tuple[int, ...], folder: Path | None) -> NDArray[np.uint8]:
    size = int(np.prod(shape, dtype=np.int64))
    if size <= _IN_MEMORY_BYTES:
        return np.empty(shape, np.uint8)
    where = folder or Path(tempfile.gettempdir())
    try:
        where.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(where).free
        if free < size:
            raise DataError(
                f"{shape[0]} clips of {shape[1]} frames of {shape[3]}x{shape[2]} take "
                f"{size / 1e9:.1f} GB, and {where} has {free / 1e9:.1f} GB left; give --cache a "
                "folder with more room, or use fewer clips or a smaller --size."
            )
        with tempfile.TemporaryFile(dir=where) as file:
            reserve(file.fileno(), size)
            return np.memmap(file, np.uint8, "r+", shape=shape)  # lives on without the name
    except OSError as error:
        raise DataError(
            f"Cannot keep {size / 1e9:.1f} GB of clips in {where}: {error.strerror or error}; give "
            "--cache another folder."
        ) from error
