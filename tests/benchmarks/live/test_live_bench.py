"""``shiftedge bench live``: what it counts, and what it says of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from kit.playback import LEVELS, ReadingEngine

from shiftedge.__main__ import main
from shiftedge.benchmarks.live import measure
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

cv2 = pytest.importorskip("cv2", reason="the camera extra is not installed")


@pytest.fixture
def model(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> Model:
    """With a clip of three gestures a second, and nobody who looks at a page."""
    found = []
    for index in range(30):
        image = np.full((48, 64, 3), LEVELS * (1 + index // 10), np.uint8)
        found.append(cv2.imencode(".jpg", image)[1].tobytes())
    monkeypatch.setattr(measure, "_clip", lambda: found)
    monkeypatch.setattr(measure, "WARM_S", 0.0)
    monkeypatch.setattr(measure, "BROWSERS", ())
    return Model(ReadingEngine(spec))


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in report["figures"]}


def test_all_parts(model: Model) -> None:
    pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
    report = measure.report(model, ("page", "memory", "cameras"), seconds=3.0, frames=60, cameras=2)
    found = rows(report)
    assert set(measure.MUST_HOLD) <= set(found)
    assert found["camera to event p50"]["value"] > 0.0
    assert found["camera to event p50"]["value"] <= found["camera to event p99"]["value"]
    assert found["camera to page p50"]["value"] is None  # nobody looked
    assert report["notes"] == ["No Chromium is installed, so nobody looked at the page."]
    assert found["memory"]["of"].startswith("60 frames")
    assert found["share of a camera, least"]["value"] <= 1.0
    assert found["share of a camera, most"]["value"] >= 1.0
    text = "\n".join(measure.lines(report))
    assert "camera to page p50" in text
    json.dumps(report)


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("camera to event p50", 15.0, True),
        ("camera to event p50", 15.1, False),
        ("share of a camera, least", 0.9, True),
        ("share of a camera, least", 0.89, False),
        ("share of a camera, most", 1.2, False),
        ("camera to page p50", None, None),
        ("memory", 1e9, None),
    ],
)
def test_what_must_hold(name: str, value: float | None, holds: bool | None) -> None:
    assert measure._figure(name, value, "", "")["holds"] is holds


def test_a_camera_in_memory_ends() -> None:
    pictures: list[int] = []

    def picture(index: int) -> Any:
        pictures.append(index)
        return np.zeros((8, 8, 3), np.uint8)

    recording = list(measure.MemoryCamera("a", picture, frames=3, paced=False))
    assert [frame.index for frame in recording] == pictures == [0, 1, 2]
    assert all(frame.taken_s is None for frame in recording)
    camera = measure.MemoryCamera("a", picture)
    for frame in camera:
        assert frame.taken_s is not None
        if frame.index == 2:
            camera.close()


def test_words_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "live", "--seconds", "1"])
    assert ended.value.code == 2
    assert "is not a number of seconds from 5" in capsys.readouterr().err
