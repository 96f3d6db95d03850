"""Nothing that a sink does delays or fails the loop. Threads meet at events, never at sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shiftedge.demos.sinks import Missed, Moment, Sink, Wants
from shiftedge.demos.sinks.outlet import QUEUE_BYTES, Outlet
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.live.stream import Result

IMAGE = np.full((4, 4, 3), 7, np.uint8)
LIMIT_S = 20.0


def moment(number: int, *, event: bool = True, steps: int = 1) -> Moment:
    found = GestureEvent(float(number), "Wave", 1, 0.9, 0.0) if event else None
    result = Result(None, found, steps, 0.0, 0.0, None)
    return Moment(float(number), np.zeros(2), found, 0.0, 0, "door", result)


class Scripted(Sink):
    """Takes what it is given, once it may."""

    name = "scripted"

    def __init__(self, wants: Wants = "events", most: int = 1000) -> None:
        self.wants, self.most = wants, most
        self.open = threading.Event()
        self.open.set()
        self.inside = threading.Event()
        self.taken: list[tuple[float, Any]] = []
        self.failing: Callable[[float], Exception | None] = lambda time_s: None
        self.closed = 0

    def take(self, image: NDArray[np.uint8], moment: Moment) -> bool | None:
        self.inside.set()
        assert self.open.wait(LIMIT_S)
        if (error := self.failing(moment.time_s)) is not None:
            raise error
        self.taken.append((moment.time_s, image.size))
        return moment.time_s < 90.0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("wants", "expected"),
    [("images", [0, 1, 2]), ("frames", [0, 1, 2]), ("steps", [0, 1]), ("events", [0])],
)
def test_a_sink_is_given_what_it_wants(wants: Wants, expected: list[int]) -> None:
    sink = Scripted(wants)
    with Outlet(sink) as outlet:
        outlet.begin([])
        outlet.put(IMAGE, moment(0))
        outlet.put(IMAGE, moment(1, event=False))
        outlet.put(IMAGE, moment(2, event=False, steps=0))
    size = IMAGE.size if wants == "images" else 0
    assert sink.taken == [(float(number), size) for number in expected]
    assert sink.closed == 1
    assert outlet.account().taken == len(expected)


def test_a_sink_that_lags_drops_the_oldest_and_delays_nobody() -> None:
    sink = Scripted(most=10)
    sink.open.clear()
    outlet = Outlet(sink)
    outlet.begin([])
    outlet.put(IMAGE, moment(0))
    assert sink.inside.wait(LIMIT_S)
    for number in range(1, 31):
        outlet.put(IMAGE, moment(number))
    assert outlet.account().dropped == 20
    sink.open.set()
    outlet.close()
    assert [time_s for time_s, _ in sink.taken] == [0.0, *map(float, range(21, 31))]
    assert outlet.account().text() == "scripted 11 taken, 20 dropped"


def test_images_wait_within_their_memory() -> None:
    sink = Scripted("images")
    sink.open.clear()
    outlet = Outlet(sink)
    outlet.begin([])
    large = np.zeros((QUEUE_BYTES // 12, 4, 3), np.uint8)  # as large as all the room
    outlet.put(large, moment(0))
    assert sink.inside.wait(LIMIT_S)
    for number in range(1, 6):
        outlet.put(large, moment(number))
    assert outlet.account().dropped == 3, "two wait: one to show, one that is newer"
    sink.open.set()
    outlet.close()


def test_who_is_patient_loses_nothing() -> None:
    sink = Scripted(most=2)
    with Outlet(sink, patient=True) as outlet:
        outlet.begin([])
        for number in range(80):
            outlet.put(IMAGE, moment(number))
    assert [time_s for time_s, _ in sink.taken] == list(map(float, range(80)))
    assert outlet.account().dropped == 0


@pytest.mark.parametrize("error", [OutputError("The disk is full."), ZeroDivisionError("a bug")])
@pytest.mark.parametrize("patient", [False, True])
def test_a_sink_that_fails_is_over(error: Exception, patient: bool) -> None:
    sink = Scripted(most=2)
    sink.failing = lambda time_s: error if time_s == 1.0 else None
    with Outlet(sink, patient=patient) as outlet:
        outlet.begin([])
        for number in range(50):  # nobody waits for room that is never made
            outlet.put(IMAGE, moment(number))
            if number == 1:
                outlet._thread.join(LIMIT_S)
    assert outlet.ended
    assert outlet.error is error
    assert sink.closed == 1
    assert outlet.account().error == str(error)


def test_one_moment_may_be_missed() -> None:
    said: list[str] = []
    sink = Scripted()
    sink.failing = lambda time_s: Missed("The bell is broken.") if 2 <= time_s < 5 else None
    with Outlet(sink, on_note=said.append) as outlet:
        outlet.begin([])
        for number in range(8):
            outlet.put(IMAGE, moment(number))
    assert said[0] == "The bell is broken."
    assert said[-1] == "scripted delivers again."
    assert (outlet.account().taken, outlet.account().missed, outlet.error) == (5, 3, None)


def test_the_user_may_end_it() -> None:
    sink = Scripted()
    outlet = Outlet(sink)
    outlet.begin([])
    outlet.put(IMAGE, moment(99))
    outlet._thread.join(LIMIT_S)
    assert (outlet.ended, outlet.error) == (True, None)
    outlet.close()


def test_at_the_end_a_sink_that_hangs_is_left() -> None:
    sink = Scripted()
    sink.open.clear()
    sink.grace_s = 0.01
    outlet = Outlet(sink)
    outlet.begin([])
    for number in range(4):
        outlet.put(IMAGE, moment(number))
    assert sink.inside.wait(LIMIT_S)
    outlet.close()
    assert outlet.account().dropped == 3
    sink.open.set()
    outlet._thread.join(LIMIT_S)
    assert [time_s for time_s, _ in sink.taken] == [0.0]


def test_a_sink_that_never_began_is_closed() -> None:
    sink = Scripted()
    Outlet(sink).close()
    assert sink.closed == 1
