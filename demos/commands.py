"""The commands ``demo``, to watch gestures being recognised, and ``record``, to film one's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftedge.runtime.capture.options import add_source_options
from shiftedge.runtime.commands import add_model_options, load_chosen, number, positive
from shiftedge.runtime.words import json_text, plain, say

if TYPE_CHECKING:
    from shiftedge.runtime.live.decode import GestureEvent

RECORD_EXAMPLES = """\
examples:
  shiftedge record --label "Finger Snap"             ten clips of 3 s from camera 0
  shiftedge record --label "Finger Snap" --window    the same with a window; k keeps, d discards
  shiftedge record --label "No gesture" --count 5    sitting still, reading, looking about
  shiftedge record --label "Doing other things"      drinking, scratching, typing, leaving
  shiftedge record --label wave --source film.mp4 --seconds 2 --yes     cut from a film
  shiftedge personalise --data my_gestures --output mine.onnx           what the clips are for

Each clip is looked over: too short, too dark or bright, nothing moves, nearly the same as one
before. What is kept is on the disk at once, so a camera that is lost later costs nothing. A label
that is there already gets more clips. docs/own-gestures.md shows the whole way.
"""

DEFAULT_SOURCE = "synthetic:gestures"
DEFAULT_FILM = Path("out") / "demo.mp4"
DEFAULT_DATA = "my_gestures"
BACKGROUND = {"No gesture": 5, "Doing other things": 10}
"""Clips of a person who shows no gesture that are asked for: the second are those that a model
takes for gestures, so there are more of them."""

EXAMPLES = """\
examples:
  shiftedge demo                                     a rendered person; the film is out/demo.mp4
  shiftedge demo --source 0 --window                 camera 0, in a window; q ends
  shiftedge demo --source 0 --seconds 60 --film me.mp4
  shiftedge demo my.onnx --source clip.mp4 --json > summary.json

Cameras and files are filmed only where --film names a file. Ctrl-C, SIGTERM and SIGHUP end the demo
with exit status 0, 143 and 129; the film is finished and the summary printed all the same.
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parser of this module to ``commands`` (argparse's special object)."""
    demo = commands.add_parser(
        "demo",
        help="watch gestures being recognised, as a film or in a window",
        description="Stream a source through a model in real time, print each gesture when it "
        "happens, and draw what the model sees and thinks into a film or a window.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(demo)
    add_source_options(demo, DEFAULT_SOURCE)
    film = demo.add_mutually_exclusive_group()
    film.add_argument(
        "--film",
        type=Path,
        metavar="FILE",
        help=f"write the annotated film there, .mp4 or .avi (default: {DEFAULT_FILM} for a "
        "synthetic source, no film for others)",
    )
    film.add_argument("--no-film", action="store_true", help="write no film")
    demo.add_argument("--window", action="store_true", help="show a window; needs a screen")
    demo.add_argument(
        "--seconds", type=_seconds, metavar="N", help="end after N seconds of the source"
    )
    demo.add_argument(
        "--json",
        action="store_true",
        help="print the summary as JSON on stdout, and what people read on stderr",
    )
    demo.set_defaults(handler=_demo, endless=True)
    _add_record(commands)


_seconds = number("a number of seconds above 0", float, lambda value: 0.0 < value < float("inf"))


def _demo(options: argparse.Namespace) -> int:
    from shiftedge.demos.show import show
    from shiftedge.runtime.process.files import output_folder

    for_people = sys.stderr if options.json else sys.stdout
    film = _film(options)
    if film is not None and film == DEFAULT_FILM:
        output_folder(film.parent)
    model = load_chosen(options)
    spec = model.spec
    say(
        f"{plain(spec.name)} ({spec.classes} labels, {model.engine.name} {model.engine.version}) "
        f"on {plain(options.source)}; Ctrl-C ends",
        for_people,
    )

    def tell(event: GestureEvent, step_s: float) -> None:
        say(
            f"{event.time_s:8.2f} s  {plain(event.label):<28} {event.confidence:4.0%}   "
            f"step {1e3 * step_s:.1f} ms",
            for_people,
        )

    report = show(
        model,
        options.source,
        film=film,
        window=options.window,
        on_event=tell,
        on_note=lambda sentence: say(f"shiftedge: {sentence}"),
        limit_s=options.seconds,
        retry=options.retry,
    )
    say(report.text(), for_people)
    if options.json:
        print(json_text(report.to_dict(), indent=2))
    if report.error is not None:
        raise report.error
    return report.status


def _film(options: argparse.Namespace) -> Path | None:
    """Where the film goes. People before a camera are filmed only where somebody asked for it."""
    if options.no_film:
        return None
    if options.film is not None:
        return Path(options.film)
    return DEFAULT_FILM if options.source.startswith("synthetic:") else None


def _add_record(commands: Any) -> None:
    parser = commands.add_parser(
        "record",
        help="film clips of a gesture of your own",
        description="Film clips of one label: countdown, clip, replay, keep or discard.",
        epilog=RECORD_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--label", required=True, metavar="NAME", help="of the gesture")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(DEFAULT_DATA),
        metavar="DIR",
        help="folder of all labels (default: %(default)s)",
    )
    add_source_options(parser, "0")
    parser.add_argument(
        "--count", type=positive, default=10, metavar="N", help="clips to keep (default: 10)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=3.0, metavar="S", help="of a clip (default: 3)"
    )
    parser.add_argument(
        "--countdown",
        type=number("a number of seconds from 0 to 60", float, lambda value: 0.0 <= value <= 60.0),
        metavar="S",
        help="before each clip (default: 3 before a camera, 0 in a recording)",
    )
    parser.add_argument("--window", action="store_true", help="show a window; needs a screen")
    parser.add_argument(
        "--yes", action="store_true", help="ask nothing, and keep the clips that pass the checks"
    )
    parser.add_argument("--json", action="store_true", help="print what was kept as JSON on stdout")
    parser.set_defaults(handler=_record)


def _record(options: argparse.Namespace) -> int:
    from shiftedge.demos.record import RecordSettings, record, somebody_answers
    from shiftedge.export.data import looks_silent
    from shiftedge.runtime.capture.recording import Recorder, labels_of
    from shiftedge.runtime.errors import SettingError
    from shiftedge.runtime.process.files import expanded

    if not (options.yes or options.window or somebody_answers()):
        raise SettingError(
            "Nobody is there to say which clips to keep (stdin is no terminal); give --yes to keep "
            "those that pass the checks, or --window to ask in a window."
        )
    data = expanded(options.data)
    silent = looks_silent(options.label)
    recorder = Recorder(data, options.label, still=silent)
    before = labels_of(data).get(options.label, 0)
    if before:
        say(f"{data} has {before} clips of {plain(options.label)} already; these are added")
    settings = RecordSettings(
        options.count, options.seconds, options.countdown, options.window, not options.yes
    )
    kept = record(recorder, options.source, settings, say=say, retry=options.retry)
    counts = labels_of(data)
    if options.json:
        print(json_text({"kept": [str(path) for path in recorder.kept], "clips": counts}, indent=2))
    for label, count in counts.items():
        say(f"{count:5}  {plain(label)}")
    gestures = [label for label in counts if not looks_silent(label)]
    for label, wanted in BACKGROUND.items() if gestures else ():
        found = sum(n for name, n in counts.items() if name.casefold() == label.casefold())
        if found < wanted:
            say(
                f'{wanted - found} clips of "{label}" would keep false events away: shiftedge '
                f'record --label "{label}" --count {wanted - found} --data {plain(data)}'
            )
    return 0 if kept else 1
