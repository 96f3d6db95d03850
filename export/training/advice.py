"""What people bring to train on, and what is known to go wrong with it, said before and after.

Nothing here is refused: a few clips are enough to try the tools. The sentences say what to expect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.clip_set import ClipSet
from shiftedge.export.data.silent import looks_silent, plain_name
from shiftedge.export.training.augment import mirror_table
from shiftedge.export.training.loop import Settings
from shiftedge.export.training.score import ClipScore
from shiftedge.export.training.supply import KeptClips, Mixture
from shiftedge.runtime.spec import ModelSpec

FEW_CLIPS = 50
"""Of a label, to learn from: a rule of thumb. Jester has 4,400, the bundled model 1,500 of a swipe;
with 50, some 12 are checked with, and each of these is 8 points of recall."""
FEW_STEPS = 300
"""The bundled model took 7,500 steps (10,000 clips, 9 epochs), and 300 to reach its full rate.
Measured from random weights on 60 rendered clips of 6 labels: after 45 steps and after 200, 22% of
240 unseen clips were right, no more than by always saying one label."""
FEW_CHECKED = 20
"""Of a label: one of 20 clips is 5 points of recall, whose standard error then is up to 11."""
UNEVEN = 10
"""Times as many clips of one label as of another."""
_NAMED = 4


def before(
    learn: Mixture, check: ClipSet, spec: ModelSpec, settings: Settings, *, fresh: bool
) -> list[str]:
    """Sentences about the clips of a user's own; none about rendered ones.

    Args:
        fresh: whether it begins with random weights.
    """
    own = [part.clips for part in learn.parts if isinstance(part, KeptClips) and part.clips.paths]
    if not own:
        return []
    names = learn.names
    counts = np.bincount(np.concatenate([one.labels for one in own]), minlength=len(names))
    said = [
        f"{len(learn)} clips of {len(names)} labels to learn from, {len(check)} to check with",
        _mirrored(names, settings),
        _steps(len(learn), settings, fresh),
        _unchecked(names, check),
    ]
    if len(own) == len(learn.parts):  # rendered ones fill what a user's lack
        said[1:1] = [_silent(spec, counts), _few(names, counts, fresh), _uneven(names, counts)]
        said.append(_spelling(names))
    checked = check.digests()
    for clips in own:
        learned = clips.digests()
        said += [
            _short(clips, check, spec),
            _contradicting(clips, learned),
            _alike(clips, learned, check, checked),
        ]
    return [sentence for sentence in said if sentence]


def after(score: ClipScore, check: ClipSet, spec: ModelSpec) -> list[str]:
    """Sentences about what was reached on the clips to check with."""
    said = []
    counts = np.bincount(check.labels, minlength=len(check.names))
    most = int(counts.argmax())
    share = float(counts[most] / max(1, counts.sum()))
    error = math.sqrt(
        max(score.accuracy * (1.0 - score.accuracy), 0.25 / score.clips) / score.clips
    )
    if score.accuracy <= share + error:
        said.append(
            f"it has not learned to tell the labels apart: always saying {check.names[most]!r} "
            f"would be right in {share:.0%}, and it is in {score.accuracy:.0%}; more clips, more "
            "--epochs, or --start from a trained checkpoint would help"
        )
    elif score.clips < FEW_CHECKED * len(check.names):
        said.append(
            f"the figure stands on {score.clips} clips, so its standard error is "
            f"{100.0 * error:.0f} points; more clips to check with would tell better"
        )
    deaf = [name for name, recall in score.recall.items() if recall == 0.0]
    if deaf and len(deaf) < len(score.recall):
        said.append(f"never recognised: {_some(deaf)}")
    if not spec.silent_labels:
        said.append(_NO_SILENT)
    return said


_NO_SILENT = (
    "no label is silent, so whatever is before the camera becomes an event of one of them; add "
    "clips of people who show no gesture, in a folder such as no_gesture, or name the label that "
    "has them with --silent LABEL"
)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more


def _silent(spec: ModelSpec, counts: NDArray[np.int64]) -> str:
    if not spec.silent_labels:
        usual = [name for name in spec.labels if looks_silent(name)]
        return f"{_NO_SILENT}{f' (such as {usual[0]!r}?)' if usual else ''}"
    rows = [spec.labels.index(name) for name in spec.silent_labels]
    others = [int(count) for row, count in enumerate(counts) if row not in rows]
    text = f"silent, never an event: {_some(list(spec.silent_labels))}"
    if not others:
        return f"{text}; no other label is there, so there will be no event at all"
    if others and counts[rows].sum() < max(others):
        text += (
            f"; with {counts[rows].sum()} clips they are fewer than those of a gesture "
            f"({max(others)}), and a person before a camera mostly shows none: expect false events"
        )
    return text


def _mirrored(names: tuple[str, ...], settings: Settings) -> str:
    if not settings.mirror:
        return ""
    table = mirror_table(names)
    pairs = [f"{names[a]!r} and {names[b]!r}" for a, b in enumerate(table) if a < b]
    never = [name for name, partner in zip(names, table, strict=True) if partner < 0]
    if len(never) == len(names):
        return ""
    swap = f", {', '.join(pairs[:_NAMED])} changing places" if pairs else ""
    but = f", but not those of {_some(never)}" if never else ""
    return f"clips are also shown mirrored{swap}{but}; --no-mirror if that changes what they mean"


def _few(names: tuple[str, ...], counts: NDArray[np.int64], fresh: bool) -> str:
    order = np.argsort(counts, kind="stable")
    few = [f"{names[i]} {counts[i]}" for i in order if counts[i] < FEW_CLIPS]
    if not few:
        return ""
    more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
    return (
        f"few clips to learn from: {', '.join(few[:_NAMED])}{more}; under {FEW_CLIPS} of a label, "
        "expect a model for trying things out"
        f"{', and --start from a trained checkpoint' if fresh else ''}"
    )


def _uneven(names: tuple[str, ...], counts: NDArray[np.int64]) -> str:
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < UNEVEN * counts[least]:
        return ""
    return (
        f"{names[most]!r} has {counts[most]} clips and {names[least]!r} {counts[least]}; the rare "
        "one will hardly be recognised: bring them closer together"
    )


def _spelling(names: tuple[str, ...]) -> str:
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(plain_name(name) or name, name)
        if other != name:
            return f"{other!r} and {name!r} are two labels; give them one name if they are one"
    return ""


def _steps(clips: int, settings: Settings, fresh: bool) -> str:
    steps = math.ceil(clips / settings.batch) * settings.epochs
    if not fresh or steps >= FEW_STEPS:
        return ""
    need = math.ceil(FEW_STEPS / math.ceil(clips / settings.batch))
    return (
        f"these clips make {steps} steps with --epochs {settings.epochs}, and from random weights "
        f"the first {FEW_STEPS} teach next to nothing (the bundled model took 7,500): give more "
        f"clips, --epochs {need} or more, or --start from a trained checkpoint"
    )


def _unchecked(names: tuple[str, ...], check: ClipSet) -> str:
    counts = np.bincount(check.labels, minlength=len(names))
    none = [names[i] for i in np.flatnonzero(counts == 0)]
    return f"no clip to check with: {_some(none)}" if none else ""


def _short(learn: ClipSet, check: ClipSet, spec: ModelSpec) -> str:
    lengths = [n for side in (learn, check) if side.lengths is not None for n in side.lengths]
    short = sum(n < spec.receptive_field for n in lengths)
    if not short:
        return ""
    return (
        f"{short} of {len(lengths)} clips are shorter than the {spec.receptive_field} frames "
        f"({spec.receptive_field / spec.frame_rate_hz:.1f} s) that a prediction looks back on, and "
        "are held on their last frame"
    )


def _contradicting(learn: ClipSet, digests: Sequence[bytes]) -> str:
    """The same clip under two labels: neither can be learned from it."""
    first: dict[bytes, int] = {}
    pairs = []
    for row, digest in enumerate(digests):
        other = first.setdefault(digest, row)
        if learn.labels[other] != learn.labels[row]:
            pairs.append((other, row))
    if not pairs:
        return ""
    a, b = pairs[0]
    where = f" ({learn.paths[a]} and {learn.paths[b]})" if learn.paths else ""
    return f"{len(pairs)} clips are there under two labels{where}; remove them from one"


def _alike(
    learn: ClipSet, learned: Sequence[bytes], check: ClipSet, checked: Sequence[bytes]
) -> str:
    """Clips on both sides, whatever their names: they make the scores too good."""
    known = {digest: row for row, digest in enumerate(learned)}
    both = [(known[digest], row) for row, digest in enumerate(checked) if digest in known]
    if not both:
        return ""
    first, second = both[0]
    where = (
        f" ({check.paths[second]} is {learn.paths[first]})" if check.paths and learn.paths else ""
    )
    return (
        f"{len(both)} of {len(check)} clips to check with are also learned from{where}; the scores "
        "will be too good"
    )
