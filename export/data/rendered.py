"""Clips and films that are rendered, of labels that the renderer knows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftedge.export.data.clip_set import ClipSet, reserve
from shiftedge.runtime.capture.synthetic import LABELS, NO_GESTURE, OTHER
from shiftedge.runtime.errors import DataError, OutputError
from shiftedge.runtime.process.files import atomic_path, work_folder
from shiftedge.runtime.process.progress import Advance
from shiftedge.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import Film

SHARES = {NO_GESTURE: 0.14, OTHER: 0.26}
"""Of the clips; the gestures share the rest evenly. A person before a camera mostly does not
gesture, so a false alarm costs more than a miss."""


def film_for(spec: ModelSpec, seed: int, seconds: float, **kind: Any) -> Film:
    """A rendered film at a model's size and rate."""
    from shiftedge.runtime.capture.synthetic import Film

    return Film(
        seed,
        seconds=seconds,
        rate_hz=spec.frame_rate_hz,
        height=spec.height,
        width=spec.width,
        **kind,
    )


def synthetic_clips(
    count: int,
    spec: ModelSpec,
    *,
    seed: int,
    split: str,
    frames: int = 24,
    cache: Path | None = None,
    advance: Advance = lambda count: None,
) -> ClipSet:
    """Render ``count`` clips, or take them from the cache.

    Clip ``i`` depends on ``seed``, ``split``, ``i`` and the size alone; two splits never share a
    generator, hence no person, room or movement.

    Args:
        split: "train" or "validation", or any other name.
        cache: folder in which the clips are kept for the next time; None: a temporary file.

    Raises:
        DataError: ``count`` is less than 1.
        OutputError: there is no room for the clips, or the folder cannot be written to.
    """
    if count < 1:
        raise DataError(f"{count} clips were asked for; expected at least 1.")
    shape = (count, frames, spec.height, spec.width, 3)
    stem = f"{split}-{seed}-{count}x{frames}x{spec.height}x{spec.width}@{spec.frame_rate_hz:g}"
    try:
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            return _kept(cache / stem, shape, seed, split, spec.frame_rate_hz, advance)
        with work_folder() as folder:  # a mapping keeps the data until it is closed
            return _kept(folder / stem, shape, seed, split, spec.frame_rate_hz, advance)
    except OSError as error:
        raise OutputError(
            f"Cannot keep the rendered clips in {cache or tempfile.gettempdir()}: "
            f"{error.strerror or error}; make room there, or give --cache another folder."
        ) from error


def _kept(
    stem: Path,
    shape: tuple[int, int, int, int, int],
    seed: int,
    split: str,
    rate_hz: float,
    advance: Advance,
) -> ClipSet:
    """The clips as they lie in files of that stem, rendered if they do not."""
    from shiftedge.runtime.capture.synthetic import render_clip
    from shiftedge.runtime.process.extras import require

    count, frames, height, width, _ = shape
    pictures, truths = Path(f"{stem}.frames.npy"), Path(f"{stem}.labels.npz")
    if not truths.exists():  # written last, so it stands for the whole
        require("cv2").setNumThreads(0)  # the cores are torch's
        truth = np.empty((count, frames + 1), np.int8)
        hands = np.empty((count, frames, 2, 2), np.float32)
        odds = np.array([SHARES.get(name, 0.0) for name in LABELS])
        odds[odds == 0.0] = (1.0 - odds.sum()) / (odds == 0.0).sum()
        with atomic_path(pictures) as partial:
            store = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            with open(partial, "r+b") as file:
                reserve(file.fileno(), partial.stat().st_size)
            for row in range(count):
                rng = np.random.default_rng((seed, int.from_bytes(split.encode(), "big"), row))
                index = int(rng.choice(len(LABELS), p=odds))
                clip = render_clip(
                    rng, LABELS[index], frames=frames, rate_hz=rate_hz, height=height, width=width
                )
                store[row], hands[row] = clip.frames, clip.hands
                truth[row, 0], truth[row, 1:] = index, clip.frame_labels
                advance(1)
            del store  # closes the mapping; the kernel writes it out when it likes
        with atomic_path(truths) as partial:
            np.savez(partial, truth=truth, hands=hands)
    with np.load(truths) as arrays:
        truth, hands = arrays["truth"], arrays["hands"]
    store = np.load(pictures, mmap_mode="r")
    return ClipSet(store, truth[:, 0].astype(np.int64), truth[:, 1:], LABELS, hands)
