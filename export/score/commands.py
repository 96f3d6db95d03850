"""The command ``score``: how many events right at how many false ones an hour."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftedge.runtime.commands import number, positive
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import json_text, note

EXAMPLES = """\
examples:
  shiftedge score my.onnx                            rendered people, rooms and cameras, 130 minutes
  shiftedge score my.onnx 'synthetic:?films=12'      a tenth of that
  shiftedge score old.onnx new.onnx --html page.html two models on the same films
  shiftedge score my.onnx films.csv --json out.json  your own films
  shiftedge score bundled my-x86-64-v3 'synthetic:gestures?seed=7&seconds=60'

MODEL is an .onnx file, the folder of a compiled bundle, a checkpoint of `shiftedge train`, or
`bundled`. FILMS are `synthetic:KINDS?films=N&seconds=S&seed=K` with KINDS of gestures, others
(people who do other things), empty (rooms) and still (a person who sits there), or a table of your
own, with a row for each gesture and one with its file alone for a film without any:

  file,start,end,label
  sofa.mp4,12.4,13.1,Swiping Left
  sofa.mp4,20.0,20.6,Swiping Right
  nobody.mp4,,,

docs/score.md says how to read the curve and how to label films.
"""

CALIBRATE_EXAMPLES = """\
examples:
  shiftedge calibrate out/checkpoint.pt --output out/calibrated.pt
  shiftedge calibrate out/checkpoint.pt --output out/calm.pt --at 3
  shiftedge calibrate out/checkpoint.pt my_films.csv --output out/mine.pt

