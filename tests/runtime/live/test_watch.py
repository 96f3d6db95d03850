"""Several cameras, one loop: who is next, what is left out, and what becomes of one that fails."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kit.fake_engine import FakeEngine
from numpy.typing import NDArray

from shiftedge.runtime.capture import FrameSource, LatestFrame, TimedFrame
from shiftedge.runtime.capture.reader import Late, merged
from shiftedge.runtime.engines.base import EngineSession
from shiftedge.runtime.errors import ShiftedgeError, SourceError
from shiftedge.runtime.live.session import LiveSession, watch
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

IMAGE = np.zeros((24, 32, 3), np.uint8)
LIMIT_S = 20.0


class Camera(FrameSource):
    """Gives frames when told to."""

    live, rate_hz = True, 24.0

    def __init__(self, name: str, image: NDArray[np.uint8] = IMAGE) -> None:
        self.name = name
        self.image = image
        self.given = 0
        self._told = threading.Semaphore(0)
        self._closed = False
        self.error: Exception | None = None
        self.seen = threading.Semaphore(0)

    def give(self, count: int = 1) -> None:
        """And wait until whoever reads has taken them."""
        for _ in range(count):
            self._told.release()
            assert self.seen.acquire(timeout=LIMIT_S)

    def __iter__(self) -> Iterator[TimedFrame]:
        first = True
        while True:
            if not first:
                self.seen.release()  # the one before is with the reader
            first = False
            self._told.acquire()
            if self._closed:
                return
            if self.error is not None:
                raise self.error
            self.given += 1
            yield TimedFrame(self.image, self.given / 24, self.given - 1, time.monotonic())

    def fail(self, error: Exception) -> None:
        self.error = error
        self._told.release()

    def close(self) -> None:
        self._closed = True
        self._told.release()


def test_the_camera_that_has_waited_the_longest_is_next() -> None:
    """Also where a fast one has a newer frame each time, or an older one replaced."""
    fast, slow, other = (Camera(name) for name in ("fast", "slow", "other"))
    readers = [LatestFrame(camera) for camera in (fast, slow, other)]
    frames = merged(readers)
    fast_first = threading.Thread(target=fast.give)
    fast_first.start()
    assert next(frames)[0].name == "fast"
    fast_first.join()
    slow.give()
    fast.give(3)
    other.give()
    slow.give()  # replaces its first, and keeps that one's place
    taken = [(reader.name, frame.index) for reader, frame in (next(frames) for _ in range(3))]
    assert taken == [("slow", 1), ("fast", 3), ("other", 0)]
    assert [reader.dropped for reader in readers] == [2, 1, 0]
    for reader in readers:
        reader.close()
    assert list(frames) == []


class Slow(FakeEngine):
    """Takes as long for a step as the time that is left of a clock of the test."""

    step_s = 0.0

    def open_session(self) -> Any:
        engine, session = self, super().open_session()

        class Waiting(EngineSession):
            def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
                time.sleep(engine.step_s)
                return session.step(image)

            def reset(self) -> None:
                session.reset()

            def save(self) -> bytes:
                return session.save()

            def load(self, block: bytes) -> None:
                session.load(block)

        return Waiting()


class Steady(FrameSource):
    """A camera of 60 frames a second for so long."""

    live, rate_hz = True, 60.0

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self._seconds = name, seconds
        self._closing = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        begun_s = time.monotonic()
        for index in range(round(self._seconds * 60)):
            if self._closing.wait(max(begun_s + index / 60 - time.monotonic(), 0.0)):
                return
            yield TimedFrame(IMAGE, index / 60, index, time.monotonic())

    def close(self) -> None:
        self._closing.set()


def test_a_model_that_is_too_slow_is_shared_evenly(spec: ModelSpec) -> None:
    """Twice as slow as six cameras want: each gets its share."""
    engine = Slow(spec)
    engine.step_s = 2.0 / (6 * spec.frame_rate_hz)
    model = Model(engine)
    sessions = [LiveSession(model, Steady(str(number), 3.0)) for number in range(6)]
    counted = Counter(
        session.name for session, _, result in watch(sessions) for _ in range(result.steps)
    )
    for session in sessions:
        session.close()
    mean = sum(counted.values()) / len(sessions)
    assert mean > 5
    assert min(counted.values()) > 0.6 * mean
    summaries = [session.summary() for session in sessions]
    assert all(summary.skipped > 0 and summary.dropped > 0 for summary in summaries)
    assert "steps left out since the model is too slow" in summaries[0].sentence()


def test_one_missed_frame_is_made_up_for_and_many_are_not(fake_model: Model) -> None:
    """Else a model that is too slow is given ever more to do."""
    session = LiveSession(fake_model, Clocked())
    indices = [*range(12), 14, 15, *range(18, 60, 3)]  # of 12 a second
    results = [session.feed(TimedFrame(IMAGE, index / 12, index)) for index in indices]
    found = [(result.steps, result.skipped) for result in results if result is not None]
    assert found[:12] == [(1, 0)] * 12
    assert found[12][0] == 3, "two were missed, once"
    assert found[13] == (1, 0)
    assert found[14][1] == 0
    assert all(steps == 1 and skipped >= 1 for steps, skipped in found[16:])
    assert session.summary().skipped == sum(skipped for _, skipped in found)
    session.close()


def test_one_that_fails_leaves_the_others(fake_model: Model) -> None:
    good, lost, wrong = Camera("good"), Camera("lost"), Camera("wrong", np.zeros((4, 4), np.uint8))
    sessions = [LiveSession(fake_model, camera) for camera in (good, lost, wrong)]
    failed: list[tuple[str, ShiftedgeError]] = []

    def on_lost(session: LiveSession, error: ShiftedgeError) -> None:
        failed.append((session.name, error))

    frames = watch(sessions, on_lost)
    helper = threading.Thread(
        target=lambda: (lost.fail(SourceError("The cable is out.")), wrong.give(), good.give())
    )
    helper.start()
    session, frame, _ = next(frames)
    helper.join()
    assert (session.name, frame.index) == ("good", 0)
    good.close()
    assert list(frames) == []
    assert sorted(name for name, _ in failed) == ["lost", "wrong"]


def test_alone_it_raises(fake_model: Model) -> None:
    camera = Camera("lost")
    camera.fail(SourceError("The cable is out."))
    with LiveSession(fake_model, camera) as session, pytest.raises(SourceError, match="cable"):
        list(session)


class Clocked(FrameSource):
    """Frames that were taken so many seconds ago."""

    name, live, rate_hz = "clocked", True, 12.0

    def __init__(self, *ages_s: float) -> None:
        self.ages_s = ages_s

    def __iter__(self) -> Iterator[TimedFrame]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_a_frame_older_than_an_interval_is_not_stepped(
    fake_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = LiveSession(fake_model, Clocked())
    now_s = 1000.0
    monkeypatch.setattr("shiftedge.runtime.live.session.time.monotonic", lambda: now_s)
    ages = [0.03, 0.03, 0.10, 0.2, 0.03]  # of a camera whose frames always take 30 ms
    results = []
    for index, age_s in enumerate(ages):
        now_s = 1000.0 + index / 12
        results.append(session.feed(TimedFrame(IMAGE, index / 12, index, now_s - age_s)))
    assert [result is not None for result in results] == [True, True, True, False, True]
    summary = session.summary()
    assert (summary.stale, summary.frames) == (1, 4)
    assert "1 frames too old" in summary.sentence()
    session.close()


def test_a_camera_that_becomes_slower_is_watched_all_the_same(
    fake_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = LiveSession(fake_model, Clocked())
    now_s = 1000.0
    monkeypatch.setattr("shiftedge.runtime.live.session.time.monotonic", lambda: now_s)
    for index in range(60):
        now_s = 1000.0 + index / 12
        age_s = 0.03 if index < 12 else 0.5
        result = session.feed(TimedFrame(IMAGE, index / 12, index, now_s - age_s))
    assert result is not None
    assert 0 < session.summary().stale < 36
    session.close()


def test_a_recording_is_never_too_old(fake_model: Model) -> None:
    session = LiveSession(fake_model, Clocked())
    assert all(session.feed(TimedFrame(IMAGE, index / 12, index)) for index in range(5))
    session.close()


def test_camera_to_event_is_measured(spec: ModelSpec) -> None:
    from kit.playback import LEVELS, ReadingEngine

    session = LiveSession(Model(ReadingEngine(spec)), Clocked())
    image = np.full((24, 32, 3), 2 * LEVELS, np.uint8)
    for index in range(12):
        taken_s = time.monotonic() - 0.02
        session.feed(TimedFrame(image, index / 12, index, taken_s))
    summary = session.summary()
    assert summary.events == 1
    assert summary.event_p50_ms is not None
    assert summary.event_p50_ms >= 19.8
    session.close()


def test_a_source_is_opened_by_who_reads_it(fake_model: Model) -> None:
    """While one camera is waited for, the other is watched; closing ends the waiting."""
    waiting, opened = threading.Event(), Camera("there")

    def absent(closing: threading.Event) -> FrameSource:
        waiting.set()
        assert closing.wait(LIMIT_S)
        return Clocked()

    late = LiveSession(fake_model, Late("absent", absent))
    there = LiveSession(fake_model, Late("there", lambda closing: opened))
    frames = watch([late, there], lambda session, error: None)
    helper = threading.Thread(target=opened.give)
    helper.start()
    session, _, _ = next(frames)
    helper.join()
    assert session.name == "there"
    assert waiting.is_set()
    assert (late.reader.rate_hz, there.reader.rate_hz) == (None, 24.0)
    late.close()
    there.close()
    assert not late.reader._thread.is_alive()


def test_a_source_that_cannot_be_opened_is_lost(fake_model: Model) -> None:
    def refuse(closing: threading.Event) -> FrameSource:
        raise SourceError("There is no camera.")

    failed: list[str] = []
    session = LiveSession(fake_model, Late("absent", refuse))
    assert list(watch([session], lambda session, error: failed.append(str(error)))) == []
    assert failed == ["There is no camera."]
    session.close()
