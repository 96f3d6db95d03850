"""Video from the network: IP cameras (RTSP, MJPEG over HTTP) and recordings on web servers."""

from __future__ import annotations

import re
import socket
import threading
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from shiftedge.runtime.capture.base import EventHandler, FrameSource, log_event, opencv
from shiftedge.runtime.capture.retry import (
    CaptureDevice,
    FinalSourceError,
    LiveSource,
    Retry,
)
from shiftedge.runtime.capture.video import VideoFile, nominal_rate
from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.words import is_text

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "tcp", "rtp")
"""What FFmpeg may be asked for. Its other protocols read local files or run filters."""
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
"""Default ports of the protocols over TCP (IANA), for saying why an address does not answer."""
REACH_S = 2.0
"""Time to find out why an address does not answer, once FFmpeg has failed."""


def without_password(url: str) -> str:
    """The URL with its user name and password hidden, for messages and logs."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return re.sub(r"//[^/@]*@", "//***@", url)
    if host == parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"***@{host}"))


def connect_url(url: str, stall_s: float) -> Any:
    """Open a URL through OpenCV's FFmpeg; opening and every read end within ``stall_s`` seconds.

    Raises:
        SourceError: no answer, or no video; the message hides the password.
        FinalSourceError: the address is no text, or malformed.
    """
    cv2 = opencv()
    if not is_text(url):
        raise FinalSourceError(
            f"The address {without_password(url)!r} holds bytes that are no text; write them as "
            "%XX."
        )
    timeout_ms = max(1, round(1000 * stall_s))
    capture = cv2.VideoCapture(
        url,
        cv2.CAP_FFMPEG,
        [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            timeout_ms,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            timeout_ms,
        ],
    )
    if not capture.isOpened():
        capture.release()
        wrong = _wrong(url)
        error = FinalSourceError if wrong else SourceError
        raise error(f"Cannot open {without_password(url)}: {wrong or _why_not(url, stall_s)}.")
    return capture


def open_url(
    url: str,
    *,
    stall_s: float = 10.0,
    retry: Retry | None = None,
    on_event: EventHandler = log_event,
    closing: threading.Event | None = None,
) -> FrameSource:
    """Open a stream or a recording by its URL.

    A recording on a web server (its container says how many frames it has) is read to its end.
    Everything else is live, also where it announces a length, as some cameras do: when it stops,
    or stalls for ``stall_s`` seconds, it is tried again.

    Raises:
        SourceError: it could not be opened within ``retry.first_limit_s``.
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = opencv()
    shown = without_password(url)
    from_web = urlsplit(url).scheme.lower() in ("http", "https")
    may_end = from_web and not (retry is not None and retry.service)
    rate_hz: float | None = None

    def connect() -> CaptureDevice:
        nonlocal may_end, rate_hz
        capture = connect_url(url, stall_s)
        if may_end and 0.0 < capture.get(cv2.CAP_PROP_FRAME_COUNT) < 2**31:
            raise _Recording(capture)
        may_end, rate_hz = False, nominal_rate(capture)  # a stream, whatever it announces later
        device: CaptureDevice = capture
        return device

    try:
        source = LiveSource(
            f"stream {shown}", connect, retry=retry, on_event=on_event, closing=closing
        )
    except _Recording as found:
        return VideoFile(found.capture, shown, on_event=on_event)
    source.rate_hz = rate_hz
    return source


class _Recording(Exception):  # noqa: N818 - what was found, and nothing to complain of
    def __init__(self, capture: Any) -> None:
        super().__init__()
        self.capture = capture


def _wrong(url: str) -> str | None:
    """What is wrong with the address itself, which no waiting will mend."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "the address is malformed"
    if not host and parts.scheme in _PORTS:  # udp://:1234 listens to everybody
        return "the address names no host"
    return None


def _why_not(url: str, stall_s: float) -> str:
    """The reason that FFmpeg keeps to itself, found by asking the address once."""
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    if not host or port is None or parts.scheme in ("udp", "srt", "rtp"):
        return f"no video arrived within {stall_s:g} s"
    try:
        socket.create_connection((host, port), timeout=min(REACH_S, stall_s)).close()
    except socket.gaierror:
        return f"there is no host named {host}; check the address and the network"
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or error
        return f"{host} does not answer at port {port} ({reason}); check that it is switched on"
    return (
        f"{host} answers at port {port} but sent no video within {stall_s:g} s; "
        "check the path, user name and password"
    )
