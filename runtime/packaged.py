"""The bundled model: its .onnx file, and in wheels for one kind of machine its bundle beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from shiftedge.runtime.errors import MissingExtraError, ModelError
from shiftedge.runtime.manifest import MANIFEST_NAME

ASSETS = "shiftedge.runtime.assets"
FOLDER = "compiled"
"""Of the bundle; setup.py puts it there."""


def packaged_bundle() -> Path | None:
    """The folder of the bundle; None in a checkout, and in a wheel for any machine."""
    import importlib.resources  # takes its time, which who names a model need not wait for

    folder = importlib.resources.files(ASSETS) / FOLDER
    return folder if isinstance(folder, Path) and (folder / MANIFEST_NAME).is_file() else None


@contextlib.contextmanager
def packaged_file(name: str) -> Iterator[Path]:
    """An .onnx file of the package, for who loads it within.

    Raises:
        ModelError: this installation has it not.
        MissingExtraError: with what would do without the package that is missing.
    """
    import importlib.resources

    file = importlib.resources.files(ASSETS) / name
    if not file.is_file():
        raise ModelError(
            f"This installation has no bundled model ({name}); name a model file, such as one that "
            "`shiftedge export` wrote."
        )
    try:
        with importlib.resources.as_file(file) as path:
            yield path
    except MissingExtraError as error:
        raise MissingExtraError(
            f"{error} The bundled model runs without it where it is compiled: a wheel for x86-64 "
            "or aarch64 holds it so (`make wheels`), or `shiftedge compile` it once and name the "
            "folder."
        ) from error
