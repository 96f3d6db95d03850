"""The machine's limit: what its cores multiply and read at most, measured beside the engines by
``peak.c``, a tenth of a second or two at a time; see docs/benchmarks.md ("Peaks"). The best over
the rounds counts, so that a busy moment does not lower the limit.
"""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.machine import cache_sizes
from shiftedge.benchmarks.programs import program
from shiftedge.benchmarks.work import Work, seconds_at
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.cpu import CPUINFO, cpu_features, taken_away

FLOAT32 = "float32"

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-pthread")
SPAN_MS = 40
"""Of each figure in each round."""
MEMORY_BYTES = 256 << 20
"""Larger than any cache met so far."""
MEMORY_ROUNDS = 3
"""Rounds in which bandwidth is measured too: it takes far longer than the multiply-adds."""
L2_BYTES = 256 << 10
"""Where the system does not tell the size of its level 2 cache: half of the smallest in use."""
TIMEOUT_S = 60.0
"""Of one call of the probe."""


class Roofline:
    """Measures the peak of given thread counts, a little in each round, and keeps the best.

    Args:
        threads: the counts to measure, 1 among them or not.
        instructions: of ``peak_packed.c``, to measure beside float32.
    """

    def __init__(self, threads: list[int], instructions: Sequence[str] = ()) -> None:
        self.threads = sorted({1, *threads})
        self.instructions = tuple(dict.fromkeys(instructions))
        self.reason: str | None = None
        """Why there is no figure, as a sentence; None while there is one."""
        self.refused: dict[str, str] = {}
        """Instructions without a figure, and why, as a sentence each."""
        self._peaks: dict[int, dict[str, float]] = {count: {} for count in self.threads}
        """GOP/s of each instruction, by threads."""
        self._reads: dict[int, dict[str, float]] = {count: {} for count in self.threads}
        """GB/s, from "l2" and from "memory"."""
        self._rounds = dict.fromkeys(self.threads, 0)
        self._probe: Path | None = None
        try:
            self._probe = build_probe()
        except ShiftedgeError as error:
            self.reason = f"The peak was not measured: {error}"

    def measure(self, threads: int) -> None:
        """One round's share of one thread count. A failure ends the measuring, and is kept."""
        if self._probe is None:
            return
        memory = self._rounds[threads] < MEMORY_ROUNDS
        self._rounds[threads] += 1
        sizes = (cache_sizes().get("l2", 2 * L2_BYTES) // 2, MEMORY_BYTES) if memory else (0, 0)
        try:
            figures = self._asked(self._probe, threads, *sizes)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self._probe, self.reason = None, f"The peak kernel failed: {error}"
            return
        for best, name, key in (
            (self._peaks, FLOAT32, "gflops"),
            (self._reads, "l2", "l2_gb_s"),
            (self._reads, "memory", "memory_gb_s"),
        ):
            if (found := figures.get(key)) is not None:
                best[threads][name] = max(best[threads].get(name, 0.0), found)
        for name in self.instructions:
            if name not in self.refused:
                self._measure_packed(self._probe, threads, name)

    def _measure_packed(self, probe: Path, threads: int, name: str) -> None:
        why = f"The peak of {name} was not measured"
        try:
            found = float(self._asked(probe, threads, name)["gops"])
        except subprocess.CalledProcessError as error:
            self.refused[name] = str(error.stderr or "").strip() or f"{why}: {error}"
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            self.refused[name] = f"{why}: {error}"
        else:
            peaks = self._peaks[threads]
            peaks[name] = max(peaks.get(name, 0.0), found)

    def _asked(self, probe: Path, threads: int, *more: object) -> Any:
        line = [str(probe), *map(str, (threads, SPAN_MS, *more))]
        run = subprocess.run(line, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
        return json.loads(run.stdout)

    def step_ms(self, threads: int, work: Work | None) -> float | None:
        """Milliseconds that ``work`` takes at the peaks of so many threads; None where unknown."""
        seconds = seconds_at(self._peaks.get(threads, {}), work)
        return 1e3 * seconds if seconds else None

    def to_dict(self, works: Mapping[str, Work], reason: str | None = None) -> dict[str, Any]:
        """As plain JSON types.

        Args:
            works: of one step, by precision; empty where unknown.
            reason: why the work is unknown.
        """
        counts = {
            str(count): {
                "peaks_gops": dict(peaks),
                "steps_ms": {name: self.step_ms(count, work) for name, work in works.items()},
                **{f"{name}_gb_s": self._reads[count].get(name) for name in ("l2", "memory")},
            }
            for count, peaks in self._peaks.items()
        }
        return {
            "by_threads": counts,
            "operations": {name: dict(work) for name, work in works.items()},
            "refused": dict(self.refused),
            "reason": self.reason or reason,
        }


def build_probe(folder: Path | None = None) -> Path:
    """``peak.c``, compiled for this machine and kept in ``folder`` or the user's cache; raises as
    :func:`~shiftedge.benchmarks.programs.program`."""
    own = Path(str(importlib.resources.files("shiftedge.benchmarks")))
    # The CPU is asked what it has by the code that a compiled model asks it with.
    native = Path(str(importlib.resources.files("shiftedge.runtime.native")))
    sources = [own / "peak.c", own / "peak_packed.c", native / "cpu" / "cpu_features.c"]
    flags = [*_flags(), f"-I{own}", f"-I{native}"]
    headers = [own / "peak_packed.h"]
    return program("peak", [*sources, native / "error.c"], flags, headers=headers, folder=folder)


def _flags() -> tuple[str, ...]:
    """Of the compiler: all that this machine has, less what the environment takes away of it."""
    gone = sorted(taken_away() & cpu_features(CPUINFO))
    names = [re.sub(r"^(avx512|avx)_", r"\1", each) for each in gone if each.startswith("avx")]
    return (*FLAGS, *(f"-mno-{name}" for name in names))
