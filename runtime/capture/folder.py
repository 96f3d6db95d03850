"""A folder of pictures, one a frame."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import PictureSequence, as_bgr, opencv
from shiftedge.runtime.errors import SourceError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
DEFAULT_RATE_HZ = 12.0
"""The Jester data set (20BN, 2019) ships its clips as folders of JPEG files at 12 frames/s."""
_DIGITS = re.compile(r"([0-9]+)")
_FLOW = re.compile(r"(?:flow_)?[xy]_?[0-9]+\.", re.IGNORECASE)
_FRAME = re.compile(r"(?:img|image|frame|rgb)_?[0-9]+\.", re.IGNORECASE)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key under which ``frame2`` comes before ``frame10``."""
    parts: list[str | int] = list(_DIGITS.split(name.lower()))
    parts[1::2] = [int(digits) for digits in parts[1::2]]  # the split alternates text and digits
    return parts, name  # the name itself, so that 1.png and 01.png have an order


class ImageFolder(PictureSequence):
    """The pictures of a folder in natural order of their names, or the first ``most``; sizes may
    differ.

    Args:
        folder: files with other suffixes than :data:`IMAGE_SUFFIXES`, and hidden ones, are passed
            over, and so is optical flow beside the frames.

    Raises:
        SourceError: the folder cannot be read or holds no picture, or the first cannot be decoded.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(
        self, folder: str | Path, rate_hz: float = DEFAULT_RATE_HZ, most: int | None = None
    ) -> None:
        super().__init__(str(folder), rate_hz)
        self._cv2 = opencv()
        try:
            found = [path for path in Path(folder).iterdir() if _is_picture(path)]
        except OSError as error:
            raise SourceError(f"Cannot read {folder}: {error.strerror or error}.") from error
        if not found:
            raise SourceError(
                f"The folder {folder} holds no pictures; expected files ending in "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}."
            )
        self._paths = sorted(_of_one_kind(found), key=lambda path: natural_key(path.name))[:most]
        self.picture(0)

    def __len__(self) -> int:
        return len(self._paths)

    def picture(self, index: int) -> NDArray[np.uint8]:
        path = self._paths[index]
        try:
            content = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            raise SourceError(f"Cannot read {path}: {error.strerror or error}.") from error
        try:
            image = self._cv2.imdecode(content, self._cv2.IMREAD_COLOR)
        except self._cv2.error:  # an empty file, or a header that asks for gigabytes
            image = None
        if image is None:
            raise SourceError(f"{path} is not a picture, or is damaged; remove or replace it.")
        return as_bgr(image, str(path))


def _of_one_kind(paths: list[Path]) -> list[Path]:
    """Without the optical flow that extractors of frames (dense_flow, mmaction2) put beside them:
    ``flow_x_00001.jpg`` or ``x_00001.jpg`` beside ``img_00001.jpg``."""
    plain = [path for path in paths if _FLOW.match(path.name) is None]
    if plain and any(_FRAME.match(path.name) for path in plain):
        return plain
    return paths


def _is_picture(path: Path) -> bool:
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
