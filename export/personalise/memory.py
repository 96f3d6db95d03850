"""What a model's last layer was shown of its own labels: features that are kept, for rehearsal.

A file beside the model, ``my.onnx`` and ``my.memory.npz``, or rendered clips: of the model's labels
where the renderer knows them, else of what it knows. A byte a number, between the least and the
largest of each feature, which is finer than ten clips can tell.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.rendered import ranges_for
from shiftedge.export.personalise.features import FeatureModel
from shiftedge.runtime.capture.folder import natural_key
from shiftedge.runtime.capture.synthetic import GESTURES, NO_GESTURE, OTHER
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.files import atomic_path
from shiftedge.runtime.process.progress import Advance

SUFFIX = ".memory.npz"
CLIPS = 225
"""Rendered clips that are remembered of a model that has no file."""
CLIPS_MOST = 400
"""In a file: 19 MB of 1,952 features in 24 frames."""
FRAMES = 24
SEED = 20_27


@dataclass(frozen=True, eq=False)
class Memory:
    """Features of clips of the labels that a model knows."""

    clips: tuple[NDArray[np.float16], ...]
    """Of each (T, inputs)."""
    origin: str
    """For a report."""


def memory_file(model: str | Path) -> Path:
    """Where the memory of a model lies."""
    path = Path(model)
    return path.with_name(path.name.removesuffix(path.suffix) + SUFFIX)


def save(path: Path, clips: Sequence[NDArray[np.float16]], digest: bytes) -> None:
    """Write a memory file; of too many clips, the last ones.

    Args:
        digest: of the trunk that made the features.

    Raises:
        OutputError: it cannot be written.
    """
    kept = list(clips)[-CLIPS_MOST:]
    low = np.min([clip.min(0) for clip in kept], axis=0).astype(np.float32)
    high = np.max([clip.max(0) for clip in kept], axis=0).astype(np.float32)
    scale = np.maximum(high - low, 1e-6) / np.float32(255.0)
    clips_kept = {
        f"clip_{index}": np.rint((clip - low) / scale).astype(np.uint8)
        for index, clip in enumerate(kept)
    }
    with atomic_path(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(
            file,
            digest=np.frombuffer(digest, np.uint8),
            range=np.stack([low, scale]),
            **clips_kept,
        )


def read(path: Path, model: FeatureModel) -> Memory:
    """Read a memory file.

    Raises:
        DataError: it cannot be read, or holds features of another model.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            digest, (low, scale) = arrays["digest"], arrays["range"]
            names = [name for name in arrays.files if name.startswith("clip_")]
            codes = [arrays[name] for name in sorted(names, key=natural_key)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{path} is no memory of a model ({error}); expected a file that `shiftedge "
            "personalise` wrote, or leave it out."
        ) from error
    if digest.tobytes() != model.digest:
        raise DataError(
            f"{path} holds features of another model than {model.name}; name the memory that was "
            "written beside it, or leave it out."
        )
    inputs = sum(model.sizes)
    good = all(part.ndim == 2 and part.shape[1] == inputs and len(part) for part in codes)
    if not codes or not good or low.shape != (inputs,):
        raise DataError(f"{path} is damaged; make it again, or leave it out.")
    return Memory(tuple((low + scale * part).astype(np.float16) for part in codes), str(path))


def rendered(model: FeatureModel, advance: Advance) -> Memory:
    """Features of :data:`CLIPS` clips, rendered one after the other: gestures that the model knows,
    as many of people who do other things, and half as many of people who do nothing.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    from shiftedge.runtime.capture.synthetic import render_clip

    spec, clips = model.spec, []
    known = [label for label in GESTURES if label in spec.labels]
    deck = [known, [OTHER], known, [OTHER], [NO_GESTURE]] if known else [[OTHER], [NO_GESTURE]]
    for number in range(CLIPS):
        turn, place = divmod(number, len(deck))
        among = deck[place]
        clip = render_clip(
            np.random.default_rng((SEED, number)),
            among[(2 * turn + place // 2) % len(among)],
            frames=FRAMES,
            rate_hz=spec.frame_rate_hz,
            height=spec.height,
            width=spec.width,
            ranges=ranges_for(spec),
        )
        clips.append(model.features(clip.frames).astype(np.float16))
        advance(1)
    what = f"{len(known)} of its labels" if known else "people who show none of its gestures"
    return Memory(tuple(clips), f"{CLIPS} rendered clips of {what}")