Films that settings are chosen on say too much good of them: score on others. An hour of films is
little to choose on, some minutes are too few: one of some thousand settings is always lucky.
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parser of this module to ``commands`` (argparse's special object)."""
    parser = commands.add_parser(
        "score",
        usage="%(prog)s [options] MODEL [MODEL] [FILMS ...]",
        help="how many gestures a model finds at how many false events an hour",
        description="Stream films through one model or two, and print the curve of events right "
        "against false events an hour, with 95% intervals, by label and by condition.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    # fmt: off
    add("words", nargs="+", metavar="MODEL",
        help="one, or two to compare; then FILMS (default: synthetic:, which is all kinds)")
    add("--at", type=_rate, default=12.0, metavar="N",
        help="false events an hour at which figures are given (default: %(default)g)")
    add("--ranges", choices=("wide", "narrow", "clean"), default="wide",
        help="of rendered films: all that cameras see, what the first model was trained on, or a "
        "good camera in good light (default: %(default)s)")
    add("--pictures", type=Path, metavar="FOLDER",
        help="of real hands and rooms to use in rendered films: hands/open/*.jpg, rooms/*.jpg")
    add("--clips", type=_count, default=None, metavar="N",
        help="rendered clips for accuracy and confusions (default: 540 with synthetic: alone)")
    add("--engine", help="native for a bundle or onnxruntime for a file (default: by the model)")
    add("--precision", metavar="NAME", help="of a bundle that holds several")
    add("--workers", type=positive, metavar="N", help="processes (default: one for each core)")
    add("--json", metavar="FILE", help="write all figures there; - is stdout, without the tables")
    add("--html", type=Path, metavar="FILE", help="write a page with plots there")
    add("--strict", action="store_true",
        help="exit 1 where a model misses a target at its own settings")
    # fmt: on
    parser.set_defaults(handler=_score, usage_error=parser.error)

    _add_calibrate(commands)


def _add_calibrate(commands: Any) -> None:
    parser = commands.add_parser(
        "calibrate",
        help="choose a checkpoint's decoder and biases for a budget of false events",
        description="Choose the decoder's settings and a bias of each label that find most "
        "gestures at so many false events an hour, and write a checkpoint with them. `shiftedge "
        "train` does so by itself.",
        epilog=CALIBRATE_EXAMPLES,
    )
    add = parser.add_argument
    # fmt: off
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="of `shiftedge train`")
    add("films", nargs="*", metavar="FILMS",
        help="as of `shiftedge score` (default: rendered ones, on which nothing is scored)")
    add("--output", type=Path, metavar="FILE", required=True, help="the checkpoint to write")
    add("--at", type=_rate, default=12.0, metavar="N",
        help="false events an hour where people gesture; half of it where they do other things "
        "(default: %(default)g)")
    add("--seed", type=int, default=0, help="of the rendered films (default: %(default)s)")
    add("--pictures", type=Path, metavar="FOLDER", help="as of `shiftedge score`")
    add("--json", action="store_true", help="print what was chosen as JSON")
    # fmt: on
    parser.set_defaults(handler=_calibrate)


_rate = number("a number of events above 0", float, lambda value: 0.0 < value < 1e6)
_count = number("a whole number from 0", int, lambda value: value >= 0)


def _told_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Models, and films, which are rendered ones or tables."""
    films = [
        word
        for word in words
        if word.startswith("synthetic:") or Path(word).suffix.lower() in (".csv", ".tsv")
    ]
    return [word for word in words if word not in films], films


@working("scoring")
def _score(options: argparse.Namespace) -> int:
    from shiftedge import __version__
    from shiftedge.export.data.rendered import SYNTHETIC
    from shiftedge.export.score.run import chosen_models, film_set, score_models
    from shiftedge.export.score.text import notes, tables
    from shiftedge.runtime.process.cpu import usable_cores
    from shiftedge.runtime.process.extras import require
    from shiftedge.runtime.process.files import atomic_path, require_folder_of
    from shiftedge.runtime.process.tables import print_tables

    models, films = _told_apart(options.words)
    if not 1 <= len(models) <= 2:
        options.usage_error(f"{len(models)} models are named; expected one, or two to compare")
    for package in ("cv2", *(() if options.html is None else ("matplotlib", "jinja2"))):
        require(package)
    require_folder_of(options.json, options.html)
    films = films or [SYNTHETIC]
    shown = film_set(films, ranges=options.ranges, pictures=options.pictures, clips=options.clips)
    made = {"version": __version__, "films": films, "ranges": options.ranges}
    with chosen_models(models, engine=options.engine, precision=options.precision) as chosen:
        report = score_models(
            chosen, shown, at=options.at, workers=options.workers or usable_cores(), made=made
        )
    text = json_text(report, indent=2) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    else:
        print_tables(tables(report), notes(report))
    pages = {} if options.json in (None, "-") else {Path(options.json): text}
    if options.html is not None:
        from shiftedge.export.score.page import page

        pages[options.html] = page(report)
    for path, content in pages.items():
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    missed = [
        f"{model['name']}: {row['name']}"
        for model in report["models"]
        for row in (model["targets"] or {"own": []})["own"]
        if row["met"] is False
    ]
    if options.strict and missed:
        note(f"missed at the model's own settings: {'; '.join(missed)}")
    return int(options.strict and bool(missed))


@working("calibrating")
def _calibrate(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from shiftedge.runtime.process.extras import require
    from shiftedge.runtime.process.files import require_folder_of

    for package in ("torch", "cv2"):
        require(package)
    from shiftedge.export.score.films import CALIBRATION_SEED
    from shiftedge.export.score.run import film_set
    from shiftedge.export.training.calibrate import calibrate_checkpoint

    require_folder_of(options.output)
    shown = None
    if options.films:
        shown = film_set(
            options.films, pictures=options.pictures, clips=0, first_seed=CALIBRATION_SEED
        )
    chosen = calibrate_checkpoint(
        options.checkpoint,
        options.output,
        films=None if shown is None else shown.films,
        at=options.at,
        seed=options.seed,
        pictures=options.pictures,
    )
    if options.json:
        print(json_text(asdict(chosen)))
        return 0
    false = ", ".join(f"{rate:g} ({kinds})" for kinds, rate in chosen.false_per_hour.items())
    settings = ", ".join(f"{key} {value:g}" for key, value in asdict(chosen.decoder).items())
    print(f"recall   {chosen.recall:.3f}; false events an hour: {false or 'not known'}")
    print(f"decoder  {settings}")
    print(f"bias     {', '.join(f'{value:+g}' for value in chosen.bias)}")
    note(f"next: shiftedge export --checkpoint {options.output} --output my.onnx")
    return 0
