"""Options that choose a source: on the command line, and as ``name=value`` in a source's text."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from shiftedge.runtime.capture.retry import Retry
from shiftedge.runtime.errors import SourceError

LARGEST_SIDE_PX = 16384
LARGEST_RATE_HZ = 1000.0
LARGEST_SECONDS = 24 * 3600.0

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_RATE = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,9})?)(?:[/:]([0-9]{1,7}))?")
_WHOLE = re.compile(r"[0-9]{1,9}")
_FOURCC = re.compile(r"[A-Za-z0-9]{4}")


def size(text: str) -> tuple[int, int]:
    """``"640x480"`` -> (width, height) in pixels."""
    match = _SIZE.fullmatch(text)
    if match is not None:
        width, height = int(match[1]), int(match[2])
        if 0 < width <= LARGEST_SIDE_PX and 0 < height <= LARGEST_SIDE_PX:
            return width, height
    raise ValueError("a size such as 640x480")


def rate(text: str) -> float:
    """``"30"``, ``"29.97"`` or ``"30000/1001"`` -> frames per second."""
    match = _RATE.fullmatch(text)
    if match is not None and (match[2] is None or int(match[2])):
        value = float(match[1]) / int(match[2] or 1)
        if 0 < value <= LARGEST_RATE_HZ:
            return value
    raise ValueError("a number of frames per second such as 30 or 30000/1001")


def seconds(text: str) -> float:
    """``"20"`` or ``"1.5"`` -> seconds, above 0 and at most a day."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= LARGEST_SECONDS:
        raise ValueError("a number of seconds such as 20")
    return value


def whole_number(text: str) -> int:
    """``"7"`` -> 7."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError("a whole number such as 7")
    return int(text)


def four_letters(text: str) -> str:
    """``"MJPG"``: a pixel format of V4L2."""
    if _FOURCC.fullmatch(text) is None:
        raise ValueError("a pixel format of four letters such as MJPG or YUYV")
    return text.upper()


def one_of(expected: str, words: Mapping[str, Any]) -> Callable[[str], Any]:
    """A reader of one of a few words, in any case; ``expected`` says which to a user."""

    def read(text: str) -> Any:
        if text.lower() not in words:
            raise ValueError(expected)
        return words[text.lower()]

    return read


flag = one_of(
    "yes or no", {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False}
)
full_range = one_of("full or limited", {"full": True, "pc": True, "limited": False, "tv": False})
"""Whether YUV goes from 0 to 255; pc and tv are FFmpeg's words."""


def parse_options(
    text: str, known: Mapping[str, Callable[[str], Any]], where: str, separator: str = "&"
) -> dict[str, Any]:
    """Parse ``name=value`` pairs; ``known`` maps each name to the reader of its value.

    Raises:
        SourceError: a name that is unknown or given twice, or a value that its reader refuses;
            ``where`` is what the user typed.
    """
    found: dict[str, Any] = {}
    names = ", ".join(known) or "none"
    for pair in text.split(separator) if text.strip() else []:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if name not in known or not equals:
            raise SourceError(
                f"{pair.strip()!r} in {where!r} is not an option; write name=value, "
                f"the names being {names}."
            )
        if name in found:
            raise SourceError(f"The option {name} stands twice in {where!r}; keep one.")
        try:
            found[name] = known[name](value)
        except ValueError as error:
            raise SourceError(f"{pair.strip()!r} in {where!r}: expected {error}.") from error
    return found


def add_source_options(
    parser: argparse.ArgumentParser, default: str, *, several: bool = False
) -> None:
    """Add ``--source``, ``--size``, ``--fps`` and ``--fourcc``, and ``--live`` and ``--retry``,
    which both make ``options.retry``.

    Args:
        several: ``--source`` may be given again; ``options.source`` is a list then, empty where it
            was not given.
    """
    parser.add_argument(
        "--source",
        default=[] if several else default,
        action="append" if several else "store",
        help="a camera number, a video file, a folder of images, synthetic:KIND, pipe:COMMAND, "
        f"rpicam:, argus: or a URL (default: {default})"
        + ("; again for each further camera" if several else ""),
    )
    settings = (
        ("size", size, "WxH", "of a camera's frames, such as 1280x720"),
        ("fps", rate, "HZ", "frames a second of a camera"),
        ("fourcc", four_letters, "NAME", "a camera's pixel format, such as MJPG or YUYV"),
    )
    for name, read, shape, words in settings:
        parser.add_argument(f"--{name}", type=_checked(read), metavar=shape, help=words)
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


def _checked(read: Callable[[str], Any]) -> Callable[[str], str]:
    """What argparse takes as ``type``: the text, if ``read`` takes it."""

    def check(text: str) -> str:
        try:
            read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from None
        return text

    return check


def retry_for(text: str) -> Retry:
    """``"forever"``, or seconds from 0.

    Raises:
        ValueError: neither.
    """
    try:
        return Retry.for_service(math.inf if text.lower() == "forever" else float(text))
    except ValueError:
        raise ValueError("a number of seconds from 0, or 'forever'") from None


def _retry(text: str) -> Retry:
    try:
        return retry_for(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of seconds from 0 nor 'forever'"
        ) from None
