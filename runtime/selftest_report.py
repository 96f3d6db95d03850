"""The self-test of a bundle on this machine: every variant that it can run, what each kernel takes,
and where that is not what the compiler predicted.

``shiftedge-run --self-test`` says whether a board computes what was recorded; this also says,
kernel by kernel, how far the cost model is from the board, which is how a prediction made without
one is checked on one.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge import __version__
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.engines.native import NativeEngine, NativeSession
from shiftedge.runtime.errors import BundleError, ModelError
from shiftedge.runtime.loading import gpu_of
from shiftedge.runtime.manifest import Build, SelfTest, Variant
from shiftedge.runtime.process.tables import Column, Table
from shiftedge.runtime.selftest import CLIP, self_test_clip

PROFILED = 20
"""Steps whose kernels are timed, or as many as are timed whole if those are fewer; of each kernel
the median counts."""
DIFFERS = 1.5
"""A kernel that takes so many times as long as was predicted, or as little, is told to people."""
ROWS_MOST = 20
"""Of these, the ones that matter most to the step."""
_BOARD = Path("/proc/device-tree/model")


def variants_here(bundle: Bundle, device: str) -> list[Variant]:
    """Of a bundle, what a device of this machine may run: for "cpu" the first that the processor
    can of each precision, for "cuda" those for its GPU, for "auto" both.

    Raises:
        BundleError: there is none.
        ModelError: it is no device.
    """
    found = [] if gpu_of(device) is None else bundle.gpu_variants()
    why: BundleError | None = None
    for precision in () if device.startswith("cuda") else bundle.manifest.builds:
        try:
            found.append(bundle.variant(precision=precision))
        except BundleError as error:  # noqa: PERF203 - of two or three turns
            why = error
    if not found:
        raise why or BundleError(
            f"{bundle.folder} has no code for a GPU of this machine; `shiftedge inspect` shows "
            "what it has."
        )
    return found


def report_on(
    bundle: Bundle,
    device: str,
    *,
    steps: int,
    threads: int | None,
    advance: Callable[[int], object],
) -> dict[str, Any]:
    """Test and time each variant that ``device`` may run, as plain JSON types.

    Args:
        steps: that are timed, from 1, beside the self-test's and the profiled ones.
        advance: called with 1 behind each variant.

    Raises:
        As :func:`variants_here`. What is wrong with a variant stands in the report.
    """
    rows = []
    for variant in variants_here(bundle, device):
        row: dict[str, Any] = {
            "name": variant.name, "device": variant.device, "precision": variant.precision,
        }  # fmt: skip
        try:
            row |= _tested(bundle, variant, gpu_of(device) or 0, steps, threads)
        except ModelError as error:  # a DeviceError too
            row |= {"passed": False, "failed": str(error)}
        rows.append(row)
        advance(1)
    return {
        "shiftedge": __version__,
        "machine": {
            "architecture": platform.machine(),
            "system": platform.platform(),
            "board": _board(),
        },
        "model": bundle.manifest.spec.name,
        "target": bundle.manifest.target,
        "passed": all(row["passed"] for row in rows),
        "variants": rows,
    }


def report_text(report: Mapping[str, Any]) -> str:
    """The report for people."""
    return "\n".join(line for row in report["variants"] for line in _lines(row))


def _board() -> str | None:
    """As the device tree names it, where there is one."""
    try:
        return _BOARD.read_text(errors="replace").strip("\0\n") or None
    except OSError:
        return None


def _tested(
    bundle: Bundle, variant: Variant, gpu: int, steps: int, threads: int | None
) -> dict[str, Any]:
    manifest, build = bundle.manifest, bundle.manifest.builds[variant.precision]
    library, entry = bundle.folder / variant.library, manifest.files[variant.library]
    begin = time.perf_counter()
    engine = NativeEngine(library, threads=threads, sha256=entry.sha256, gpu=gpu)
    session, opened = engine.open_session(), time.perf_counter() - begin
    clip = self_test_clip(build.spec.height, build.spec.width)
    found = {"open_ms": round(1e3 * opened, 3), **_compared(session, clip, build.selftest)}
    took = _timed(session, clip, steps)
    names = ("p50", "p90", "p99")
    found["step_ms"] = {
        name: round(float(value), 4)
        for name, value in zip(names, np.percentile(took, (50, 90, 99)), strict=True)
    }
    rows = _rows_of(build, variant)
    kernels = _kernels(engine, session, clip, rows, min(steps, PROFILED))
    found["kernels"] = kernels
    found["kernels_microseconds"] = round(sum(row["microseconds"] for row in kernels), 2)
    predicted = [row["predicted_microseconds"] for row in kernels]
    if kernels and None not in predicted:
        found["predicted_microseconds"] = round(sum(predicted), 2)
    return found


def _compared(
    session: NativeSession, clip: NDArray[np.uint8], test: SelfTest | None
) -> dict[str, Any]:
    """Each frame's logits against those recorded."""
    if test is None or test.clip != CLIP:
        return {"passed": False, "failed": "no self-test was recorded: compile the model again"}
    expected = np.array(test.logits, np.float32)
    ours = np.array([session.step(clip[i % len(clip)]) for i in range(len(expected))])
    far = float(np.abs(ours - expected).max()) / max(float(np.abs(expected).max()), 1e-6)
    found: dict[str, Any] = {
        "passed": far <= test.tolerance,
        "frames": len(expected),
        "relative_error": far if np.isfinite(far) else None,
        "accepted": test.tolerance,
        "same_argmax": bool((ours.argmax(1) == expected.argmax(1)).all()),
    }
    if not found["passed"]:
        found["failed"] = f"logits are {far:.2g} of the largest off; accepted {test.tolerance:g}"
    return found


