"""The parent's side of a worker process: start it, ask it, survive its death.

A worker that crashes, hangs or answers nonsense ends as a :class:`WorkerError` that says what
happened; nothing else of the run is touched, and no process is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import shiftedge
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.progress import EVERY_S, LINES

STATUS_OF = {"MissingExtraError": "unavailable", "NumericsError": "disagrees"}
"""Class of the error that a worker reports -> status; of others, "failed"."""
STDERR_BYTES_MOST = 4000
"""Of a dead worker's stderr, that are looked at for its last line."""


class WorkerError(ShiftedgeError):
    """A worker did not answer as it should, and has been ended.

    ``status`` is "unavailable" (the engine is not installed), "disagrees" (it gave NaN),
    "failed" (it said something else), "crashed" or "timeout".
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Worker:
    """A running ``python -m shiftedge.benchmarks.worker``. Use as a context manager, or ``close``.

    Args:
        factory: ``module:Class`` of the contender.
        path: of the model.
        threads: for one step.
        spec: the model's, as JSON text; None where it is unknown.
        workload: what a unit is, see ``workloads``.
        scene: a recording, see ``scenes``; None is a rendered scene.
        timeout_s: for each answer; a worker that takes longer is killed.
        seed: of the rendered scene.
    """

    def __init__(
        self,
        factory: str,
        path: Path,
        threads: int,
        *,
        spec: str | None,
        timeout_s: float,
        workload: str = "step",
        scene: Path | None = None,
        seed: int = 0,
    ) -> None:
        self._timeout_s = timeout_s
        self._waiting = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        config = {
            "factory": factory,
            "path": str(path),
            "threads": threads,
            "spec": spec,
            "workload": workload,
            "scene": None if scene is None else str(scene),
            "seed": seed,
            "started_ns": time.monotonic_ns(),
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shiftedge.benchmarks.worker", json.dumps(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_environment(),
            )
        except OSError as error:
            self._stderr.close()
            raise WorkerError("crashed", f"The process did not start: {error}.") from error

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ready(self) -> dict[str, Any]:
        """Wait until the model is loaded; what the worker then says.

        Raises:
            WorkerError: see there; the process has ended.
        """
        return self._answer("loading")

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Send one order and wait for its answer.

        Raises:
            WorkerError: see there; the process has ended.
        """
        pipe = self._process.stdin
        assert pipe is not None
        if pipe.closed:
            raise WorkerError("crashed", "The process has ended already.")
        try:
            pipe.write(json.dumps(order).encode() + b"\n")
            pipe.flush()
        except OSError as error:
            raise self._crashed() from error
        return self._answer(f"the order {order['do']!r}")

    def close(self) -> None:
        """End the process, whatever it is doing, and reap it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was still to be written is for nobody
                    pipe.close()
        self._stderr.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, what: str) -> dict[str, Any]:
        line = self._line(what)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.close()
            raise WorkerError("crashed", f"The answer to {what} is not ours: {line[:80]!r}.")
        if "error" in answer:
            self.close()
            status = STATUS_OF.get(answer["kind"], "failed")
            raise WorkerError(status, answer["error"])
        return answer

    def _line(self, what: str) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None
        end_s = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._waiting:
                left_s = max(0.0, end_s - time.monotonic())
                if not selector.select(min(left_s, EVERY_S)):
                    if left_s > EVERY_S:  # of one answer: no measurement that a line could disturb
                        LINES.beat()
                        continue
                    self.close()
                    raise WorkerError(
                        "timeout", f"No answer to {what} within {self._timeout_s:g} s; ended."
                    )
                part = os.read(pipe.fileno(), 1 << 16)
                if not part:
                    raise self._crashed()
                self._waiting += part
        line, _, self._waiting = self._waiting.partition(b"\n")
        LINES.beat()
        return line

    def _crashed(self) -> WorkerError:
        """The error that tells how the process ended; reaps it."""
        try:
            code = self._process.wait(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            self.close()
            return WorkerError("timeout", "It closed its output and did not end; killed.")
        how = f"ended with {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_BYTES_MOST))
        said = self._stderr.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        self.close()
        return WorkerError("crashed", f"The process {how}{': ' if last else ''}{last}")


def _environment() -> dict[str, str]:
    """The worker imports this very shiftedge, and nothing that lies in the current folder."""
    changes = {"PYTHONSAFEPATH": "1"}
    root = Path(shiftedge.__file__).parents[1]
    if root.name not in ("site-packages", "dist-packages"):  # a checkout
        given = os.environ.get("PYTHONPATH")
        changes["PYTHONPATH"] = f"{root}{os.pathsep}{given}" if given else str(root)
    return {**os.environ, **changes}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
