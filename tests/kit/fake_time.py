"""A clock that moves when somebody waits."""

from __future__ import annotations


class FakeTime:
    """Args: ``now_s`` is where it begins."""

    def __init__(self, now_s: float = 50.0) -> None:
        self.now_s = now_s
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        """As of an event that nobody sets."""
        self.waits.append(seconds)
        self.now_s += seconds
        return False
