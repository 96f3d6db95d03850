"""What is scored: rendered films and clips of people that no training has seen.

A film is a task here, a few numbers that any process can render from: kind, seed and length. What
happens in it does not depend on a model's frame, so models of other sizes and rates see the same
film.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.rendered import SYNTHETIC
from shiftedge.runtime.capture.options import parse_options, seconds, whole_number
from shiftedge.runtime.capture.synthetic import GESTURES, LABELS, OTHER
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from shiftedge.runtime.capture.synthetic import Conditions, Pictures, Ranges, TrueEvent

Image = NDArray[np.uint8]

KINDS = {"gestures": 120, "others": 96, "empty": 24, "still": 20}
"""Kinds of rendered films and how many there are: an hour of gestures, of which a third of the acts
are other things; an hour of other things and of empty rooms; ten minutes of people who sit still,
talk and look about."""
CLIP = "clip"
"""Kind of a single clip."""
OWN = "own"
"""Kind of a user's film."""
SECONDS = 30.0
"""Of a film: short ones show more people."""
RANGES = ("wide", "narrow", "clean")

SCORE_SEED, CALIBRATION_SEED = 20_000_000, 10**15
"""From which the seeds of films count that are scored, and of those that settings are chosen on; a
million for each seed that a user names."""
SEEDS = 1_000_000
_CLIP_SPLIT = int.from_bytes(b"score", "big")
"""Clips of a training are drawn by its seed, the name of a split and a number."""

BANDS: Mapping[str, tuple[tuple[float, str], ...]] = {
    "distance": ((0.07, "farthest"), (0.115, "far"), (0.2, "middle"), (np.inf, "near")),
    "light": ((0.7, "dim"), (1.1, "even"), (np.inf, "bright")),
    "source rate": ((8.0, "5 to 8 Hz"), (15.0, "8 to 15 Hz"), (np.inf, "15 Hz and more")),
    "stroke": ((0.35, "under 0.35 s"), (0.85, "0.35 to 0.85 s"), (np.inf, "0.85 s and more")),
}
"""Condition -> bands, each by what it ends before: distance by the head's share of the image's
height ("far" is about 9%, "near" 20% and more, as of somebody at a desk), light by the renderer's
factor, the camera's frames a second, and the length of the movement."""


