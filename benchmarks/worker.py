"""One engine in a process of its own: ``python -m shiftedge.benchmarks.worker``.

Started by :mod:`shiftedge.benchmarks.crew`. What both say are pickles, one after another: on stdin
first :class:`Server`'s arguments, then orders, each the name of one of its methods and that one's
arguments; on stdout pairs, first :attr:`Server.ready` and None, then the answer to each order and
None, or None and what failed: the error's class and a sentence. Whatever libraries print goes to
stderr. Between orders the process waits in a read. The end of stdin ends it, so none outlives its
parent.
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from shiftedge.benchmarks.engines.base import Contender
from shiftedge.benchmarks.workloads import Footage, Workload
from shiftedge.benchmarks.workloads import workload as find_workload
from shiftedge.export.agreement import Outputs, named_outputs
from shiftedge.runtime.errors import NumericsError, ShiftedgeError
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.signals import SIGNALS
from shiftedge.runtime.process.telemetry import keep_out_senders
from shiftedge.runtime.spec import ModelSpec

SETTLE_S = 0.006
"""After a turn, before the answer: threads that spin for a moment have gone to sleep when the next
process begins. ONNX Runtime's and OpenVINO's take 1 to 5 ms."""
PIECE = 10
"""Units of a warm-up that are looked at together."""
STEADY = 0.03
"""Of the time: what medians of pieces may differ by."""


def main() -> int:
    """Serve one parent until its stdin ends. Returns the exit status: 1 after an error."""
    for number in SIGNALS:  # of a terminal, to all its processes: the parent's to answer
        signal.signal(number, signal.SIG_IGN)
    keep_out_senders()
    orders = sys.stdin.buffer
    # A stream to where stdout led; stdout itself leads to stderr from now on.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        try:
            server = Server(**receive(orders))
            send(answers, (server.ready, None))
            while True:
                order, arguments = receive(orders)
                send(answers, (getattr(server, order)(**arguments), None))
        except EOFError:  # the parent has no more orders
            return 0
        except (ShiftedgeError, MemoryError) as error:
            failure = (type(error).__name__, str(error) or "out of memory")
            send(answers, (None, failure))
        except BrokenPipeError:  # the parent is gone
            pass
    return 1


def send(pipe: IO[bytes], message: Any) -> None:
    """To the process at the other end."""
    pickle.dump(message, pipe)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """The next message of the process at the other end."""
    return pickle.load(pipe)  # noqa: S301 - that process is this very shiftedge


def _status_mb(key: str) -> float | None:
    """Of this process, MB of 10**6 bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) * 1024 / 1e6 if found else None


