"""The film holds every frame and plays at the speed of the source."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment
from shiftedge.demos.sinks.film import LONGEST_LAG_S, FilmSink
from shiftedge.runtime.errors import OutputError

cv2: Any = pytest.importorskip("cv2", reason="the camera extra (OpenCV) is not installed")


class FlatOverlay:
    """Instead of the real one: canvases of 64 x 48 in the colour of the image."""

    size = (64, 48)

    def __init__(self, fail_at: int = -1) -> None:
        self.drawn = 0
        self.fail_at = fail_at

    def draw(self, image: NDArray[np.uint8], moment: Moment) -> NDArray[np.uint8]:
        self.drawn += 1
        if self.drawn == self.fail_at:
            raise OutputError("The paint is dry.")
        return np.full((48, 64, 3), image[0, 0], np.uint8)


def moment(time_s: float) -> Moment:
    return Moment(time_s, np.array([1.0]), None, 0.004, 0)


def film_sink(overlay: FlatOverlay, film: Path) -> FilmSink:
    sink = FilmSink(film)
    session: Any = SimpleNamespace(source=SimpleNamespace(rate_hz=10.0))
    sink.begin([session])
    sink.overlay = lambda image_size: overlay  # type: ignore[method-assign, return-value, assignment]
    return sink


def present(film: Path, times: list[float]) -> None:
    sink = film_sink(FlatOverlay(), film)
    for number, time_s in enumerate(times):
        sink.take(np.full((2, 2, 3), 20 * (number % 12 + 1), np.uint8), moment(time_s))
    sink.close()


def levels(film: Path) -> list[int]:
    """Which of the frames each frame of the film shows."""
    capture = cv2.VideoCapture(str(film))
    found = []
    while (read := capture.read())[0]:
        found.append(round(float(read[1].mean()) / 20) - 1)
    return found


def test_every_frame_once_at_an_even_pace(tmp_path: Path) -> None:
    present(tmp_path / "a.mp4", [7.0 + number / 10 for number in range(8)])
    assert levels(tmp_path / "a.mp4") == list(range(8))


def test_a_dropped_frame_leaves_the_one_before_in_place(tmp_path: Path) -> None:
    present(tmp_path / "a.mp4", [0.0, 0.1, 0.4, 0.5])
    assert levels(tmp_path / "a.mp4") == [0, 1, 1, 1, 2, 3]


def test_frames_in_a_burst_are_all_kept_and_the_time_made_good(tmp_path: Path) -> None:
    present(tmp_path / "a.mp4", [0.0, 0.01, 0.02, 0.5])
    assert levels(tmp_path / "a.mp4") == [0, 1, 2, 2, 2, 3]


def test_a_film_of_uneven_rate_is_as_long_as_what_it_shows(tmp_path: Path) -> None:
    fast = [number / 30 for number in range(91)]
    present(tmp_path / "a.mp4", [*fast, 3.1, 3.2])
    film = levels(tmp_path / "a.mp4")
    assert len(film) <= 1 + 10 * (3.2 + LONGEST_LAG_S)


def test_a_long_pause_is_cut(tmp_path: Path) -> None:
    present(tmp_path / "a.mp4", [0.0, 0.1, 60.0, 60.1, 60.3])
    assert levels(tmp_path / "a.mp4") == [0, *[1] * 21, 2, 3, 3, 4]


def test_a_failure_leaves_no_half_film(tmp_path: Path) -> None:
    sink = film_sink(FlatOverlay(fail_at=2), tmp_path / "a.mp4")
    image = np.zeros((2, 2, 3), np.uint8)
    sink.take(image, moment(0.0))
    with pytest.raises(OutputError, match="dry"):
        sink.take(image, moment(0.1))
    sink.close()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_cannot_be_begun(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.mp4"):
        present(tmp_path / "a.txt", [0.0])
