"""The machine's limit: what its cores multiply and read at most, measured beside the engines.

``peak.c`` is compiled once for the machine it runs on, with whatever C compiler is there, and kept
in the user's cache; each call then takes a tenth of a second or two. The best over the rounds
counts, so that a busy moment does not lower the limit.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.machine import cache_sizes, cpu_identity
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.files import cache_folder, output_folder
from shiftedge.runtime.spec import ModelSpec

__all__ = ["Roofline", "build_probe", "model_flops"]

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
COMPILE_S = 120.0


class Roofline:
    """Measures the peak of given thread counts, a little in each round, and keeps the best.

    Args:
        threads: the counts to measure, 1 among them or not.
    """

    def __init__(self, threads: list[int]) -> None:
        self.threads = sorted({1, *threads})
        self.reason: str | None = None
        """Why there is no figure, as a sentence; None while there is one."""
        self._best: dict[int, dict[str, float]] = {count: {} for count in self.threads}
        self._rounds = dict.fromkeys(self.threads, 0)
        self._probe: Path | None = None
        try:
            self._probe = build_probe()
        except ShiftedgeError as error:
            self.reason = str(error)

    def measure(self, threads: int) -> None:
        """One round's share of one thread count. A failure ends the measuring, and is kept."""
        if self._probe is None:
            return
        memory = self._rounds[threads] < MEMORY_ROUNDS
        self._rounds[threads] += 1
        sizes = (cache_sizes().get("l2", 2 * L2_BYTES) // 2, MEMORY_BYTES) if memory else (0, 0)
        line = [str(self._probe), *map(str, (threads, SPAN_MS, *sizes))]
        try:
            run = subprocess.run(
                line, capture_output=True, text=True, check=True, timeout=TIMEOUT_S
            )
            figures = json.loads(run.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self._probe, self.reason = None, f"The peak kernel failed: {error}"
            return
        best = self._best[threads]
        for key, value in figures.items():
            if value is not None:
                best[key] = max(best.get(key, 0.0), value)

    def step_ms(self, threads: int, flops: int | None) -> float | None:
        """Milliseconds that ``flops`` take at the peak of so many threads; None where unknown."""
        gflops = self._best.get(threads, {}).get("gflops")
        return flops / gflops / 1e6 if flops and gflops else None

    def to_dict(self, flops: int | None, flops_reason: str | None = None) -> dict[str, Any]:
        """As plain JSON types; ``peak_gflops`` and ``step_ms`` are those of one thread.

        Args:
            flops: of one step; None where unknown.
            flops_reason: why it is unknown.
        """
        counts = {
            str(count): {
                "peak_gflops": best.get("gflops"),
                "step_ms": self.step_ms(count, flops),
                "l2_gb_s": best.get("l2_gb_s"),
                "memory_gb_s": best.get("memory_gb_s"),
            }
            for count, best in self._best.items()
        }
        one = counts["1"]
        return {
            "peak_gflops": one["peak_gflops"],
            "step_ms": one["step_ms"],
            "by_threads": counts,
            "flops": flops,
            "reason": self.reason or flops_reason,
            "note": "flops counts convolutions and matrix products, 2 a multiply-add; peaks are "
            "the best of the rounds",
        }


def build_probe(folder: Path | None = None) -> Path:
    """Compile ``peak.c`` for this machine, or find it compiled.

    Args:
        folder: where to keep it; None is the user's cache, ``~/.cache/shiftedge``.

    Raises:
        ShiftedgeError: there is no C compiler here, or none can compile it.
    """
    source = (importlib.resources.files("shiftedge.benchmarks") / "peak.c").read_bytes()
    # The same home may serve several machines, and the code is for one kind of CPU.
    key = hashlib.sha256(source + f"{FLAGS}{platform.machine()}{cpu_identity()}".encode())
    if folder is None:
        folder = cache_folder()
    output = folder / f"peak-{key.hexdigest()[:16]}"
    if output.is_file():
        return output
    problem = "there is no C compiler: install gcc or clang, or  pip install ziglang"
    for command in _compilers():
        output_folder(folder)
        with tempfile.TemporaryDirectory(prefix=".peak-", dir=folder) as scratch:
            text, built = Path(scratch) / "peak.c", Path(scratch) / "peak"
            text.write_bytes(source)
            line = [*command, *FLAGS, str(text), "-o", str(built)]
            try:
                subprocess.run(line, capture_output=True, text=True, check=True, timeout=COMPILE_S)
            except (OSError, subprocess.SubprocessError) as error:
                said = str(getattr(error, "stderr", None) or error).strip().splitlines()
                problem = f"{command[-1]} failed ({said[0] if said else 'it said nothing'})"
                continue
            os.replace(built, output)  # whole or not at all, for others that look for it
        return output
    raise ShiftedgeError(f"The peak was not measured: {problem}.")


def _compilers() -> Iterator[list[str]]:
    for name in ("gcc", "clang", "cc"):
        if path := shutil.which(name):
            yield [path]
    if importlib.util.find_spec("ziglang") is not None:
        yield [sys.executable, "-m", "ziglang", "cc"]


def model_flops(model: bytes, spec: ModelSpec) -> int:
    """Floating-point operations of one step, in convolutions and matrix products, 2 a MAC.

    Raises:
        ShiftedgeError: the onnx package is not installed, or the compiler cannot read the model.
    """
    from shiftedge.export.compiler.frontend import read_onnx

    return read_onnx(model, spec).flops()
