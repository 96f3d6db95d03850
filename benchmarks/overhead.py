"""What a stream adds to the bare ONNX Runtime step: ``python -m shiftedge.benchmarks.overhead``.

Four ways to take the same steps, on one ONNX Runtime session and the same frames, taking turns in
one process so that a noisy machine hits all alike:

- ``run``: ``session.run`` with the states as numpy arrays, fed back by hand;
- ``binding``: I/O binding with the states left in place, and nothing else;
- ``stream``: ``Stream.step`` on a frame of the model's size: checks, normalisation, binding;
- ``camera``: the same on a 640 x 480 frame, scaling included.

``run`` and ``binding`` get frames that were normalised beforehand. Preprocessing is also timed by
itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.onnxruntime import OnnxRuntimeContender, ReferenceContender
from shiftedge.runtime.commands import positive
from shiftedge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.progress import LINES
from shiftedge.runtime.process.tables import Table

CAMERA_SHAPE = (480, 640, 3)
FRAMES = 8
"""Different frames, fed in turn."""
WARM_UP = 10


def measure(path: str | Path, *, steps: int, threads: int | None = None) -> dict[str, Any]:
    """Time the four ways and the preprocessing.

    Returns:
        ``{"threads", "steps", "ms": {way: {"p50", "p10", "p90"}}, "overhead": {way: ratio}}``;
        milliseconds, and the median over the turns of each way's time over ``run``'s.

    Raises:
        ShiftedgeError: as :func:`shiftedge.runtime.model.load`.
    """
    engine = OnnxRuntimeEngine(path, threads=threads)
    model = Model(engine)
    generator = np.random.default_rng(0)
    spec, fit, normalise = model.spec, model.preprocessor.fit, model.preprocessor.normalise
    camera = [generator.integers(0, 256, CAMERA_SHAPE, np.uint8) for _ in range(FRAMES)]
    fitted = [fit(image) for image in camera]
    inputs = np.empty((FRAMES, 1, 3, spec.height, spec.width), np.float32)
    for image, out in zip(fitted, inputs, strict=True):
        normalise(image, out)
    scratch = np.empty_like(inputs[0])
    small, large = model.stream(), model.stream()
    plain = ReferenceContender.of(engine.session, spec)
    bound = OnnxRuntimeContender.of(engine.session, spec)
    ways: dict[str, Callable[[int], object]] = {
        "run": lambda i: plain.step_on(inputs[i]),
        "binding": lambda i: bound.step_on(inputs[i]),
        "stream": lambda i: small.step(fitted[i]),
        "camera": lambda i: large.step(camera[i]),
        "fit": lambda i: fit(camera[i]),
        "normalise": lambda i: normalise(fitted[i], scratch),
    }
    times_s = _interleave(list(ways.values()), steps)
    percentiles = np.percentile(times_s * 1e3, (50, 10, 90), axis=1)
    ratios = np.median(times_s / times_s[0], axis=1) - 1.0
    return {
        "model": spec.name,
        "onnxruntime": engine.version,
        "threads": engine.threads,
        "steps": steps,
        "ms": {
            way: dict(zip(("p50", "p10", "p90"), column, strict=True))
            for way, column in zip(ways, percentiles.T.tolist(), strict=True)
        },
        "overhead": dict(list(zip(ways, ratios.tolist(), strict=True))[1:4]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print. Returns the exit status: 0 done, 1 the work failed."""
    parser = argparse.ArgumentParser(
        prog="python -m shiftedge.benchmarks.overhead",
        description="Time Stream.step against the bare ONNX Runtime session.",
    )
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("--steps", type=positive, default=300, help="timed steps (default 300)")
    parser.add_argument("--threads", type=positive, help="default: as the engine chooses")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    options = parser.parse_args(arguments)
    try:
        figures = measure(options.model, steps=options.steps, threads=options.threads)
    except ShiftedgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    text = json.dumps(figures, indent=2) if options.json else "\n".join(_table(figures).lines())
    sys.stdout.write(text + "\n")
    return 0


def _table(figures: dict[str, Any]) -> Table:
    title = (
        f"{figures['model']}, onnxruntime {figures['onnxruntime']}, {figures['threads']} threads, "
        f"{figures['steps']} steps, milliseconds"
    )
    rows = []
    for way, row in figures["ms"].items():
        ratio = figures["overhead"].get(way)
        against = "" if ratio is None else f"{ratio:+.1%}"
        rows.append((way, *(f"{row[key]:.3f}" for key in ("p50", "p10", "p90")), against))
    return Table(("", "p50", "p10", "p90", "against run"), rows, "lr", title)


def _interleave(ways: Sequence[Callable[[int], object]], steps: int) -> NDArray[np.float64]:
    """Seconds of each way at each turn, shape (ways, steps); the order turns with the steps."""
    times_s = np.zeros((len(ways), steps))
    with LINES.item("measuring", steps + WARM_UP, "rounds", quiet=True) as advance:
        for step in range(-WARM_UP, steps):
            for k in range(len(ways)):
                way = (k + step) % len(ways)
                begin_s = time.perf_counter()
                ways[way](step % FRAMES)
                if step >= 0:
                    times_s[way, step] = time.perf_counter() - begin_s
            advance(1)
    return times_s


if __name__ == "__main__":
    sys.exit(main())
