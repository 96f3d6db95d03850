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

from shiftedge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.model import Model
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.progress import LINES
from shiftedge.runtime.spec import ModelSpec

__all__ = ["main", "measure"]

CAMERA_SHAPE = (480, 640, 3)
FRAMES = 8
"""Different frames, fed in turn."""
WARM_UP = 10


def measure(path: str | Path, *, steps: int, threads: int | None = None) -> dict[str, Any]:
    """Time the four ways and the preprocessing.

    Args:
        path: an .onnx model.
        steps: timed steps of each way.
        threads: for ONNX Runtime; None is its engine's default.

    Returns:
        ``{"threads", "steps", "ms": {way: {"p50", "p10", "p90"}}, "overhead": {way: ratio}}``;
        milliseconds, and the median over the turns of each way's time over ``run``'s.

    Raises:
        ShiftedgeError: as :func:`shiftedge.runtime.model.load`.
    """
    engine = OnnxRuntimeEngine(path, threads=threads)
    model = Model(engine)
    generator = np.random.default_rng(0)
    spec = model.spec
    camera = [generator.integers(0, 256, CAMERA_SHAPE, np.uint8) for _ in range(FRAMES)]
    fitted = [model.preprocessor.fit(image) for image in camera]
    inputs = [_normalised(model.preprocessor, spec, image) for image in fitted]
    small, large = model.stream(), model.stream()
    scratch = np.empty((1, 3, spec.height, spec.width), np.float32)
    run, binding = _run_way(engine), _binding_way(engine)
    ways: dict[str, Callable[[int], object]] = {
        "run": lambda i: run(inputs[i]),
        "binding": lambda i: binding(inputs[i]),
        "stream": lambda i: small.step(fitted[i]),
        "camera": lambda i: large.step(camera[i]),
        "fit": lambda i: model.preprocessor.fit(camera[i]),
        "normalise": lambda i: model.preprocessor.normalise(fitted[i], scratch),
    }
    times_s = _interleave(list(ways.values()), steps)
    percentiles = np.percentile(times_s * 1e3, (50, 10, 90), axis=1)
    return {
        "model": spec.name,
        "onnxruntime": engine.version,
        "threads": engine.threads,
        "steps": steps,
        "ms": {
            way: {key: float(percentiles[row, i]) for row, key in enumerate(("p50", "p10", "p90"))}
            for i, way in enumerate(ways)
        },
        "overhead": {
            way: float(np.median(times_s[i] / times_s[0])) - 1.0
            for i, way in enumerate(ways)
            if way in ("binding", "stream", "camera")
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print. Returns the exit status: 0 done, 1 the work failed."""
    parser = argparse.ArgumentParser(
        prog="python -m shiftedge.benchmarks.overhead",
        description="Time Stream.step against the bare ONNX Runtime session.",
    )
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("--steps", type=_positive, default=300, help="timed steps (default 300)")
    parser.add_argument("--threads", type=_positive, help="default: as the engine chooses")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    options = parser.parse_args(arguments)
    try:
        figures = measure(options.model, steps=options.steps, threads=options.threads)
    except ShiftedgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    text = json.dumps(figures, indent=2) if options.json else _table(figures)
    sys.stdout.write(text + "\n")
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a whole number from 1")
    return value


def _table(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['model']}, onnxruntime {figures['onnxruntime']}, {figures['threads']} threads, "
        f"{figures['steps']} steps, milliseconds",
        f"{'':10}{'p50':>8}{'p10':>8}{'p90':>8}{'against run':>14}",
    ]
    for way, row in figures["ms"].items():
        ratio = figures["overhead"].get(way)
        against = "" if ratio is None else f"{ratio:+14.1%}"
        lines.append(f"{way:10}{row['p50']:8.3f}{row['p10']:8.3f}{row['p90']:8.3f}{against}")
    return "\n".join(lines)


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


def _normalised(
    preprocessor: Preprocessor, spec: ModelSpec, image: NDArray[np.uint8]
) -> NDArray[np.float32]:
    out = np.empty((1, 3, spec.height, spec.width), np.float32)
    preprocessor.normalise(image, out)
    return out


def _run_way(engine: OnnxRuntimeEngine) -> Callable[[NDArray[np.float32]], object]:
    names = [f"state_{i}" for i in range(len(engine.spec.states))]
    outputs = ["logits", *(f"next_{name}" for name in names)]
    feeds: dict[str, NDArray[np.float32]] = {
        name: state.fresh() for name, state in zip(names, engine.spec.states, strict=True)
    }

    def step(frame: NDArray[np.float32]) -> object:
        feeds["frame"] = frame
        logits, *states = engine.session.run(outputs, feeds)
        feeds.update(zip(names, states, strict=True))
        return logits

    return step


def _binding_way(engine: OnnxRuntimeEngine) -> Callable[[NDArray[np.float32]], object]:
    ort = require("onnxruntime")
    spec = engine.spec
    hosts: list[NDArray[np.float32]] = []

    def value_of(shape: tuple[int, ...]) -> Any:
        # The value is a view of the array, which older ONNX Runtimes do not keep alive.
        hosts.append(np.zeros(shape, np.float32))
        return ort.OrtValue.ortvalue_from_numpy(hosts[-1])

    frame, logits = value_of((1, 3, spec.height, spec.width)), value_of((1, spec.classes))
    sets = [[value_of(state.shape) for state in spec.states] for _ in range(2)]
    bindings = []
    for source in range(2):
        binding = engine.session.io_binding()
        binding.bind_ortvalue_input("frame", frame)
        binding.bind_ortvalue_output("logits", logits)
        for i, (old, new) in enumerate(zip(sets[source], sets[1 - source], strict=True)):
            binding.bind_ortvalue_input(f"state_{i}", old)
            binding.bind_ortvalue_output(f"next_state_{i}", new)
        bindings.append(binding)

    def step(image: NDArray[np.float32]) -> object:
        np.copyto(hosts[0], image)
        engine.session.run_with_iobinding(bindings[0])
        bindings.reverse()
        return logits

    return step


if __name__ == "__main__":
    sys.exit(main())