class Watchable(Protocol):
    """One film or clip: can be sent to another process, and opened there."""

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`, :data:`CLIP` or :data:`OWN`."""

    @property
    def name(self) -> str:
        """For people."""

    def open(self, spec: ModelSpec) -> Opened:
        """Its frames for a model, and what is true of them.

        Raises:
            DataError, SourceError: it cannot be read.
        """


@dataclass(frozen=True)
class Opened:
    """A film about to be watched."""

    frames: Iterator[Image]
    """uint8 (height, width, 3) BGR of any size, at the model's rate."""
    events: tuple[TrueEvent, ...]
    conditions: tuple[Mapping[str, str], ...]
    """Of each event: condition -> band. Nothing where they are not known."""


@dataclass(frozen=True)
class FilmTask:
    """A film that is rendered when it is opened."""

    kind: str
    seed: int
    seconds: float = SECONDS
    ranges: str = "wide"
    pictures: Path | None = None

    @property
    def name(self) -> str:
        """Kind and seed."""
        return f"{self.kind} {self.seed}"

    def open(self, spec: ModelSpec) -> Opened:
        """See :meth:`Watchable.open`."""
        from shiftedge.runtime.capture.synthetic import Film

        acts = {"gestures": (*GESTURES, OTHER), "others": (OTHER,)}.get(self.kind, ())
        film = Film(
            self.seed,
            seconds=self.seconds,
            rate_hz=spec.frame_rate_hz,
            height=spec.height,
            width=spec.width,
            acts=acts,
            empty=self.kind == "empty",
            ranges=_preset(self.ranges),
            pictures=_pictures(self.pictures),
        )
        known = tuple(bands(film.conditions, event) for event in film.events)
        return Opened(iter(film), film.events, known)


@dataclass(frozen=True)
class ClipTask:
    """Two seconds that show one label, rendered when they are opened."""

    label: str
    number: int
    seed: int = 0
    frames: int = 24
    """At the model's rate."""
    ranges: str = "wide"
    pictures: Path | None = None
    kind: str = field(default=CLIP, init=False)

    @property
    def name(self) -> str:
        """Label and number."""
        return f"{self.label} {self.number}"

    def open(self, spec: ModelSpec) -> Opened:
        """See :meth:`Watchable.open`."""
        from shiftedge.runtime.capture.synthetic import render_clip

        clip = render_clip(
            np.random.default_rng((self.seed, _CLIP_SPLIT, self.number)),
            self.label,
            frames=self.frames,
            rate_hz=spec.frame_rate_hz,
            height=spec.height,
            width=spec.width,
            ranges=_preset(self.ranges),
            pictures=_pictures(self.pictures),
        )
        known = tuple(bands(clip.conditions, event) for event in clip.events)
        return Opened(iter(clip.frames), clip.events, known)


def rendered_films(
    text: str,
    *,
    ranges: str = "wide",
    pictures: Path | None = None,
    first_seed: int = SCORE_SEED,
) -> list[FilmTask]:
    """The films that ``synthetic:KINDS?films=N&seconds=S&seed=K`` stands for.

    Args:
        text: without kinds all of :data:`KINDS`, else those named, with commas between; ``films``
            is the number of those with gestures, to which that of the others is in proportion, or
            that of the only kind that is named.
        ranges: one of :data:`RANGES`.
        pictures: folder of real hands and rooms to use.
        first_seed: :data:`SCORE_SEED` or :data:`CALIBRATION_SEED`.

    Raises:
        DataError: an unknown kind.
        SourceError: an unknown option, or a value that is none.
    """
    named, _, options = text.removeprefix(SYNTHETIC).partition("?")
    kinds = [kind.strip() for kind in named.split(",")] if named.strip() else list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise DataError(
                f"{text!r} names films of the kind {kind!r}; expected some of {', '.join(KINDS)}, "
                f"or {SYNTHETIC} for all."
            )
    known = {"films": whole_number, "seconds": seconds, "seed": whole_number}
    given: dict[str, Any] = parse_options(options, known, text)
    whole = KINDS[kinds[0] if len(kinds) == 1 else "gestures"]
    count = given.get("films", whole)
    return film_tasks(
        {kind: max(1, round(count * KINDS[kind] / whole)) for kind in kinds},
        first_seed=first_seed + SEEDS * given.get("seed", 0),
        length_s=given.get("seconds", SECONDS),
        ranges=ranges,
        pictures=pictures,
    )


def film_tasks(
    counts: Mapping[str, int],
    *,
    first_seed: int,
    length_s: float = SECONDS,
    ranges: str = "wide",
    pictures: Path | None = None,
) -> list[FilmTask]:
    """So many films of each kind, each with a seed of its own, :data:`SEEDS` of them at most."""
    return [
        FilmTask(
            kind, first_seed + 100_000 * list(KINDS).index(kind) + at, length_s, ranges, pictures
        )
        for kind, count in counts.items()
        for at in range(count)
    ]


def rendered_clips(
    count: int, *, seed: int = 0, ranges: str = "wide", pictures: Path | None = None
) -> list[ClipTask]:
    """``count`` clips, each label as often as any other."""
    return [
        ClipTask(LABELS[number % len(LABELS)], number, seed, ranges=ranges, pictures=pictures)
        for number in range(count)
    ]


def bands(conditions: Conditions, event: TrueEvent) -> dict[str, str]:
    """In which band of each condition a rendered gesture was."""
    values = {
        "distance": conditions.head,
        "light": conditions.light,
        "source rate": conditions.rate_hz,
        "stroke": event.end_s - event.start_s,
    }
    found = {
        name: next(band for end, band in BANDS[name] if value < end)
        for name, value in values.items()
    }
    return found | {
        "head": "in the image" if conditions.head_seen else "cut off",
        "person": "standing" if conditions.standing else "sitting",
        "hand": event.hand,
    }


def _preset(name: str) -> Ranges:
    from shiftedge.runtime.capture import synthetic

    require("cv2").setNumThreads(0)  # the cores are the other processes'
    return {"wide": synthetic.WIDE, "narrow": synthetic.NARROW, "clean": synthetic.CLEAN}[name]


def _pictures(folder: Path | None) -> Pictures | None:
    if folder is None:
        return None
    from shiftedge.runtime.capture.synthetic.pictures import pictures_of

    return pictures_of(folder)
