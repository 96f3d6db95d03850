"""Clips to train on: where they come from, and how they lie in memory.

All clips of a set have one length and one size and lie in one array, memory-mapped from a file, so
that a set may be larger than the machine's memory and is made once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.synthetic.labels import LABELS, NO_GESTURE, OTHER
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.signals import end_with_parent

__all__ = ["IGNORED", "Advance", "ClipSet", "synthetic_clips"]

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
    frame_labels: NDArray[np.int8]
    """int8 (clips, T), indices into ``names`` or IGNORED."""
    names: tuple[str, ...]
    hands: NDArray[np.float32] | None = None
    """float32 (clips, T, 2, 2): x and y of the middles of both hands as shares of width and height,
    NaN where unknown; None if the clips do not come with them."""

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
    """
    if count < 1:
        raise DataError(f"{count} clips were asked for; expected at least 1.")
    with contextlib.ExitStack() as leaving:
        folder = cache
        if folder is None:  # removed at once: a mapping keeps the data until it is closed
            made = tempfile.TemporaryDirectory(prefix="shiftedge-clips-")
            folder = Path(leaving.enter_context(made))
        folder.mkdir(parents=True, exist_ok=True)
        return _clips_in(
            folder, count, seed, split, frames, rate_hz, height, width, workers, advance
        )


def _clips_in(
    folder: Path,
    count: int,
    seed: int,
    split: str,
    frames: int,
    rate_hz: float,
    height: int,
    width: int,
    workers: int,
    advance: Advance | None,
) -> ClipSet:
    stem = f"{split}-{seed}-{count}x{frames}x{height}x{width}@{rate_hz:g}"
    shape = (count, frames, height, width, 3)
    pictures, truths = folder / f"{stem}.frames.npy", folder / f"{stem}.labels.npz"
    if not truths.exists():  # written last, so it stands for the whole
        partial = folder / f"{stem}.{os.getpid()}.part"
        store = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        truth = np.empty((count, frames + 1), np.int8)
        hands = np.empty((count, frames, 2, 2), np.float32)
        tasks = [
            _Task(seed, split, first, min(first + _CHUNK, count), frames, rate_hz, height, width)
            for first in range(0, count, _CHUNK)
        ]
        try:
            with contextlib.closing(_run(tasks, workers)) as parts:
                for task, (part, part_truth, part_hands) in zip(tasks, parts, strict=True):
                    store[task.first : task.last] = part
                    truth[task.first : task.last] = part_truth
                    hands[task.first : task.last] = part_hands
                    if advance is not None:
                        advance(task.last - task.first)
            del store  # closes the mapping; the kernel writes it out when it likes
            os.replace(partial, pictures)
        finally:
            partial.unlink(missing_ok=True)
        np.savez(truths, truth=truth, hands=hands)
    with np.load(truths) as arrays:
        truth, hands = arrays["truth"], arrays["hands"]
    store = np.load(pictures, mmap_mode="r")
    return ClipSet(store, truth[:, 0].astype(np.int64), truth[:, 1:], LABELS, hands)


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
    from shiftedge.runtime.extras import require

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
