"""Fixtures for shows of frames in memory."""

from __future__ import annotations

import pytest
from kit.playback import PlaySource, ReadingEngine

from shiftedge.runtime.capture import FrameSource
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec


@pytest.fixture
def reading_model(spec: ModelSpec) -> Model:
    return Model(ReadingEngine(spec))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> PlaySource:
    """Make ``show`` open the given source, whatever the text."""

    def use(source: FrameSource) -> str:
        monkeypatch.setattr("shiftedge.demos.show.open_source", lambda text, **_: source)
        return "frames in memory"

    return use
