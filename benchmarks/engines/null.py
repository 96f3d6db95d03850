"""An engine that does nothing: what is left of its time is the harness's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge import __version__
from shiftedge.benchmarks.engines.base import Array, Contender
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import ModelSpec

__all__ = ["NullContender"]


class NullContender(Contender):
    """Its logits are zeros, so nothing is compared."""

    checked = False
    normalises = True

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        if spec is None:
            raise ModelError(
                "The null engine needs the model's spec, which nothing here could read."
            )
        self.version = __version__
        self.spec = spec
        self.settings = {"threads": threads}
        self._logits = np.zeros(spec.classes, np.float32)

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: nothing."""

    def step(self) -> None:
        """See :meth:`Contender.step`: nothing."""

    def logits(self) -> Array:
        """See :meth:`Contender.logits`: zeros."""
        return self._logits

    def states(self) -> None:
        """There are none."""
        return

    def reset(self) -> None:
        """See :meth:`Contender.reset`: nothing."""

    def another(self) -> NullContender:
        """See :meth:`Contender.another`."""
        return self
