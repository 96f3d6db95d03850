"""The command ``bench live``."""

from __future__ import annotations

import argparse

from shiftedge.benchmarks.handover import sub_parser
from shiftedge.benchmarks.output import tell
from shiftedge.runtime.commands import add_model_options, load_chosen, number, positive
from shiftedge.runtime.process.files import require_folder_of

WORD = "live"
EXAMPLES = """\
examples:
  shiftedge bench live                               two minutes: a page, memory, eight cameras
  shiftedge bench live my-cortex-a76 --seconds 300 --json live.json
  shiftedge bench live --frames 100000               is the memory flat?
  shiftedge bench live --parts cameras --cameras 12

A camera of 640x480 at 30 frames/s, rendered and from memory, goes through the loop of `shiftedge
demo --web` with the page open in a Chromium without a screen, where one is installed. "Camera to
page" ends when the browser's answer is here that it has shown the picture. Figures of a machine
that does other work say little: the load is printed with them.
"""
PARTS = ("page", "memory", "cameras")
SECONDS = number("a number of seconds from 5 to 86400", float, lambda found: 5.0 <= found <= 86400)


def add_command(bench: argparse.ArgumentParser) -> None:
    """Let ``bench`` hand over to a parser of its own when its first word is ``live``."""
    live = sub_parser(
        bench,
        WORD,
        description="How long a gesture takes from a camera to an event and to a page, what the "
        "loop costs, whether memory is flat, and whether many cameras have equal shares.",
        epilog=EXAMPLES,
    )
    add_model_options(live)
    # fmt: off
    add = live.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="which (default: all)")
    add("--seconds", type=SECONDS, default=60.0, metavar="N",
        help="of the page and of the cameras (default: %(default)g)")
    add("--frames", type=positive, default=3000, metavar="N",
        help="over which memory is looked at, as fast as they go (default: %(default)s)")
    add("--cameras", type=positive, default=8, metavar="N", help="at once (default: %(default)s)")
    add("--json", metavar="FILE", help="write all figures there; - is stdout, without the table")
    # fmt: on
    live.set_defaults(handler=_run)


def _run(options: argparse.Namespace) -> int:
    require_folder_of(options.json)
    from shiftedge.benchmarks.live import measure

    model = load_chosen(options)
    report = measure.report(
        model,
        options.parts,
        seconds=options.seconds,
        frames=options.frames,
        cameras=options.cameras,
    )
    tell(options.json, report, lambda: print("\n".join(measure.lines(report))))
    return 0
