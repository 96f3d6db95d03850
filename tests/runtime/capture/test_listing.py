"""What cameras there are, with a driver of V4L2 that the test plays, and what libcamera prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shiftedge.__main__ import main
from shiftedge.runtime.capture import camera, listing
from shiftedge.runtime.capture.listing import FoundCamera, Mode, parse_libcamera, text

MJPG, YUYV = (int.from_bytes(name, "little") for name in (b"MJPG", b"YUYV"))
FORMATS = {1: [MJPG, YUYV], 9: []}
SIZES = {MJPG: [(1, 1280, 720), (1, 640, 480)], YUYV: [(3, 32, 640, 2, 24, 480, 2)]}
RATES = {(MJPG, 1280, 720): [(1, 1, 30), (1, 2, 30)], (MJPG, 640, 480): [(3, 1, 60, 1, 5, 0, 0)]}


def driver(descriptor: int, call: int, given: bytes) -> bytes:
    """linux/videodev2.h, as a webcam answers."""
    if call == camera.VIDIOC_QUERYCAP:
        return camera.CAPABILITY.pack(b"uvc", b"Webcam \x1b[2J", b"", 0, 1, 0)
    kinds = {
        listing.VIDIOC_ENUM_FMT: listing.FORMAT,
        listing.VIDIOC_ENUM_FRAMESIZES: listing.SIZE,
        listing.VIDIOC_ENUM_FRAMEINTERVALS: listing.INTERVAL,
    }
    kind = kinds[call]
    assert len(given) == kind.size
    index, *asked = kind.unpack(given)
    try:
        if call == listing.VIDIOC_ENUM_FMT:
            return kind.pack(index, asked[0], 0, b"x", FORMATS[asked[0]][index])
        if call == listing.VIDIOC_ENUM_FRAMESIZES:
            what, *sides = SIZES[asked[0]][index]
            return kind.pack(index, asked[0], what, *sides, *[0] * (6 - len(sides)))
        what, *parts = RATES[asked[0], asked[1], asked[2]][index]
        return kind.pack(index, *asked[:3], what, *parts, *[0] * (6 - len(parts)))
    except (IndexError, KeyError):
        raise OSError(22, "Invalid argument") from None


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (camera, listing):
        monkeypatch.setattr(module, "DEV", tmp_path)
    monkeypatch.setattr("fcntl.ioctl", driver)
    monkeypatch.setattr(listing.shutil, "which", lambda name: None)
    return tmp_path


def test_sizes_rates_and_formats(devices: Path) -> None:
    (devices / "video2").touch()
    (devices / "video10").touch()
    first, second = listing.cameras()
    assert (first.source, second.source) == ("2", "10")
    assert first.modes == (
        Mode("MJPG", "1280x720", (30.0, 15.0)),
        Mode("MJPG", "640x480", (60.0, 5.0)),
        Mode("YUYV", "32x24-640x480", ()),
    )
    links = devices / "v4l" / "by-id"
    links.mkdir(parents=True)
    (links / "usb-Webcam-video-index0").symlink_to("../../video2")
    first, second = listing.cameras()
    assert (first.link, second.link) == (str(links / "usb-Webcam-video-index0"), None)
    lines = text([first]).splitlines()
    assert lines[0] == "2  Webcam ?[2J"
    assert lines[1].strip() == first.link
    assert lines[2].split() == ["MJPG", "1280x720", "30,", "15", "Hz"]


def test_nodes_that_give_no_images_are_left_out(
    devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (devices / "video0").touch()
    (devices / "video1").touch()
    (devices / "video1").chmod(0)

    def opened(path: Any, flags: int) -> int:
        if str(path).endswith("1"):
            raise PermissionError(13, "Permission denied")
        raise OSError(25, "Inappropriate ioctl for device")

    def metadata(descriptor: int, call: int, given: bytes) -> bytes:
        return camera.CAPABILITY.pack(b"uvc", b"Webcam", b"", 0, 0x80000001, 0x00800000)

    monkeypatch.setattr("fcntl.ioctl", metadata)
    assert [found.source for found in listing.cameras() if found.trouble is None] == []
    monkeypatch.setattr("os.open", opened)
    (found,) = [each for each in listing.cameras() if each.source == "1"]
    assert found.trouble is not None
    assert "No permission" in found.trouble
    assert "No permission" in text([found])


def test_a_driver_that_never_ends_its_list(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (devices / "video0").touch()

    def endless(descriptor: int, call: int, given: bytes) -> bytes:
        return driver(descriptor, call, given) if call == camera.VIDIOC_QUERYCAP else given

    monkeypatch.setattr("fcntl.ioctl", endless)
    monkeypatch.setattr(listing, "MOST", 3)
    (found,) = listing.cameras()
    assert len(found.modes) <= 18


SAID = """\
Available cameras
-----------------
0 : imx219 [3280x2464 10-bit RGGB] (/base/soc/i2c0mux/i2c@1/imx219@10)
    Modes: 'SRGGB10_CSI2P' : 640x480 [206.65 fps - (1000, 752)/1280x960 crop]
                             1640x1232 [41.85 fps - (0, 0)/3280x2464 crop]
           'SRGGB8' : 640x480 [206.65 fps - (1000, 752)/1280x960 crop]

1 : imx708_wide [4608x2592 10-bit RGGB] (/base/soc/i2c0mux/i2c@0/imx708@1a)
    Modes: 'SRGGB10_CSI2P' : 1536x864 [120.13 fps - (768, 432)/3072x1728 crop]
"""
"""Of rpicam-hello, as Raspberry Pi's documentation shows it."""


def test_what_libcamera_prints() -> None:
    first, second = parse_libcamera(SAID)
    assert (first.source, first.name) == ("rpicam:", "imx219")
    assert first.modes == (
        Mode("SRGGB10_CSI2P", "640x480", (206.65,)),
        Mode("SRGGB10_CSI2P", "1640x1232", (41.85,)),
        Mode("SRGGB8", "640x480", (206.65,)),
    )
    assert second == FoundCamera(
        "rpicam:?camera=1", "imx708_wide", (Mode("SRGGB10_CSI2P", "1536x864", (120.13,)),)
    )
    assert parse_libcamera("No cameras available!") == []


def test_libcamera_is_asked_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "rpicam-hello"
    program.write_text(f"#!/bin/sh\ntest \"$1\" = --list-cameras && cat <<'E'\n{SAID}E\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert len(listing._libcamera()) == 2


def test_the_command(devices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cameras"]) == 0
    assert capsys.readouterr().out.startswith("No camera was found: plug one in")
    (devices / "video0").touch()
    assert main(["cameras", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["source"] == "0"
    assert found["modes"][0] == {"format": "MJPG", "size": "1280x720", "rates_hz": [30.0, 15.0]}
