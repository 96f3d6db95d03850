"""Minutes of steps without a pause: does the machine keep its pace when it is warm?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shiftedge.benchmarks.crew import Worker, WorkerError
from shiftedge.benchmarks.ratios import Ratio, unpaired_ratio
from shiftedge.benchmarks.sensors.gauges import throttled_between
from shiftedge.runtime.process.progress import Advance

TURN_S = 1.0
"""Steps are asked for in pieces of about this length; between them the sensors are read."""
END_SHARE = 0.1
"""The first and the last tenth are compared."""
GROUPS = 3
"""Of an end's turns, as if each were a process: turns that follow each other are alike."""


@dataclass
class Soak:
    """A soak, while it runs and when it is over; ``sample`` reads the sensors."""

    engine: str
    threads: int
    minutes: float
    sample: Callable[[], Mapping[str, Any]]
    seconds: list[float] = field(default_factory=list)
    """From the beginning to the end of each turn."""
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    samples: list[Mapping[str, Any]] = field(default_factory=list)
    """The sensors after each turn."""
    steps: int = 0
    reason: str | None = None
    """Why it ended early, as a sentence."""

    def run(self, worker: Worker, begin: int, advance: Advance) -> None:
        """Step until the time is over. Ctrl-C passes through; what was measured is kept."""
        start_s = time.monotonic()
        units, told_s = 30, 0
        while (now_s := time.monotonic() - start_s) < 60.0 * self.minutes:
            try:
                answer = worker.ask(
                    "turn", begin=begin, lead_in=0, frames=units, most_s=2.0 * TURN_S
                )
            except WorkerError as error:
                self.reason = str(error)
                return
            times = np.asarray(answer["step_ns"], np.float64) / 1e6
            begin += units
            self.steps += len(times)
            now_s = time.monotonic() - start_s
            self.seconds.append(now_s)
            self.p50_ms.append(float(np.median(times)))
            self.p99_ms.append(float(np.percentile(times, 99)))
            self.samples.append(self.sample())
            # Drawing the frames takes time too, so a turn's own length is the measure.
            units = int(np.clip(TURN_S * 1e3 / max(self.p50_ms[-1], 1e-3), 1, 400))
            advance(int(now_s) - told_s)
            told_s = int(now_s)

    def drift(self) -> Ratio | None:
        """The last tenth's time over the first tenth's; None after fewer than 20 turns."""
        count = int(len(self.p50_ms) * END_SHARE)
        if count < 2:
            return None
        return unpaired_ratio(_groups(self.p50_ms[-count:]), _groups(self.p50_ms[:count]))

    def to_dict(self) -> dict[str, Any]:
        drift = self.drift()
        keys = ("engine", "threads", "minutes", "steps", "p50_ms", "p99_ms", "reason")
        return {
            **{key: getattr(self, key) for key in keys},
            "seconds": [round(value, 3) for value in self.seconds],
            "drift": None if drift is None else drift.to_dict(),
            "cpu_mhz": [(sample.get("cpu_mhz") or {}).get("mean") for sample in self.samples],
            "temperature_c": [sample.get("temperature_c") for sample in self.samples],
            "throttled": [sample.get("throttled") for sample in self.samples],
        }

    def throttled(self) -> list[str]:
        """What slowed the machine down meanwhile, in words."""
        return throttled_between(self.samples[0], self.samples[-1]) if self.samples else []

    def lines(self) -> list[str]:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        lines = []
        if self.seconds:
            lines.append(
                f"Soak: {self.engine} with {threads} took {self.steps} steps in "
                f"{self.seconds[-1] / 60.0:.1f} min, p50 {min(self.p50_ms):.3f} to "
                f"{max(self.p50_ms):.3f} ms a second."
            )
        drift, said = self.drift(), "too short to tell a drift; a minute at least is needed."
        if drift is not None:
            way = "slower" if drift.value > 1.0 else "quicker"
            said = "no drift" if drift.spans_one else f"it became {way}"
            said += (
                f": the last tenth took {drift.value:.3f} of the first tenth's time "
                f"({drift.low:.3f} to {drift.high:.3f})."
            )
        lines.append(f"Soak: {said}")
        if words := self.throttled():
            lines.append(f"Soak: the machine was throttled: {', '.join(words)}.")
        if self.reason is not None:
            lines.append(f"Soak: ended early: {self.reason}")
        return lines


def _groups(values: Sequence[float]) -> list[list[float]]:
    return [list(map(float, part)) for part in np.array_split(values, GROUPS) if len(part)]
