"""One engine in a process of its own: ``python -m shiftedge.benchmarks.worker CONFIG``.

Started by :mod:`shiftedge.benchmarks.crew`. CONFIG is JSON: ``factory`` (module:Class), ``path``,
``threads``, ``spec`` (JSON text or null), ``seed`` of the scene and ``started_ns`` (monotonic clock
when the parent started this process). Orders come as JSON lines on stdin, each is answered with
one line on stdout; whatever libraries print goes to stderr. Between orders the process waits in a
read. The end of stdin ends it, so none outlives its parent.

====================================================  ==============================================
order                                                 answer
====================================================  ==============================================
(none: after loading)                                 what :func:`_ready` says
``{"do": "outputs", "frames": n, "file": path}``      logits and states of the scene's first frames
                                                      are in the file, see :func:`_outputs`
``{"do": "turn", "begin": i, "lead_in": k,            frames i, i + 1, ...: k steps untimed, then n
"frames": n}``                                        timed ones; see :func:`_turn`
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
from shiftedge.runtime.capture.synthetic.moving import MovingScene
from shiftedge.runtime.errors import NumericsError, ShiftedgeError
from shiftedge.runtime.spec import ModelSpec

__all__ = ["main", "peak_rss_mb"]

SETTLE_S = 0.02
"""After a turn, before the answer: threads that spin for a moment have gone to sleep when the next
process begins. ONNX Runtime's and OpenVINO's take 1 to 5 ms."""


def main(arguments: list[str] | None = None) -> int:
    """Serve one parent until its stdin ends. Returns the exit status: 1 after an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
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
        self._contender = factory(Path(config["path"]), config["threads"], spec)
        loaded_ns = time.monotonic_ns()
        spec = self._contender.spec
        self._contender.prepare(np.zeros((spec.height, spec.width, 3), np.uint8))
        self._contender.step()
        self._contender.logits()
        first_ns = time.monotonic_ns()
        self._contender.reset()
        self._scene = MovingScene(config["seed"], height=spec.height, width=spec.width)
        self._idle_since: tuple[int, int] | None = None
        gc.disable()
        self.ready = _ready(self._contender, base_mb)
        self.ready["load_ms"] = (loaded_ns - begin_ns) / 1e6
        self.ready["first_prediction_ms"] = (first_ns - config["started_ns"]) / 1e6

    def answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if order["do"] == "outputs":
            return _outputs(self._contender, self._scene, order["frames"], order["file"])
        idle = self._idle()
        answer = _turn(
            self._contender, self._scene, order["begin"], order["lead_in"], order["frames"]
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


def _ready(contender: Contender, base_mb: float | None) -> dict[str, Any]:
    """What is known once the model is loaded and has taken one step on a black frame.

    ``load_ms`` is from the engine's import to its being ready; ``first_prediction_ms`` from the
    start of the process to the first logits, Python and numpy included; ``base_rss_mb`` the memory
    of Python and numpy before the engine came.
    """
    return {
        "version": contender.version,
        "precision": contender.precision,
        "normalises": contender.normalises,
        "settings": contender.settings,
        "spec": contender.spec.to_json(),
        "has_states": contender.states() is not None,
        "base_rss_mb": base_mb,
    }


def _outputs(contender: Contender, scene: MovingScene, frames: int, file: str) -> dict[str, Any]:
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


def _turn(
    contender: Contender, scene: MovingScene, begin: int, lead_in: int, frames: int
) -> dict[str, Any]:
    """Take ``lead_in`` untimed steps and ``frames`` timed ones, the scene going on from ``begin``.

    The lead-in wakes what slept while the others ran: threads, caches, the clock.

    Returns:
        ``step_ns``, a list of ``frames`` whole numbers; ``frame_ns``, the same from the uint8 frame
        on, so with its normalisation for every engine; and ``rss_mb``, the peak so far.

    Raises:
        NumericsError: logits that are not finite.
    """
    # Drawn before, so that steps follow each other as closely as they can.
    images = [scene.frame_at(begin + index) for index in range(lead_in + frames)]
    clock, prepare, step = time.perf_counter_ns, contender.prepare, contender.step
    step_ns, frame_ns = [], []
    for index, image in enumerate(images):
        given_ns = clock()
        prepare(image)
        start_ns = clock()
        step()
        end_ns = clock()
        if not np.isfinite(contender.logits()).all():
            raise NumericsError(f"The logits of frame {begin + index} are not finite.")
        if index >= lead_in:
            step_ns.append(end_ns - start_ns)
            frame_ns.append(end_ns - given_ns)
    return {"step_ns": step_ns, "frame_ns": frame_ns, "rss_mb": peak_rss_mb()}


if __name__ == "__main__":
    sys.exit(main())
