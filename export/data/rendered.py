"""Clips and films that are rendered, of labels that the renderer knows."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.clip_set import ClipSet, reserve
from shiftedge.export.processes import mapped, process_pool
from shiftedge.runtime.capture.synthetic import (
    GESTURES,
    IGNORED,
    LABELS,
    NO_GESTURE,
    OTHER,
    SWIPE_LABELS,
)
from shiftedge.runtime.capture.synthetic.hand import HAND_FIELDS
from shiftedge.runtime.errors import DataError, OutputError
from shiftedge.runtime.process.files import atomic_path, work_folder
from shiftedge.runtime.process.progress import Advance
from shiftedge.runtime.process.signals import Closing
from shiftedge.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import Film, Ranges

SYNTHETIC = "synthetic:"
"""DATA, FILMS or a source of clips that stands for rendered ones."""

SHARES = {NO_GESTURE: 0.12, OTHER: 0.38}
"""Of the clips; the gestures share the rest. A person before a camera mostly does not gesture, so a
false alarm costs more than a miss."""
_OFTEN = (*SWIPE_LABELS, "Stop Sign", "Thumb Up", "Thumb Down")
"""Gestures that come twice as often as others: they are what people use first."""

CLEAN_SHARE = 0.5
"""Of wide clips, those that are near and well lit all the same: what a hand does is learned there,
and most cameras stand before a desk."""

_CHUNK = 20
"""Clips per task given to a worker process."""


def labels_for(spec: ModelSpec) -> tuple[str, ...]:
    """The labels of rendered clips for a model: its own, or all where it has others too."""
    return spec.labels if set(spec.labels) <= set(LABELS) else LABELS


def ranges_for(spec: ModelSpec) -> Ranges:
    """How wide to render for a model: as the bundled one was trained, if its labels are those."""
    from shiftedge.runtime.capture.synthetic import NARROW, WIDE

    return NARROW if set(spec.labels) == set(SWIPE_LABELS) else WIDE


def film_for(
    spec: ModelSpec, seed: int, seconds: float, *, gestures: bool = True, clean: bool = True
) -> Film:
    """A rendered film at a model's size and rate.

    Args:
        spec: of the model.
        seed: of the film.
        seconds: of its length.
        gestures: those of the model, and other things; otherwise somebody just sits there.
        clean: good light and a good camera; otherwise all that training clips show.
    """
    from shiftedge.runtime.capture.synthetic import CLEAN, Film

    acts = [label for label in labels_for(spec) if label in GESTURES]
    return Film(
        seed,
        seconds=seconds,
        rate_hz=spec.frame_rate_hz,
        height=spec.height,
        width=spec.width,
        acts=(*acts, OTHER) if gestures else (),
        ranges=CLEAN if clean else ranges_for(spec),
    )


def synthetic_clips(
    count: int,
    spec: ModelSpec,
    *,
    seed: int,
    split: str,
    frames: int = 24,
    pictures: Path | None = None,
    workers: int = 1,
    cache: Path | None = None,
    advance: Advance = lambda count: None,
) -> ClipSet:
    """Render ``count`` clips, or take them from the cache.

    Clip ``i`` depends on ``seed``, ``split``, ``i``, the labels, the pictures and the size alone,
    whatever ``workers`` is; two splits never share a generator, hence no person, room or movement.

    Args:
        count: number of clips.
        spec: of the model: size, rate and labels.
        seed: any whole number from 0.
        split: "train" or "validation", or any other name.
        frames: of each clip.
        pictures: folder of real hands and rooms to use, see
            :mod:`shiftedge.runtime.capture.synthetic.pictures`.
        workers: processes that render.
        cache: folder in which the clips are kept for the next time; None: a temporary file.
        advance: told about progress.

    Raises:
        DataError: ``count`` is less than 1, or there are no pictures in the folder.
        OutputError: there is no room for the clips, or the folder cannot be written to.
    """
    _check(count, pictures)
    task = _Task(seed, split, range(count), frames, spec, pictures)
    try:
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            return _kept(cache / task.stem(), task, workers, advance)
        with work_folder() as folder:  # a mapping keeps the data until it is closed
            return _kept(folder / task.stem(), task, workers, advance)
    except OSError as error:
        raise OutputError(
            f"Cannot keep the rendered clips in {cache or tempfile.gettempdir()}: "
            f"{error.strerror or error}; make room there, or give --cache another folder."
        ) from error


class FreshClips(Closing):
    """Clips that are rendered as they are asked for, others in each pass.

    Args:
        count, spec, seed, frames, pictures: as of :func:`synthetic_clips`, whose clips of "train"
            those of the first pass are.
        names: the labels of the sets that it gives, among them those of the rendered clips.
        workers: processes that render; 0: none but this one.

    Raises:
        DataError: see :func:`synthetic_clips`.
    """

    def __init__(
        self,
        count: int,
        spec: ModelSpec,
        *,
        seed: int,
        frames: int = 24,
        pictures: Path | None = None,
        names: tuple[str, ...] | None = None,
        workers: int = 0,
    ) -> None:
        _check(count, pictures)
        self._count = count
        self._task = _Task(seed, "train", (), frames, spec, pictures)
        self._names = names or labels_for(spec)
        self._workers = workers
        self._pool = process_pool(workers) if workers else None

    def __len__(self) -> int:
        return self._count

    @property
    def hands(self) -> bool:
        """All come with where hands are."""
        return True

    def begin(self, passed: int, rows: NDArray[np.int64]) -> Callable[[], ClipSet]:
        """Begin to render clips ``rows``, int64 (N,), of a pass; what is returned waits for them.

        Raises:
            DataError: by what is returned: a process that renders has ended.
        """
        numbers = (passed * self._count + rows).tolist()
        tasks = [
            replace(self._task, numbers=part.tolist())
            for part in np.array_split(numbers, max(1, self._workers))
            if len(part)
        ]
        parts = [
            partial(_render, task)
            if self._pool is None
            else self._pool.submit(_render, task).result
            for task in tasks
        ]

        def finish() -> ClipSet:
            try:
                frames, truth, hands = map(np.concatenate, zip(*(p() for p in parts), strict=True))
            except BrokenProcessPool as error:
                raise DataError(
                    "A process that renders clips has ended, perhaps for want of memory; try fewer "
                    "--workers."
                ) from error
            return _clip_set(frames, truth, hands, self._task.spec).renamed(self._names)

        return finish

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _check(count: int, pictures: Path | None) -> None:
    if count < 1:
        raise DataError(f"{count} clips were asked for; expected at least 1.")
    if pictures is not None:
        from shiftedge.runtime.capture.synthetic import Pictures

        Pictures(pictures)  # says at once what is wrong with the folder


@dataclass(frozen=True)
class _Task:
    """Some clips of a set, by their numbers."""

    seed: int
    split: str
    numbers: Sequence[int]
    frames: int
    spec: ModelSpec
    pictures: Path | None

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Of the frames of all clips."""
        return len(self.numbers), self.frames, self.spec.height, self.spec.width, 3

    def stem(self) -> str:
        """A name for files of these clips, which others do not have."""
        count, frames, height, width, _ = self.shape
        known = (*labels_for(self.spec), ranges_for(self.spec), self.pictures)
        drawn = hashlib.sha256(repr(known).encode()).hexdigest()[:8]
        size = f"{count}x{frames}x{height}x{width}@{self.spec.frame_rate_hz:g}"
        return f"{self.split}-{self.seed}-{size}-{drawn}"


