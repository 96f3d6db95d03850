"""A report as one HTML file: tables and plots, no network and no scripts.

Everything comes from the document that ``shiftedge bench --json`` writes, so a board without
matplotlib writes that, and the page is made elsewhere. What the run did not measure, the page says.
All text in it is foreign: the template escapes names, reasons and versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shiftedge.benchmarks.kernels import kernel_table, summary
from shiftedge.benchmarks.report import SCHEMA, check_report
from shiftedge.benchmarks.terminal import table, verdict_lines
from shiftedge.export.pages import charts
from shiftedge.export.pages.render import missing, plotted, printable, render
from shiftedge.runtime.errors import ShiftedgeError

from shiftedge.benchmarks import plots  # isort: skip - after the sentence on what is missing
from shiftedge.benchmarks.plots import Shown  # isort: skip

SHOWN_ALREADY = ("rounds_us", "engine", "status", "reason")

Figures = list[dict[str, Any]]
"""Of a section: heading, svg and caption of each."""


def page(report: Mapping[str, Any]) -> str:
    """The whole file.

    Raises:
        ShiftedgeError: it is no report, or one of another schema.
    """
    report = printable(check_report(report, "This"))
    if report["schema"] != SCHEMA:
        raise ShiftedgeError(
            f"The report's schema is {report['schema']}; expected {SCHEMA}. Make the page with the "
            "version of shiftedge that measured."
        )
    rows = _rows(report["results"])
    model, machine = report["model"], report["machine"]
    shown, _ = table(report)
    with charts.style():
        figures = {
            "latency": _latency(rows),
            "history": _history(rows, report["protocol"]["round_starts"]),
            "rooflines": _rooflines(report, rows),
            "kernels": _kernels(report["kernels"] or {}),
            "soak": _soak(report["soak"]) if report["soak"] else None,
        }
    return render(
        "shiftedge.benchmarks",
        **figures,
        report=report,
        title=f"Benchmark of {model['name'] or 'a model without a name'} on {machine['cpu']}",
        verdicts=verdict_lines(report["verdicts"]),
        results=shown,
        engines=[
            (row, {key: value for key, value in row.data.items() if key not in SHOWN_ALREADY})
            for row in rows
        ],
    )


def _rows(results: Sequence[Mapping[str, Any]]) -> list[Shown]:
    kinds = {(row["engine"], row["precision"]) for row in results}
    several = {name for name, _ in kinds if sum(other == name for other, _ in kinds) > 1}
    indices: dict[str, int] = {}
    rows = []
    for row in results:
        label = row["engine"]
        if label in several:
            label = f"{label} {row['precision'] or 'precision unknown'}"
        rows.append(Shown(row, label, indices.setdefault(label, len(indices))))
    return rows


def _groups(rows: Sequence[Shown]) -> Iterator[tuple[str, list[Shown]]]:
    """Rows that may be compared: words for people, and they."""
    for doing in dict.fromkeys(row.doing for row in rows):
        yield doing, [row for row in rows if row.doing == doing]


def _timed(rows: Sequence[Shown]) -> Iterator[tuple[int, str, list[Shown], str]]:
    """A number for each group with times, its words, the rows with times, and what is told of those
    without."""
    for at, (doing, group) in enumerate(_groups(rows)):
        without = ", ".join(row.label for row in group if not row.times_ms.size)
        if timed := [row for row in group if row.times_ms.size]:
            yield at, doing, timed, f" Without times: {without}." if without else ""


def _latency(rows: Sequence[Shown]) -> Figures:
    figures = []
    for at, doing, timed, without in _timed(rows):
        said = "; ".join(f"{one.label}: {one.spread}" for one in timed)
        caption = f"{said}. The engine's own step, all rounds.{without}"
        drawn = plots.distribution(timed)
        figures.append(plotted(doing, f"latency-{at}", drawn, "Distribution of times", caption))
    return figures


def _history(rows: Sequence[Shown], starts: Sequence[int]) -> Figures:
    figures = []
    for at, doing, timed, without in _timed(rows):
        told = f"Times in order of measuring of {', '.join(one.label for one in timed)}"
        caption = f"Each panel has an axis of its own: this is about drift and outliers.{without}"
        drawn = plots.history(timed, starts)
        figures.append(plotted(doing, f"history-{at}", drawn, told, caption))
    return figures


def _rooflines(report: Mapping[str, Any], rows: Sequence[Shown]) -> Figures:
    known, flops = report["roofline"], report["model"]["flops"]
    if known is None:
        return []
    figures = []
    for at, (threads, limits) in enumerate(known["by_threads"].items()):
        said, peaks = f"threads {threads}", limits["peaks_gops"]
        if not peaks.get("float32"):
            figures.append(missing(f"{said}: the peak is not known."))
            continue
        steps = [
            row
            for row in rows
            if (str(row.data["threads"]), row.data["workload"]) == (threads, "step")
        ]
        rates = [
            (row, flops / row.data["step_ms"]["p50"] / 1e6)
            for row in steps
            if flops and row.data["step_ms"]
        ]
        kernels = (report["kernels"] or {}).get(threads, [])
        points = plots.placed(kernels)
        caption = "Kernels were not profiled (--profile), so there are whole steps alone."
        if points:
            named = [f"{n} {one['name']}" for n, one in enumerate(points[: plots.NAMED_KERNELS], 1)]
            caption = f"A kernel's mark is as large as its share of the time; {', '.join(named)}."
        if len(kernels) > len(points):
            caption += f" Not shown: {len(kernels) - len(points)} kernels without operations."
        if len(peaks) > 1:
            names = ", ".join(peaks)
            caption += f" Operations have the peak of what multiplies them: {names}."
        elif any(row.data["precision"] not in ("fp32", None) for row in steps):
            caption += " The peak is that of 32-bit floats; fewer bits may exceed it."
        if not rates:
            caption += " No whole step: its time or its operations are not known."
        steps_told = "".join(f"; {row.label} {rate:.3g} GFLOP/s" for row, rate in rates)
        told = f"Roofline with a peak of {peaks['float32']:.4g} GFLOP/s{steps_told}"
        drawn = plots.roofline(limits, points, rates)
        figures.append(plotted(said, f"roofline-{at}", drawn, told, caption))
    return [*figures, *([missing(known["reason"])] if known["reason"] else [])]


def _kernels(kernels: Mapping[str, Any]) -> Figures:
    figures = []
    for at, (threads, rows) in enumerate(kernels.items()):
        heading, total = f"threads {threads}", sum(row["ms"] for row in rows)
        if not total:
            figures.append(missing("No kernel has a time.", heading))
            continue
        slowest = max(rows, key=lambda row: float(row["ms"]))
        told = f"Time of {len(rows)} kernels, {total:.3f} ms together, longest {slowest['name']}"
        caption = (
            "In the order in which they run; the mark is the least time that the roofline allows. "
            "The figures are in the table below."
        )
        figure = plotted(heading, f"kernels-{at}", plots.kernel_bars(rows), told, caption)
        figures.append({**figure, "sentences": summary(rows), "table": kernel_table(rows)})
    return figures


def _soak(run: Mapping[str, Any]) -> Figures:
    words = f"{run['engine']}, threads {run['threads']}"
    if not run["seconds"]:
        return [missing("No moment has a figure.", words)]
    named = {
        "cpu_mhz": "the clock", "temperature_c": "the temperature", "throttled": "throttling"
    }  # fmt: skip
    absent = [name for key, name in named.items() if all(one is None for one in run[key])]
    caption = f"Not told by this machine: {', '.join(absent)}." if absent else "A long run."
    told = f"Times over {len(run['seconds'])} moments, {sum(map(bool, run['throttled']))} throttled"
    return [plotted(words, "soak", plots.soak(run), told, caption)]
