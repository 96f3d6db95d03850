"""Films appear whole or not at all."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shiftedge.runtime.capture import open_source
from shiftedge.runtime.capture.film_writer import FilmWriter
from shiftedge.runtime.errors import OutputError

SIZE = (64, 48)


def picture(value: int = 128, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), value, np.uint8)


@pytest.mark.parametrize("name", ["film.mp4", "film.avi", "FILM.MP4"])
@pytest.mark.parametrize("rate_hz", [12.0, 29.97002997, 50 / 3, 240.0])
def test_what_is_written_can_be_read(tmp_path: Path, name: str, rate_hz: float) -> None:
    path = tmp_path / name
    with FilmWriter(path, SIZE, rate_hz) as film:
        for value in (20, 120, 220):
            film.write(picture(value))
        assert not path.exists()  # not before it is whole
    assert film.frames == 3
    assert os.listdir(tmp_path) == [name]
    with open_source(str(path)) as source:
        assert source.rate_hz == pytest.approx(rate_hz, abs=0.01)
        means = [float(frame.image.mean()) for frame in source]
    assert means == pytest.approx([20, 120, 220], abs=6)


@pytest.mark.parametrize(
    "name",
    [b"f\xff.mp4", b"\xe9\xc3.avi", "gr\u00fc\u00df \u624b.mp4".encode(), b"l" * 251 + b".mp4"],
)
def test_names_of_any_bytes(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(b"d\xfe")
    folder.mkdir()
    path = folder / os.fsdecode(name)
    with FilmWriter(path, SIZE, 10.0) as film:
        for value in (20, 120, 220):
            film.write(picture(value))
    assert os.listdir(os.fsencode(folder)) == [name]
    assert len(list(open_source(str(path)))) == 3


def test_an_odd_size_loses_a_row_and_a_column(tmp_path: Path) -> None:
    with FilmWriter(tmp_path / "a.mp4", (65, 49), 10.0) as film:
        film.write(picture(50, (65, 49)))
    assert next(iter(open_source(str(tmp_path / "a.mp4")))).image.shape == (48, 64, 3)


def test_a_frame_of_another_size_is_fitted_in(tmp_path: Path) -> None:
    with FilmWriter(tmp_path / "a.avi", SIZE, 10.0) as film:
        film.write(picture(200, (96, 144)))
        film.write(picture(200, (1, 1000)))
    tall, thin = (frame.image for frame in open_source(str(tmp_path / "a.avi")))
    assert tall[:, 24:40].mean() == pytest.approx(200, abs=6)
    assert tall[:, :12].mean() == pytest.approx(0, abs=6)
    assert thin.shape == (48, 64, 3)


def film_then_raise(path: Path, error: BaseException) -> None:
    with FilmWriter(path, SIZE, 10.0) as film:
        film.write(picture())
        raise error


def test_ctrl_c_keeps_what_was_filmed(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt):
        film_then_raise(path, KeyboardInterrupt())
    assert len(list(open_source(str(path)))) == 1


def test_an_error_leaves_the_old_film(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old film")
    with pytest.raises(ZeroDivisionError):
        film_then_raise(path, ZeroDivisionError())
    assert path.read_bytes() == b"the old film"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_discarding_and_no_frames_leave_nothing(tmp_path: Path) -> None:
    film = FilmWriter(tmp_path / "a.mp4", SIZE, 10.0)
    film.write(picture())
    film.discard()
    film.close()
    with FilmWriter(tmp_path / "b.mp4", SIZE, 10.0):
        pass
    assert os.listdir(tmp_path) == []


def test_a_closed_film_takes_no_frame(tmp_path: Path) -> None:
    film = FilmWriter(tmp_path / "a.mp4", SIZE, 10.0)
    film.write(picture())
    film.close()
    film.close()
    with pytest.raises(OutputError, match="is closed; no frame can be added"):
        film.write(picture())


@pytest.mark.parametrize("image", [np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.float32)])
def test_what_is_no_frame_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(OutputError, match=r"expected uint8 \(height, width, 3\)"):  # noqa: SIM117
        with FilmWriter(tmp_path / "a.mp4", SIZE, 10.0) as film:
            film.write(image)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "size", "rate_hz", "sentence"),
    [
        ("a.gif", SIZE, 10.0, r"its name must end in \.mp4 or \.avi"),
        ("a", SIZE, 10.0, r"its name must end in \.mp4 or \.avi"),
        ("no/such/a.mp4", SIZE, 10.0, r"No such file or directory .* choose a folder that exists"),
        ("a.mp4", (0, 48), 10.0, r"expected a size above 0"),
        ("a.mp4", SIZE, float("nan"), r"expected a size above 0 and a rate above 0"),
        ("a.mp4", (40000, 40000), 10.0, r"OpenCV cannot write .* as mp4v or avc1 of 40000x40000"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_first_frame(
    tmp_path: Path, name: str, size: tuple[int, int], rate_hz: float, sentence: str
) -> None:
    with pytest.raises(OutputError, match=sentence):
        FilmWriter(tmp_path / name, size, rate_hz)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        FilmWriter(tmp_path / "a.mp4", SIZE, 10.0)


@pytest.mark.parametrize(
    ("name", "most", "words"),
    [
        ("a.mp4", 40_000, r"OutputError The film .*is the disk full\?"),
        ("a.avi", 40_000, r"OutputError The film .*is the disk full\?"),
        ("a.mp4", 0, "OutputError Cannot write .*a.mp4: File too large; make room"),
    ],
)
def test_a_full_disk_is_noticed(tmp_path: Path, name: str, most: int, words: str) -> None:
    """A limit on the size of files stands in for the disk: OpenCV sees the same failing writes."""
    code = (
        "import sys, numpy as np\nfrom shiftedge.runtime.capture import FilmWriter\n"
        "rng = np.random.default_rng(0)\n"
        "try:\n    with FilmWriter(sys.argv[1], (64, 48), 10.0) as film:\n"
        "        for _ in range(60): film.write(rng.integers(0, 255, (48, 64, 3), np.uint8))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path / name)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=limit,
    )
    assert re.match(words, done.stdout), done.stdout + done.stderr
    assert os.listdir(tmp_path) == []
