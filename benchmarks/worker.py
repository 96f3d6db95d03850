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
(none: after loading)                                 what :func:`_ready` says
``{"do": "outputs", "frames": n, "file": path}``      logits and states of the scene's first frames
                                                      are in the file, see :func:`_outputs`
``{"do": "warm_up", "most": n, "most_s": s}``         units until they are steady; :func:`_warm_up`
``{"do": "turn", "begin": i, "lead_in": k,            units i, i + 1, ...: k untimed, then n timed
"frames": n, "most_s": s}``                           ones; see :func:`_turn`
``{"do": "profile", "frames": n}``                    see :func:`_profile`
anything that fails                                   ``{"error": sentence, "kind": class}``
====================================================  ==============================================
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from shiftedge.benchmarks.engines.base import Contender
from shiftedge.benchmarks.scenes import Scene, open_scene
from shiftedge.benchmarks.workloads import Work, workload
from shiftedge.runtime.errors import NumericsError, ShiftedgeError
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.signals import SIGNALS
from shiftedge.runtime.process.telemetry import keep_out_senders
from shiftedge.runtime.spec import ModelSpec

__all__ = ["main", "peak_rss_mb"]

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
    with _private_stdout() as answers:
        try:
            serve = _Server(config)
            _say(answers, serve.ready)
            for line in sys.stdin:
                _say(answers, serve.answer(json.loads(line)))
        except (ShiftedgeError, MemoryError) as error:
            _say(answers, {"error": str(error) or "out of memory", "kind": type(error).__name__})
            return 1
        except BrokenPipeError:  # the parent is gone
            return 1
    return 0


def peak_rss_mb() -> float | None:
    """Most memory that this process has had at once, MB of 10**6 bytes; None where unknown."""
    return _status_mb("VmHWM")


def _status_mb(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) * 1024 / 1e6 if found else None


