"""What a service does, as its file of settings says; read again on SIGHUP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftedge.demos.show import Renewal, Watched
from shiftedge.demos.sinks import Note, Sink
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.files import expanded
from shiftedge.runtime.process.notify import Notifier


@dataclass(frozen=True)
class RunPlan:
    """What is to be run."""

    model: Model
    chosen: tuple[Any, ...]
    """What the model was loaded by."""
    sources: tuple[Watched, ...]
    sinks: dict[str, Sink]

    def goes_on(self, later: RunPlan) -> bool:
        """Whether the sources and the model are the same later."""
        return later.model is self.model and later.sources == self.sources


def changed_at(model: str | Path | None) -> int | None:
    """When a model's file or folder was last put in its place; None where that cannot be known."""
    try:
        return None if model is None else expanded(model).stat().st_mtime_ns
    except OSError:  # whoever loads it complains
        return None


class Reload:
    """Reads the settings again when asked to; :func:`~shiftedge.demos.show.show` asks for it.

    What is wrong in them is said, and the old ones go on. Sinks, sources and the model that did not
    change go on as they are, with their queues, connections and states.

    Args:
        asked: whether a signal has come since it was last called.
        read: makes a plan, with what it can take over from the one before.
    """

    def __init__(
        self,
        plan: RunPlan,
        asked: Callable[[], bool],
        read: Callable[[RunPlan], RunPlan],
        manager: Notifier,
        on_note: Note,
    ) -> None:
        self.plan = plan
        self._asked, self._read, self._manager, self._note = asked, read, manager, on_note

    def __call__(self) -> Renewal | None:
        """What is to change, if anything."""
        if not self._asked():
            return None
        self._manager.reloading()
        before = self.plan
        try:
            self.plan = self._read(before)
        except (ShiftedgeError, OSError) as error:
            self._note(f"{error} The settings stay as they were.")
            return None
        if before.goes_on(self.plan):
            kept = sum(sink in before.sinks.values() for sink in self.plan.sinks.values())
            self._note(f"settings read again: {kept} of {len(self.plan.sinks)} sinks go on")
            return Renewal(list(self.plan.sinks.values()))
        self._note("settings read again: beginning anew with other sources or another model")
        return Renewal(None)
