"""The compiled model, as a program of ours runs it: uint8 frame in, logits out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Array, Contender
from shiftedge.runtime.engines.base import Engine
from shiftedge.runtime.model import load
from shiftedge.runtime.spec import ModelSpec

__all__ = ["NativeContender"]


class NativeContender(Contender):
    """A bundle's folder, or a ``libmodel.so`` by itself. The timed step is one call of
    ``Session.step``, the normalisation, ctypes and a new array for the logits included."""

    normalises = True

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        engine = _open(path, threads)
        self.version = engine.version
        self.spec = engine.spec
        self.settings = {"threads": getattr(engine, "threads", threads)}
        self._session = engine.open_session()
        self._image = np.zeros((self.spec.height, self.spec.width, 3), np.uint8)
        self._logits = np.zeros(self.spec.classes, np.float32)

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: a copy, so that the frame is as fresh as the peers'."""
        np.copyto(self._image, image)

    def step(self) -> None:
        """See :meth:`Contender.step`."""
        self._logits = self._session.step(self._image)

    def logits(self) -> Array:
        """See :meth:`Contender.logits`."""
        return self._logits

    def states(self) -> None:
        """The block's layout is the compiled model's own."""
        return

    def reset(self) -> None:
        """See :meth:`Contender.reset`."""
        self._session.reset()


def _open(path: Path, threads: int) -> Engine:
    if path.suffix == ".so":
        from shiftedge.runtime.engines.native import NativeEngine

        return NativeEngine(path, threads=threads)
    return load(path, engine="native", threads=threads).engine
