"""Cameras of Linux (V4L2): USB cameras, and others whose driver converts to ordinary images."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import threading
from pathlib import Path
from typing import Any, NoReturn, cast

from shiftedge.runtime.capture.base import EventHandler, log_event, opencv
from shiftedge.runtime.capture.retry import CaptureDevice, FinalSourceError, LiveSource, Retry
from shiftedge.runtime.errors import SourceError

# linux/videodev2.h
VIDIOC_QUERYCAP = 0x80685600
"""_IOR('V', 0, struct v4l2_capability), 104 bytes."""
CAPABILITY = struct.Struct("=16s32s32sIII12x")
CAP_VIDEO_CAPTURE = 0x00000001
CAP_VIDEO_CAPTURE_MPLANE = 0x00001000
CAP_DEVICE_CAPS = 0x80000000

WIDEST_UNCOMPRESSED_PX = 640
"""USB 2 carries uncompressed 640x480 at 30 frames/s (18 MB/s) but not 1280x720 (55 MB/s), so wider
images are asked for as MJPG."""

DEV, PROC = Path("/dev"), Path("/proc")
_GONE = (errno.ENODEV, errno.ENXIO)

CSI_HINT = "for a camera on a ribbon cable use rpicam: (Raspberry Pi) or argus: (Jetson)"


def camera_device(text: str) -> str | None:
    """``"0"`` -> ``"/dev/video0"``; a path of a video device as it is; None for anything else."""
    if re.fullmatch(r"[0-9]{1,3}", text):
        return f"/dev/video{int(text)}"
    if re.fullmatch(r"/dev/video[0-9]{1,3}", text):
        return text
    try:
        # Links such as /dev/v4l/by-id/... keep their name when cameras are plugged in otherwise.
        return text if stat.S_ISCHR(os.stat(text).st_mode) else None
    except (OSError, ValueError):
        return None


def check_camera(device: str) -> str:
    """Open ``device`` as a program would, close it, and return the camera's own name.

    Raises:
        SourceError: it is absent or busy; trying again may help.
        FinalSourceError: no permission, or not a camera.
    """
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _explain_open(device, error)
    try:
        answer = fcntl.ioctl(handle, VIDIOC_QUERYCAP, bytes(CAPABILITY.size))
    except OSError as error:
        raise FinalSourceError(
            f"{device} is not a camera ({error.strerror}); {_others(device)}."
        ) from error
    finally:
        os.close(handle)
    _, card, _, _, capabilities, device_caps = CAPABILITY.unpack(answer)
    if capabilities & CAP_DEVICE_CAPS:  # of this node, where the first field is of all its nodes
        capabilities = device_caps
    name: str = card.split(b"\0")[0].decode("utf-8", "replace")
    if not capabilities & (CAP_VIDEO_CAPTURE | CAP_VIDEO_CAPTURE_MPLANE):
        raise FinalSourceError(
            f"{device} ({name}) gives no images, like the second node of many USB cameras; "
            f"{_others(device)}."
        )
    return name


def connect_camera(
    device: str,
    size: tuple[int, int] | None = None,
    rate_hz: float | None = None,
    fourcc: str | None = None,
) -> CaptureDevice:
    """Open a camera through OpenCV with the smallest queue it has.

    Args:
        device: such as ``/dev/video0``.
        size: (width, height) to ask for; the camera takes the nearest that it has.
        rate_hz: frames per second to ask for.
        fourcc: pixel format to ask for; None chooses by the width.

    Raises:
        SourceError: absent or busy.
        FinalSourceError: no permission, or not a camera.
    """
    cv2 = opencv()
    name = check_camera(device)
    # The device itself, where a link to it was named: OpenCV crashes on a name that is no text.
    capture: Any = cv2.VideoCapture(os.path.realpath(device), cv2.CAP_V4L2)
    if not capture.isOpened():
        capture.release()
        users = ", ".join(camera_users(device))
        if users:
            raise SourceError(f"The camera {device} ({name}) is busy: {users} uses it; close that.")
        raise SourceError(
            f"OpenCV cannot read the camera {device} ({name}): another program may be using it; "
            f"{CSI_HINT}."
        )
    if fourcc is None and size is not None and size[0] > WIDEST_UNCOMPRESSED_PX:
        fourcc = "MJPG"
    if fourcc is not None:  # before the size: the sizes on offer depend on the format
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*fourcc))
    if size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if rate_hz is not None:
        capture.set(cv2.CAP_PROP_FPS, rate_hz)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the driver's queue is lag, four frames by default
    opened: CaptureDevice = capture
    return opened


def open_camera(
    device: str,
    *,
    size: tuple[int, int] | None = (640, 480),
    rate_hz: float | None = 30.0,
    fourcc: str | None = None,
    retry: Retry | None = None,
    on_event: EventHandler = log_event,
    closing: threading.Event | None = None,
) -> LiveSource:
    """Open a camera that is tried again when it is absent, busy, or unplugged while running.

    Raises:
        SourceError: it could not be opened within ``retry.first_limit_s``.
        MissingExtraError: OpenCV is not installed.
    """
    return LiveSource(
        f"camera {device}",
        lambda: connect_camera(device, size, rate_hz, fourcc),
        rate_hz=rate_hz,
        retry=retry,
        on_event=on_event,
        closing=closing,
        taken_s=_driver_time,
    )


OLDEST_S = 1.0
"""A frame that the driver says is older was not stamped by this clock."""


def _driver_time(device: CaptureDevice, now_s: float) -> float:
    """When the driver had the frame, where it says so by the clock of ``time.monotonic``: V4L2's
    stamps, which OpenCV gives as the position. Else now."""
    stamp_s = float(cast(Any, device).get(opencv().CAP_PROP_POS_MSEC)) / 1000.0
    return stamp_s if now_s - OLDEST_S < stamp_s <= now_s else now_s


def camera_users(device: str) -> list[str]:
    """Programs that hold ``device`` open, as ``name (process 123)``; those we may look into."""
    target = os.path.realpath(device)
    users = []
    for process in PROC.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(os.path.realpath(link) == target for link in (process / "fd").iterdir()):
                users.append(f"{(process / 'comm').read_text().strip()} (process {process.name})")
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return users


def _explain_open(device: str, error: OSError) -> NoReturn:
    if isinstance(error, PermissionError):
        raise FinalSourceError(
            f"No permission to open the camera {device}: join the group that owns it "
            "(sudo usermod -aG video $USER) and log in again."
        ) from error
    if isinstance(error, FileNotFoundError) or error.errno in _GONE:
        raise SourceError(
            f"There is no camera {device}: plug it in and check the cable; {_others(device)}."
        ) from error
    if error.errno == errno.EBUSY:
        users = ", ".join(camera_users(device)) or "another program"
        raise SourceError(f"The camera {device} is busy: {users} uses it; close that.") from error
    raise SourceError(f"Cannot open the camera {device}: {error.strerror}.") from error


def _others(device: str) -> str:
    """What else the user may name."""
    found = sorted(str(path) for path in DEV.glob("video[0-9]*") if str(path) != device)
    if found:
        return f"the video devices here are {', '.join(found)}"
    return f"this machine has no other video device; {CSI_HINT}"
