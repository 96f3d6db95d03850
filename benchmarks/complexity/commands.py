"""The command ``bench complexity``: the paper's table of costs, recomputed."""

from __future__ import annotations

import argparse

from shiftedge.benchmarks.handover import sub_parser
from shiftedge.benchmarks.output import tell
from shiftedge.runtime.commands import number, positive
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import require_folder_of
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import note

WORD = "complexity"
EXAMPLES = """\
examples:
  shiftedge bench complexity                         counts and times, a minute or so
  shiftedge bench complexity --no-latency            counts alone, in seconds
  shiftedge bench complexity --threads 2 --json costs.json
  shiftedge bench complexity --no-latency --markdown > table.md

TSN, TSM (offline with 8 and 16 frames, and online), I3D-ResNet-50 and a 3-D ResNet-50, from
definitions of ours with random weights: parameters, multiply-adds, memory traffic and time of one
prediction and per frame, beside the figures of the TSM paper (arXiv 1811.08383), and what an online
step saves over running an 8-frame window again at every frame.
Needs torch, of the extra [export].
"""
SIZE = number("a size from 32, the smallest for a ResNet", int, lambda side: side >= 32)
"""Pixels a side: the last stage then has one."""


def add_command(bench: argparse.ArgumentParser) -> None:
    """Let ``bench`` hand over to a parser of its own when its first word is ``complexity``."""
    complexity = sub_parser(
        bench,
        WORD,
        description="What the networks of the TSM paper cost, counted and measured here.",
        epilog=EXAMPLES,
    )
    # fmt: off
    add = complexity.add_argument
    add("--size", type=SIZE, default=224, metavar="PIXELS",
        help="frames of so many pixels a side (default: %(default)s, the paper's)")
    add("--threads", type=positive, default=1, metavar="N",
        help="of torch (default: %(default)s)")
    add("--repeat", type=positive, default=3, metavar="N",
        help="times that each network is timed, in turns (default: %(default)s)")
    add("--no-latency", action="store_true", help="count, and time nothing")
    add("--json", metavar="FILE", help="write all figures there; - is stdout, without the tables")
    add("--markdown", action="store_true", help="print the tables in Markdown")
    # fmt: on
    complexity.set_defaults(handler=_run)


def _run(options: argparse.Namespace) -> int:
    if options.json == "-" and options.markdown:
        options.usage_error("--json - and --markdown both want stdout: give --json a file")
    require_folder_of(options.json)
    require("torch")  # a sentence with the pip line where it is missing
    from shiftedge.benchmarks.complexity import report
    from shiftedge.benchmarks.complexity.count import cost
    from shiftedge.benchmarks.complexity.latency import Rounds, measure
    from shiftedge.benchmarks.complexity.nets import NETWORKS
    from shiftedge.benchmarks.counter import counter

    threads = chosen_threads(options.threads)
    times: dict[str, Rounds] = {}
    status = 0
    with counter("measuring"):
        with working("counting operations"):
            costs = {key: cost(each, options.size) for key, each in NETWORKS.items()}
        if not options.no_latency:
            timed = [network for network in NETWORKS.values() if network.timed]
            times, status = measure(timed, options.size, threads=threads, rounds=options.repeat)
    rounds = 0 if options.no_latency else options.repeat
    settings = {"size": options.size, "threads": threads, "rounds": rounds}
    found = report.document(costs, times, settings, interrupted=status != 0)
    tell(options.json, found, lambda: report.tell(found, markdown=options.markdown))
    if status:
        note("interrupted; times are of the rounds until then")
    return status
