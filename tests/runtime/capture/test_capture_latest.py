"""Newest frames, and recordings at their own speed. Threads meet at events, never at sleeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue

import numpy as np
import pytest
from kit.fake_time import FakeTime

from shiftedge.runtime.capture import LatestFrame, Paced, open_source
from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.errors import SourceError, SourceLostError

IMAGE = np.zeros((2, 2, 3), np.uint8)
LIMIT_S = 10.0


def frame(index: int, time_s: float | None = None) -> TimedFrame:
    return TimedFrame(IMAGE, index / 10 if time_s is None else time_s, index)


class Scripted(FrameSource):
    """Gives what a test puts into ``queue``: a frame, an error to raise, or None for the end."""

    name = "scripted"
    live = True
    rate_hz = 10.0

    def __init__(self, *items: TimedFrame | Exception | None) -> None:
        self.queue: Queue[TimedFrame | Exception | None] = Queue()
        for item in items:
            self.queue.put(item)
        self.closed = 0
        self.deaf = False
        """Whether closing leaves a blocked read blocked, as some drivers do."""
        self.ended = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        try:
            while True:
                item = self.queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    return
                yield item
        finally:
            self.ended.set()

    def close(self) -> None:
        self.closed += 1
        if not self.deaf:
            self.queue.put(None)


def test_old_frames_are_dropped_and_counted_and_the_last_is_kept() -> None:
    source = Scripted(*map(frame, range(1)))
    latest = LatestFrame(source)
    frames = iter(latest)
    assert next(frames).index == 0
    for index in (1, 2, 3, 4):
        source.queue.put(frame(index))
    source.queue.put(None)
    assert source.ended.wait(LIMIT_S)  # all of them came while the consumer did something else
    last = next(frames)
    assert (last.index, last.time_s) == (4, 0.4)
    assert latest.dropped == 3
    assert list(frames) == []
    assert (latest.name, latest.rate_hz, latest.live) == ("scripted", 10.0, True)


def test_no_frame_is_lost_to_a_consumer_that_waits() -> None:
    source = Scripted()
    latest = LatestFrame(source)
    seen = []
    source.queue.put(frame(0))
    for taken in latest:
        seen.append(taken.index)
        source.queue.put(frame(len(seen)) if len(seen) < 2000 else None)
    assert seen == list(range(2000))
    assert latest.dropped == 0


def test_an_error_comes_after_the_last_frame() -> None:
    source = Scripted(frame(0), SourceError("the cable is out"))
    latest = LatestFrame(source)
    frames = iter(latest)
    assert next(frames).index == 0
    with pytest.raises(SourceError, match="the cable is out"):
        next(frames)


def test_any_other_error_is_passed_on_too() -> None:
    with pytest.raises(ZeroDivisionError):
        next(iter(LatestFrame(Scripted(ZeroDivisionError()))))


def test_a_source_that_hangs_is_noticed_from_outside() -> None:
    with (
        LatestFrame(Scripted(), stall_s=0.02) as latest,
        pytest.raises(SourceLostError, match=r"scripted gave no frame for 0\.02 s"),
    ):
        next(iter(latest))


def test_closing_closes_the_source_and_ends_the_thread() -> None:
    source = Scripted(frame(0))
    latest = LatestFrame(source)
    frames = iter(latest)
    next(frames)
    latest.close()
    latest.close()
    assert source.closed == 2
    assert not latest._thread.is_alive()
    assert list(frames) == []


def test_closing_before_the_first_frame() -> None:
    source = Scripted(frame(0))
    latest = LatestFrame(source)
    latest.close()
    assert list(latest) == []
    assert source.closed == 1


def test_closing_does_not_wait_for_a_source_that_hangs() -> None:
    source = Scripted(frame(0))
    source.deaf = True
    latest = LatestFrame(source, join_s=0.02)
    next(iter(latest))
    latest.close()
    assert latest._thread.is_alive()  # blocked in its device; a daemon, so it holds nothing up
    assert latest._thread.daemon
    source.queue.put(None)
    latest._thread.join(LIMIT_S)
    assert not latest._thread.is_alive()


def test_closing_from_another_thread_wakes_the_consumer() -> None:
    latest = LatestFrame(Scripted())
    got: list[TimedFrame] = []
    consumer = threading.Thread(target=lambda: got.extend(latest))
    consumer.start()
    latest.close()
    consumer.join(LIMIT_S)
    assert not consumer.is_alive()
    assert got == []


def test_a_recording_is_played_by_its_own_times() -> None:
    time = FakeTime()
    times_s = [0.0, 0.1, 0.15, 1.0]
    source = Scripted(*[frame(i, t) for i, t in enumerate(times_s)], None)
    seen = []
    for taken in Paced(source, time.clock, time.wait):
        seen.append((taken.time_s, time.now_s - 50.0))
        time.now_s += 0.02  # the work of the consumer
    assert seen == [(t, pytest.approx(t)) for t in times_s]


def test_late_frames_come_at_once_and_delays_do_not_add_up() -> None:
    time = FakeTime()
    source = Scripted(*map(frame, range(6)), None)
    shown = []
    for taken in Paced(source, time.clock, time.wait):
        shown.append(time.now_s - 50.0)
        time.now_s += 0.25 if taken.index == 1 else 0.0
    assert shown == pytest.approx([0.0, 0.1, 0.35, 0.35, 0.4, 0.5])


def test_closing_cuts_the_waiting_short() -> None:
    source = Scripted(frame(0, 0.0), frame(1, 3600.0))
    paced = Paced(source)
    frames = iter(paced)
    next(frames)
    rest: list[TimedFrame] = []
    consumer = threading.Thread(target=lambda: rest.extend(frames))
    consumer.start()
    paced.close()
    consumer.join(LIMIT_S)
    assert not consumer.is_alive()
    assert rest == []
    assert source.closed == 1


def test_a_recording_can_stand_in_for_a_camera() -> None:
    film = open_source("synthetic:moving?seconds=0.3&fps=100&size=32x32")
    with LatestFrame(Paced(film)) as camera:
        indices = [taken.index for taken in camera]
    assert camera.live
    assert indices[-1] == 29
    assert indices == sorted(set(indices))
    assert camera.dropped == 30 - len(indices)