class Server:
    """Loads the engine and takes one step on a black frame; then each method answers an order.

    Args:
        factory: ``module:Class`` of the contender, which gets ``path``, ``threads`` and ``spec``.
        started_ns: monotonic clock when the parent started this process.
        workload: what a unit is, see :func:`~shiftedge.benchmarks.workloads.workload`.
        scene: a recording; None is a rendered scene.

    Attributes:
        ready: what is known then, by the keys of docs/formats.md. ``timer_ns``, the least of many,
            is subtracted from each time.
    """

    def __init__(
        self,
        factory: str,
        path: Path,
        threads: int,
        started_ns: int,
        *,
        spec: ModelSpec | None = None,
        workload: str = "step",
        scene: Path | None = None,
    ) -> None:
        base_mb = _status_mb("VmRSS")
        begin_ns = time.monotonic_ns()
        module, _, name = factory.partition(":")
        made: Callable[[Path, int, ModelSpec | None], Contender]
        made = getattr(importlib.import_module(module), name)
        contender = self._contender = made(path, chosen_threads(threads), spec)  # all have as many
        loaded_ns = time.monotonic_ns()
        spec = contender.spec
        contender.prepare(np.zeros((spec.height, spec.width, 3), np.uint8))
        contender.step()
        contender.logits()
        first_ns = time.monotonic_ns()
        contender.reset()
        self._scene = Footage(scene, spec)
        self._work = find_workload(workload, contender, self._scene)
        self.warm_up = partial(warm_up, self._work)
        clock = time.perf_counter_ns
        self._timer_ns = min(-clock() + clock() for _ in range(2000))
        self._idle_since: tuple[int, int] | None = None
        gc.disable()
        keys = ("precision", "tolerance", "checked", "normalises", "settings")
        self.ready = {key: getattr(contender, key) for key in keys} | {
            "version": str(contender.version),  # torch's is a class of its own
            "spec": spec,
            "base_rss_mb": base_mb,
            "packages": list(contender.packages),
            "load_ms": (loaded_ns - begin_ns) / 1e6,
            "first_prediction_ms": (first_ns - started_ns) / 1e6,
            "timer_ns": self._timer_ns,
            "frames_each": self._work.frames,
        }

    def outputs(self, frames: int) -> list[Outputs]:
        """Of the scene's first frames from empty states: logits, and states where the engine shows
        them."""
        contender, found = self._contender, list[Outputs]()
        contender.reset()
        for index in range(frames):
            contender.prepare(self._scene.frame_at(index))
            contender.step()
            states = zip(contender.spec.states, contender.states() or (), strict=False)
            # Not every library keeps an axis of size 1.
            shaped = [np.reshape(np.array(values), state.shape) for state, values in states]
            found.append(named_outputs(np.array(contender.logits()), shaped))
        contender.reset()
        return found

    def profile(self, frames: int) -> dict[str, float]:
        """The time of each kernel by name, see :meth:`Contender.kernel_seconds`."""
        return self._contender.kernel_seconds([self._scene.frame_at(i) for i in range(frames)])

    def turn(
        self, begin: int, lead_in: int, frames: int, most_s: float = math.inf
    ) -> dict[str, Any]:
        """Take ``lead_in`` untimed units and ``frames`` timed ones, the scene going on from
        ``begin``; fewer, but one, where they would take longer than ``most_s``.

        The lead-in wakes what slept while the others ran: threads, caches, the clock.

        Returns:
            ``step_ns``, a list of whole numbers, less the timer's own cost; ``frame_ns``, the same
            from the uint8 frame on, so with its normalisation for every engine; ``rss_mb``, the
            peak so far, and ``now_mb``, the memory at the end; ``idle``: how long this process
            waited for the order, and what its threads burned meanwhile.

        Raises:
            NumericsError: logits that are not finite.
        """
        idle = {"wall_ms": 0.0, "cpu_ms": 0.0}
        if self._idle_since is not None:
            wall_ns, cpu_ns = self._idle_since
            idle["wall_ms"] = (time.monotonic_ns() - wall_ns) / 1e6
            idle["cpu_ms"] = (time.process_time_ns() - cpu_ns) / 1e6
        # Drawn before, so that units follow each other as closely as they can.
        work, timer_ns = self._work, self._timer_ns
        drawn = [work.draw(begin + index) for index in range(lead_in + frames)]
        take = work.take
        end_s = time.perf_counter() + most_s
        step_ns, frame_ns = [], []
        for index, each in enumerate(drawn):
            step, frame = take(each)
            if not work.finite():
                raise NumericsError(f"The logits of frame {begin + index} are not finite.")
            if index >= lead_in:
                step_ns.append(max(1, step - timer_ns))
                frame_ns.append(max(1, frame - timer_ns))
                if time.perf_counter() > end_s:
                    break
        answer = {
            "step_ns": step_ns,
            "frame_ns": frame_ns,
            "rss_mb": _status_mb("VmHWM"),
            "now_mb": _status_mb("VmRSS"),
            "idle": idle,
        }
        time.sleep(SETTLE_S)
        self._idle_since = (time.monotonic_ns(), time.process_time_ns())
        return answer


def warm_up(work: Workload, most: int, most_s: float) -> dict[str, Any]:
    """Take units until three pieces of :data:`PIECE` in a row have medians within :data:`STEADY`
    of each other: caches, clocks and whatever compiles on the way have settled.

    Returns:
        ``units`` taken, whether that was ``steady`` before ``most`` of them or ``most_s``, and
        ``unit_s``, the median time of the last piece.
    """
    end_s = time.perf_counter() + most_s
    medians: list[float] = []
    units, taken, steady, late = 0, [0], False, False
    while units < most and not steady and not late:
        drawn = [work.draw(units + number) for number in range(PIECE)]
        taken = []
        for each in drawn:
            taken.append(work.take(each)[0])
            late = time.perf_counter() > end_s
            if late:
                break
        units += len(taken)
        medians.append(float(np.median(taken)))
        last = medians[-3:]
        steady = not late and len(last) == 3 and max(last) - min(last) <= STEADY * max(last)
    return {"units": units, "steady": steady, "unit_s": float(np.median(taken)) / 1e9}


if __name__ == "__main__":
    sys.exit(main())
