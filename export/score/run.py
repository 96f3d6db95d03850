"""Models and films in, the document out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftedge.export.data.rendered import SYNTHETIC
from shiftedge.export.score.clips import call_clip, confusion_of
from shiftedge.export.score.curve import curve_of
from shiftedge.export.score.films import (
    SCORE_SEED,
    ClipTask,
    FilmTask,
    Watchable,
    rendered_clips,
    rendered_films,
)
from shiftedge.export.score.listed import LabelledFilm, check_labels, read_table
from shiftedge.export.score.report import AT, Scored, document
from shiftedge.export.score.stream import ModelChoice, stream
from shiftedge.runtime.capture.synthetic import GESTURES
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.process.progress import ProgressFactory, progress
from shiftedge.runtime.spec import ModelSpec

CLIPS = 540
"""Rendered, thirty of each label."""
BUNDLED = "bundled"
"""Stands for the model that ships with the package."""
CHECKPOINTS = (".pt", ".pth", ".tar", ".ckpt")


@dataclass(frozen=True)
class FilmSet:
    """What models are shown."""

    films: tuple[Watchable, ...]
    clips: tuple[ClipTask, ...]

    @property
    def rendered(self) -> bool:
        """Whether all of it is."""
        return all(isinstance(film, FilmTask) for film in self.films)

    @property
    def own(self) -> list[LabelledFilm]:
        """The user's films."""
        return [film for film in self.films if isinstance(film, LabelledFilm)]


def film_set(
    named: Sequence[str],
    *,
    ranges: str = "wide",
    pictures: Path | None = None,
    clips: int | None = None,
    first_seed: int = SCORE_SEED,
) -> FilmSet:
    """The films of ``named``, each :data:`SYNTHETIC` with its kinds and options or a table.

    Args:
        ranges: of rendered ones.
        pictures: folder of real hands and rooms for rendered ones.
        clips: rendered ones beside; None: :data:`CLIPS` where all kinds of films are rendered.
        first_seed: see :func:`shiftedge.export.score.films.rendered_films`.

    Raises:
        DataError, SourceError: one of them is none.
    """
    if pictures is not None:
        from shiftedge.runtime.capture.synthetic import Pictures

        Pictures(pictures)  # says at once what is wrong with the folder
    films: list[Watchable] = []
    for text in named:
        if text.startswith(SYNTHETIC):
            films += rendered_films(text, ranges=ranges, pictures=pictures, first_seed=first_seed)
        else:
            films += read_table(Path(text))
    names = [film.name for film in films]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"The film {twice} is named twice; its events would count twice.")
    if clips is None:
        clips = CLIPS if list(named) == [SYNTHETIC] else 0
    return FilmSet(tuple(films), tuple(rendered_clips(clips, ranges=ranges, pictures=pictures)))


@contextlib.contextmanager
def chosen_models(
    paths: Sequence[str], *, engine: str | None = None, precision: str | None = None
) -> Iterator[dict[str, ModelChoice]]:
    """The models of ``paths`` by a name for people; a checkpoint is exported for the while.

    Raises:
        ShiftedgeError: one cannot be read or exported.
    """
    with work_folder() as folder:
        found: dict[str, ModelChoice] = {}
        for at, path in enumerate(paths):
            name = BUNDLED if path == BUNDLED else Path(path).name or path
            if name in found:  # the same file name in two folders
                name = path if path not in found else f"{path} ({at + 1})"
            file: str | None = None if path == BUNDLED else path
            if Path(path).suffix in CHECKPOINTS:
                file = str(_exported(Path(path), folder / f"{at}.onnx"))
            found[name] = ModelChoice(file, engine, precision)
        yield found


def _exported(checkpoint: Path, output: Path) -> Path:
    from shiftedge.runtime.process.extras import require

    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        require(package)
    from shiftedge.export.checkpoint import load_checkpoint
    from shiftedge.export.networks import spec_of
    from shiftedge.export.to_onnx import export_model

    found = load_checkpoint(checkpoint)
    export_model(found.net, spec_of(found), output)
    return output


def score_models(
    models: Mapping[str, ModelChoice],
    shown: FilmSet,
    *,
    at: float = AT,
    workers: int = 1,
    made: Mapping[str, Any] | None = None,
    bar: ProgressFactory = progress,
) -> dict[str, Any]:
    """Stream everything through one model or two; the document of :mod:`.report`.

    Args:
        models: name for people -> model.
        at: false events an hour at which figures are given.
        workers: processes.
        made: how this was made, for the document.

    Raises:
        ShiftedgeError: a model cannot be loaded or fails, a film cannot be read, or the films'
            labels are none of the models'.
    """
    loaded = {name: choice.load() for name, choice in models.items()}
    specs = {name: model.spec for name, model in loaded.items()}
    check_labels(shown.own, specs)
    if not shown.own:
        _require_gestures(specs)
    about = [_about(model) for model in loaded.values()]
    del loaded
    choices = list(models.values())
    with bar("streaming films", len(shown.films), "films") as advance:
        films = stream(choices, shown.films, workers=workers, advance=advance)
    with bar("streaming clips", len(shown.clips), "clips") as advance:
        clips = stream(choices, shown.clips, workers=workers, advance=advance)
    truth = [clip.label for clip in shown.clips]
    scored = []
    for name, watched, short, facts in zip(models, films, clips, about, strict=True):
        spec = specs[name]
        called = [call_clip(clip.logits, spec) for clip in short]
        confusion = confusion_of(called, truth, spec.labels) if truth else None
        scored.append(Scored(name, curve_of(watched, spec), confusion, facts))
    return document(scored, films[0], at=at, rendered=shown.rendered, made=made)


def _require_gestures(specs: Mapping[str, ModelSpec]) -> None:
    for name, spec in specs.items():
        if not set(GESTURES) & set(spec.labels):
            raise DataError(
                f"None of the labels of {name} is rendered; give a table of films of your own, or "
                "a model with some of Jester's labels."
            )


def _about(model: Model) -> dict[str, Any]:
    engine, spec = model.engine, model.spec
    return {
        "model": spec.name,
        "digest": engine.digest.hex()[:16],
        "engine": f"{engine.name} {engine.version}",
        "precision": spec.precision,
        "frame": [spec.width, spec.height],
        "frame_rate_hz": spec.frame_rate_hz,
    }
