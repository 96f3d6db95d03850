"""What is painted, checked where a mistake would be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from shiftedge.demos.sinks import paint
from shiftedge.demos.sinks.overlay import (
    BANNER_S,
    FLASH_S,
    HISTORY_MOST,
    PANEL_WIDTH_PX,
    Moment,
    Overlay,
)
from shiftedge.runtime.capture.synthetic import TrueEvent
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.spec import ModelSpec

pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")

IMAGE = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
EVENT = GestureEvent(time_s=3.0, label="Swiping Left", index=1, confidence=0.93, start_s=2.9)


def moment(
    time_s: float, probabilities: list[float] | None = None, event: GestureEvent | None = None
) -> Moment:
    chances: NDArray[np.float64] = np.array(probabilities or [0.7, 0.1, 0.1, 0.1])
    return Moment(time_s=time_s, probabilities=chances, event=event, step_s=0.0041, dropped=0)


@pytest.fixture(params=["the installed font", "strokes"])
def _both_fonts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """OpenCV 4 has no FontFace: the other branch must paint the same things."""
    caches = (paint.text_width, paint.fit_text)
    for cached in caches:
        cached.cache_clear()
    if request.param == "strokes":
        monkeypatch.setattr(paint, "_font", lambda: None)
    yield
    for cached in caches:
        cached.cache_clear()


def test_the_camera_is_shown_untouched_when_nothing_happened(spec: ModelSpec) -> None:
    overlay = Overlay(spec, IMAGE.shape[:2])
    before = IMAGE.copy()
    canvas = overlay.draw(IMAGE, moment(0.0))
    np.testing.assert_array_equal(canvas[:480, :640], IMAGE)
    np.testing.assert_array_equal(IMAGE, before)
    assert canvas.shape == (580, 640 + PANEL_WIDTH_PX, 3)


@pytest.mark.parametrize("size", [(24, 32), (1080, 1920), (640, 480), (10, 400), (400, 10), (3, 3)])
def test_any_camera_fits(spec: ModelSpec, size: tuple[int, int]) -> None:
    overlay = Overlay(spec, size)
    width, height = overlay.size
    assert width % 2 == height % 2 == 0
    for other in (size, (480, 640), (7, 5)):  # a camera may change its size on the way
        canvas = overlay.draw(np.full((*other, 3), 255, np.uint8), moment(0.0, event=EVENT))
        assert canvas.shape == (height, width, 3)


def test_a_picture_of_other_proportions_is_not_distorted(spec: ModelSpec) -> None:
    canvas = Overlay(spec, (480, 640)).draw(np.full((480, 480, 3), 255, np.uint8), moment(0.0))
    bright = (canvas[240, :640] > 250).all(axis=1)
    assert bright.sum() == 480
    assert not bright[:79].any()


@pytest.mark.usefixtures("_both_fonts")
def test_an_event_flashes_then_its_name_stays_then_goes(spec: ModelSpec) -> None:
    overlay = Overlay(spec, IMAGE.shape[:2])
    plain = overlay.draw(IMAGE, moment(2.9))[:480, :640]

    def changed(time_s: float, event: GestureEvent | None = None) -> NDArray[np.bool_]:
        canvas = overlay.draw(IMAGE, moment(time_s, event=event))
        return (canvas[:480, :640] != plain).any(axis=2)

    at_once = changed(3.0, EVENT)
    assert at_once[:9].mean() > 0.9, "a coloured frame"
    assert at_once[395:450, 40:600].mean() > 0.9, "the name at the bottom"
    later = changed(3.0 + FLASH_S + 0.1)
    assert not later[:380].any()
    assert later[395:450, 40:600].mean() > 0.9
    assert not changed(3.0 + BANNER_S + 0.1).any()


def test_bars_are_as_long_as_probabilities(spec: ModelSpec) -> None:
    overlay = Overlay(replace(spec, silent_labels=()), IMAGE.shape[:2])
    colours = [paint.colour_of(index, False) for index in range(4)]

    def lengths(probabilities: list[float]) -> list[int]:
        panel = overlay.draw(IMAGE, moment(0.0, probabilities))[:480, 640:]
        return [int((panel == colour).all(axis=2).any(axis=0).sum()) for colour in colours]

    full = PANEL_WIDTH_PX - 36
    assert lengths([1.0, 0.0, 0.0, 0.0]) == [full - 1, 0, 0, 0], "less the mark of `enter`"
    half, quarter = lengths([0.5, 0.25, 0.25, 0.0])[:2]
    assert (half, quarter) == (full // 2, full // 4)


@pytest.mark.usefixtures("_both_fonts")
def test_many_and_long_and_foreign_labels(spec: ModelSpec) -> None:
    many = [f"label {number}" for number in range(60)]
    labels = ("x", "Turning Hand Counterclockwise With Both Hands At Once", "挥手", "жест", *many)
    overlay = Overlay(replace(spec, labels=labels, silent_labels=("x",)), (480, 240))
    chances = [1 / len(labels)] * len(labels)
    for index in range(4):
        event = replace(EVENT, label=labels[index], index=index, time_s=float(index))
        canvas = overlay.draw(IMAGE, moment(float(index), chances, event))
        assert canvas.shape[1] == overlay.size[0]


@pytest.mark.usefixtures("_both_fonts")
def test_words_that_are_no_text_crash_nothing() -> None:
    image = np.zeros((40, 200, 3), np.uint8)
    paint.text(image, "a\ud800\udcff", 5, 30, 16, (255, 255, 255))
    assert image.any()
    assert paint.fit_text("\udce9" * 9, 16, 40)[1] >= 8


def test_words_are_made_to_fit() -> None:
    words, size = paint.fit_text("Turning Hand Counterclockwise", 36, 150, 700)
    assert size == 18
    assert words.endswith("...")
    assert paint.text_width(words, size, 700) <= 150
    assert paint.fit_text("short", 16, 150) == ("short", 16)


def test_the_strip_shows_truth_and_events_and_forgets(spec: ModelSpec) -> None:
    truth = [TrueEvent("Swiping Left", 2.0, 2.8)]

    def strip(overlay: Overlay, time_s: float, event: GestureEvent | None = None) -> NDArray:
        return overlay.draw(IMAGE, moment(time_s, event=event))[480:]

    overlay, blank = Overlay(spec, IMAGE.shape[:2], truth=truth), Overlay(spec, IMAGE.shape[:2])
    assert (strip(overlay, 1.0) == strip(blank, 1.0)).all(), "not told beforehand"
    assert (strip(overlay, 3.0, EVENT) != strip(blank, 3.0)).any(axis=2).sum() > 500
    assert (strip(overlay, 60.0) == strip(blank, 60.0)).all()


def test_names_of_any_length_and_kind_are_painted(spec: ModelSpec) -> None:
    labels = tuple(letter + "\x1b[2J上\ud800" * 20_000 for letter in "abcd")
    strange = replace(spec, name="n" * 100_000, labels=labels, silent_labels=())
    overlay = Overlay(strange, (48, 64), engine="fake 1")
    event = GestureEvent(1.0, labels[1], 1, 0.9, 0.5)
    image = np.full((48, 64, 3), 90, np.uint8)
    canvas = overlay.draw(image, Moment(1.0, np.full(4, 0.25), event, 0.01, 0))
    assert canvas.shape == (*reversed(overlay.size), 3)


def test_a_clock_that_stands_still_or_goes_back_fills_no_memory(spec: ModelSpec) -> None:
    overlay = Overlay(spec, (48, 64))
    for _ in range(HISTORY_MOST + 10):
        overlay._remember(Moment(100.0, np.full(4, 0.25), None, 0.01, 0))
    assert len(overlay._history) == HISTORY_MOST
    overlay._remember(Moment(1.0, np.full(4, 0.25), None, 0.01, 0))
    assert len(overlay._history) == 1
