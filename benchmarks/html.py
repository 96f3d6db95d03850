"""A report as one HTML file: tables and plots, no network and no scripts.

Everything comes from the document that ``shiftedge bench --json`` writes, so a board without
matplotlib writes that, and the page is made elsewhere. What the run did not measure, the page says.
All text in it is foreign: the template escapes names, reasons and versions.
"""

from __future__ import annotations

import importlib.resources
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shiftedge.benchmarks.kernels import kernel_table, summary
from shiftedge.benchmarks.report import SCHEMA, check_report
from shiftedge.benchmarks.terminal import table, verdict_lines
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.extras import require

# Where there is no home to write to, it takes a temporary folder, and would say so.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
require("matplotlib")
jinja2 = require("jinja2")

from shiftedge.benchmarks import plots  # noqa: E402 - after the sentence on what is missing
from shiftedge.benchmarks.plots import Shown  # noqa: E402

SHOWN_ALREADY = ("rounds_us", "engine", "status", "reason")
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What HTML and XML may not hold."""

Figures = list[dict[str, Any]]
"""Of a section: heading, svg and caption of each."""


def page(report: Mapping[str, Any]) -> str:
    """The whole file.

    Raises:
        ShiftedgeError: it is no report, or one of another schema.
    """
    report = _printable(check_report(report, "This"))
    if report["schema"] != SCHEMA:
        raise ShiftedgeError(
            f"The report's schema is {report['schema']}; expected {SCHEMA}. Make the page with the "
            "version of shiftedge that measured."
        )
    rows = _rows(report["results"])
    model, machine = report["model"], report["machine"]
    shown, _ = table(report)
    with plots.style():
        figures = {
            "latency": _latency(rows),
            "history": _history(rows, report["protocol"]["round_starts"]),
            "rooflines": _rooflines(report, rows),
            "kernels": _kernels(report["kernels"] or {}),
            "soak": _soak(report["soak"]) if report["soak"] else None,
        }
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["fact"] = _fact
    template = importlib.resources.files("shiftedge.benchmarks") / "page.html.j2"
    made: str = environment.from_string(template.read_text(encoding="utf-8")).render(
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
    return made.lstrip()


def _printable(value: Any) -> Any:
    """The document without characters that a page may not hold."""
    if isinstance(value, str):
        return UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(one) for key, one in value.items()}
    return [_printable(one) for one in value] if isinstance(value, list | tuple) else value


def _fact(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


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


def _figure(heading: str, name: str, drawn: Any, caption: str) -> dict[str, Any]:
    told = f"{name.partition('-')[0]}, {heading}. {caption}"  # to who does not see it
    return {"heading": heading, "svg": plots.to_svg(drawn, name, told), "caption": caption}


def _missing(caption: str, heading: str = "") -> dict[str, Any]:
    return {"heading": heading, "svg": "", "caption": caption}


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
        figures.append(_figure(doing, f"latency-{at}", plots.distribution(timed), caption))
    return figures


def _history(rows: Sequence[Shown], starts: Sequence[int]) -> Figures:
    figures = []
    for at, doing, timed, without in _timed(rows):
        caption = f"Each panel has an axis of its own: this is about drift and outliers.{without}"
        drawn = plots.history(timed, starts)
        figures.append(_figure(doing, f"history-{at}", drawn, caption))
    return figures


def _rooflines(report: Mapping[str, Any], rows: Sequence[Shown]) -> Figures:
    known, flops = report["roofline"], report["model"]["flops"]
    if known is None:
        return []
    figures = []
    for at, (threads, limits) in enumerate(known["by_threads"].items()):
        said, peaks = f"threads {threads}", limits["peaks_gops"]
        if not peaks.get("float32"):
            figures.append(_missing(f"{said}: the peak is not known."))
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
        drawn = plots.roofline(limits, points, rates)
        figures.append(_figure(said, f"roofline-{at}", drawn, caption))
    return [*figures, *([_missing(known["reason"])] if known["reason"] else [])]


def _kernels(kernels: Mapping[str, Any]) -> Figures:
    figures = []
    for at, (threads, rows) in enumerate(kernels.items()):
        heading = f"threads {threads}"
        if not any(row["ms"] for row in rows):
            figures.append(_missing("No kernel has a time.", heading))
            continue
        caption = (
            "In the order in which they run; the mark is the least time that the roofline allows. "
            "The figures are in the table below."
        )
        figure = _figure(heading, f"kernels-{at}", plots.kernel_bars(rows), caption)
        figures.append({**figure, "sentences": summary(rows), "table": kernel_table(rows)})
    return figures


def _soak(run: Mapping[str, Any]) -> Figures:
    words = f"{run['engine']}, threads {run['threads']}"
    if not run["seconds"]:
        return [_missing("No moment has a figure.", words)]
    named = {
        "cpu_mhz": "the clock", "temperature_c": "the temperature", "throttled": "throttling"
    }  # fmt: skip
    absent = [name for key, name in named.items() if all(one is None for one in run[key])]
    caption = f"Not told by this machine: {', '.join(absent)}." if absent else "A long run."
    return [_figure(words, "soak", plots.soak(run), caption)]
