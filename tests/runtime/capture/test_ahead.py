"""Reading ahead changes when frames are made, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from shiftedge.runtime.capture import FrameSource, TimedFrame
from shiftedge.runtime.capture.reader import ReadAhead
from shiftedge.runtime.errors import SourceError


class Recording(FrameSource):
    """So many frames of 24 a second, and perhaps an error."""

    name, live, rate_hz = "recording", False, 24.0

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error = count, error

    def __iter__(self) -> Iterator[TimedFrame]:
        image = np.zeros((24, 32, 3), np.uint8)
        for index in range(self.count):
            yield TimedFrame(image, index / 24, index)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        pass


def test_the_same_frames_in_the_same_order() -> None:
    with ReadAhead(Recording(240)) as ahead:
        assert ahead.rate_hz == 24.0
        assert [frame.index for frame in ahead] == list(range(240))


def test_nothing_comes_of_nothing() -> None:
    assert list(ReadAhead(Recording(0))) == []


@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_error_comes_after_the_frames_before_it(count: int) -> None:
    source = Recording(count, SourceError("The file is cut short."))
    taken = []
    with pytest.raises(SourceError, match="cut short"):  # noqa: PT012 - how far it got matters
        for frame in ReadAhead(source):
            taken.append(frame)  # noqa: PERF402 - extend would lose those before the error
    assert len(taken) == count


class Endless(FrameSource):
    name, live, rate_hz = "endless", False, 30.0

    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[TimedFrame]:
        image = np.zeros((480, 640, 3), np.uint8)
        while True:
            self.given += 1
            yield TimedFrame(image, self.given / 30, self.given)

    def close(self) -> None:
        pass


def test_it_stays_within_its_memory_and_ends_when_closed() -> None:
    source = Endless()
    ahead = ReadAhead(source)
    threads = set(threading.enumerate())
    frames = iter(ahead)
    for _ in range(5):
        next(frames)
    ahead.close()
    assert list(frames) == []
    for thread in set(threading.enumerate()) - threads:
        thread.join(5.0)
        assert not thread.is_alive()
    assert source.given < 64, "16 MiB are 18 frames of 640x480"
