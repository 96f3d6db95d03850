"""A report for people: tables on a terminal, in a pipe, or in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftedge.benchmarks.kernels import kernel_table, summary
from shiftedge.runtime.process.tables import Column, Table, print_tables


def print_report(report: Mapping[str, Any]) -> None:
    shown, notes = table(report)
    print_tables([shown], [*notes, *kernel_lines(report)])


def markdown(report: Mapping[str, Any]) -> str:
    """The same for a README."""
    shown, notes = table(report)
    lines = [shown.title, "", *shown.markdown(), "", *(f"- {note}" for note in notes)]
    if kernels := kernel_lines(report):
        lines += ["", "```", *kernels[1:], "```"]
    return "\n".join(lines) + "\n"


def table(report: Mapping[str, Any]) -> tuple[Table, list[str]]:
    """The table, and the lines below, from a document."""
    model, machine, protocol = report["model"], report["machine"], report["protocol"]
    size = f", {model['width']}x{model['height']}" if model["name"] else ""
    title = (
        f"{model['name'] or 'no model'}{size}, {protocol['frames']} frames in "
        f"{protocol['rounds']} rounds, processes started {protocol['starts']} times, on "
        f"{machine['cpu']}, {machine['cores']} cores"
    )
    notes = verdict_lines(report["verdicts"])
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
    if machine["load_average"] is not None and machine["load_average"] > 0.5:
        notes.append(f"Load average {machine['load_average']:g}: others were at work here.")
    return Table.of(_columns(model), report["results"], "lllr", title), notes


def kernel_lines(report: Mapping[str, Any]) -> list[str]:
    """Where the time of the compiled step goes, for each thread count that was profiled."""
    lines = []
    for threads, kernels in (report["kernels"] or {}).items():
        lines += ["", f"Kernels of the native engine, threads {threads}:"]
        lines += [*kernel_table(kernels).lines(), *summary(kernels)]
    return lines


def verdict_lines(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sentences, with what was measured before each where there is more than one."""
    several = len({verdict["precision"] for verdict in verdicts}) > 1
    lines = []
    for verdict in verdicts:
        words = f"{verdict['precision']}, " if several else ""
        words += f"threads {verdict['threads']}, {verdict['workload']}: "
        lines.append((words if len(verdicts) > 1 else "") + verdict["sentence"])
    return lines


def _columns(model: Mapping[str, Any]) -> list[Column]:
    return [
        Column("engine", "engine"), Column("version", "version"), Column("precision", "precision"),
        Column("threads", "threads"), Column("runs", "workload"),
        Column("p50 ms", _p50_cell),
        *(Column(key, f"step_ms.{key}", ".3f") for key in ("p90", "p99", "max")),
        Column("ratio to best peer", lambda row: ratio_cell(row["against_best_peer"])),
        Column("with frame ms", "frame_ms.p50", ".3f"),
        Column("ratio to best peer", lambda row: ratio_cell(row["frame_against_best_peer"])),
        Column("of roofline", "of_roofline", ".2f"), Column("RSS MB", "rss_mb", ".0f"),
        Column("load ms", "load_ms", ".0f"), Column("first ms", "first_prediction_ms", ".0f"),
        Column("disk MB", lambda row: disk_bytes(row, model), ".1f", 1e-6),
        Column("energy mJ", _energy_cell), Column("max error", "max_abs_error", ".1e"),
    ]  # fmt: skip


def _p50_cell(row: Mapping[str, Any]) -> str:
    return f"{row['step_ms']['p50']:.3f}" if row["step_ms"] else str(row["status"])


def _energy_cell(row: Mapping[str, Any]) -> str:
    joules = row["energy_j_per_frame"]
    return f"{1e3 * joules:.3g}" if joules else "no sensor" if row["energy_reason"] else ""


def ratio_cell(against: Mapping[str, Any] | None) -> str:
    if against is None:
        return ""
    low, high = (f"{end:.3f}" if end else "?" for end in (against["low"], against["high"]))
    return f"{against['ratio']:.3f} [{low}, {high}]"


def disk_bytes(row: Mapping[str, Any], model: Mapping[str, Any]) -> Any:
    """What an engine and its model take: the bundle alone for ours, the packages for a peer."""
    ours = row["engine"] == "native" and model["bundle_bytes"] is not None
    return model["bundle_bytes"] if ours else row["engine_bytes"]


def _roofline_lines(roofline: Mapping[str, Any] | None) -> list[str]:
    if roofline is None:
        return []
    lines = []
    for threads, limit in roofline["by_threads"].items():
        peaks = limit["peaks_gops"]
        if "float32" in peaks:
            steps = "".join(
                f", {precision} step {ms:.3f} ms"
                for precision, ms in limit["steps_ms"].items()
                if ms is not None
            )
            reads = "".join(
                f", {name} {limit[key]:.0f} GB/s"
                for name, key in (("level 2 cache", "l2_gb_s"), ("memory", "memory_gb_s"))
                if limit[key] is not None
            )
            words = "".join(
                f", {name} {rate:.1f} GOP/s" for name, rate in peaks.items() if name != "float32"
            )
            lines.append(
                f"Roofline, threads {threads}: {peaks['float32']:.1f} GFLOP/s of float32"
                f"{words}{steps}{reads}."
            )
    lines += [f"Roofline: {reason}" for reason in roofline["refused"].values()]
    if roofline["reason"]:
        lines.append(f"Roofline: {roofline['reason']}")
    return lines
