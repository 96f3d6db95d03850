"""Writing what was seen to a video file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import opencv
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.process.files import atomic_path, utf8_path

FILM_SUFFIXES = {".mp4": ("mp4v", "avc1"), ".avi": ("MJPG",)}
"""Containers and their codecs, the first that works. mp4v is built into every OpenCV wheel; avc1
is, where it exists at all, a board's hardware encoder with its own ideas of sizes and rates."""
LARGEST_RATE_HZ = 600.0


class FilmWriter:
    """A film that appears at ``path`` when it is closed, whole, or not at all.

    Use it in a ``with`` block: Ctrl-C ends the film and keeps it, an error removes it.

    Args:
        path: ends in one of :data:`FILM_SUFFIXES`; an older file there is replaced at the end.
        size: (width, height) in pixels. The codecs know even sizes only: of an odd one the last
            row or column is left out.
        rate_hz: frames per second, above 0 and at most 600.

    Raises:
        OutputError: another suffix, a folder that cannot be written to, no codec for this size.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, path: str | Path, size: tuple[int, int], rate_hz: float) -> None:
        self.path = Path(path)
        self.frames = 0
        """Frames written so far."""
        codecs = FILM_SUFFIXES.get(self.path.suffix.lower())
        if codecs is None:
            raise OutputError(
                f"Cannot write a film to {path}: its name must end in {' or '.join(FILM_SUFFIXES)}."
            )
        if min(size) < 1 or not 0.0 < rate_hz <= LARGEST_RATE_HZ:
            raise OutputError(
                f"A film of {size[0]}x{size[1]} at {rate_hz} frames/s cannot be written; expected "
                f"a size above 0 and a rate above 0 and at most {LARGEST_RATE_HZ:g}."
            )
        self._cv2 = opencv()
        self._size = size
        with contextlib.ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_path(self.path))
            self._writer: Any = self._open(codecs, rate_hz)
            self._place = stack.pop_all()  # which puts the film there, or removes it

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a frame, uint8 (height, width, 3) BGR; one of another size is fitted in.

        Fitting keeps the proportions and leaves black borders: a camera that changes its size
        half-way does not end the film.

        Raises:
            OutputError: the film is closed, or ``image`` is not such an array.
        """
        if self._writer is None:
            raise OutputError(f"The film {self.path} is closed; no frame can be added.")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise OutputError(
                f"A film frame has shape {image.shape} and type {image.dtype}; "
                "expected uint8 (height, width, 3)."
            )
        self._writer.write(self._fitted(image))
        self.frames += 1

    def close(self) -> None:
        """End the film and put it in its place. May be called twice. No frames, no file.

        Raises:
            OutputError: not all of it could be written, for example because the disk is full.
        """
        if self._writer is None:
            return
        if not self.frames:
            self.discard()
            return
        self._release()
        with self._place:
            self._check()

    def discard(self) -> None:
        """Stop and leave no file."""
        if self._writer is not None:
            self._release()
            with contextlib.suppress(_Discarded), self._place:
                raise _Discarded

    def _release(self) -> None:
        self._writer.release()
        self._writer = None

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self.discard()
        else:  # the end, Ctrl-C or exit(): the user wants what was filmed so far
            self.close()

    def _open(self, codecs: tuple[str, ...], rate_hz: float) -> Any:
        cv2 = self._cv2
        for codec in codecs:
            with utf8_path(self._temporary) as name:
                # Two decimals: MPEG-4 keeps the rate as a ratio of numbers below 65,536.
                writer = cv2.VideoWriter(
                    name,
                    cv2.CAP_FFMPEG,
                    cv2.VideoWriter_fourcc(*codec),
                    max(round(rate_hz, 2), 0.01),
                    self._size,
                )
            if writer.isOpened():
                return writer
        self._need_room()
        raise OutputError(
            f"OpenCV cannot write {self.path} as {' or '.join(codecs)} of "
            f"{self._size[0]}x{self._size[1]}; try {' or '.join(FILM_SUFFIXES)} and another size."
        )

    def _need_room(self) -> None:
        """Say so where the disk takes nothing, which OpenCV's writer keeps to itself."""
        try:
            with open(self._temporary, "wb") as file:
                file.write(bytes(65536))
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.path}: {error.strerror or error}; make room, or name another "
                "place."
            ) from error

    def _check(self) -> None:
        """Count the frames and read the last: OpenCV's writer says nothing of a full disk."""
        cv2 = self._cv2
        with utf8_path(self._temporary) as name:
            reader = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        found = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.set(cv2.CAP_PROP_POS_FRAMES, self.frames - 1)  # an AVI's header counts lost ones too
        if found == self.frames and not reader.read()[0]:
            found -= 1
        reader.release()
        if found != self.frames:
            raise OutputError(
                f"The film {self.path} is not whole ({self.frames} frames were written, {found} or "
                "fewer arrived) and was removed; is the disk full?"
            )

    def _fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        width, height = self._size
        if image.shape[:2] == (height, width):
            return image
        fitted = np.empty((height, width, 3), np.uint8)
        letterbox(image, fitted, self._cv2.INTER_AREA)
        return fitted


def letterbox(image: NDArray[np.uint8], into: NDArray[np.uint8], interpolation: int) -> None:
    """Scale ``image`` into another, whole and undistorted, on black where it does not fill it."""
    cv2 = opencv()
    height, width = image.shape[:2]
    high, wide = into.shape[:2]
    scale = min(high / height, wide / width)
    # A pixel of rounding is not worth a black line.
    inner = (
        wide if abs(width * scale - wide) < 2 else max(1, round(width * scale)),
        high if abs(height * scale - high) < 2 else max(1, round(height * scale)),
    )
    left, top = (wide - inner[0]) // 2, (high - inner[1]) // 2
    into[:] = 0
    into[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=interpolation
    )


class _Discarded(Exception):  # noqa: N818 - a signal to atomic_path, never seen by anybody
    """The film is not wanted."""
