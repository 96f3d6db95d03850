"""Whether a show is well, for who looks after it: systemd, a container's manager, a load balancer.

Alive means that the loop comes round, whether cameras give frames or not: starting the program anew
helps where it does not. Ready means that every camera gives frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.process.notify import Notifier

STUCK_S = 20.0
"""The loop comes round each second; a model's slowest step on the slowest board takes one."""
PATHS = "/healthz", "/readyz"
"""Where the metrics and the page answer what :meth:`Health.answer` says."""


class Health:
    """Of one show. Told in its loop, asked from any thread."""

    def __init__(
        self,
        sessions: Sequence[LiveSession] = (),
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions, self._notifier, self._clock = sessions, notifier, clock
        self._beat_s = clock()

    def beat(self) -> None:
        """The loop has come round."""
        self._beat_s = self._clock()
        if self._notifier is not None:
            self._notifier.alive(self.words())

    def alive(self) -> bool:
        """Whether the loop comes round."""
        return self._clock() - self._beat_s < STUCK_S

    def ready(self) -> bool:
        """Whether it does, and every camera gives frames."""
        return self.alive() and all(each.reader.giving for each in self._sessions)

    def words(self) -> str:
        """How many cameras give frames; no names, since anybody may ask."""
        giving = sum(each.reader.giving for each in self._sessions)
        return f"{giving} of {len(self._sessions)} cameras give frames"

    def answer(self, path: str) -> tuple[int, str]:
        """A status of HTTP and a line, for one of :data:`PATHS`."""
        if path == PATHS[0]:
            return (200, "alive") if self.alive() else (503, "the loop does not come round")
        return 200 if self.ready() else 503, self.words()
