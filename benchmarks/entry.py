"""What is measured and what became of it: data that the run fills and the report reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.crew import Worker
from shiftedge.export.agreement import Comparison


@dataclass(frozen=True)
class Candidate:
    """An engine to measure.

    ``path`` is what it loads; None where there is nothing for it to load, and ``reason`` says why.
    ``peer`` is False for what is compared with the peers.
    """

    engine: str
    factory: str
    path: Path | None
    reason: str | None = None
    peer: bool = True


@dataclass(frozen=True)
class BenchSettings:
    """How much to measure: no more rounds than frames, and no more starts than rounds."""

    threads: tuple[int, ...] = (1,)
    frames: int = 300
    """Timed units of each engine with each thread count and workload."""
    rounds: int = 10
    starts: int = 1
    """How often each engine's process begins anew, spread over the rounds."""
    workloads: tuple[str, ...] = ("step",)
    """Names, see ``workloads``."""
    timeout_s: float = 120.0
    """For loading, and for each turn; a process that takes longer is ended."""

    def round_frames(self) -> list[int]:
        """Timed units of each round, as equal as they can be."""
        least, more = divmod(self.frames, self.rounds)
        return [least + (index < more) for index in range(self.rounds)]

    def round_starts(self) -> list[int]:
        return [index * self.starts // self.rounds for index in range(self.rounds)]


@dataclass
class Entry:
    """One engine with one thread count and workload, and what became of it.

    ``status`` is "waiting" until it is timed, then "ok"; or "unavailable", "failed", "disagrees",
    "crashed", "timeout", "leaks", with a ``reason``.
    """

    candidate: Candidate
    threads: int
    workload: str = "step"
    status: str = "waiting"
    reason: str | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    """What the worker said when it had loaded the model the first time."""
    warm_up: dict[str, Any] = field(default_factory=dict)
    """What the first warm-up came to."""
    agreement: Sequence[Comparison] | None = None
    """With the reference, tensor by tensor, the worst first."""
    rounds_ns: list[list[int]] = field(default_factory=list)
    """Times of each round, nanoseconds; empty where it was not timed."""
    frame_rounds_ns: list[list[int]] = field(default_factory=list)
    """The same from the uint8 frame on."""
    load_ms: list[float] = field(default_factory=list)
    """Of each start."""
    first_ms: list[float] = field(default_factory=list)
    """From the process's start to its first prediction, of each start."""
    rss_mb: float | None = None
    settled_mb: float | None = None
    """Memory after the first turn of the present process: what grows from there leaks."""
    grown_mb: float = 0.0
    """Most that a process has grown by."""
    idle_wall_ms: float = 0.0
    idle_cpu_ms: float = 0.0
    energy_j: float = 0.0
    energy_units: int = 0
    """That the energy was spent on."""
    energy_reason: str | None = None
    worker: Worker | None = None

    @property
    def alive(self) -> bool:
        """Takes part in the rounds."""
        return self.worker is not None

    @property
    def name(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        kind = "" if self.workload == "step" else f", {self.workload}"
        return f"{self.candidate.engine} with {threads}{kind}"

    def end(self, status: str, reason: str) -> None:
        self.status, self.reason = status, reason
        self.rest()

    def rest(self) -> None:
        """End the process, if there is one."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None
