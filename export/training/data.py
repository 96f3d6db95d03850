"""DATA as the user names it: rendered clips or their own, to learn from and to check with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftedge.export.data import Clip, Layout, find_data
from shiftedge.export.training.clips import ClipSet, synthetic_clips
from shiftedge.export.training.folder import load_clips, problems, some, split_clips
from shiftedge.export.training.keep import Say
from shiftedge.export.training.loop import Settings
from shiftedge.runtime.capture.folder import DEFAULT_RATE_HZ as PICTURES_HZ
from shiftedge.runtime.capture.synthetic import LABELS
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.progress import ProgressFactory
from shiftedge.runtime.spec import ModelSpec

__all__ = ["CLIP_FRAMES", "SYNTHETIC", "Named", "name_data", "read_data", "settings_for"]

SYNTHETIC = "synthetic:"
"""DATA that stands for rendered clips."""
CLIP_FRAMES = 36
"""Frames kept of a user's clip: 3 s at 12 Hz, which is what Jester's clips last."""


@dataclass(frozen=True)
class Named:
    """DATA before any of its clips is read."""

    data: str
    labels: tuple[str, ...]
    layout: Layout | None
    """None: rendered clips."""

    @property
    def synthetic(self) -> bool:
        """Whether the clips are rendered."""
        return self.layout is None


def settings_for(
    data: str, settings: Settings, *, epochs: int, seed: int, threads: int
) -> Settings:
    """``settings`` with what the user asks for, and with the frames that clips of ``data`` have.

    Raises:
        DataError: there is no epoch.
    """
    if epochs < 1:
        raise DataError(f"{epochs} epochs were asked for; expected at least 1.")
    frames = settings.frames if data == SYNTHETIC else CLIP_FRAMES
    return dataclasses.replace(
        settings, epochs=epochs, seed=seed, threads=chosen_threads(threads), frames=frames
    )


def name_data(
    data: str, names: tuple[str, ...] | None = None, classes: Path | None = None
) -> Named:
    """Find the clips of DATA and their labels, without reading any.

    Args:
        data: :data:`SYNTHETIC`, or a folder or list that :func:`find_data` knows.
        names: labels that the clips must have; None: whatever they are.
        classes: see :func:`find_data`.

    Raises:
        DataError: the data is in no known layout, or has other labels than ``names``.
    """
    if data == SYNTHETIC:
        _same("rendered clips", LABELS, names)
        return Named(data, LABELS, None)
    layout = find_data(Path(data), classes)
    if len(layout.labels) < 2:
        raise DataError(
            f"{data} has clips of {len(layout.labels)} labels; expected at least two, such as "
            "'Swiping Left' and 'No gesture'."
        )
    _same(data, layout.labels, names)
    return Named(data, names or layout.labels, layout)


def read_data(
    named: Named,
    spec: ModelSpec,
    *,
    clips: int,
    check_clips: int,
    seed: int,
    workers: int,
    cache: Path | None,
    clip_rate_hz: float | None,
    bar: ProgressFactory,
    say: Say,
) -> tuple[ClipSet, ClipSet]:
    """Clips to learn from, and others to check with.

    Args:
        named: the data.
        spec: of the model: frame, rate and silent labels.
        clips, check_clips: how many to render; of a user's own, all are read.
        seed: of rendered clips.
        workers: processes that render.
        cache: folder that keeps rendered clips for the next time.
        clip_rate_hz: of a user's clips that do not say theirs, such as folders of pictures; None:
            as the runtime assumes.
        bar: shows progress.
        say: told about clips that are left out, and what else is to be known of the data.

    Raises:
        DataError: the data cannot be used; most clips are unreadable, or all of a label's.
    """
    layout = named.layout
    if layout is None:

        def render(count: int, split: str) -> ClipSet:
            with bar(f"rendering clips ({split})", count, "clips") as advance:
                return synthetic_clips(
                    count,
                    seed=seed,
                    split=split,
                    rate_hz=spec.frame_rate_hz,
                    height=spec.height,
                    width=spec.width,
                    workers=workers,
                    cache=cache,
                    advance=advance,
                )

        return render(clips, "train"), render(check_clips, "validation")
    for note in layout.notes:
        say(note)
    unusable = [f"{path} does not exist." for path in layout.missing]
    remarks: list[str] = []
    total = len(layout.learn) + len(layout.check or ()) + len(unusable)

    def read(sides: Sequence[Sequence[Clip]]) -> tuple[ClipSet, ClipSet]:
        with bar("reading clips", sum(map(len, sides)), "clips") as advance:
            learn, check = (
                load_clips(
                    side,
                    named.labels,
                    frames=CLIP_FRAMES,
                    rate_hz=spec.frame_rate_hz,
                    height=spec.height,
                    width=spec.width,
                    short_side=spec.resize_short_side,
                    silent=spec.silent_labels,
                    clip_rate_hz=clip_rate_hz,
                    unusable=unusable,
                    remarks=remarks,
                    folder=cache,
                    advance=advance,
                )
                for side in sides
            )
        return learn, check

    if layout.check is not None:
        learn, check = read((layout.learn, layout.check))
    else:
        learn, check = read(split_clips(layout.learn))
        if _absent(learn) or _absent(check):  # those of a label on one side were all unusable
            usable = {*learn.paths, *check.paths}
            left = [clip for clip in layout.learn if clip.path in usable]
            try:
                sides = split_clips(left)
            except DataError as error:
                raise DataError(f"{problems(unusable, total)} {error}") from error
            learn, check = read(sides)
    _require_usable(learn, check, unusable, total)
    if unusable:
        say(f"{problems(unusable, total)} {'It is' if len(unusable) == 1 else 'They are'} left out")
    remarks = list(dict.fromkeys(remarks))  # what was opened twice has said it twice
    if remarks:
        say(f"of {len(remarks)} clips: {some(remarks)}")
    pictures = [path for path in (*learn.paths, *check.paths) if path.is_dir()]
    if pictures and clip_rate_hz is None:
        say(
            f"{len(pictures)} clips are folders of pictures, taken for {PICTURES_HZ:g} a second; "
            "--fps gives another rate"
        )
    return learn, check


def _absent(clips: ClipSet) -> list[str]:
    return [name for index, name in enumerate(clips.names) if not (clips.labels == index).any()]


def _require_usable(learn: ClipSet, check: ClipSet, unusable: Sequence[str], total: int) -> None:
    gone = _absent(learn)
    if unusable and (2 * len(unusable) > total or gone or not len(check)):
        what = f" No clip of {gone[0]!r} is left to learn from." if gone else ""
        raise DataError(f"{problems(unusable, total)}{what} Replace or remove them.")
    if gone:
        raise DataError(f"There is no clip of {gone[0]!r} to learn from; expected at least one.")
    if not len(check):
        raise DataError(
            "There is no clip to check with; expected some of each label, or no split at all."
        )


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
