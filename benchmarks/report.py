"""A finished run as a document (JSON, schema 1) and as a table for people."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftedge.benchmarks import agreement
from shiftedge.benchmarks.bench import LEAD_IN, WARM_UP, Bench, Entry
from shiftedge.benchmarks.figures import paired_ratio, percentiles_ms

__all__ = ["SCHEMA", "document", "print_report", "table"]

SCHEMA = 1
"""Of the document. Raised when the meaning of a key changes; readers ignore keys they do not
know."""

HEADINGS = (
    "engine", "version", "threads", "step p50 ms", "p90", "p99", "max", "ratio to best peer",
    "with frame ms", "ratio to best peer", "of roofline", "RSS MB", "first ms", "max error",
)  # fmt: skip


def document(bench: Bench, bundle: Path | None = None) -> dict[str, Any]:
    """Everything measured, as plain JSON types.

    Args:
        bench: after its run, interrupted or not.
        bundle: the compiled model's folder, for the record.
    """
    roofline = bench.roofline
    return {
        "schema": SCHEMA,
        "machine": bench.machine,
        "model": _model(bench, bundle),
        "roofline": None if roofline is None else roofline.to_dict(bench.flops, bench.flops_reason),
        "results": [_result(entry, bench) for entry in bench.entries],
        "protocol": {
            "frames": bench.settings.frames,
            "rounds": bench.settings.rounds,
            "warm_up_frames": WARM_UP,
            "lead_in_frames": LEAD_IN,
            "agreement_frames": agreement.FRAMES,
            "agreement_tolerance": agreement.TOLERANCE,
        },
        "interrupted": bench.interrupted,
        "notes": [*_normalising(bench.entries), *bench.notes],
    }


def _normalising(entries: Sequence[Entry]) -> list[str]:
    timed = [entry for entry in entries if entry.status == "ok"]
    inside = {entry.candidate.engine for entry in timed if entry.ready["normalises"]}
    outside = {entry.candidate.engine for entry in timed if not entry.ready["normalises"]}
    if not inside or not outside:
        return []
    return [
        f"The step of {' and '.join(sorted(inside))} normalises the uint8 frame; that of "
        f"{' and '.join(sorted(outside))} gets the float frame ready-made. With frame: from the "
        "uint8 frame on, for all."
    ]


def _model(bench: Bench, bundle: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": None,
        "file": None if bench.onnx is None else bench.onnx.name,
        "sha256": None
        if bench.onnx is None
        else hashlib.sha256(bench.onnx.read_bytes()).hexdigest(),
        "bundle": None if bundle is None else bundle.name,
        "flops": bench.flops,
    }
    if bench.spec is not None:
        found |= {
            "name": bench.spec.name,
            "height": bench.spec.height,
            "width": bench.spec.width,
            "classes": bench.spec.classes,
            "states": len(bench.spec.states),
            "state_bytes": 4 * bench.spec.state_size,
        }
    return found


def _result(entry: Entry, bench: Bench) -> dict[str, Any]:
    ready, found = entry.ready, entry.agreement
    times = [time for times in entry.rounds_ns for time in times] if entry.status == "ok" else []
    step_ms = percentiles_ms(times) if times else None
    limit_ms = None
    if bench.roofline is not None:
        limit_ms = bench.roofline.step_ms(entry.threads, bench.flops)
    return {
        "engine": entry.candidate.engine,
        "version": ready.get("version"),
        "precision": ready.get("precision"),
        "threads": entry.threads,
        "status": entry.status,
        "reason": entry.reason,
        "frames": len(times),
        "step_ms": step_ms,
        "round_p50_ms": [percentiles_ms(times)["p50"] for times in entry.rounds_ns if times],
        "against_best_peer": _against_best_peer(entry, bench.entries, _steps),
        "frame_ms": _percentiles(entry, _frames),
        "frame_against_best_peer": _against_best_peer(entry, bench.entries, _frames),
        "of_roofline": step_ms["p50"] / limit_ms if step_ms and limit_ms else None,
        "rss_mb": entry.rss_mb,
        "base_rss_mb": ready.get("base_rss_mb"),
        "load_ms": ready.get("load_ms"),
        "first_prediction_ms": ready.get("first_prediction_ms"),
        "max_abs_error": None if found is None else found.max_abs_error,
        "agreement": None
        if found is None
        else {
            "worst_relative": found.worst_relative,
            "worst_tensor": found.worst_tensor,
            "states_compared": found.states_compared,
        },
        "normalises": ready.get("normalises"),
        "settings": ready.get("settings"),
        "idle_cpu_share": entry.idle_cpu_ms / entry.idle_wall_ms if entry.idle_wall_ms else None,
    }


Rounds = Callable[[Entry], Sequence[Sequence[int]]]
"""Which times of an entry: those of the step alone, or from the uint8 frame on."""


def _steps(entry: Entry) -> Sequence[Sequence[int]]:
    return entry.rounds_ns


def _frames(entry: Entry) -> Sequence[Sequence[int]]:
    return entry.frame_rounds_ns


def _percentiles(entry: Entry, rounds: Rounds) -> dict[str, float] | None:
    times = [time for times in rounds(entry) for time in times]
    return percentiles_ms(times) if times and entry.status == "ok" else None


def _against_best_peer(
    entry: Entry, entries: Sequence[Entry], rounds: Rounds
) -> dict[str, Any] | None:
    """The ratio to the peer of the smallest median with as many threads; 1 for that peer itself."""
    if entry.status != "ok":
        return None
    peers = [
        (percentiles_ms([time for times in rounds(other) for time in times])["p50"], index)
        for index, other in enumerate(entries)
        if other.candidate.peer and other.threads == entry.threads and other.status == "ok"
    ]
    if not peers:
        return None
    best = entries[min(peers)[1]]
    ratio = paired_ratio(rounds(entry), rounds(best))
    return {
        "peer": best.candidate.engine,
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "confidence": 0.95,
    }


def print_report(report: Mapping[str, Any]) -> None:
    """The table on stdout: by rich on a terminal where it is installed, else plain."""
    title, rows, notes = table(report)
    stdout = sys.stdout
    if stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            shown = Table(title=title, title_justify="left")
            for index, heading in enumerate(HEADINGS):
                shown.add_column(heading, justify="left" if index < 2 else "right")
            for row in rows:
                shown.add_row(*row)
            console = Console(markup=False, highlight=False)
            console.print(shown)
            for note in notes:
                console.print(note)
            return
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines = [title]
    for cells in (HEADINGS, *rows):
        padded = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    stdout.write("\n".join((*lines, *notes)) + "\n")


def table(report: Mapping[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """Title, cells under :data:`HEADINGS`, and the lines below, from a document."""
    model, machine_, protocol = report["model"], report["machine"], report["protocol"]
    size = f", {model['width']}x{model['height']}" if model["name"] else ""
    title = (
        f"{model['name'] or 'no model'}{size}, {protocol['frames']} frames in "
        f"{protocol['rounds']} rounds, on {machine_['cpu']}, {machine_['cores']} cores"
    )
    rows = [_cells(row) for row in report["results"]]
    notes = [
        f"{row['engine']}, threads {row['threads']}: {row['status']}. {row['reason']}"
        for row in report["results"]
        if row["status"] != "ok"
    ]
    notes += _roofline_lines(report["roofline"])
    notes += report["notes"]
    if machine_["load_average"] is not None and machine_["load_average"] > 0.5:
        notes.append(f"Load average {machine_['load_average']:g}: others were at work here.")
    return title, rows, notes


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    step, against = row["step_ms"], row["against_best_peer"]
    if step is None:
        times = [row["status"], "", "", ""]
    else:
        times = [f"{step[key]:.3f}" for key in ("p50", "p90", "p99", "max")]
    frame = row["frame_ms"]
    return (
        row["engine"],
        row["version"] or "",
        str(row["threads"]),
        *times,
        _ratio(against),
        "" if frame is None else f"{frame['p50']:.3f}",
        _ratio(row["frame_against_best_peer"]),
        _number(row["of_roofline"], ".2f"),
        _number(row["rss_mb"], ".0f"),
        _number(row["first_prediction_ms"], ".0f"),
        _number(row["max_abs_error"], ".1e"),
    )


def _ratio(against: Mapping[str, Any] | None) -> str:
    if against is None:
        return ""
    return f"{against['ratio']:.3f} [{against['low']:.3f}, {against['high']:.3f}]"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _roofline_lines(roofline: Mapping[str, Any] | None) -> list[str]:
    if roofline is None:
        return []
    lines = []
    for threads, limit in roofline["by_threads"].items():
        if limit["peak_gflops"] is not None:
            step = "" if limit["step_ms"] is None else f", a step {limit['step_ms']:.3f} ms"
            reads = "".join(
                f", {name} {limit[key]:.0f} GB/s"
                for name, key in (("level 2 cache", "l2_gb_s"), ("memory", "memory_gb_s"))
                if limit[key] is not None
            )
            lines.append(
                f"Roofline, threads {threads}: {limit['peak_gflops']:.1f} GFLOP/s{step}{reads}."
            )
    if roofline["reason"]:
        lines.append(f"Roofline: {roofline['reason']}")
    return lines
