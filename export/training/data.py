"""What is asked of a training, and its DATA as the user names it: rendered clips or their own, to
learn from and to check with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftedge.export.checkpoint import Checkpoint, load_checkpoint
from shiftedge.export.data import Clip, Layout, find_data
from shiftedge.export.data.clip_set import (
    ClipSet,
    joined,
    load_clips,
    problems,
    some,
    split_clips,
)
from shiftedge.export.data.rendered import SYNTHETIC, FreshClips, synthetic_clips
from shiftedge.export.data.silent import plain_name
from shiftedge.export.training.keep import Say, log
from shiftedge.export.training.loop import Settings
from shiftedge.export.training.supply import KeptClips, Mixture, Supply
from shiftedge.runtime.capture.folder import DEFAULT_RATE_HZ as PICTURES_HZ
from shiftedge.runtime.capture.synthetic import LABELS
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.progress import ProgressFactory, progress
from shiftedge.runtime.spec import ModelSpec

RENDERED_FRAMES = 24
"""Of a rendered clip: 2 s at 12 Hz."""
CLIP_FRAMES = 36
"""Frames kept of a user's clip: 3 s at 12 Hz, which is what Jester's clips last."""


@dataclass(frozen=True)
class Job:
    """The arguments of ``shiftedge train``, as far as a fine-tune has them too."""

    data: tuple[str, ...]
    """Each :data:`SYNTHETIC`, or a folder or list of labelled clips, see
    :func:`shiftedge.export.data.find_data`."""
    output: Path
    """Folder for ``checkpoint.pt`` and ``scores.json``, made if need be."""
    epochs: int | None = None
    """Passes over the clips; None: 9, or 2 of a fine-tune."""
    shares: tuple[float, ...] | None = None
    """How often clips of each of ``data`` are drawn; None: each clip once an epoch."""
    clips: int | None = None
    """Rendered in each epoch, to learn from; None: 10,000, or 1,200 of a fine-tune."""
    check_clips: int = 600
    films: float = 1.0
    """Share of the usual two hours of rendered films, to calibrate on and to score on; 0: none."""
    seed: int = 0
    """Fixes data, initial weights and order."""
    threads: int = 2
    """Of torch."""
    start: Path | None = None
    """A checkpoint to go on from. A training gives it a new last layer if its labels are others; of
    a fine-tune, None is the bundled model's."""
    imagenet: bool = False
    """Whether to start from weights that were trained on ImageNet, which EfficientNet-Lite0 has."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How to read ``start``: keywords of :func:`shiftedge.export.checkpoint.load_checkpoint`."""
    pictures: Path | None = None
    """Folder of real hands and rooms for rendered clips, see
    :mod:`shiftedge.runtime.capture.synthetic.pictures`."""
    workers: int = 0
    """Processes that render; 0: none but this one."""
    cache: Path | None = None
    """Folder that keeps the rendered clips for the next run, and for each epoch; None: those to
    learn from are others in each epoch, and kept nowhere."""
    classes: Path | None = None
    """Names of the classes that a list gives by number; see ``find_data``."""
    clip_rate_hz: float | None = None
    """Of clips that do not say theirs: folders of pictures, raw streams."""
    mirror: bool = True
    """False where clips must not be mirrored, since a label means another thing then."""
    freeze: int = 0
    """Parts of the network that are held as they start, counted from the frame."""
    reverse: bool = True
    """False where clips must not be played backwards either."""
    device: str = "cpu"
    """Of torch: "cpu" or "cuda"."""
    mixed: bool = False
    """Whether to compute in bfloat16 where it serves."""
    fresh: bool = False
    """Whether to begin anew where ``output`` holds a training that was stopped."""
    logs: Path | None = None
    """Folder for TensorBoard's logs; None: none are written."""
    command: str = ""
    """How this was called, for the record."""
    bar: ProgressFactory = progress
    say: Say = log
    """Told what the user should know of the data, and after each epoch."""

    def settings(self, usual: Settings) -> Settings:
        """``usual`` with what is asked for, and with the frames that clips of the data have.

        Raises:
            DataError: there is no epoch.
        """
        epochs = usual.epochs if self.epochs is None else self.epochs
        if epochs < 1:
            raise DataError(f"{epochs} epochs were asked for; expected at least 1.")
        return dataclasses.replace(
            usual,
            epochs=epochs,
            seed=self.seed,
            threads=chosen_threads(self.threads),
            frames=usual.frames if set(self.data) == {SYNTHETIC} else CLIP_FRAMES,
            mirror=self.mirror,
            reverse=self.reverse,
            freeze=self.freeze,
            device=self.device,
            mixed=self.mixed,
        )

    def checkpoint(self, path: Path) -> Checkpoint:
        """A start as it is read, and what a user should know of that."""
        found = load_checkpoint(path, **self.reading)
        for note in found.notes:
            self.say(note)
        return found


