"""A finished run as a document: JSON, schema 1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shiftedge.benchmarks import agreement
from shiftedge.benchmarks.bench import LEAD_IN, WARM_UP_MOST, Bench
from shiftedge.benchmarks.entry import Entry
from shiftedge.benchmarks.figures import percentiles_ms
from shiftedge.benchmarks.kernels import kernel_rows
from shiftedge.benchmarks.sensors import describe, throttled_between
from shiftedge.benchmarks.verdict import (
    against_best_peer,
    frame_rounds,
    step_rounds,
    verdicts,
)

__all__ = ["SCHEMA", "describe_file", "document"]

SCHEMA = 1
"""Of the document. Raised when the meaning of a key changes; readers ignore keys they do not
know."""


def document(bench: Bench) -> dict[str, Any]:
    """Everything measured, as plain JSON types.

    Args:
        bench: after its run, interrupted or not.
    """
    limits = None
    if bench.roofline is not None:
        limits = bench.roofline.to_dict(bench.work.works, _precision(bench), bench.work.reason)
    return {
        "schema": SCHEMA,
        "machine": bench.machine,
        "model": _model(bench),
        "roofline": limits,
        "results": [_result(entry, bench) for entry in bench.entries],
        "verdicts": verdicts(bench.entries, bench.round_starts),
        "kernels": _kernels(bench, limits),
        "soak": None if bench.soak is None else bench.soak.to_dict(),
        "sensors": _sensors(bench),
        "comparison": None,
        "protocol": {
            "frames": bench.settings.frames,
            "rounds": bench.settings.rounds,
            "starts": bench.settings.starts,
            "round_starts": bench.round_starts,
            "source": bench.source or "rendered scene",
            "source_frames": bench.source_frames,
            "warm_up_most": WARM_UP_MOST,
            "lead_in_frames": LEAD_IN,
            "agreement_frames": agreement.FRAMES,
            "agreement_tolerance": agreement.TOLERANCE,
        },
        "interrupted": bench.interrupted,
        "notes": [
            *_normalising(bench.entries),
            *(() if bench.soak is None else bench.soak.lines()),
            *bench.notes,
        ],
    }


def _normalising(entries: Sequence[Entry]) -> list[str]:
    timed = [entry for entry in entries if entry.status == "ok" and entry.workload == "step"]
    inside = {entry.candidate.engine for entry in timed if entry.ready["normalises"]}
    outside = {entry.candidate.engine for entry in timed if not entry.ready["normalises"]}
    if not inside or not outside:
        return []
    return [
        f"The step of {' and '.join(sorted(inside))} normalises the uint8 frame; that of "
        f"{' and '.join(sorted(outside))} gets the float frame ready-made. With frame: from the "
        "uint8 frame on, for all."
    ]


def _sensors(bench: Bench) -> dict[str, Any]:
    found, sources = bench.samples, bench.sensors.sources()
    return {
        "samples": found,
        "throttled": throttled_between(found[0], found[-1]) if len(found) > 1 else None,
        "sources": sources,
        "line": describe(found[0], found[-1]) if found else None,
    }


def _energy(entry: Entry) -> float | None:
    """Joules of a frame, of all that the meter sees; None without a meter."""
    frames = entry.energy_units * entry.ready.get("frames_each", 1)
    known = entry.energy_reason is None and entry.energy_j > 0 and frames > 0
    return entry.energy_j / frames if known else None


def _kernels(bench: Bench, limits: dict[str, Any] | None) -> dict[str, Any] | None:
    """The rows of each thread count that was profiled; another precision than the model's own is
    named behind it."""
    if not bench.kernel_seconds:
        return None
    own, work = _precision(bench), bench.work
    by_threads = {} if limits is None else limits["by_threads"]
    return {
        str(threads) if precision == own else f"{threads} {precision}": kernel_rows(
            work.kernels.get(precision, ()),
            seconds,
            by_threads.get(str(threads), {}),
            work.instructions.get(precision, {}),
        )
        for (threads, precision), seconds in bench.kernel_seconds.items()
    }


def _bytes_on_disk(path: Path | None) -> int | None:
    if path is None:
        return None
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def describe_file(onnx: Path | None) -> dict[str, str | None]:
    """``file`` and ``sha256`` of a model, None of no model."""
    if onnx is None:
        return {"file": None, "sha256": None}
    return {"file": onnx.name, "sha256": hashlib.sha256(onnx.read_bytes()).hexdigest()}


def _precision(bench: Bench) -> str:
    """Of the model's file, or of the bundle where that is all there is."""
    return "fp32" if bench.spec is None else bench.spec.precision


