"""From the text that a user types to an opened source of frames."""

from __future__ import annotations

import contextlib
import operator
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from shiftedge.runtime.capture.base import EventHandler, FrameSource, log_event
from shiftedge.runtime.capture.camera import camera_device, open_camera
from shiftedge.runtime.capture.folder import ImageFolder
from shiftedge.runtime.capture.network import SCHEMES, open_url
from shiftedge.runtime.capture.options import four_letters, parse_options, rate, size, whole_number
from shiftedge.runtime.capture.pipe import PipeSource, RestartedPipe, parse_pipe
from shiftedge.runtime.capture.retry import Retry
from shiftedge.runtime.capture.synthetic_source import open_synthetic
from shiftedge.runtime.capture.video import open_video
from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.process.files import expanded
from shiftedge.runtime.words import shown

SOURCE_FORMS = (
    "a camera number such as 0 or a device such as /dev/video0 (options: 0?size=640x480&fps=30), "
    "a video file (without time stamps: clip.h264?fps=30), a folder of pictures (option: "
    "folder?fps=12), "
    "synthetic:gestures, synthetic:still or synthetic:moving (options: ?seed=1&seconds=20), "
    "rpicam: or argus: for the camera of a Raspberry Pi or a Jetson (options: "
    "rpicam:?size=1280x720&fps=30), pipe:COMMAND, or a URL such as rtsp://host/path"
)
"""For messages and help texts."""