@dataclass(frozen=True)
class Named:
    """DATA before any of its clips is read."""

    parts: tuple[tuple[str, Layout | None], ...]
    """What each is called, and where its clips are; None: they are rendered."""
    labels: tuple[str, ...]
    """Of all parts."""

    @property
    def rendered(self) -> bool:
        """Whether all clips are rendered."""
        return all(layout is None for _, layout in self.parts)


def name_data(
    data: Sequence[str], names: tuple[str, ...] | None = None, classes: Path | None = None
) -> Named:
    """Find the clips of each DATA and their labels, without reading any.

    Args:
        data: :data:`SYNTHETIC`, or folders or lists that :func:`find_data` knows.
        names: labels that the clips must have; None: whatever they are.
        classes: see :func:`find_data`.

    Raises:
        DataError: the data is in no known layout, has other labels than ``names``, labels that
            differ in case alone, or is named twice.
    """
    if len(set(data)) < len(data):
        twice = next(one for one in data if data.count(one) > 1)
        raise DataError(f"{twice} is named twice; name each once, and --share says how often.")
    parts: list[tuple[str, Layout | None]] = []
    found: list[str] = []
    for one in data:
        if one == SYNTHETIC:
            parts.append((one, None))
            labels = tuple(x for x in LABELS if names is None or x in names)
        else:
            layout = find_data(Path(one), classes)
            parts.append((one, layout))
            labels = layout.labels
        found += [label for label in labels if label not in found]
    what = " and ".join("rendered clips" if one == SYNTHETIC else one for one in data)
    if len(found) < 2 and names is None:
        raise DataError(
            f"{what} has clips of {len(found)} labels; expected at least two, such as "
            "'Swiping Left' and 'No gesture'."
        )
    known: dict[str, str] = {}
    for label in found:
        other = known.setdefault(plain_name(label), label)
        if other != label and len(data) > 1:
            raise DataError(
                f"{what} have labels {other!r} and {label!r}, which are spelled alike: rename one "
                "if they mean the same, or call them apart."
            )
    _same(what, tuple(found), names)
    return Named(tuple(parts), names or tuple(found))


def read_data(job: Job, named: Named, spec: ModelSpec, clips: int) -> tuple[Mixture, ClipSet]:
    """Clips to learn from, and others to check with.

    Args:
        job: how they are read or rendered.
        clips: how many to render to learn from; of a user's own, all are read.

    Returns:
        The parts of the mixture may be closed, see :class:`FreshClips`.

    Raises:
        DataError: the data cannot be used; most clips are unreadable, or all of a label's.
    """
    learn: list[Supply] = []
    check: list[ClipSet] = []
    for data, layout in named.parts:
        if layout is None:
            part, other = _render(job, named, spec, clips)
        else:
            mine, other = _read(job, data, layout, spec)
            part = KeptClips(mine.renamed(named.labels))
        learn.append(part)
        check.append(other.renamed(named.labels))
    return Mixture(tuple(learn), named.labels, job.seed, job.shares), joined(check)


def _render(job: Job, named: Named, spec: ModelSpec, clips: int) -> tuple[Supply, ClipSet]:
    frames = RENDERED_FRAMES if named.rendered else CLIP_FRAMES
    common: dict[str, Any] = {"seed": job.seed, "frames": frames, "pictures": job.pictures}

    def kept(count: int, split: str) -> ClipSet:
        with job.bar(f"rendering clips ({split})", count, "clips") as advance:
            return synthetic_clips(
                count,
                spec,
                split=split,
                workers=job.workers,
                cache=job.cache,
                advance=advance,
                **common,
            )

    part: Supply
    if job.cache is not None:
        part = KeptClips(kept(clips, "train").renamed(named.labels))
    else:
        part = FreshClips(clips, spec, names=named.labels, workers=job.workers, **common)
    return part, kept(job.check_clips, "validation")


def _read(job: Job, data: str, layout: Layout, spec: ModelSpec) -> tuple[ClipSet, ClipSet]:
    say = job.say
    for note in layout.notes:
        say(note)
    spec = dataclasses.replace(
        spec,
        labels=layout.labels,
        silent_labels=tuple(x for x in spec.silent_labels if x in layout.labels),
    )
    unusable = [f"{path} does not exist." for path in layout.missing]
    remarks: list[str] = []
    total = len(layout.learn) + len(layout.check or ()) + len(unusable)

    def read(sides: Sequence[Sequence[Clip]]) -> tuple[ClipSet, ClipSet]:
        with job.bar("reading clips", sum(map(len, sides)), "clips") as advance:
            learn, check = (
                load_clips(
                    side,
                    spec,
                    frames=CLIP_FRAMES,
                    unusable=unusable,
                    remarks=remarks,
                    clip_rate_hz=job.clip_rate_hz,
                    folder=job.cache,
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
    if pictures and job.clip_rate_hz is None:
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
