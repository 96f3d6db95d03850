"""The frames that all engines see: a rendered scene that moves, or a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture import open_source
from shiftedge.runtime.capture.synthetic.moving import MovingScene
from shiftedge.runtime.errors import OutputError, SourceError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.spec import ModelSpec

__all__ = ["CAMERA_SIZE", "Rendered", "Scene", "open_scene", "record"]

CAMERA_SIZE = (480, 640)
"""Height and width of the rendered scene as a camera would give it: what webcams give unasked."""
RECORDED_MOST = 128
"""Frames of a recording that are used, to and fro: 20 MB at 224x224, 118 MB at 640x480."""

Image = NDArray[np.uint8]


class Scene(Protocol):
    """Frames in any order."""

    def frame_at(self, index: int) -> Image:
        """Frame ``index`` in the model's size: uint8 (height, width, 3), BGR, C-contiguous."""

    def camera_at(self, index: int) -> Image:
        """The same as a camera gives it."""


class Rendered:
    """A moving scene, see :class:`MovingScene`."""

    def __init__(self, seed: int, spec: ModelSpec) -> None:
        self._model = MovingScene(seed, height=spec.height, width=spec.width)
        self._camera = MovingScene(seed, height=CAMERA_SIZE[0], width=CAMERA_SIZE[1])

    def frame_at(self, index: int) -> Image:
        return self._model.frame_at(index)

    def camera_at(self, index: int) -> Image:
        return self._camera.frame_at(index)


class Recorded:
    """Frames of a file that :func:`record` wrote, played to and fro, so that none follows another
    that it did not follow in the recording but for the direction."""

    def __init__(self, file: Path, spec: ModelSpec) -> None:
        self._camera: Image = np.load(file, mmap_mode="r", allow_pickle=False)
        fit = Preprocessor(spec).fit
        self._model = [np.ascontiguousarray(fit(np.array(image))) for image in self._camera]

    def _place(self, index: int) -> int:
        last = len(self._camera) - 1
        return last - abs(index % (2 * last) - last) if last else 0

    def frame_at(self, index: int) -> Image:
        return self._model[self._place(index)]

    def camera_at(self, index: int) -> Image:
        return np.array(self._camera[self._place(index)])


def open_scene(file: str | None, seed: int, spec: ModelSpec) -> Scene:
    """The recording in ``file``, or without one the rendered scene of that seed."""
    return Rendered(seed, spec) if file is None else Recorded(Path(file), spec)


def record(source: str, file: Path) -> int:
    """Write the first frames of a source, as ``--source`` names them, for the workers to map.

    Returns:
        How many there are, at most :data:`RECORDED_MOST`.

    Raises:
        SourceError: it cannot be opened, has no frame, or frames of different sizes.
        OutputError: there is no room for them.
    """
    images: list[Image] = []
    with open_source(source) as frames:
        for frame in frames:
            if images and frame.image.shape != images[0].shape:
                raise SourceError(
                    f"{source}: frame {len(images)} has another size than those before; expected "
                    "frames of one size."
                )
            images.append(np.array(frame.image))
            if len(images) == RECORDED_MOST:
                break
    if not images:
        raise SourceError(f"{source} has no frame; name a recording or a camera that gives some.")
    try:
        np.save(file, np.stack(images), allow_pickle=False)
    except OSError as error:
        raise OutputError(
            f"Cannot keep the frames of {source} in {file.parent}: {error.strerror or error}."
        ) from error
    return len(images)