Kind = Literal["camera", "path", "pipe", "ribbon", "synthetic", "url"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CAMERA = {"size": size, "fps": rate, "fourcc": four_letters}
_CAMERA_ARGUMENTS = {"size": "size", "fps": "rate_hz", "fourcc": "fourcc"}
_RATE = {"fps": rate}
_RIBBON = {"size": size, "fps": rate, "camera": whole_number}
RIBBONS = {
    "rpicam": (
        "[size={width}x{height},format=yuv420p,fps={fps:g},stride={stride}] rpicam-vid -n -t 0 "
        "--camera {camera} --codec yuv420 --width {width} --height {height} --framerate {fps:g} "
        "-o -"
    ),
    "argus": (
        "[size={width}x{height},format=bgrx,fps={fps:g}] gst-launch-1.0 -q nvarguscamerasrc "
        "sensor-id={camera} ! 'video/x-raw(memory:NVMM),framerate={ratio}' ! nvvidconv ! "
        "video/x-raw,width={width},height={height},format=BGRx ! fdsink"
    ),
}
"""Cameras on ribbon cables, which OpenCV's wheels cannot open -> what is run for them."""
RPICAM_ROW_BYTES = 64
"""To whose multiples rpicam-vid pads rows of Y."""


@dataclass(frozen=True)
class SourceText:
    """A source as typed, taken apart."""

    kind: Kind
    target: str
    """Device, path, command (with its options), kind of synthetic film, or whole URL."""
    options: str = ""
    """What stands behind a question mark, unparsed."""


def parse_source(text: str) -> SourceText:
    """Take the text of a source apart; whether a file or device exists is left to the opening.

    A file whose name looks like something else can be named with ``./`` before it.

    Raises:
        SourceError: it has none of the forms :data:`SOURCE_FORMS`.
    """
    if text != text.strip() and _exists(Path(text)):
        return SourceText("path", text)  # spaces are allowed in a name
    text = text.strip()
    if not text or "\0" in text:
        raise SourceError(f"No source was named; expected {SOURCE_FORMS}.")
    name, _, options = text.partition("?")
    device = camera_device(name)
    if device is not None:
        return SourceText("camera", device, options)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return SourceText("path", text)
    word, rest = scheme[1].lower(), text[scheme.end() :]
    if word == "pipe":
        return SourceText("pipe", rest.strip())
    if word in RIBBONS and rest.startswith(("", "?")[bool(rest.strip())]):
        return SourceText("ribbon", ribbon_pipe(word, rest.strip()[1:]))
    if word == "synthetic":
        kind, _, options = rest.partition("?")
        return SourceText("synthetic", kind, options)
    if word == "file" and rest.startswith("///"):
        return SourceText("path", unquote(rest[2:]))
    if word in SCHEMES and rest.startswith("//"):
        return SourceText("url", text)
    if _exists(Path(text)):
        return SourceText("path", text)
    raise SourceError(f"{text!r} is not a source; expected {SOURCE_FORMS}.")


def ribbon_pipe(kind: str, options: str) -> str:
    """What stands behind ``pipe:`` for a camera of :data:`RIBBONS`.

    Raises:
        SourceError: an unknown option, or a value that it cannot have.
    """
    given = parse_options(options, _RIBBON, f"{kind}:?{options}")
    width, height = given.get("size", (640, 480))
    if width % 2 or height % 2:
        raise SourceError(f"'{kind}:?{options}' has an odd size; expected even width and height.")
    fps = given.get("fps", 30.0)
    return RIBBONS[kind].format(
        width=width,
        height=height,
        fps=fps,
        ratio="/".join(map(str, Fraction(fps).limit_denominator(1001).as_integer_ratio())),
        camera=given.get("camera", 0),
        stride=-(-width // RPICAM_ROW_BYTES) * RPICAM_ROW_BYTES,
    )


def with_settings(text: str, **settings: str | None) -> str:
    """A camera's text with ``size``, ``fps`` and ``fourcc``, those that are not None.

    Raises:
        SourceError: the source is no camera, or says it already.
    """
    pairs = [f"{name}={value}" for name, value in settings.items() if value is not None]
    if not pairs:
        return text
    if parse_source(text).kind not in ("camera", "ribbon"):
        names = " and ".join(name for name, value in settings.items() if value is not None)
        raise SourceError(
            f"{text} takes no {names}: these are for cameras, such as 0 or rpicam: (a pipe says "
            "its size in brackets, a URL's is its server's)."
        )
    return text + ("&" if "?" in text else "?") + "&".join(pairs)


def open_source(
    text: str | int | Path,
    *,
    on_event: EventHandler = log_event,
    stall_s: float = 10.0,
    retry: Retry | None = None,
    closing: threading.Event | None = None,
) -> FrameSource:
    """Open what ``text`` names (see :data:`SOURCE_FORMS`) and check that it gives frames.

    Args:
        text: as typed on a command line; or a camera's number, or a path.
        on_event: told in a sentence when a camera or stream is lost and tried again, and when the
            last frame of a pipe was cut short.
        stall_s: longest time without a frame from a pipe or URL, in seconds. A local camera has
            the driver's limit, 5 s.
        retry: how long cameras and streams are tried again; see :meth:`Retry.for_service` for a
            source that is to stay.
        closing: set by another thread to end the waiting for a camera that is not there yet.

    Raises:
        SourceError: the text, the device or the file is unusable; the sentence says what to do.
        MissingExtraError: OpenCV is needed for it and not installed.
    """
    text = _typed(text)
    if retry is not None and not isinstance(retry, Retry):
        raise SourceError(
            f"retry is {shown(retry)}; expected a Retry, such as Retry.for_service() or "
            "Retry.for_service(60.0)."
        )
    parsed = parse_source(text)
    if retry is not None and retry.service and parsed.kind in ("path", "synthetic"):
        raise SourceError(
            f"{text} is a recording, which ends: --live, --retry and Retry.for_service are for "
            "cameras, pipe: and URLs."
        )
    every: dict[str, Any] = {"on_event": on_event}
    opener: dict[Kind, Callable[[], FrameSource]] = {
        "camera": lambda: _open_camera(parsed, retry=retry, closing=closing, **every),
        "path": lambda: _open_path(parsed.target, **every),
        "pipe": lambda: _open_pipe(parsed.target, retry, closing, stall_s=stall_s, **every),
        "ribbon": lambda: RestartedPipe(
            parse_pipe(parsed.target), retry, closing=closing, stall_s=stall_s, **every
        ),
        "synthetic": lambda: open_synthetic(parsed.target, parsed.options),
        "url": lambda: open_url(
            parsed.target, stall_s=stall_s, retry=retry, closing=closing, **every
        ),
    }
    try:
        return opener[parsed.kind]()
    except SourceError as error:
        if parsed.kind in ("camera", "pipe", "synthetic") and _hides_a_name(text):
            raise SourceError(
                f"{str(error).rstrip('.')}. There is a file or folder of that name too: write "
                f"./{text.strip()}"
            ) from error
        raise


def _typed(source: object) -> str:
    """The text that a command line would have for it."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if not isinstance(source, bool):
        with contextlib.suppress(TypeError):
            number = operator.index(source)  # type: ignore[arg-type]
            if number >= 0:
                return str(number)
    raise SourceError(f"The source is {shown(source)}; expected {SOURCE_FORMS}.")


def _open_camera(parsed: SourceText, **how: Any) -> FrameSource:
    options = parse_options(parsed.options, _CAMERA, f"{parsed.target}?{parsed.options}")
    named = {_CAMERA_ARGUMENTS[name]: value for name, value in options.items()}
    return open_camera(parsed.target, **named, **how)


def _open_pipe(
    text: str, retry: Retry | None, closing: threading.Event | None, **how: Any
) -> FrameSource:
    pipe = parse_pipe(text)
    if retry is None or not retry.service:
        return PipeSource(pipe, **how)
    if not pipe.live:
        raise SourceError(
            f"'pipe:{text}' has live=no, so it is a recording, which ends; leave that out, or "
            "--live and --retry."
        )
    return RestartedPipe(pipe, retry, closing=closing, **how)


def _open_path(text: str, on_event: EventHandler) -> FrameSource:
    # A name may hold a question mark: options begin at the last one, if the whole is no name.
    name, options = text, ""
    path = expanded(name)
    if not _exists(path) and "?" in text:
        name, _, options = text.rpartition("?")
        path = expanded(name)
    if not _exists(path):
        raise SourceError(f"There is no file or folder {name!r}; expected {SOURCE_FORMS}.")
    rate_hz = parse_options(options, _RATE, text).get("fps")
    if path.is_dir():
        return ImageFolder(path) if rate_hz is None else ImageFolder(path, rate_hz)
    if not path.is_file():
        raise SourceError(
            f"{name} is neither a file nor a folder; for a named pipe use 'pipe:cat {name}'."
        )
    return open_video(path, rate_hz=rate_hz, on_event=on_event)


def _hides_a_name(text: str) -> bool:
    name = text.strip()
    return not name.startswith("/") and _exists(Path(name))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or a folder that may not be looked into; a zero byte
        return False