def _timed(session: NativeSession, clip: NDArray[np.uint8], steps: int) -> NDArray[np.float64]:
    """Milliseconds of each step."""
    took = np.zeros(steps)
    for number in range(steps):
        begin = time.perf_counter()
        session.step(clip[number % len(clip)])
        took[number] = 1e3 * (time.perf_counter() - begin)
    return took


def _kernels(
    engine: NativeEngine,
    session: NativeSession,
    clip: NDArray[np.uint8],
    rows: Sequence[Mapping[str, Any]],
    steps: int,
) -> list[dict[str, Any]]:
    """What each kernel takes, made one by one, and what was predicted of it."""
    names = engine.kernels
    seen = np.zeros((steps, len(names)))
    with engine.profiled() as seconds:
        for number in range(steps):
            session.step(clip[number % len(clip)])
            seen[number] = seconds
    medians = 1e6 * np.median(seen, axis=0)
    # As many as launches, unless the manifest is of another version.
    known = rows if len(rows) == len(names) else [{}] * len(names)
    return [
        {
            "name": name,
            "microseconds": round(float(measured), 3),
            "predicted_microseconds": row.get("predicted_microseconds"),
            "bound": row.get("bound"),
        }
        for name, measured, row in zip(names, medians, known, strict=True)
    ]


def _rows_of(build: Build, variant: Variant) -> Sequence[Mapping[str, Any]]:
    """The manifest's rows of a variant's kernels; none of a processor's other than the last, whose
    they are."""
    gpu = build.gpus.get(variant.name)
    return build.kernels if gpu is None else gpu["kernels"]


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    if "step_ms" not in row:
        yield f"{row['name']}: failed: {row['failed']}"
        return
    far, step = row.get("relative_error"), row["step_ms"]
    said = "passed" if row["passed"] else f"failed: {row['failed']}"
    if row["passed"]:
        said += f", {row['frames']} frames within {far:.1e} of what was recorded"
    times = f"step {step['p50']:.3f} ms (p50), {step['p99']:.3f} ms (p99)"
    yield f"{row['name']}: {said}; {times}; opened in {row['open_ms'] / 1e3:.1f} s"
    if "predicted_microseconds" not in row:
        return
    took, predicted = row["kernels_microseconds"], row["predicted_microseconds"]
    yield (
        f"  kernels one by one {took / 1e3:.3f} ms, predicted {predicted / 1e3:.3f} ms: "
        f"{took / max(predicted, 1e-9):.2f} of it"
    )
    yield from _differing(row["kernels"], took, predicted)


def _differing(
    kernels: Sequence[Mapping[str, Any]], took: float, predicted: float
) -> Iterator[str]:
    """The kernels that are not as predicted, once all are as much quicker or slower as the whole:
    what is wrong with a kernel, and not with the clock."""
    scale = took / max(predicted, 1e-9)
    found = [
        {**row, "ratio": row["microseconds"] / max(row["predicted_microseconds"] * scale, 1e-9)}
        for row in kernels
    ]
    far = [row for row in found if not 1 / DIFFERS <= row["ratio"] <= DIFFERS]
    if not far:
        yield f"  each kernel's share of the step within {DIFFERS} times of what was predicted"
        return
    far.sort(key=lambda row: -abs(row["microseconds"] - scale * row["predicted_microseconds"]))
    columns = (
        Column("kernel", "name"),
        Column("us", "microseconds", ".1f"),
        Column("predicted us", "predicted_microseconds", ".1f"),
        Column("share, of predicted", "ratio", ".2f"),
        Column("bound by", "bound"),
    )
    yield f"  {len(far)} of {len(kernels)} kernels take another share of the step than predicted:"
    for line in Table.of(columns, far[:ROWS_MOST], "lrrrl").lines():
        yield f"  {line}"
