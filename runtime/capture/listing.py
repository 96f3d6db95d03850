"""What cameras there are, with their formats, sizes and rates: of V4L2 and of libcamera.

V4L2 is asked by its own calls (linux/videodev2.h), libcamera by its program.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftedge.runtime.capture.camera import DEV, check_camera
from shiftedge.runtime.capture.folder import natural_key
from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.words import plain

VIDIOC_ENUM_FMT = 0xC0405602
VIDIOC_ENUM_FRAMESIZES = 0xC02C564A
VIDIOC_ENUM_FRAMEINTERVALS = 0xC034564B
FORMAT = struct.Struct("=III32sI16x")
"""struct v4l2_fmtdesc: index, type, flags, description, pixelformat."""
SIZE = struct.Struct("=III6I8x")
"""struct v4l2_frmsizeenum: index, pixel format, kind; width and height, or least, most and step of
each."""
INTERVAL = struct.Struct("=5I6I8x")
"""struct v4l2_frmivalenum: index, pixel format, width, height, kind; fractions of a second."""
CAPTURES = (1, 9)
"""V4L2_BUF_TYPE_VIDEO_CAPTURE and its multi-planar kind."""
DISCRETE = 1
MOST = 256
"""Of a list; a driver that never ends one must not hang us."""

LIBCAMERA = ("rpicam-hello", "libcamera-hello")
"""Its program, and that program's older name."""
LIST_S = 20.0
_CAMERA = re.compile(r"^(\d+) : (\S+) \[[^\]]*\] \((.*)\)$")
_MODES = re.compile(r"'([^']+)' :")
_MODE = re.compile(r"(\d+)x(\d+) \[([0-9.]+) fps")


@dataclass(frozen=True)
class Mode:
    """One of a camera's sizes."""

    format: str
    """V4L2's four letters, such as MJPG, or libcamera's name of a sensor's mode."""
    size: str
    """In pixels, such as 640x480; a range where any size in it will do."""
    rates_hz: tuple[float, ...]
    """Frames a second, the highest first; least and most where any rate between will do."""


@dataclass(frozen=True)
class FoundCamera:
    """One camera."""

    source: str
    """What ``--source`` takes."""
    name: str
    modes: tuple[Mode, ...]
    trouble: str | None = None
    """Why its modes are not known."""
    link: str | None = None
    """Another name, which ``--source`` takes too, and which stays when cameras are plugged in
    otherwise."""


def cameras() -> list[FoundCamera]:
    """All that are found; nodes of V4L2 that give no images are left out."""
    found = []
    for path in sorted(DEV.glob("video[0-9]*"), key=lambda path: natural_key(path.name)):
        with contextlib.suppress(_NoCamera):
            found.append(_v4l2(path))
    return found + _libcamera()


def text(found: list[FoundCamera]) -> str:
    """Some lines for people."""
    lines = []
    for camera in found:
        lines.append(f"{camera.source}  {plain(camera.name)}")
        if camera.link:
            lines.append(f"    {plain(camera.link)}")
        if camera.trouble:
            lines.append(f"    {plain(camera.trouble)}")
        for mode in camera.modes:
            rates = ", ".join(f"{rate:g}" for rate in mode.rates_hz)
            lines.append(f"    {mode.format:<8} {mode.size:<12} {rates} Hz")
    return "\n".join(lines) or (
        "No camera was found: plug one in, or name a stream (rtsp://...) or a pipe:COMMAND."
    )


class _NoCamera(Exception):  # noqa: N818 - what a node of V4L2 may be
    pass


def _v4l2(path: Path) -> FoundCamera:
    source = path.name.removeprefix("video")
    links = sorted(map(str, (DEV / "v4l" / "by-id").glob("*")))
    link = next((name for name in links if os.path.realpath(name) == str(path.resolve())), None)
    try:
        name = check_camera(str(path))
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, SourceError) as error:
        if "gives no images" in str(error) or "is not a camera" in str(error):
            raise _NoCamera from error
        return FoundCamera(source, str(path), (), str(error), link)
    try:
        return FoundCamera(source, name, tuple(_modes(descriptor)), link=link)
    finally:
        os.close(descriptor)


def _modes(descriptor: int) -> Iterator[Mode]:
    def ask(call: int, kind: struct.Struct, *fields: Any) -> Iterator[tuple[Any, ...]]:
        for index in range(MOST):
            given = kind.pack(index, *fields, *[0] * (_fields(kind) - 1 - len(fields)))
            try:
                answer = fcntl.ioctl(descriptor, call, given)
            except OSError:  # the end of the list
                return
            yield kind.unpack(answer)

    for capture in CAPTURES:
        for _, _, _, _, pixels in ask(VIDIOC_ENUM_FMT, FORMAT, capture, 0, b""):
            letters = pixels.to_bytes(4, "little").decode("latin-1").strip()
            for _, _, kind, *sides in ask(VIDIOC_ENUM_FRAMESIZES, SIZE, pixels):
                if kind != DISCRETE:
                    least_w, most_w, _, least_h, most_h, _ = sides
                    yield Mode(letters, f"{least_w}x{least_h}-{most_w}x{most_h}", ())
                    continue
                width, height = sides[:2]
                rates: set[float] = set()
                for *_, what, a, b, c, d, _, _ in ask(
                    VIDIOC_ENUM_FRAMEINTERVALS, INTERVAL, pixels, width, height
                ):
                    pairs = [(a, b)] if what == DISCRETE else [(a, b), (c, d)]
                    rates.update(round(below / above, 3) for above, below in pairs if above)
                    if what != DISCRETE:
                        break
                yield Mode(letters, f"{width}x{height}", tuple(sorted(rates, reverse=True)))


def _fields(kind: struct.Struct) -> int:
    return len(kind.unpack(bytes(kind.size)))


def _run(line: list[str]) -> str:
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIST_S, check=False
    )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def _libcamera(
    which: Callable[[str], str | None] = shutil.which, run: Callable[[list[str]], str] = _run
) -> list[FoundCamera]:
    program = next((found for name in LIBCAMERA if (found := which(name))), None)
    if program is None:
        return []
    try:
        said = run([program, "--list-cameras"])
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_libcamera(said)


def parse_libcamera(said: str) -> list[FoundCamera]:
    """Of what ``rpicam-hello --list-cameras`` prints."""
    found: list[tuple[str, str, list[Mode]]] = []
    form = ""
    for line in map(str.strip, said.splitlines()):
        if (camera := _CAMERA.match(line)) is not None:
            number = camera[1]
            source = "rpicam:" if number == "0" else f"rpicam:?camera={number}"
            found.append((source, camera[2], []))
        elif found:
            form = modes[1] if (modes := _MODES.search(line)) else form
            if (mode := _MODE.search(line)) is not None:
                found[-1][2].append(Mode(form, f"{mode[1]}x{mode[2]}", (float(mode[3]),)))
    return [FoundCamera(source, name, tuple(modes)) for source, name, modes in found]
