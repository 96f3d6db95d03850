"""A finished run as a document, JSON of schema 1: what was measured, and who is quicker than whom,
where that can be told at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from shiftedge.benchmarks.bench import LEAD_IN, WARM_UP_MOST, Bench
from shiftedge.benchmarks.entry import Entry
from shiftedge.benchmarks.kernels import kernel_rows
from shiftedge.benchmarks.ratios import paired_ratio, percentiles_ms
from shiftedge.benchmarks.sensors.gauges import describe, throttled_between
from shiftedge.export.agreement import FRAMES, TOLERANCE
from shiftedge.runtime.errors import ShiftedgeError

SCHEMA = 1
"""Of the document. Raised when the meaning of a key changes; readers ignore keys they do not
know."""
KEYS = {"schema": int, "machine": dict, "model": dict, "results": list, "protocol": dict}

READY = (
    "version", "precision", "base_rss_mb", "engine_bytes", "timer_ns", "normalises", "settings"
)  # fmt: skip
ENTRY = ("threads", "workload", "status", "reason", "rss_mb", "energy_reason")
"""Of a result, as they are: what the worker said when it was ready, and what became of it."""

Rounds = Callable[[Entry], Sequence[Sequence[int]]]
"""Which times of an entry: those of the step alone, or from the uint8 frame on."""

_step: Rounds = attrgetter("rounds_ns")
_frame: Rounds = attrgetter("frame_rounds_ns")


def document(bench: Bench) -> dict[str, Any]:
    limits, settings = None, bench.settings
    if bench.roofline is not None:
        limits = bench.roofline.to_dict(bench.work.works, bench.work.reason)
    samples = bench.samples
    return {
        "schema": SCHEMA,
        "machine": bench.machine,
        "model": _model(bench),
        "roofline": limits,
        "results": [_result(entry, bench) for entry in bench.entries],
        "verdicts": _verdicts(bench),
        "kernels": _kernels(bench, limits),
        "soak": None if bench.soak is None else bench.soak.to_dict(),
        "sensors": {
            "samples": samples,
            "throttled": throttled_between(samples[0], samples[-1]) if len(samples) > 1 else None,
            "sources": bench.sensors.sources(),
            "line": describe(samples[0], samples[-1]) if samples else None,
        },
        "comparison": None,
        "protocol": {
            "frames": settings.frames,
            "rounds": settings.rounds,
            "starts": settings.starts,
            "round_starts": bench.round_starts,
            "source": bench.source or "rendered scene",
            "source_frames": bench.source_frames,
            "warm_up_most": WARM_UP_MOST,
            "lead_in_frames": LEAD_IN,
            "agreement_frames": FRAMES,
            "agreement_tolerance": TOLERANCE,
        },
        "interrupted": bench.exit_status != 0,
        "notes": [
            *_normalising(bench.entries),
            *(() if bench.soak is None else bench.soak.lines()),
            *bench.notes,
        ],
    }


def check_report(found: Any, name: str) -> dict[str, Any]:
    """A document, if it is one.

    Raises:
        ShiftedgeError: it is not what ``--json`` writes.
    """
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), kind) for key, kind in KEYS.items()
    ):
        raise ShiftedgeError(
            f"{name} is no report of `shiftedge bench --json`; name a file that it wrote."
        )
    return found


def read_report(path: Path) -> dict[str, Any]:
    """An earlier run's JSON.

    Raises:
        ShiftedgeError: no such file, or not what ``--json`` writes.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ShiftedgeError(f"{path} cannot be read: {error}.") from error
    except (ValueError, RecursionError):
        found = None
    return check_report(found, str(path))


def describe_file(onnx: Path | None) -> dict[str, str | None]:
    """``file`` and ``sha256`` of a model, None of no model."""
    if onnx is None:
        return {"file": None, "sha256": None}
    return {"file": onnx.name, "sha256": hashlib.sha256(onnx.read_bytes()).hexdigest()}


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


def _precision(bench: Bench) -> str:
    """Of the model's file, or of the bundle where that is all there is."""
    return "fp32" if bench.spec is None else bench.spec.precision


def _model(bench: Bench) -> dict[str, Any]:
    bundle, spec, size = bench.bundle, bench.spec, None
    if bundle is not None:
        files = bundle.rglob("*") if bundle.is_dir() else [bundle]
        size = sum(
            file.stat().st_size for file in files if file.is_file() and not file.is_symlink()
        )
    found: dict[str, Any] = {
        "name": None,
        **describe_file(bench.onnx),
        "bundle": None if bundle is None else bundle.name,
        "bundle_bytes": size,
        "flops": bench.work.flops(_precision(bench)),
    }
    if spec is not None:
        keys = ("name", "height", "width", "classes", "state_bytes")
        found |= {key: getattr(spec, key) for key in keys} | {"states": len(spec.states)}
    return found


