"""A training that was stopped, and goes on to the same bytes: its state, kept now and then."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from shiftedge.export.training.keep import Say
from shiftedge.runtime.errors import DataError, OutputError
from shiftedge.runtime.process.files import atomic_path

UNFINISHED = "unfinished.pt"
"""Name of the file in the output folder; a training that is done leaves none."""

KEEP_EVERY_S = 30.0
"""What is lost at most when the power fails."""
_SHARE = 0.02
"""Of the time, at most, goes into keeping the state: that of a ResNet-50 has 300 MB."""


class Unfinished:
    """The state of a training in its output folder.

    Args:
        folder: which exists.
        identity: what a training must have in common with one that goes on from it, plain values.
        say: told once that the state cannot be written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], say: Say) -> None:
        self.path = folder / UNFINISHED
        self._identity = dict(identity)
        self._say = say
        self._next_s = time.monotonic() + KEEP_EVERY_S
        self._complained = False

    def load(self) -> dict[str, Any] | None:
        """The state of the training that was stopped here; None: there is none.

        Raises:
            DataError: it is of another training, or damaged.
        """
        if not self.path.exists():
            return None
        anew = "give --fresh to begin anew, or another --output."
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            identity, state = kept["identity"], dict(kept["state"])
        except Exception as error:  # damaged files make torch raise anything
            raise DataError(f"{self.path} is no training that can go on: {anew}") from error
        for key, value in self._identity.items():
            if identity.get(key) != value:
                raise DataError(
                    f"{self.path} is a training with other {_difference(key, identity, value)}: "
                    f"give the same as then to go on, {anew}"
                )
        return state

    def keep(self, state: Callable[[], dict[str, Any]], *, now: bool = False) -> None:
        """Write the state, if it is time for it or ``now``; where that fails, the last stays."""
        started = time.monotonic()
        if started < self._next_s and not now:
            return
        content = io.BytesIO()
        torch.save({"identity": self._identity, "state": state()}, content)
        try:
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(content.getbuffer())
        except OutputError as error:
            if not self._complained:
                self._say(f"{error} Were this training stopped, it would have to begin anew.")
            self._complained = True
        ended = time.monotonic()
        self._next_s = ended + max(KEEP_EVERY_S, (ended - started) / _SHARE)

    def remove(self) -> None:
        """The training is done."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _difference(key: str, then: Mapping[str, Any], now: object) -> str:
    """The first thing that differs, in words."""
    before = then.get(key)
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                return f"{key}, {name} {_short(before.get(name))} and not {_short(now.get(name))}"
    return f"{key}, {_short(before)} and not {_short(now)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}..."
