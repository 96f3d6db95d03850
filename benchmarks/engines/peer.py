"""What the peers have in common: a float32 frame of their own, and models that are converted."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import INT8_TOLERANCE, Array, Contender
from shiftedge.runtime.errors import MissingExtraError, ModelError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.files import cache_folder, output_folder, sha256_of, work_folder
from shiftedge.runtime.spec import ModelSpec

__all__ = ["Peer", "converted", "last_line"]


class Peer(Contender):
    """A contender that takes the frame normalised, in :attr:`frame`.

    Subclasses call :meth:`set_up` first of all.
    """

    title: str
    """Of the engine, for messages."""
    frame: Array
    """(1, 3, height, width): what a step reads. There are two that take turns, since the frame
    itself may be a state that the next step reads."""
    _states: list[Any]
    """What the next step takes, in the engine's own form."""

    def set_up(self, spec: ModelSpec | None) -> ModelSpec:
        """Keep the spec and what it says of precision, make the frame.

        Raises:
            ModelError: nobody knows the spec.
        """
        if spec is None:
            raise ModelError(f"{self.title} needs the model's spec, which nothing here could read.")
        self.spec = spec
        self.precision = spec.precision
        if spec.precision == "int8":
            self.tolerance = INT8_TOLERANCE
        shape = (1, 3, spec.height, spec.width)
        self.frame, self._spare = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._normalise = Preprocessor(spec).normalise
        return spec

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: normalises."""
        self.frame, self._spare = self._spare, self.frame
        self._normalise(image, self.frame)

    def refused(self, path: Path, error: BaseException | str) -> ModelError:
        """The error that says so in one sentence."""
        return ModelError(f"{path.name} is not taken by {self.title} ({last_line(error)}).")

    def check_integers(self, path: Path, found: int, wanted: int) -> None:
        """Raise where a quantised file is not computed as it says.

        Args:
            path: of the file.
            found: convolutions that the engine multiplies as integers.
            wanted: convolutions of the file with quantised weights.

        Raises:
            ModelError: others run in float32 of quantised numbers, which is neither precision.
        """
        if found < wanted:
            raise self.refused(
                path, f"it computes {wanted - found} of {wanted} quantised convolutions in float32"
            )


def last_line(error: BaseException | str) -> str:
    """What a library said in the end, at most 200 characters of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines else type(error).__name__
    return said.rstrip(".")[:200]


def converted(
    model: Path,
    engine: str,
    packages: tuple[str, ...],
    convert: Callable[[Path], None],
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """A conversion of ``model``, made once and kept in the cache folder.

    Args:
        model: the .onnx file.
        engine: in whose form; a folder of the cache.
        packages: distributions whose versions the result depends on.
        convert: writes the result's files into the empty folder that it is given.
        settings: that the result depends on, too.

    Returns:
        The folder with the files that ``convert`` wrote.

    Raises:
        MissingExtraError: one of ``packages`` is not installed.
        OutputError: the cache folder cannot be written to.
    """
    versions = {package: _version(package) for package in packages}
    with model.open("rb") as file:
        content = sha256_of(file).hex()
    key = json.dumps([content, versions, dict(settings or {})], sort_keys=True)
    parent = output_folder(cache_folder() / "peers" / engine)
    folder = parent / hashlib.sha256(key.encode()).hexdigest()[:32]
    if folder.is_dir():
        return folder
    with work_folder(parent) as made:
        convert(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker, with the same
                raise
    return folder


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        extra = "litert" if package == "litert-torch" else "peers"
        raise MissingExtraError(
            f"This needs the package {package}, which is not installed: "
            f"run  pip install 'shiftedge[{extra}]'"
        ) from error
