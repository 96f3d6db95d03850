"""The command ``demo``: watch gestures being recognised."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftedge.runtime.capture.options import add_source_options
from shiftedge.runtime.commands import add_model_options, load_chosen, number
from shiftedge.runtime.words import json_text, plain, say

if TYPE_CHECKING:
    from shiftedge.runtime.live.decode import GestureEvent

DEFAULT_SOURCE = "synthetic:gestures"
DEFAULT_FILM = Path("out") / "demo.mp4"

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
