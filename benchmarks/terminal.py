"""A report for people: tables on a terminal, in a pipe, or in Markdown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from shiftedge.benchmarks.kernels import kernel_table, summary

__all__ = ["HEADINGS", "kernel_lines", "markdown", "print_report", "table"]

HEADINGS = (
    "engine", "version", "precision", "threads", "runs", "p50 ms", "p90", "p99", "max",
    "ratio to best peer", "with frame ms", "ratio to best peer", "of roofline", "RSS MB",
    "load ms", "first ms", "disk MB", "energy mJ", "max error",
)  # fmt: skip
LEFT = 3
"""Columns of text; the others are numbers."""


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
                shown.add_column(heading, justify="left" if index < LEFT else "right")
            for row in rows:
                shown.add_row(*row)
            console = Console(markup=False, highlight=False)
            console.print(shown)
            for note in (*notes, *kernel_lines(report)):
                console.print(note)
            return
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines = [title]
    for cells in (HEADINGS, *rows):
        padded = [
            cell.ljust(width) if index < LEFT else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    stdout.write("\n".join((*lines, *notes, *kernel_lines(report))) + "\n")


def markdown(report: Mapping[str, Any]) -> str:
    """The same for a README: columns in which nothing stands are left out."""
    title, rows, notes = table(report)
    shown = [index for index in range(len(HEADINGS)) if any(row[index] for row in rows)]
    lines = [title, ""]
    lines.append(_markdown_row([HEADINGS[index] for index in shown]))
    lines.append(_markdown_row(["---" if index < LEFT else "--:" for index in shown]))
    lines += [_markdown_row([row[index] for index in shown]) for row in rows]
    lines += ["", *(f"- {note}" for note in notes)]
    if kernels := kernel_lines(report):
        lines += ["", "```", *kernels[1:], "```"]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def table(report: Mapping[str, Any]) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """Title, cells under :data:`HEADINGS`, and the lines below, from a document."""
    model, machine_, protocol = report["model"], report["machine"], report["protocol"]
    size = f", {model['width']}x{model['height']}" if model["name"] else ""
    title = (
        f"{model['name'] or 'no model'}{size}, {protocol['frames']} frames in "
        f"{protocol['rounds']} rounds, processes started {protocol['starts']} times, on "
        f"{machine_['cpu']}, {machine_['cores']} cores"
    )
    rows = [_cells(row, model) for row in report["results"]]
    notes = [verdict["sentence"] for verdict in _named(report["verdicts"])]
    notes += [
        f"{row['engine']}, threads {row['threads']}: {row['status']}. {row['reason']}"
        for row in report["results"]
        if row["status"] != "ok"
    ]
    notes += _roofline_lines(report["roofline"])
    sensors = report["sensors"]
    if sensors["line"]:
        energy = sensors["sources"]["energy"]
        scope = "" if energy is None else f"; energy of a frame by {energy}"
        notes.append(f"Sensors: {sensors['line']}{scope}.")
    notes += report["notes"]
    if machine_["load_average"] is not None and machine_["load_average"] > 0.5:
        notes.append(f"Load average {machine_['load_average']:g}: others were at work here.")
    return title, rows, notes


def kernel_lines(report: Mapping[str, Any]) -> list[str]:
    """Where the time of the compiled step goes, for each thread count that was profiled."""
    lines = []
    for threads, kernels in (report.get("kernels") or {}).items():
        lines += ["", f"Kernels of the native engine, threads {threads}:", *kernel_table(kernels)]
        lines += summary(kernels)
    return lines


def _named(verdicts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With what was measured before the sentence, where there is more than one."""
    named = []
    several = len({verdict["precision"] for verdict in verdicts}) > 1
    for verdict in verdicts:
        words = f"{verdict['precision']}, " if several else ""
        words += f"threads {verdict['threads']}, {verdict['workload']}: "
        sentence = (words if len(verdicts) > 1 else "") + verdict["sentence"]
        named.append({**verdict, "sentence": sentence})
    return named


def _cells(row: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, ...]:
    step = row["step_ms"]
    if step is None:
        times = [row["status"], "", "", ""]
    else:
        times = [f"{step[key]:.3f}" for key in ("p50", "p90", "p99", "max")]
    frame = row["frame_ms"]
    disk = row["engine_bytes"]
    if row["engine"] == "native" and model["bundle_bytes"] is not None:
        disk = model["bundle_bytes"]
    return (
        row["engine"],
        row["version"] or "",
        row["precision"] or "",
        str(row["threads"]),
        row["workload"],
        *times,
        _ratio(row["against_best_peer"]),
        "" if frame is None else f"{frame['p50']:.3f}",
        _ratio(row["frame_against_best_peer"]),
        _number(row["of_roofline"], ".2f"),
        _number(row["rss_mb"], ".0f"),
        _number(row["load_ms"], ".0f"),
        _number(row["first_prediction_ms"], ".0f"),
        _number(None if disk is None else disk / 1e6, ".1f"),
        _energy(row),
        _number(row["max_abs_error"], ".1e"),
    )


def _energy(row: Mapping[str, Any]) -> str:
    if row["energy_j_per_frame"] is not None:
        return f"{1e3 * row['energy_j_per_frame']:.3g}"
    return "no sensor" if row["energy_reason"] else ""


def _ratio(against: Mapping[str, Any] | None) -> str:
    if against is None:
        return ""
    low, high = _number(against["low"], ".3f"), _number(against["high"], ".3f")
    return f"{against['ratio']:.3f} [{low or '?'}, {high or '?'}]"


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
            words = "".join(
                f", {name} {rate:.1f} GOP/s"
                for name, rate in (limit.get("peaks_gops") or {}).items()
                if name != "float32"
            )
            lines.append(
                f"Roofline, threads {threads}: {limit['peak_gflops']:.1f} GFLOP/s of float32"
                f"{words}{step}{reads}."
            )
    lines += [f"Roofline: {reason}" for reason in (roofline.get("refused") or {}).values()]
    if roofline["reason"]:
        lines.append(f"Roofline: {roofline['reason']}")
    return lines
