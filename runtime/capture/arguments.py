"""Command-line options that choose a source, the same in every command that watches one."""

from __future__ import annotations

import argparse
import math

from shiftedge.runtime.capture.live import Retry

__all__ = ["add_source_options"]


def add_source_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--source``, and ``--live`` and ``--retry``, which both make ``options.retry``."""
    parser.add_argument(
        "--source",
        default=default,
        help="a camera number, a video file, a folder of images, synthetic:KIND, "
        "pipe:COMMAND or a URL (default: %(default)s)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--live",
        dest="retry",
        action="store_const",
        const=Retry.for_service(),
        help="for a service: whenever the camera, stream or pipe: command is lost, ends or is not "
        "there yet, try again for ever",
    )
    again.add_argument(
        "--retry",
        dest="retry",
        type=_retry,
        metavar="SECONDS",
        help="the same, but give up after so many seconds without a frame; or 'forever' (default: "
        "a lost camera or stream is tried again for 30 s, a command is not run again)",
    )


def _retry(text: str) -> Retry:
    try:
        limit_s = math.inf if text.lower() == "forever" else float(text)
        return Retry.for_service(limit_s)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of seconds from 0 nor 'forever'"
        ) from None
