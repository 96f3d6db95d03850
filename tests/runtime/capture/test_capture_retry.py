"""Cameras that are absent, busy, hang or are unplugged; no real device, no real waiting."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from kit.fake_time import FakeTime

from shiftedge.runtime.capture import Retry
from shiftedge.runtime.capture import camera as camera_module
from shiftedge.runtime.capture.base import Handle
from shiftedge.runtime.capture.camera import (
    CAPABILITY,
    camera_device,
    camera_users,
    check_camera,
    connect_camera,
    open_camera,
)
from shiftedge.runtime.capture.retry import CaptureDevice, FinalSourceError, LiveSource
from shiftedge.runtime.errors import SourceError, SourceLostError

IMAGE = np.zeros((4, 6, 3), np.uint8)
ABSENT = SourceError("There is no camera /dev/video0: plug it in.")
BUSY = SourceError("The camera /dev/video0 is busy: cheese (process 7) uses it; close that.")


class FakeDevice:
    """Gives what its script says: 1 a frame, 0 nothing, x a frame that cannot be decoded."""

    def __init__(self, script: str, time: FakeTime, on_grab: Callable[[], None] | None = None):
        self.script = iter(script)
        self.time = time
        self.on_grab = on_grab
        self.last = ""
        self.released = 0

    def grab(self) -> bool:
        assert not self.released, "grab after release crashes OpenCV"
        if self.on_grab is not None:
            self.on_grab()
        self.time.now_s += 0.1
        self.last = next(self.script, "0")
        return self.last != "0"

    def retrieve(self) -> tuple[bool, Any]:
        return (True, IMAGE) if self.last == "1" else (False, None)

    def release(self) -> None:
        self.released += 1


class Bench:
    """A source over a list of devices and errors, one for each attempt to connect."""

    def __init__(self, *attempts: FakeDevice | SourceError | str) -> None:
        self.time = FakeTime(1000.0)
        self.events: list[str] = []
        self.devices: list[FakeDevice] = []
        self._attempts: Iterator[FakeDevice | SourceError | str] = iter(attempts)

    def connect(self) -> CaptureDevice:
        attempt = next(self._attempts, ABSENT)
        if isinstance(attempt, SourceError):
            raise attempt
        device = FakeDevice(attempt, self.time) if isinstance(attempt, str) else attempt
        self.devices.append(device)
        return device

    def open(self, **options: Any) -> LiveSource:
        return LiveSource(
            "camera /dev/video0",
            self.connect,
            on_event=self.events.append,
            clock=self.time.clock,
            wait=self.time.wait,
            **options,
        )


def take(source: LiveSource) -> tuple[list[Any], SourceError | None]:
    """All frames, and the error that ended them."""
    frames = []
    try:
        for frame in source:
            frames.append(frame)  # noqa: PERF402 - kept when the loop raises
    except SourceError as error:
        return frames, error
    return frames, None


def test_frames_have_the_time_of_their_grab_from_zero() -> None:
    bench = Bench("1" * 6)
    frames, error = take(bench.open(retry=Retry(limit_s=0.0)))
    # The first frame only proves that the camera works: it would be old by now.
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert isinstance(error, SourceLostError)


@pytest.mark.parametrize("reason", [ABSENT, BUSY])
def test_a_camera_that_cannot_be_opened_is_tried_again_then_named(reason: SourceError) -> None:
    bench = Bench(*[reason] * 9)
    with pytest.raises(SourceError) as raised:
        bench.open(retry=Retry(first_limit_s=3.0))
    assert raised.value is reason
    assert bench.time.waits == pytest.approx([0.5, 1.0, 1.5])
    assert bench.events == [
        f"{reason} Trying again in 0.5 s (attempt 1).",
        f"{reason} Trying again in 1.0 s (attempt 2).",
        f"{reason} Trying again in 1.5 s (attempt 3).",
    ]


def test_a_camera_that_comes_late_is_used() -> None:
    bench = Bench(ABSENT, BUSY, "111")
    source = bench.open()
    assert bench.events[-1] == "The camera /dev/video0 gives frames again."
    assert next(iter(source)).index == 0


def test_a_camera_that_opens_but_gives_nothing_is_refused_and_released() -> None:
    bench = Bench("0", "0", "0")
    with pytest.raises(SourceError, match="was opened but gives no frame"):
        bench.open(retry=Retry(first_limit_s=1.0))
    assert [device.released for device in bench.devices] == [1, 1, 1]


def test_no_permission_is_not_tried_again() -> None:
    bench = Bench(FinalSourceError("No permission to open the camera /dev/video0."))
    with pytest.raises(SourceError, match="No permission"):
        bench.open()
    assert bench.time.waits == []


def test_an_unplugged_camera_that_comes_back_goes_on() -> None:
    bench = Bench("1110", ABSENT, ABSENT, "1110")
    source = bench.open()
    frames = list(itertools.islice(source, 4))
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.time_s for frame in frames[:2]] == pytest.approx([0.0, 0.1])
    assert frames[2].time_s > 3.5  # the time away counts: the decoder must see the gap
    assert bench.time.waits == pytest.approx([0.5, 1.0, 2.0])
    assert bench.events[0] == (
        "The camera /dev/video0 gives no more frames. Trying again in 0.5 s (attempt 1)."
    )
    assert bench.devices[0].released == 1
    source.close()
    assert bench.devices[1].released == 1


def test_how_often_it_came_back_is_counted() -> None:
    bench = Bench("111", "11", "1")
    source = bench.open(retry=Retry(limit_s=1.0))
    assert len(take(source)[0]) == 3, "each first frame shows that the device works"
    assert source.reopened == 2


def test_a_camera_that_changes_its_size_goes_on() -> None:
    bench = Bench("11111")
    sizes = iter([(4, 6), (4, 6), (8, 12), (8, 12), (4, 6)])

    class Changing(FakeDevice):
        def retrieve(self) -> tuple[bool, Any]:
            return True, np.zeros((*next(sizes), 3), np.uint8)

    bench._attempts = iter([Changing("11111", bench.time)])
    frames, _ = take(bench.open(retry=Retry(limit_s=0.0)))
    assert [frame.image.shape[0] for frame in frames] == [4, 8, 8, 4]
    assert [event for event in bench.events if "gives frames of" in event] == [
        "The camera /dev/video0 gives frames of 12x8 now.",
        "The camera /dev/video0 gives frames of 6x4 now.",
    ]


def test_frames_carry_the_driver_s_time() -> None:
    """On the clock of the process; what cannot be such a time is none."""
    bench = Bench("111111")
    ages_s = iter([0.0, 0.03, 0.04, 5.0, -1.0, 0.02])
    source = bench.open(
        retry=Retry(limit_s=0.0), taken_s=lambda device, now_s: now_s - next(ages_s)
    )
    frames, _ = take(source)
    assert frames[0].taken_s == pytest.approx(bench.time.now_s - 0.5 - 0.03)
    times = [frame.time_s for frame in frames]
    assert times == sorted(times), "whatever a driver says, time never goes back"

    class Stamped:
        def __init__(self, stamp_s: float) -> None:
            self.stamp_s = stamp_s

        def get(self, number: int) -> float:
            assert number == cv2.CAP_PROP_POS_MSEC
            return 1000.0 * self.stamp_s

    for stamp_s, expected_s in ((99.97, 99.97), (0.0, 100.0), (101.0, 100.0), (98.0, 100.0)):
        device: Any = Stamped(stamp_s)
        assert camera_module._driver_time(device, 100.0) == expected_s


def test_an_unplugged_camera_that_stays_away_is_lost() -> None:
    bench = Bench("1110")
    frames, error = take(bench.open(retry=Retry(limit_s=30.0)))
    assert len(frames) == 2
    assert isinstance(error, SourceLostError)
    assert str(error) == (
        "The camera /dev/video0 stopped after 2 frames and did not come back. "
        "There is no camera /dev/video0: plug it in."
    )
    assert bench.time.waits == pytest.approx([0.5, 1, 2, 4, 5, 5, 5, 5, 2.5])
    assert sum(bench.time.waits) == pytest.approx(30.0)


def test_the_pauses_begin_anew_after_each_return() -> None:
    bench = Bench("110", ABSENT, "110", ABSENT, "110")
    take(bench.open(retry=Retry(limit_s=2.0)))
    assert bench.time.waits[:4] == pytest.approx([0.5, 1.0, 0.5, 1.0])


def test_a_few_damaged_frames_are_passed_over() -> None:
    bench = Bench("1xx1x1")
    frames, _ = take(bench.open(retry=Retry(limit_s=0.0)))
    assert len(frames) == 2
    assert "gives no more frames" not in bench.events


def test_nothing_but_damaged_frames_is_a_lost_camera() -> None:
    bench = Bench("1" + "x" * 99)
    frames, error = take(bench.open(retry=Retry(limit_s=0.0)))
    assert frames == []
    assert isinstance(error, SourceLostError)


def test_closing_ends_the_frames_and_releases_once() -> None:
    bench = Bench("1" * 9)
    source = bench.open()
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []
    assert bench.devices[0].released == 1


def test_closing_ends_the_waiting() -> None:
    bench = Bench("110")
    source = bench.open()
    bench.time.wait = lambda seconds: bool(source.close()) or False  # type: ignore[method-assign]
    source._wait = bench.time.wait
    assert len(list(source)) == 1


def test_closing_during_a_read_releases_after_it() -> None:
    reading, go_on = threading.Event(), threading.Event()
    bench = Bench()

    def block() -> None:
        if bench.devices and threading.current_thread() is thread:
            reading.set()
            assert go_on.wait(10.0)

    device = FakeDevice("1" * 9, bench.time, block)
    bench._attempts = iter([device])
    thread = threading.Thread(target=lambda: list(source))
    source = bench.open()
    thread.start()
    assert reading.wait(10.0)
    source.close()  # comes back although the other thread is inside the device
    assert device.released == 0
    go_on.set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert device.released == 1


def test_a_handle_is_released_by_whoever_comes_last() -> None:
    released: list[str] = []
    handle = Handle("device", released.append)
    with handle.use() as first:
        assert first == "device"
        handle.close()
        assert released == []
    assert released == ["device"]
    with handle.use() as second:
        assert second is None
    handle.close()
    assert released == ["device"]


# Finding out what is wrong with a device


def test_devices_by_number_path_and_link(tmp_path: Path) -> None:
    assert camera_device("0") == "/dev/video0"
    assert camera_device("/dev/video5") == "/dev/video5"
    (tmp_path / "by-id").symlink_to("/dev/null")  # any character device
    assert camera_device(str(tmp_path / "by-id")) == str(tmp_path / "by-id")
    assert camera_device("film.mp4") is None
    assert camera_device("a\0b") is None


def test_an_absent_camera_names_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "DEV", tmp_path)
    (tmp_path / "video2").touch()
    with pytest.raises(SourceError, match=r"no camera .*video0: plug it in.* here are .*video2\.$"):
        check_camera(str(tmp_path / "video0"))
    (tmp_path / "video2").unlink()
    with pytest.raises(
        SourceError, match=r"no other video device; for a camera on a ribbon.*rpicam:"
    ):
        check_camera(str(tmp_path / "video0"))


@pytest.mark.parametrize(
    ("number", "kind", "sentence"),
    [
        (errno.EACCES, FinalSourceError, r"No permission .* usermod -aG video"),
        (errno.EBUSY, SourceError, r"The camera /dev/video0 is busy: .* uses it; close that\."),
        (errno.ENODEV, SourceError, r"There is no camera /dev/video0: plug it in"),
        (errno.EIO, SourceError, r"Cannot open the camera /dev/video0: Input/output error\."),
    ],
)
def test_each_reason_of_the_system_has_its_sentence(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[SourceError], sentence: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(camera_module.os, "open", refuse)
    with pytest.raises(SourceError, match=sentence) as raised:
        check_camera("/dev/video0")
    assert type(raised.value) is kind


def test_another_device_is_no_camera() -> None:
    with pytest.raises(FinalSourceError, match="/dev/null is not a camera"):
        check_camera("/dev/null")


def _answer(monkeypatch: pytest.MonkeyPatch, device_caps: int) -> None:
    packed = CAPABILITY.pack(
        b"uvcvideo", b"HD Webcam\0", b"usb-1", 0x60000, 0x80000000 | 0x84A00001, device_caps
    )
    monkeypatch.setattr(camera_module.fcntl, "ioctl", lambda *_: packed)


def test_a_metadata_node_is_told_from_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    _answer(monkeypatch, 0x04A00000)
    with pytest.raises(
        FinalSourceError, match=r"/dev/null \(HD Webcam\) gives no images, like the"
    ):
        check_camera("/dev/null")
    _answer(monkeypatch, 0x04200001)
    assert check_camera("/dev/null") == "HD Webcam"


def test_who_uses_a_device_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "PROC", tmp_path)
    for number, target in ((7, "/dev/null"), (8, "/dev/zero")):
        (tmp_path / f"{number}" / "fd").mkdir(parents=True)
        (tmp_path / f"{number}" / "fd" / "3").symlink_to(target)
        (tmp_path / f"{number}" / "comm").write_text("cheese\n")
    (tmp_path / "9").mkdir()  # gone, or not ours to look into
    assert camera_users("/dev/null") == ["cheese (process 7)"]


class FakeCapture:
    """Records what is asked of ``cv2.VideoCapture``."""

    opened = True
    asked: list[tuple[int, float]]

    def __init__(self, device: str, backend: int) -> None:
        FakeCapture.asked = []
        assert backend == cv2.CAP_V4L2

    def isOpened(self) -> bool:
        return self.opened

    def set(self, prop: int, value: float) -> bool:
        FakeCapture.asked.append((prop, value))
        return True

    def release(self) -> None:
        pass


def test_a_wide_picture_is_asked_for_as_mjpg_with_a_short_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _answer(monkeypatch, 1)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    connect_camera("/dev/null", (1280, 720), 30.0)
    mjpg = cv2.VideoWriter_fourcc(*"MJPG")
    assert FakeCapture.asked == [
        (cv2.CAP_PROP_FOURCC, mjpg),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 30.0),
        (cv2.CAP_PROP_BUFFERSIZE, 1),
    ]
    connect_camera("/dev/null", (640, 480), None)
    assert cv2.CAP_PROP_FOURCC not in dict(FakeCapture.asked)


@pytest.mark.parametrize(
    ("users", "sentence"),
    [
        (["cheese (process 7)"], r"is busy: cheese \(process 7\) uses it; close that"),
        ([], r"OpenCV cannot read the camera /dev/null \(HD Webcam\).*use rpicam:"),
    ],
)
def test_a_camera_that_opencv_cannot_open_says_why(
    monkeypatch: pytest.MonkeyPatch, users: list[str], sentence: str
) -> None:
    _answer(monkeypatch, 1)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(FakeCapture, "opened", False)
    monkeypatch.setattr(camera_module, "camera_users", lambda _: users)
    with pytest.raises(SourceError, match=sentence):
        connect_camera("/dev/null")


def test_a_real_absent_camera_is_one_sentence() -> None:
    events: list[str] = []
    with pytest.raises(SourceError, match=r"There is no camera /dev/video987: plug it in"):
        open_camera("/dev/video987", retry=Retry(first_limit_s=0.0), on_event=events.append)
    assert events == []
