"""Labelled clips in memory: of one length and one size, in one array, which may be larger than the
machine's memory; and a user's own, read into it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.files import Clip, open_clip, path_bytes
from shiftedge.export.data.reader import middle_frames
from shiftedge.runtime.capture.synthetic.hand import HAND_FIELDS
from shiftedge.runtime.errors import DataError, FrameError, SourceError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.progress import Advance
from shiftedge.runtime.spec import ModelSpec

IGNORED = -1
"""Frame label of frames that count neither way."""

LEAST_FRAMES = 4
"""A shorter clip shows no movement."""
_IN_MEMORY_BYTES = 1 << 30
"""A set of more lies in a file that is mapped, so that it may be larger than the memory."""
_MOST_NAMED = 5
"""Of clips that cannot be used."""


@dataclass(frozen=True)
class ClipSet:
    """Labelled clips of one length and size."""

    frames: NDArray[np.uint8]
    """uint8 (clips, T, H, W, 3), BGR."""
    labels: NDArray[np.int64]
    """int64 (clips,), indices into ``names``."""
    frame_labels: NDArray[np.int8] | NDArray[np.int16]
    """(clips, T), indices into ``names`` or IGNORED."""
    names: tuple[str, ...]
    hands: NDArray[np.float32] | None = None
    """float32 (clips, T, 2, K): how both hands are held, see
    :data:`~shiftedge.runtime.capture.synthetic.hand.HAND_FIELDS`; NaN where unknown, None if the
    clips do not come with it."""
    lengths: NDArray[np.int64] | None = None
    """int64 (clips,): frames of each clip as recorded, at the rate of the set; None: all T."""
    paths: tuple[Path, ...] = ()
    """Of a user's own clips."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> ClipSet:
        """Clips ``rows``, int64 (N,), in memory. Of a set that is a file they are read in order."""
        order = np.argsort(rows, kind="stable")
        frames = np.empty((len(rows), *self.frames.shape[1:]), np.uint8)
        for row in order.tolist():
            frames[row] = self.frames[rows[row]]
        return ClipSet(
            frames,
            self.labels[rows],
            self.frame_labels[rows],
            self.names,
            None if self.hands is None else self.hands[rows],
            None if self.lengths is None else self.lengths[rows],
            tuple(self.paths[row] for row in rows.tolist()) if self.paths else (),
        )

    def digests(self) -> list[bytes]:
        """Of each clip's frames, whatever its name: clips that are alike have the same."""
        return [hashlib.blake2b(clip.tobytes(), digest_size=16).digest() for clip in self.frames]

    def renamed(self, names: tuple[str, ...]) -> ClipSet:
        """The same clips under a list of labels that holds theirs, in any order."""
        if names == self.names:
            return self
        table = np.array([*map(names.index, self.names), IGNORED], np.int16)
        return dataclasses.replace(
            self,
            labels=table[self.labels].astype(np.int64),
            frame_labels=table[self.frame_labels],
            names=names,
        )


def joined(sets: Sequence[ClipSet]) -> ClipSet:
    """The clips of several sets that have the same labels and the same length and size. Where one
    has no places of hands, they are NaN."""
    if len(sets) == 1:
        return sets[0]
    hands = None
    if any(part.hands is not None for part in sets):
        hands = np.concatenate(
            [
                np.full((*part.frames.shape[:2], 2, len(HAND_FIELDS)), np.nan, np.float32)
                if part.hands is None
                else part.hands
                for part in sets
            ]
        )
    lengths = [
        np.full(len(part), part.frames.shape[1]) if part.lengths is None else part.lengths
        for part in sets
    ]
    return ClipSet(
        np.concatenate([part.frames for part in sets]),
        np.concatenate([part.labels for part in sets]),
        np.concatenate([part.frame_labels.astype(np.int16) for part in sets]),
        sets[0].names,
        hands,
        np.concatenate(lengths),
        tuple(path for part in sets for path in part.paths),
    )


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
    spec: ModelSpec,
    *,
    frames: int,
    unusable: list[str],
    remarks: list[str],
    clip_rate_hz: float | None = None,
    folder: Path | None = None,
    advance: Advance = lambda count: None,
) -> ClipSet:
    """Read clips at the model's rate and size, as the runtime makes frames of a camera's.

    A clip longer than ``frames`` gives its middle, a shorter one is held on its last frame. Only
    silent labels count for each frame; where in its clip a gesture happens is not known, so it
    counts for its clip as a whole.

    Args:
        unusable: gets a sentence for each clip that is left out.
        remarks: gets what else is to be known of clips.
        clip_rate_hz: of clips that do not say theirs; see :func:`open_clip`.
        folder: for a set that does not fit in memory; None: where temporary files go.

    Raises:
        DataError: there is no room for them.
    """
    fit, rate_hz, names = Preprocessor(spec).fit, spec.frame_rate_hz, spec.labels
    pictures = _store((len(clips), frames, spec.height, spec.width, 3), folder)
    labels = np.zeros(len(clips), np.int64)
    lengths = np.zeros(len(clips), np.int64)
    read: list[Path] = []
    for clip in clips:
        try:
            taken, length = middle_frames(
                lambda clip=clip: open_clip(  # type: ignore[misc]
                    clip.path,
                    clip.frames,
                    rate_hz=clip_rate_hz,
                    rate_hint="--fps gives another rate",
                    on_event=remarks.append,
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
            unusable.append(str(error))
        else:
            row = len(read)
            pictures[row, : len(taken)] = taken
            pictures[row, len(taken) :] = taken[-1]
            labels[row], lengths[row] = names.index(clip.label), length
            read.append(clip.path)
        advance(1)
    count = len(read)
    frame_labels = np.full((count, frames), IGNORED, np.int16)
    for index in map(names.index, spec.silent_labels):
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


def reserve(descriptor: int, size: int) -> None:
    """Give an open file its room on the disk, before it is mapped: a mapped page that the disk has
    no room for ends the process with SIGBUS.

    Raises:
        OSError: there is no room for so many bytes.
    """
    if hasattr(os, "posix_fallocate"):  # macOS and Windows have none
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


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
