"""The parent's side of a worker process: start it, ask it, survive its death.

A worker that crashes, hangs or answers nonsense ends as a :class:`WorkerError` that says what
happened; nothing else of the run is touched, and no process is left behind.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import shiftedge
from shiftedge.benchmarks.worker import receive, send
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
        timeout_s: for each answer; a worker that takes longer is killed.

    The others as of :class:`shiftedge.benchmarks.worker.Server`.
    """

    def __init__(
        self, factory: str, path: Path, threads: int, *, timeout_s: float, **more: Any
    ) -> None:
        self._timeout_s, started_ns = timeout_s, time.monotonic_ns()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shiftedge.benchmarks.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_environment(),
            )
        except OSError as error:
            self._stderr.close()
            raise WorkerError("crashed", f"The process did not start: {error}.") from error
        first = {"factory": factory, "path": path, "threads": threads, "started_ns": started_ns}
        self._send({**first, **more})

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self) -> dict[str, Any]:
        """Wait until the model is loaded; what the worker then says.

        Raises:
            WorkerError: see there; the process has ended.
        """
        found: dict[str, Any] = self._answer("loading")
        return found

    def ask(self, order: str, **arguments: Any) -> Any:
        """Send one order, a method of the server, and wait for its answer.

        Raises:
            WorkerError: see there; the process has ended.
        """
        self._send((order, arguments))
        return self._answer(f"the order {order!r}")

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

    def _send(self, what: Any) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        if pipe.closed:
            raise WorkerError("crashed", "The process has ended already.")
        try:
            send(pipe, what)
        except OSError as error:
            raise self._crashed() from error

    def _answer(self, what: str) -> Any:
        pipe = self._process.stdout
        assert pipe is not None
        end_s = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not selector.select(max(0.0, min(end_s - time.monotonic(), EVERY_S))):
                if time.monotonic() >= end_s:
                    self.close()
                    raise WorkerError(
                        "timeout", f"No answer to {what} within {self._timeout_s:g} s; ended."
                    )
                LINES.beat()  # of one answer: no measurement that a line could disturb
        try:
            answer, failure = receive(pipe)
        except (EOFError, pickle.UnpicklingError) as error:
            raise self._crashed() from error
        LINES.beat()
        if failure is not None:
            self.close()
            kind, sentence = failure
            raise WorkerError(STATUS_OF.get(kind, "failed"), sentence)
        return answer

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
