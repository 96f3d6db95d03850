"""One engine in a process of its own: ``python -m shiftedge.benchmarks.worker CONFIG``.

Started by :mod:`shiftedge.benchmarks.crew`. CONFIG is JSON: ``factory`` (module:Class), ``path``,
``threads``, ``spec`` (JSON text or null), ``workload``, ``scene`` (a recording, or null), ``seed``
of the rendered scene and ``started_ns`` (monotonic clock when the parent started this process).
Orders come as JSON lines on stdin, each is answered with one line on stdout; whatever libraries
print goes to stderr. Between orders the process waits in a read. The end of stdin ends it, so none
outlives its parent.

====================================================  ==============================================
order                                                 answer
====================================================  ==============================================
(none: after loading)                                 :attr:`_Server.ready`
``{"do": "outputs", "frames": n, "file": path}``      :meth:`_Server.outputs`
``{"do": "warm_up", "most": n, "most_s": s}``         :func:`warm_up`
``{"do": "turn", "begin": i, "lead_in": k,            :meth:`_Server.turn`
"frames": n, "most_s": s}``
``{"do": "profile", "frames": n}``                    ``seconds``: the time of each kernel by name,
                                                      see :meth:`Contender.kernel_seconds`
anything that fails                                   ``{"error": sentence, "kind": class}``
====================================================  ==============================================
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from shiftedge.benchmarks.engines.base import Contender
from shiftedge.benchmarks.workloads import Footage, Workload, workload
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


def main(arguments: list[str] | None = None) -> int:
    """Serve one parent until its stdin ends. Returns the exit status: 1 after an error."""
    for number in SIGNALS:  # of a terminal, to all its processes: the parent's to answer
        signal.signal(number, signal.SIG_IGN)
    keep_out_senders()
    config = json.loads((sys.argv[1:] if arguments is None else arguments)[0])
    # A stream to where stdout led; stdout itself leads to stderr from now on.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            server = _Server(config)
            _say(answers, server.ready)
            for line in sys.stdin:
                order = json.loads(line)
                _say(answers, getattr(server, order.pop("do"))(**order))
        except (ShiftedgeError, MemoryError) as error:
            _say(answers, {"error": str(error) or "out of memory", "kind": type(error).__name__})
            return 1
        except BrokenPipeError:  # the parent is gone
            return 1
    return 0


def _say(answers: IO[str], document: Mapping[str, Any]) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


def _status_mb(key: str) -> float | None:
    """Of this process, MB of 10**6 bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) * 1024 / 1e6 if found else None


class _Server:
    """Loads the engine and takes one step on a black frame; then each method answers an order.

    Attributes:
        ready: what is known then. ``load_ms`` is from the engine's import to its being ready;
            ``first_prediction_ms`` from the start of the process to the first logits, Python and
            numpy included; ``base_rss_mb`` the memory of Python and numpy before the engine came;
            ``packages`` the distributions that it is made of; ``timer_ns`` what two looks at the
            clock cost, which is subtracted from each time: the least of many.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        base_mb = _status_mb("VmRSS")
        spec = None if config["spec"] is None else ModelSpec.from_json(config["spec"])
        begin_ns = time.monotonic_ns()
        module, _, name = config["factory"].partition(":")
        factory: Callable[[Path, int, ModelSpec | None], Contender]
        factory = getattr(importlib.import_module(module), name)
        threads = chosen_threads(config["threads"])  # as many for each engine
        contender = self._contender = factory(Path(config["path"]), threads, spec)
        loaded_ns = time.monotonic_ns()
        spec = contender.spec
        contender.prepare(np.zeros((spec.height, spec.width, 3), np.uint8))
        contender.step()
        contender.logits()
        first_ns = time.monotonic_ns()
        contender.reset()
        self._scene = Footage(config["scene"], config["seed"], spec)
        self._work = workload(config["workload"], contender, self._scene)
        clock = time.perf_counter_ns
        self._timer_ns = min(-clock() + clock() for _ in range(2000))
        self._idle_since: tuple[int, int] | None = None
        gc.disable()
        keys = ("version", "precision", "tolerance", "checked", "normalises", "settings")
        self.ready = {key: getattr(contender, key) for key in keys} | {
            "spec": spec.to_json(),
            "has_states": contender.states() is not None,
            "base_rss_mb": base_mb,
            "packages": list(contender.packages),
            "load_ms": (loaded_ns - begin_ns) / 1e6,
            "first_prediction_ms": (first_ns - config["started_ns"]) / 1e6,
            "timer_ns": self._timer_ns,
            "frames_each": self._work.frames,
        }

    def outputs(self, frames: int, file: str) -> dict[str, Any]:
        """Run the scene's first frames from empty states and write float32 numbers to ``file``:
        frame after frame the logits, then each state (C order) where the engine shows them."""
        contender = self._contender
        contender.reset()
        with open(file, "wb") as out:
            for index in range(frames):
                contender.prepare(self._scene.frame_at(index))
                contender.step()
                for values in (contender.logits(), *(contender.states() or ())):
                    out.write(np.ascontiguousarray(values, np.float32).tobytes())
        contender.reset()
        return {"frames": frames}

    def warm_up(self, most: int, most_s: float) -> dict[str, Any]:
        return warm_up(self._work, most, most_s)

    def profile(self, frames: int) -> dict[str, Any]:
        images = [self._scene.frame_at(index) for index in range(frames)]
        return {"seconds": self._contender.kernel_seconds(images)}

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