def _private_stdout() -> IO[str]:
    """A stream to where stdout led; stdout itself leads to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _say(answers: IO[str], document: Mapping[str, Any]) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


class _Server:
    def __init__(self, config: Mapping[str, Any]) -> None:
        base_mb = _status_mb("VmRSS")
        spec = None if config["spec"] is None else ModelSpec.from_json(config["spec"])
        begin_ns = time.monotonic_ns()
        module, _, name = config["factory"].partition(":")
        factory: Callable[[Path, int, ModelSpec | None], Contender]
        factory = getattr(importlib.import_module(module), name)
        threads = chosen_threads(config["threads"])  # as many for each engine
        self._contender = factory(Path(config["path"]), threads, spec)
        loaded_ns = time.monotonic_ns()
        spec = self._contender.spec
        self._contender.prepare(np.zeros((spec.height, spec.width, 3), np.uint8))
        self._contender.step()
        self._contender.logits()
        first_ns = time.monotonic_ns()
        self._contender.reset()
        self._scene = open_scene(config["scene"], config["seed"], spec)
        self._work = workload(config["workload"], self._contender, self._scene)
        self._timer_ns = timer_ns()
        self._idle_since: tuple[int, int] | None = None
        gc.disable()
        self.ready = _ready(self._contender, base_mb)
        self.ready["load_ms"] = (loaded_ns - begin_ns) / 1e6
        self.ready["first_prediction_ms"] = (first_ns - config["started_ns"]) / 1e6
        self.ready["timer_ns"] = self._timer_ns
        self.ready["frames_each"] = self._work.frames

    def answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if order["do"] == "outputs":
            return _outputs(self._contender, self._scene, order["frames"], order["file"])
        if order["do"] == "warm_up":
            return _warm_up(self._work, order["most"], order["most_s"])
        if order["do"] == "profile":
            return _profile(self._contender, self._scene, order["frames"])
        idle = self._idle()
        answer = _turn(
            self._work,
            order["begin"],
            order["lead_in"],
            order["frames"],
            order.get("most_s"),
            self._timer_ns,
        )
        time.sleep(SETTLE_S)
        self._idle_since = (time.monotonic_ns(), time.process_time_ns())
        return {**answer, "idle": idle}

    def _idle(self) -> dict[str, float]:
        """How long this process waited for the order, and what its threads burned meanwhile."""
        if self._idle_since is None:
            return {"wall_ms": 0.0, "cpu_ms": 0.0}
        wall_ns, cpu_ns = self._idle_since
        return {
            "wall_ms": (time.monotonic_ns() - wall_ns) / 1e6,
            "cpu_ms": (time.process_time_ns() - cpu_ns) / 1e6,
        }


def timer_ns() -> int:
    """What two looks at the clock cost, nanoseconds: the least of many, which is what a time that
    is taken between them holds of it."""
    clock = time.perf_counter_ns
    return min(-clock() + clock() for _ in range(2000))


def _ready(contender: Contender, base_mb: float | None) -> dict[str, Any]:
    """What is known once the model is loaded and has taken one step on a black frame.

    ``load_ms`` is from the engine's import to its being ready; ``first_prediction_ms`` from the
    start of the process to the first logits, Python and numpy included; ``base_rss_mb`` the memory
    of Python and numpy before the engine came; ``packages`` the distributions that it is made of;
    ``timer_ns`` what is subtracted from each time.
    """
    return {
        "version": contender.version,
        "precision": contender.precision,
        "tolerance": contender.tolerance,
        "checked": contender.checked,
        "normalises": contender.normalises,
        "settings": contender.settings,
        "spec": contender.spec.to_json(),
        "has_states": contender.states() is not None,
        "base_rss_mb": base_mb,
        "packages": list(contender.packages),
    }


def _outputs(contender: Contender, scene: Scene, frames: int, file: str) -> dict[str, Any]:
    """Run the scene's first frames from empty states and write float32 numbers to ``file``: frame
    after frame the logits, then each state (C order) where the engine shows them."""
    contender.reset()
    with open(file, "wb") as out:
        for index in range(frames):
            contender.prepare(scene.frame_at(index))
            contender.step()
            out.write(np.ascontiguousarray(contender.logits(), np.float32).tobytes())
            for state in contender.states() or ():
                out.write(np.ascontiguousarray(state, np.float32).tobytes())
    contender.reset()
    return {"frames": frames}


def _warm_up(work: Work, most: int, most_s: float) -> dict[str, Any]:
    """Take units until three pieces of :data:`PIECE` in a row have medians within :data:`STEADY`
    of each other: caches, clocks and whatever compiles on the way have settled.

    Returns:
        ``units`` taken, whether that was ``steady`` before ``most`` of them or ``most_s``, and
        ``unit_s``, the median time of the last piece.
    """
    clock = time.perf_counter_ns
    end_ns = clock() + int(most_s * 1e9)
    medians: list[float] = []
    taken: list[int]
    units, taken = 0, []
    while units < most:
        drawn = [work.draw(units + number) for number in range(PIECE)]
        taken = []
        for each in drawn:
            taken.append(work.take(each)[0])
            if clock() > end_ns:
                return _warmed(units + len(taken), taken, steady=False)
        units += PIECE
        medians.append(float(np.median(taken)))
        last = medians[-3:]
        if len(last) == 3 and max(last) - min(last) <= STEADY * max(last):
            return _warmed(units, taken, steady=True)
    return _warmed(units, taken, steady=False)


def _warmed(units: int, taken: list[int], *, steady: bool) -> dict[str, Any]:
    seconds = float(np.median(taken)) / 1e9 if taken else 0.0
    return {"units": units, "steady": steady, "unit_s": seconds}


def _profile(contender: Contender, scene: Scene, frames: int) -> dict[str, Any]:
    """``seconds``: the time of each kernel by name, see :meth:`Contender.kernel_seconds`."""
    return {"seconds": contender.kernel_seconds([scene.frame_at(i) for i in range(frames)])}


def _turn(
    work: Work, begin: int, lead_in: int, units: int, most_s: float | None, timer: int
) -> dict[str, Any]:
    """Take ``lead_in`` untimed units and ``units`` timed ones, the scene going on from ``begin``;
    fewer, but one, where they would take longer than ``most_s``.

    The lead-in wakes what slept while the others ran: threads, caches, the clock.

    Returns:
        ``step_ns``, a list of whole numbers, less the timer's own cost; ``frame_ns``, the same from
        the uint8 frame on, so with its normalisation for every engine; ``rss_mb``, the peak so far,
        and ``now_mb``, the memory at the end.

    Raises:
        NumericsError: logits that are not finite.
    """
    # Drawn before, so that units follow each other as closely as they can.
    drawn = [work.draw(begin + index) for index in range(lead_in + units)]
    take = work.take
    end_ns = None if most_s is None else time.perf_counter_ns() + int(most_s * 1e9)
    step_ns, frame_ns = [], []
    for index, each in enumerate(drawn):
        step, frame = take(each)
        if not work.finite():
            raise NumericsError(f"The logits of frame {begin + index} are not finite.")
        if index >= lead_in:
            step_ns.append(max(1, step - timer))
            frame_ns.append(max(1, frame - timer))
            if end_ns is not None and time.perf_counter_ns() > end_ns:
                break
    return {
        "step_ns": step_ns,
        "frame_ns": frame_ns,
        "rss_mb": peak_rss_mb(),
        "now_mb": _status_mb("VmRSS"),
    }


if __name__ == "__main__":
    sys.exit(main())