def _kept(stem: Path, whole: _Task, workers: int, advance: Advance) -> ClipSet:
    """The clips as they lie in files of that stem, rendered if they do not."""
    pictures, truths = Path(f"{stem}.frames.npy"), Path(f"{stem}.labels.npz")
    if not truths.exists():  # written last, so it stands for the whole
        count, frames = whole.shape[:2]
        truth = np.empty((count, frames + 1), np.int8)
        hands = np.empty((count, frames, 2, len(HAND_FIELDS)), np.float32)
        with atomic_path(pictures) as temporary:
            store = np.lib.format.open_memmap(
                temporary, mode="w+", dtype=np.uint8, shape=whole.shape
            )
            with open(temporary, "r+b") as file:
                reserve(file.fileno(), temporary.stat().st_size)
            chunk = _CHUNK if workers > 1 else 1
            tasks = [
                replace(whole, numbers=whole.numbers[first : first + chunk])
                for first in range(0, count, chunk)
            ]
            with contextlib.closing(mapped(_render, tasks, workers)) as parts:
                for task, made in zip(tasks, parts, strict=True):
                    rows = slice(task.numbers[0], task.numbers[-1] + 1)
                    store[rows], truth[rows], hands[rows] = made
                    advance(len(task.numbers))
            del store  # closes the mapping; the kernel writes it out when it likes
        with atomic_path(truths) as temporary:
            np.savez(temporary, truth=truth, hands=hands)
    with np.load(truths) as arrays:
        truth, hands = arrays["truth"], arrays["hands"]
    return _clip_set(np.load(pictures, mmap_mode="r"), truth, hands, whole.spec)


def _clip_set(
    frames: NDArray[np.uint8], truth: NDArray[np.int8], hands: NDArray[np.float32], spec: ModelSpec
) -> ClipSet:
    return ClipSet(frames, truth[:, 0].astype(np.int64), truth[:, 1:], labels_for(spec), hands)


_Rendered = tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.float32]]


def _render(task: _Task) -> _Rendered:
    from shiftedge.runtime.capture.synthetic import CLEAN, WIDE, render_clip
    from shiftedge.runtime.capture.synthetic.pictures import pictures_of
    from shiftedge.runtime.process.extras import require

    require("cv2").setNumThreads(0)  # the cores are torch's, or the other processes'
    count = len(task.numbers)
    part = np.empty(task.shape, np.uint8)
    truth = np.empty((count, task.frames + 1), np.int8)
    hands = np.empty((count, task.frames, 2, len(HAND_FIELDS)), np.float32)
    names = labels_for(task.spec)
    weights = {name: 2.0 if name in _OFTEN else 1.0 for name in names}
    gestures = sum(weight for name, weight in weights.items() if name in GESTURES)
    rest = 1.0 - sum(share for name, share in SHARES.items() if name in names)
    odds = np.array([SHARES.get(name, weights[name] * rest / max(gestures, 1)) for name in names])
    # Frames are labelled by the renderer's labels, and those of the set may be fewer.
    table = np.array([names.index(name) if name in names else IGNORED for name in LABELS])
    split = int.from_bytes(task.split.encode(), "big")
    ranges = ranges_for(task.spec)
    wide = ranges is WIDE
    for row, number in enumerate(task.numbers):
        rng = np.random.default_rng((task.seed, split, number))
        index = int(rng.choice(len(names), p=odds / odds.sum()))
        clip = render_clip(
            rng,
            names[index],
            frames=task.frames,
            rate_hz=task.spec.frame_rate_hz,
            height=task.spec.height,
            width=task.spec.width,
            ranges=CLEAN if wide and rng.random() < CLEAN_SHARE else ranges,
            pictures=None if task.pictures is None else pictures_of(task.pictures),
        )
        part[row], hands[row] = clip.frames, clip.hands
        truth[row, 0] = index
        truth[row, 1:] = np.append(table, IGNORED)[clip.frame_labels]
    return part, truth, hands
