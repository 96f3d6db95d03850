"""A month of steps, scaled down: a stream takes no memory that grows with its length."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shiftedge.runtime.capture import FrameSource, TimedFrame
from shiftedge.runtime.engines.base import Engine, EngineSession
from shiftedge.runtime.live.session import LiveSession, StepTimes
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec


class Quick(Engine):
    """The same logits at once, so that a test takes many steps."""

    name, version = "quick", "1"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def open_session(self) -> EngineSession:
        return QuickSession(self.spec)


class QuickSession(EngineSession):
    def __init__(self, spec: ModelSpec) -> None:
        self._logits = np.zeros((2, spec.classes), np.float32)
        self._logits[:, 0], self._logits[1, 1] = 2.0, 9.0
        self._count = 0

    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._count += 1
        return self._logits[self._count // 40 % 2]

    def reset(self) -> None:
        pass

    def save(self) -> bytes:
        return b""

    def load(self, block: bytes) -> None:
        pass


class Endless(FrameSource):
    """One picture, 12 times a second, with a pause at times."""

    name, live, rate_hz = "endless", False, 12.0

    def __init__(self) -> None:
        self._closed = False

    def __iter__(self) -> Iterator[TimedFrame]:
        picture = np.full((24, 32, 3), 90, np.uint8)
        time_s, index = 0.0, 0
        while not self._closed:
            time_s += 1 / 12 if index % 500 else 5.0
            yield TimedFrame(picture, time_s, index)
            index += 1

    def close(self) -> None:
        self._closed = True


def test_a_session_keeps_nothing_of_its_steps(spec: ModelSpec) -> None:
    steps = 4000
    with LiveSession(Model(Quick(spec)), Endless()) as session:
        frames = iter(session)
        for _ in itertools.islice(frames, 300):
            pass
        tracemalloc.start()
        try:
            for _ in itertools.islice(frames, 200):
                pass
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for _ in itertools.islice(frames, steps):
                pass
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        summary = session.summary()
    assert after - before < 8192, "8 bytes a step were 32,000"
    assert summary.steps > 1000
    assert summary.resets["gap"] > 1
    assert summary.events > 10


@given(
    st.lists(st.floats(2e-6, 500.0), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.99])
)
def test_percentiles_are_within_their_error(times: list[float], share: float) -> None:
    counted = StepTimes()
    for seconds in times:
        counted.add(seconds)
    found = counted.share_ms(share)
    exact = 1e3 * float(np.percentile(times, 100 * share, method="lower"))
    assert found == pytest.approx(exact, rel=0.0051)


def test_times_beyond_the_bins_are_counted_at_their_ends() -> None:
    counted = StepTimes()
    assert counted.share_ms(0.5) is None
    for seconds in (0.0, 0.0, 1e9):
        counted.add(seconds)
    least, most = counted.share_ms(0.0), counted.share_ms(1.0)
    assert least == pytest.approx(1e-3, rel=0.0051)
    assert most is not None
    assert most > 6e5
