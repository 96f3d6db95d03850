"""Clips to train on: where they come from, and how they lie in memory.

All clips of a set have one length and one size and lie in one array, memory-mapped from a file, so
that a set may be larger than the machine's memory and is made once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic import LABELS, NO_GESTURE, OTHER
from shiftedge.runtime.errors import DataError, OutputError
from shiftedge.runtime.process.files import atomic_path, work_folder
from shiftedge.runtime.process.signals import end_with_parent

__all__ = ["IGNORED", "Advance", "ClipSet", "reserve", "synthetic_clips"]

IGNORED = -1
"""Frame label of frames that count neither way."""

Advance = Callable[[int], None]
"""Told how many more clips are done."""

SHARES = {NO_GESTURE: 0.14, OTHER: 0.26}
"""Of the clips; the gestures share the rest evenly. A person before a camera mostly does not
gesture, so a false alarm costs more than a miss."""

_CHUNK = 20
"""Clips per task given to a worker process."""


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
    """float32 (clips, T, 2, 2): x and y of the middles of both hands as shares of width and height,
    NaN where unknown; None if the clips do not come with them."""
    lengths: NDArray[np.int64] | None = None
    """int64 (clips,): frames of each clip as recorded, at the rate of the set; None: all T."""
    paths: tuple[Path, ...] = ()
    """Of a user's own clips."""

    def __len__(self) -> int:
        return len(self.labels)


def synthetic_clips(
    count: int,
    *,
    seed: int,
    split: str,
    frames: int = 24,
    rate_hz: float = 12.0,
    height: int = 96,
    width: int = 128,
    workers: int = 1,
    cache: Path | None = None,
    advance: Advance | None = None,
) -> ClipSet:
    """Render ``count`` clips, or take them from the cache.

    Clip ``i`` depends on ``seed``, ``split``, ``i`` and the size alone, whatever ``workers`` is;
    two splits never share a generator, hence no person, room or movement.

    Args:
        count: number of clips.
        seed: any whole number from 0.
        split: "train" or "validation", or any other name.
        frames, rate_hz, height, width: of each clip.
        workers: processes that render.
        cache: folder in which the clips are kept for the next time; None: a temporary file.
        advance: told about progress.

    Raises:
        DataError: ``count`` is less than 1.
        OutputError: there is no room for the clips, or the folder cannot be written to.
    """
    if count < 1:
        raise DataError(f"{count} clips were asked for; expected at least 1.")
    first_task = _Task(seed, split, 0, count, frames, rate_hz, height, width)
    try:
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            return _kept(cache, first_task, workers, advance)
        with work_folder() as folder:  # a mapping keeps the data until it is closed
            return _kept(folder, first_task, workers, advance)
    except OSError as error:
        raise OutputError(
            f"Cannot keep the rendered clips in {cache or tempfile.gettempdir()}: "
            f"{error.strerror or error}; make room there, or give --cache another folder."
        ) from error


def _kept(folder: Path, whole: _Task, workers: int, advance: Advance | None) -> ClipSet:
    """The clips as they lie in ``folder``, rendered if they do not."""
    count, frames = whole.last, whole.frames
    stem = f"{whole.split}-{whole.seed}-{count}x{frames}x{whole.height}x{whole.width}"
    stem = f"{stem}@{whole.rate_hz:g}"
    shape = (count, frames, whole.height, whole.width, 3)
    pictures, truths = folder / f"{stem}.frames.npy", folder / f"{stem}.labels.npz"
    if not truths.exists():  # written last, so it stands for the whole
        truth = np.empty((count, frames + 1), np.int8)
        hands = np.empty((count, frames, 2, 2), np.float32)
        with atomic_path(pictures) as partial:
            store = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            with open(partial, "r+b") as file:
                reserve(file.fileno(), partial.stat().st_size)
            tasks = [
                dataclasses.replace(whole, first=first, last=min(first + _CHUNK, count))
                for first in range(0, count, _CHUNK)
            ]
            with contextlib.closing(_run(tasks, workers)) as parts:
                for task, made in zip(tasks, parts, strict=True):
                    rows = slice(task.first, task.last)
                    store[rows], truth[rows], hands[rows] = made
                    if advance is not None:
                        advance(task.last - task.first)
            del store  # closes the mapping; the kernel writes it out when it likes
        with atomic_path(truths) as partial:
            np.savez(partial, truth=truth, hands=hands)
    with np.load(truths) as arrays:
        truth, hands = arrays["truth"], arrays["hands"]
    store = np.load(pictures, mmap_mode="r")
    return ClipSet(store, truth[:, 0].astype(np.int64), truth[:, 1:], LABELS, hands)


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


_Rendered = tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.float32]]


@dataclass(frozen=True)
class _Task:
    seed: int
    split: str
    first: int
    last: int
    frames: int
    rate_hz: float
    height: int
    width: int


def _run(tasks: Sequence[_Task], workers: int) -> Generator[_Rendered, None, None]:
    if workers <= 1:
        yield from map(_render, tasks)
        return
    # "spawn": a fork would copy the threads' locks of whatever the caller has imported.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        try:
            yield from pool.map(_render, tasks)
        finally:  # where the work is over before its time, what has not begun is not waited for
            pool.shutdown(cancel_futures=True)


def _render(task: _Task) -> _Rendered:
    from shiftedge.runtime.capture.synthetic import render_clip
    from shiftedge.runtime.process.extras import require

    require("cv2").setNumThreads(0)  # the processes are the parallelism
    count = task.last - task.first
    part = np.empty((count, task.frames, task.height, task.width, 3), np.uint8)
    truth = np.empty((count, task.frames + 1), np.int8)
    hands = np.empty((count, task.frames, 2, 2), np.float32)
    odds = np.array([SHARES.get(name, 0.0) for name in LABELS])
    odds[odds == 0.0] = (1.0 - odds.sum()) / (odds == 0.0).sum()
    split = int.from_bytes(task.split.encode(), "big")
    for row in range(count):
        rng = np.random.default_rng((task.seed, split, task.first + row))
        index = int(rng.choice(len(LABELS), p=odds))
        clip = render_clip(
            rng,
            LABELS[index],
            frames=task.frames,
            rate_hz=task.rate_hz,
            height=task.height,
            width=task.width,
        )
        part[row] = clip.frames
        truth[row, 0] = index
        truth[row, 1:] = clip.frame_labels
        hands[row] = clip.hands
    return part, truth, hands