def _result(entry: Entry, bench: Bench) -> dict[str, Any]:
    ready = entry.ready
    measured = entry.status == "ok"
    times = _flat(entry, _step) if measured else []
    step_ms = percentiles_ms(times) if times else None
    frame_ns = _flat(entry, _frame) if measured else []
    frames_each = ready.get("frames_each", 1)
    limit_ms = None
    if bench.roofline is not None and entry.workload == "step":
        work = bench.work.works.get(str(ready.get("precision")))
        limit_ms = bench.roofline.step_ms(entry.threads, work)
    # Of all that the meter sees.
    energy_frames = entry.energy_units * frames_each
    energetic = measured and entry.energy_reason is None and entry.energy_j > 0 < energy_frames
    return {
        "engine": entry.candidate.engine,
        **{key: ready.get(key) for key in READY},
        **{key: getattr(entry, key) for key in ENTRY},
        "frames_each": frames_each,
        "frames": len(times),
        "step_ms": step_ms,
        "against_best_peer": _against_best_peer(entry, bench, _step),
        "frame_ms": percentiles_ms(frame_ns) if frame_ns else None,
        "frame_against_best_peer": _against_best_peer(entry, bench, _frame),
        "rounds_us": [np.round(np.asarray(times) / 1e3, 2).tolist() for times in entry.rounds_ns]
        if measured
        else [],
        "of_roofline": step_ms["p50"] / limit_ms if step_ms and limit_ms else None,
        "load_ms": float(np.median(entry.load_ms)) if entry.load_ms else None,
        "first_prediction_ms": float(np.median(entry.first_ms)) if entry.first_ms else None,
        "starts": len(entry.load_ms),
        "warm_up": entry.warm_up or None,
        "energy_j_per_frame": entry.energy_j / energy_frames if energetic else None,
        **_agreement(entry),
    }


def _agreement(entry: Entry) -> dict[str, Any]:
    """With the reference; None where nothing was compared."""
    rows = entry.agreement
    if not rows:
        return {"max_abs_error": None, "agreement": None}
    found = {
        "worst_relative": rows[0].relative,
        "worst_tensor": rows[0].tensor,
        "states_compared": len(rows) > 1,
        "tolerance": entry.ready["tolerance"],
    }
    logits = next(row for row in rows if row.tensor == "logits")
    return {"max_abs_error": logits.worst, "agreement": found}


# Who is quicker


def _rivals(entry: Entry, bench: Bench) -> list[Entry]:
    """Those that were measured doing the same with as many threads in the same precision, since
    fewer bits are another computation; itself among them."""
    same = (entry.threads, entry.workload, entry.ready["precision"])
    return [
        other
        for other in bench.entries
        if other.status == "ok"
        and other.ready["checked"]
        and (other.threads, other.workload, other.ready["precision"]) == same
    ]


def _flat(entry: Entry, rounds: Rounds) -> list[int]:
    return [time for times in rounds(entry) for time in times]


def _p50(entry: Entry, rounds: Rounds) -> float:
    return percentiles_ms(_flat(entry, rounds))["p50"]


def _against_best_peer(entry: Entry, bench: Bench, rounds: Rounds) -> dict[str, Any] | None:
    """The ratio to the peer of the smallest median that did the same, as plain JSON types; 1 for
    that peer itself, None where there is no peer."""
    if entry.status != "ok" or not entry.ready["checked"]:
        return None
    peers = [other for other in _rivals(entry, bench) if other.candidate.peer]
    if not peers:
        return None
    best = min(peers, key=lambda other: _p50(other, rounds))
    ratio = paired_ratio(rounds(entry), rounds(best), starts=bench.round_starts)
    return {"peer": best.candidate.engine, **ratio.to_dict()}


def _verdicts(bench: Bench) -> list[dict[str, Any]]:
    """The quicker of the two quickest from the uint8 frame on, or None and a sentence where the
    interval of their ratio spans 1; for each workload, thread count and precision of two engines or
    more."""
    found: list[dict[str, Any]] = []
    groups = {
        (entry.threads, entry.workload, entry.ready["precision"]): entry
        for entry in bench.entries
        if entry.status == "ok"
    }
    for (threads, workload, precision), one in groups.items():
        timed = sorted(_rivals(one, bench), key=lambda entry: _p50(entry, _frame))
        if len(timed) < 2:
            continue
        first, second = timed[:2]
        ratio = paired_ratio(_frame(first), _frame(second), starts=bench.round_starts)
        names = (first.candidate.engine, second.candidate.engine)
        interval = f"{ratio.value:.3f} of its time, {ratio.low:.3f} to {ratio.high:.3f}"
        if ratio.spans_one:
            sentence = f"No winner: {names[0]} and {names[1]} cannot be told apart ({interval})."
        else:
            sentence = f"{names[0]} is quicker than {names[1]}: {interval}."
        found.append(
            {
                "threads": threads,
                "workload": workload,
                "precision": precision,
                "winner": None if ratio.spans_one else names[0],
                "engines": list(names),
                **ratio.to_dict(),
                "sentence": sentence,
            }
        )
    return found
