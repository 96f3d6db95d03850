"""Options that several of the workstation's commands have."""

from __future__ import annotations

import argparse
from typing import Any

from shiftedge.runtime.commands import number
from shiftedge.runtime.words import shown

WIDTH_MOST = 8.0
"""Of MobileNetV2's channels: 64 times the work of the whole network."""


def add_reading(parser: Any) -> None:
    """How to read a checkpoint that does not say it."""
    parser.add_argument(
        "--read-as",
        choices=("one-way", "two-way"),
        help="how the shift of an official or mmaction2 training checkpoint was trained, which the "
        "file does not say; of two-way weights the channels that learned on the frame before get "
        "it, and those that learned on the next frame do without",
    )
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="which weights of a checkpoint that holds several, such as state_dict_ema",
    )
    parser.add_argument(
        "--shift-div",
        type=number("a whole number from 2 to 64", int, lambda value: 2 <= value <= 64),
        metavar="N",
        help="that a training checkpoint was made with, which the file does not say: one channel "
        "in N is shifted from each side (default: 8)",
    )


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords of ``load_checkpoint``."""
    return {
        "read_as": options.read_as,
        "weights": options.weights,
        "shift_div": options.shift_div,
    }


def add_silent(parser: Any) -> None:
    """Which labels never become events."""
    parser.add_argument(
        "--silent",
        metavar="LABEL",
        action="append",
        default=[],
        help="a label of a person who shows no gesture, which never becomes an event; may be given "
        "several times. Usual names, such as no_gesture, none or background, are known",
    )
    parser.add_argument(
        "--no-silent",
        dest="usual_silent",
        action="store_false",
        help="take no label for silent by its name",
    )


width = number(
    f"a width above 0 and up to {WIDTH_MOST:g}, such as 0.5",
    float,
    lambda width: 0.0 < width <= WIDTH_MOST,
)


def size(text: str) -> tuple[int, int]:
    """Width and height of "224" or "128x96"."""
    first, _, second = text.partition("x")
    try:
        columns, rows = int(first), int(second or first)
    except ValueError:
        columns = rows = 0
    if not (8 <= columns <= 4096 and 8 <= rows <= 4096):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a size such as 224 or 128x96")
    return columns, rows
