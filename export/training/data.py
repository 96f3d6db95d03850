"""DATA as the user names it: rendered clips or a folder, to learn from and to check with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from shiftedge.export.training.clips import ClipSet, synthetic_clips
from shiftedge.export.training.folder import FolderClip, find_clips, load_clips, split_clips
from shiftedge.export.training.loop import Settings
from shiftedge.runtime.capture.synthetic.labels import LABELS
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.progress import ProgressFactory
from shiftedge.runtime.threads import chosen_threads

__all__ = ["FOLDER_FRAMES", "SYNTHETIC", "read_data", "settings_for"]

SYNTHETIC = "synthetic:"
"""DATA that stands for rendered clips."""
FOLDER_FRAMES = 36
"""Frames kept of a user's clip: 3 s at 12 Hz, which is what Jester's clips last."""


def settings_for(
    data: str, settings: Settings, *, epochs: int, seed: int, threads: int
) -> Settings:
    """``settings`` with what the user asks for, and with the frames that clips of ``data`` have.

    Raises:
        DataError: there is no epoch.
    """
    if epochs < 1:
        raise DataError(f"{epochs} epochs were asked for; expected at least 1.")
    frames = settings.frames if data == SYNTHETIC else FOLDER_FRAMES
    return dataclasses.replace(
        settings, epochs=epochs, seed=seed, threads=chosen_threads(threads), frames=frames
    )


def read_data(
    data: str,
    *,
    clips: int,
    check_clips: int,
    seed: int,
    height: int,
    width: int,
    rate_hz: float,
    workers: int,
    cache: Path | None,
    names: tuple[str, ...] | None = None,
    bar: ProgressFactory,
) -> tuple[ClipSet, ClipSet]:
    """Clips to learn from, and others to check with.

    Args:
        data: :data:`SYNTHETIC`, or a folder ``DATA/<Label name>/<clip>``.
        clips, check_clips: how many to render; of a folder, all are read.
        seed: of rendered clips.
        height, width, rate_hz: of the model's frames.
        workers: processes that render.
        cache: folder that keeps rendered clips for the next time.
        names: labels that the clips must have, in this order; None: whatever they are.
        bar: shows progress.

    Raises:
        DataError: the data cannot be used, or has other labels than ``names``.
    """
    if data == SYNTHETIC:

        def render(count: int, split: str) -> ClipSet:
            with bar(f"rendering clips ({split})", count, "clips") as advance:
                return synthetic_clips(
                    count,
                    seed=seed,
                    split=split,
                    rate_hz=rate_hz,
                    height=height,
                    width=width,
                    workers=workers,
                    cache=cache,
                    advance=advance,
                )

        _same("rendered clips", LABELS, names)
        return render(clips, "train"), render(check_clips, "validation")
    found = find_clips(Path(data))
    labels = tuple(sorted({clip.label for clip in found}))
    _same(data, labels, names)
    with bar("reading clips", len(found), "clips") as advance:

        def read(part: list[FolderClip]) -> ClipSet:
            return load_clips(
                part,
                names or labels,
                frames=FOLDER_FRAMES,
                rate_hz=rate_hz,
                height=height,
                width=width,
                advance=advance,
            )

        learn, check = split_clips(found)
        return read(learn), read(check)


def _same(what: str, labels: tuple[str, ...], names: tuple[str, ...] | None) -> None:
    if names is None or set(labels) == set(names):
        return
    odd = sorted(set(labels) ^ set(names))
    whose = "the model" if odd[0] in names else "the data"
    raise DataError(
        f"The labels of {what} are not the model's: only {whose} has {odd[0]!r} (of "
        f"{len(odd)} such); a fine-tune needs the labels that the model was trained with: train "
        "it on this data first, without --quantize."
    )
