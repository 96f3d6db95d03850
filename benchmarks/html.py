"""A report as one HTML file: tables and plots, no network and no scripts.

Everything comes from the document that ``shiftedge bench --json`` writes, so a board without
matplotlib writes that, and the page is made elsewhere. What the run did not measure, the page says.
All text in it is foreign: the template escapes names, reasons and versions.
"""

from __future__ import annotations

import importlib.resources
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shiftedge.benchmarks.kernels import kernel_table, summary
from shiftedge.benchmarks.report import SCHEMA, check_report
from shiftedge.benchmarks.terminal import disk_bytes, table, verdict_lines
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.extras import require

# Where there is no home to write to, it takes a temporary folder, and would say so.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

__all__ = ["page"]

SHOWN_ALREADY = ("rounds_us", "round_p50_ms", "engine", "status", "reason")
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What HTML and XML may not hold."""

Figures = list[dict[str, Any]]
"""Of a section: heading, svg and caption of each."""


def page(report: Mapping[str, Any]) -> str:
    """The whole file.

    Args:
        report: what ``report.document`` gave, or what was read from its JSON.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
        ShiftedgeError: it is no report, or one of another schema.
    """
    require("matplotlib")
    jinja2 = require("jinja2")
    from shiftedge.benchmarks import plots

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
        context = {
            "latency": _latency(rows),
            "history": _history(rows, report["protocol"]["round_starts"]),
            "rooflines": _rooflines(report, rows),
            "kernels": _kernels(report["kernels"] or {}),
            "cold": _cold(rows, model),
            "soak": _soak(report["soak"]) if report["soak"] else None,
        }
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["fact"] = _fact
    template = importlib.resources.files("shiftedge.benchmarks") / "page.html.j2"
    name = model["name"] or "a model without a name"
    made: str = environment.from_string(template.read_text(encoding="utf-8")).render(
        **context,
        report=report,
        title=f"Benchmark of {name} on {machine['cpu']}",
        lead=_lead(report),
        verdicts=verdict_lines(report["verdicts"]),
        results=shown,
        reasons=[
            f"{row['engine']}, threads {row['threads']}, {row['workload']}: {row['status']}. "
            f"{row['reason']}"
            for row in report["results"]
            if row["status"] != "ok"
        ],
        engines=[
            (
                f"{row.label}, {row.doing}",
                {k: v for k, v in row.data.items() if k not in SHOWN_ALREADY},
            )
            for row in rows
        ],
        plain=(str, int, float, bool, type(None)),
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
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _lead(report: Mapping[str, Any]) -> list[str]:
    model, protocol, machine = report["model"], report["protocol"], report["machine"]
    words = []
    if model["name"]:
        words.append(f"{model['width']} × {model['height']} pixels")
    if model["flops"]:
        words.append(f"{model['flops'] / 1e6:.1f} million operations a step")
    words += [
        f"{protocol['frames']} timed units each",
        f"{protocol['rounds']} rounds",
        f"{protocol['starts']} process starts",
        f"{machine['cores']} cores",
    ]
    load = machine["load_average"]
    if load is not None and load > 0.5:
        words.append(f"load average {load:g}, so others were at work here")
    return words


class _Row:
    """A result and how it is drawn."""

    def __init__(self, data: Mapping[str, Any], label: str, index: int) -> None:
        self.data, self.label, self.index = data, label, index
        """The index is that of its colour: the same engine has the same one everywhere."""
        threads = data["threads"]
        self.doing = f"{data['workload']}, {threads} thread{'' if threads == 1 else 's'}"
        self.rounds_ms = [[us / 1e3 for us in times] for times in data["rounds_us"]]


def _rows(results: Sequence[Mapping[str, Any]]) -> list[_Row]:
    kinds = {(row["engine"], row["precision"]) for row in results}
    several = {name for name, _ in kinds if sum(other == name for other, _ in kinds) > 1}
    indices: dict[str, int] = {}
    rows = []
    for row in results:
        label = row["engine"]
        if label in several:
            label = f"{label} {row['precision'] or 'precision unknown'}"
        rows.append(_Row(row, label, indices.setdefault(label, len(indices))))
    return rows


def _doing_the_same(rows: Sequence[_Row]) -> Iterator[tuple[int, str, list[_Row]]]:
    """Rows that may be compared: a number, words for people, and they."""
    for at, doing in enumerate(dict.fromkeys(row.doing for row in rows)):
        yield at, doing, [row for row in rows if row.doing == doing]


def _figure(heading: str, name: str, drawn: Any, description: str, caption: str) -> dict[str, Any]:
    from markupsafe import Markup

    from shiftedge.benchmarks.plots import to_svg

    svg = Markup(to_svg(drawn, name, description))
    return {"heading": heading, "svg": svg, "caption": caption, "sentences": [], "table": None}


def _missing(caption: str, heading: str = "") -> dict[str, Any]:
    return {"heading": heading, "svg": "", "caption": caption, "sentences": [], "table": None}


def _timed(
    rows: Sequence[_Row], draw: Callable[[int, str, list[Any], str], dict[str, Any]]
) -> Figures:
    """A figure of each group with times; the line told is about those without."""
    from shiftedge.benchmarks.plots import Timed

    figures = []
    for at, doing, group in _doing_the_same(rows):
        timed = [Timed(row.label, row.index, row.rounds_ms) for row in group if any(row.rounds_ms)]
        if timed:
            without = ", ".join(row.label for row in group if not any(row.rounds_ms))
            figures.append(draw(at, doing, timed, f" Without times: {without}." if without else ""))
    return figures


def _latency(rows: Sequence[_Row]) -> Figures:
    from shiftedge.benchmarks.plots import distribution

    def draw(at: int, doing: str, timed: list[Any], without: str) -> dict[str, Any]:
        said = "; ".join(f"{one.label}: {one.spread}" for one in timed)
        description = f"Distribution of times, {doing}. {said}."
        caption = f"{said}. The engine's own step, all rounds.{without}"
        return _figure(doing, f"latency-{at}", distribution(timed), description, caption)

    return _timed(rows, draw)


def _history(rows: Sequence[_Row], starts: Sequence[int]) -> Figures:
    from shiftedge.benchmarks.plots import history

    def draw(at: int, doing: str, timed: list[Any], without: str) -> dict[str, Any]:
        labels = ", ".join(one.label for one in timed)
        description = f"Times in order of measuring, {doing}: {labels}."
        caption = "Each panel has an axis of its own: this is about drift and outliers."
        drawn = history(timed, starts)
        return _figure(doing, f"history-{at}", drawn, description, f"{caption}{without}")

    return _timed(rows, draw)


def _rooflines(report: Mapping[str, Any], rows: Sequence[_Row]) -> Figures:
    from shiftedge.benchmarks.plots import NAMED_KERNELS, placed, roofline

    known, flops = report["roofline"], report["model"]["flops"]
    if known is None:
        return []
    figures = []
    for at, (threads, limits) in enumerate(known["by_threads"].items()):
        said, peak = f"threads {threads}", limits["peak_gflops"]
        if not peak:
            figures.append(_missing(f"{said}: the peak is not known."))
            continue
        steps = [
            row
            for row in rows
            if str(row.data["threads"]) == threads and row.data["workload"] == "step"
        ]
        rates = [
            (row.label, row.index, flops / row.data["step_ms"]["p50"] / 1e6)
            for row in steps
            if flops and row.data["step_ms"]
        ]
        kernels = (report["kernels"] or {}).get(threads, [])
        points = placed(kernels)
        caption = "Kernels were not profiled (--profile), so there are whole steps alone."
        if points:
            named = [f"{n} {one.name}" for n, one in enumerate(points[:NAMED_KERNELS], 1)]
            caption = f"A kernel's mark is as large as its share of the time; {', '.join(named)}."
        if len(kernels) > len(points):
            caption += f" Not shown: {len(kernels) - len(points)} kernels without operations."
        if len(limits["peaks_gops"]) > 1:
            names = ", ".join(limits["peaks_gops"])
            caption += f" Operations have the peak of what multiplies them: {names}."
        elif any(row.data["precision"] not in ("fp32", None) for row in steps):
            caption += " The peak is that of 32-bit floats; fewer bits may exceed it."
        if not rates:
            caption += " No whole step: its time or its operations are not known."
        told = "; ".join(f"{label} {rate:.3g} GFLOP/s" for label, _, rate in rates)
        description = f"Roofline, {said}: peak {peak:.4g} GFLOP/s. {told}."
        drawn = roofline(limits, points, rates)
        figures.append(_figure(said, f"roofline-{at}", drawn, description, caption))
    if known["reason"]:
        figures.append(_missing(known["reason"]))
    return figures


def _kernels(kernels: Mapping[str, Any]) -> Figures:
    from shiftedge.benchmarks.plots import kernel_bars

    figures = []
    for at, (threads, rows) in enumerate(kernels.items()):
        heading, total = f"threads {threads}", sum(row["ms"] for row in rows)
        if not total:
            figures.append(_missing("No kernel has a time.", heading))
            continue
        slowest = max(rows, key=lambda row: float(row["ms"]))
        description = (
            f"Time of {len(rows)} kernels, {heading}: {total:.3f} ms together; longest is "
            f"{slowest['name']}. The figures are in the table below."
        )
        caption = "In the order in which they run; the mark is the least time that the roofline"
        figures.append(
            {
                **_figure(
                    heading, f"kernels-{at}", kernel_bars(rows), description, f"{caption} allows."
                ),
                "sentences": summary(rows),
                "table": kernel_table(rows),
            }
        )
    return figures


def _cold(rows: Sequence[_Row], model: Mapping[str, Any]) -> Figures:
    from shiftedge.benchmarks.plots import Bar, cold

    figures = []
    for at, doing, group in _doing_the_same(rows):
        bars = []
        for row in group:
            size = disk_bytes(row.data, model)
            values = {
                "load, ms": row.data["load_ms"],
                "first prediction, ms": row.data["first_prediction_ms"],
                "memory, MB": row.data["rss_mb"],
                "on disk, MB": None if size is None else size / 1e6,
            }
            if any(value is not None for value in values.values()):
                bars.append(Bar(row.label, row.index, values))
        if not bars:
            continue
        said = "; ".join(
            f"{bar.label}: "
            + ", ".join(f"{name} {value:.4g}" for name, value in bar.figures.items() if value)
            for bar in bars
        )
        caption = (
            "Loading is the engine's own; the first prediction counts from the start of the "
            "process; memory is the most of the process, Python and numpy included."
        )
        figures.append(_figure(doing, f"cold-{at}", cold(bars), f"{doing}. {said}.", caption))
    return figures


def _soak(run: Mapping[str, Any]) -> Figures:
    from shiftedge.benchmarks.plots import soak

    words = f"{run['engine']}, threads {run['threads']}"
    if not run["seconds"]:
        return [_missing("No moment has a figure.", words)]
    named = (
        ("cpu_mhz", "the clock"), ("temperature_c", "the temperature"), ("throttled", "throttling")
    )  # fmt: skip
    absent = [name for key, name in named if all(one is None for one in run[key])]
    caption = f"Not told by this machine: {', '.join(absent)}." if absent else "A long run."
    throttled = sum(bool(one) for one in run["throttled"])
    description = f"A long run over time, {words}; throttled at {throttled} of its moments."
    return [_figure(words, "soak", soak(run), description, caption)]