def _model(bench: Bench) -> dict[str, Any]:
    bundle = bench.bundle
    found: dict[str, Any] = {
        "name": None,
        **describe_file(bench.onnx),
        "bundle": None if bundle is None else bundle.name,
        "bundle_bytes": _bytes_on_disk(bundle),
        "flops": bench.work.flops(_precision(bench)),
    }
    if bench.spec is not None:
        found |= {
            "name": bench.spec.name,
            "height": bench.spec.height,
            "width": bench.spec.width,
            "classes": bench.spec.classes,
            "states": len(bench.spec.states),
            "state_bytes": bench.spec.state_bytes,
        }
    return found


def _result(entry: Entry, bench: Bench) -> dict[str, Any]:
    ready, found, starts = entry.ready, entry.agreement, bench.round_starts
    measured = entry.status == "ok"
    times = entry.times() if measured else []
    step_ms = percentiles_ms(times) if times else None
    frames_each = ready.get("frames_each", 1)
    limit_ms = None
    if bench.roofline is not None and entry.workload == "step":
        work = bench.work.works.get(str(ready.get("precision")))
        limit_ms = bench.roofline.step_ms(entry.threads, work)
    return {
        "engine": entry.candidate.engine,
        "version": ready.get("version"),
        "precision": ready.get("precision"),
        "threads": entry.threads,
        "workload": entry.workload,
        "frames_each": frames_each,
        "status": entry.status,
        "reason": entry.reason,
        "frames": len(times),
        "step_ms": step_ms,
        "frames_per_second": 1e3 * frames_each / step_ms["p50"] if step_ms else None,
        "round_p50_ms": [percentiles_ms(times)["p50"] for times in entry.rounds_ns if times],
        "against_best_peer": against_best_peer(entry, bench.entries, step_rounds, starts),
        "frame_ms": _percentiles(entry.frame_rounds_ns) if measured else None,
        "frame_against_best_peer": against_best_peer(entry, bench.entries, frame_rounds, starts),
        "rounds_us": [np.round(np.asarray(times) / 1e3, 2).tolist() for times in entry.rounds_ns]
        if measured
        else [],
        "of_roofline": step_ms["p50"] / limit_ms if step_ms and limit_ms else None,
        "rss_mb": entry.rss_mb,
        "base_rss_mb": ready.get("base_rss_mb"),
        "load_ms": _median(entry.load_ms),
        "first_prediction_ms": _median(entry.first_ms),
        "starts": len(entry.load_ms),
        "engine_bytes": ready.get("engine_bytes"),
        "timer_ns": ready.get("timer_ns"),
        "warm_up": entry.warm_up or None,
        "energy_j_per_frame": _energy(entry) if measured else None,
        "energy_reason": entry.energy_reason,
        "max_abs_error": None if found is None else found.max_abs_error,
        "agreement": None
        if found is None
        else {
            "worst_relative": found.worst_relative,
            "worst_tensor": found.worst_tensor,
            "states_compared": found.states_compared,
            "tolerance": found.tolerance,
        },
        "normalises": ready.get("normalises"),
        "settings": ready.get("settings"),
        "idle_cpu_share": entry.idle_cpu_ms / entry.idle_wall_ms if entry.idle_wall_ms else None,
    }


def _percentiles(rounds: Sequence[Sequence[int]]) -> dict[str, float] | None:
    times = [time for times in rounds for time in times]
    return percentiles_ms(times) if times else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
