"""A report as one HTML file: tables and plots, no network and no scripts.

Everything comes from the document that ``shiftedge bench --json`` writes, so a board without
matplotlib writes that, and the page is made elsewhere. What the document lacks, the page says. All
text in it is foreign: names, reasons and versions are escaped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftedge.benchmarks.kernels import summary
from shiftedge.benchmarks.lenient import mapping, mappings, number, sequence, text
from shiftedge.benchmarks.markup import (
    CSS,
    bullets,
    cell,
    escaped,
    facts,
    missing,
    section,
    table,
)
from shiftedge.runtime.process.extras import require

# Where there is no home to write to, it takes a temporary folder, and would say so.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

__all__ = ["page"]

SHOWN_ALREADY = ("rounds_us", "round_p50_ms", "engine", "status", "reason")


@dataclass(frozen=True)
class _Row:
    """A result and how it is drawn."""

    data: Mapping[str, Any]
    label: str
    index: int
    """Of its colour: the same engine has the same one everywhere."""
    rounds_ms: list[list[float]]

    @property
    def timed(self) -> bool:
        return any(self.rounds_ms)


_Group = tuple[str, str, list[_Row]]
"""Key for identifiers, words for people, and what did the same with as many threads."""


def page(report: Mapping[str, Any]) -> str:
    """The whole file.

    Args:
        report: what ``report.document`` gave, or what was read from its JSON; any key may be
            missing or null.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib")
    from shiftedge.benchmarks import plots

    groups = _groups(mappings(report.get("results")))
    title = _title(report)
    with plots.style():
        sections = [
            _verdicts(report),
            _results(report),
            section("Latency", _latency(groups)),
            section("Every timed unit in order", _history(report, groups)),
            section("Roofline", _rooflines(report, groups)),
            section("Kernels of the native engine", _kernels(report)),
            section("Loading, memory, disk", _cold(report, groups)),
            _soak(report),
        ]
    sections += [
        section(
            heading, [facts(report[key]) if report.get(key) else missing("Not in the report.")]
        )
        for heading, key in (
            ("Sensors", "sensors"), ("Machine", "machine"), ("Model", "model"),
            ("Protocol", "protocol"),
        )
        if key != "sensors" or report.get(key)
    ]  # fmt: skip
    sections += [_details(groups), _notes(report)]
    warning = ""
    if report.get("interrupted"):
        warning = '<p class="warning">Interrupted: the figures are of what was measured until then.'
        warning += "</p>\n"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{escaped(title)}</h1>\n{_lead(report)}{warning}"
        f"{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _title(report: Mapping[str, Any]) -> str:
    name = text(mapping(report.get("model")).get("name")) or "a model without a name"
    cpu = text(mapping(report.get("machine")).get("cpu")) or "a machine that is not named"
    return f"Benchmark of {name} on {cpu}"


def _lead(report: Mapping[str, Any]) -> str:
    model, protocol = mapping(report.get("model")), mapping(report.get("protocol"))
    machine, words = mapping(report.get("machine")), []
    if (width := number(model.get("width"))) and (height := number(model.get("height"))):
        words.append(f"{width:g} × {height:g} pixels")
    if flops := number(model.get("flops")):
        words.append(f"{flops / 1e6:.1f} million operations a step")
    for key, form in (
        ("frames", "{:g} timed units each"), ("rounds", "{:g} rounds"),
        ("starts", "{:g} process starts"),
    ):  # fmt: skip
        if count := number(protocol.get(key)):
            words.append(form.format(count))
    if cores := number(machine.get("cores")):
        words.append(f"{cores:g} cores")
    load = number(machine.get("load_average"))
    if load is not None and load > 0.5:
        words.append(f"load average {load:g}, so others were at work here")
    return f"<p>{escaped(', '.join(words))}.</p>\n" if words else ""


def _verdicts(report: Mapping[str, Any]) -> str:
    found = mappings(report.get("verdicts"))
    several = len({text(one.get("precision")) for one in found}) > 1
    lines = [
        (f"{text(one.get('precision'))}: " if several else "")
        + (f"Threads {one.get('threads')}, {one.get('workload')}: " if len(found) > 1 else "")
        + text(one.get("sentence"))
        for one in found
        if one.get("sentence")
    ]
    if not lines:
        return section("Verdict", [missing("None: no two engines were timed doing the same.")])
    return section("Verdict", [bullets(lines)])


def _notes(report: Mapping[str, Any]) -> str:
    notes = [text(note) for note in sequence(report.get("notes")) if note]
    return section("Notes", [bullets(notes) if notes else missing("None.")])


_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("units timed", lambda row: cell(row.get("frames"), ".0f")),
    ("p50 ms", lambda row: cell(mapping(row.get("step_ms")).get("p50"), ".3f")),
    ("p90", lambda row: cell(mapping(row.get("step_ms")).get("p90"), ".3f")),
    ("p99", lambda row: cell(mapping(row.get("step_ms")).get("p99"), ".3f")),
    ("max", lambda row: cell(mapping(row.get("step_ms")).get("max"), ".3f")),
    ("frames a second", lambda row: cell(row.get("frames_per_second"), ".1f")),
    ("ratio to best peer", lambda row: _ratio(row.get("against_best_peer"))),
    ("with frame ms", lambda row: cell(mapping(row.get("frame_ms")).get("p50"), ".3f")),
    ("with frame, ratio", lambda row: _ratio(row.get("frame_against_best_peer"))),
    ("of roofline", lambda row: cell(row.get("of_roofline"), ".2f")),
    ("RSS MB", lambda row: cell(row.get("rss_mb"), ".0f")),
    ("load ms", lambda row: cell(row.get("load_ms"), ".0f")),
    ("first ms", lambda row: cell(row.get("first_prediction_ms"), ".0f")),
    ("max error", lambda row: cell(row.get("max_abs_error"), ".1e")),
)


def _results(report: Mapping[str, Any]) -> str:
    found = mappings(report.get("results"))
    if not found:
        return section("Results", [missing("The report has no engine.")])
    headings = [("engine", True), ("version", True), ("precision", True), ("threads", False)]
    headings += [("runs", True), ("status", True), *((name, False) for name, _ in _COLUMNS)]
    rows = []
    for row in found:
        words = [escaped(row.get(key)) for key in ("engine", "version", "precision")]
        words += [cell(row.get("threads"), ".0f"), escaped(row.get("workload"))]
        ok = row.get("status") == "ok"
        status = escaped(row.get("status") or "not told")
        status = status if ok else f'<span class="not">{status}</span>'
        cells = [column(row) for _, column in _COLUMNS]
        rows.append([*words, status, *cells, cell(_disk_bytes(row, report), ".1f", 1e-6)])
    headings.append(("disk MB", False))
    reasons = [
        f"{text(row.get('engine'))}, threads {text(row.get('threads'))}, "
        f"{text(row.get('workload'))}: {text(row.get('status')) or 'not told'}. "
        f"{text(row.get('reason')) or 'No reason was given.'}"
        for row in found
        if row.get("status") != "ok"
    ]
    caption = (
        "Milliseconds of one unit. A ratio is that of times, below 1 where this engine is the "
        "quicker one, with the ends of its 95% interval; with frame: from the uint8 frame on."
    )
    parts = [table("Results", caption, headings, rows)]
    if reasons:
        parts += ["<h3>Not measured, or not trusted</h3>\n", bullets(reasons)]
    return section("Results", parts)


def _ratio(value: object) -> str:
    against = mapping(value)
    ratio = number(against.get("ratio"))
    if ratio is None:
        return ""
    low, high = (cell(against.get(end), ".3f") or "?" for end in ("low", "high"))
    return f"{ratio:.3f} [{low}, {high}]"


def _disk_bytes(row: Mapping[str, Any], report: Mapping[str, Any]) -> float | None:
    bundle = number(mapping(report.get("model")).get("bundle_bytes"))
    own = number(row.get("engine_bytes"))
    return bundle if row.get("engine") == "native" and bundle is not None else own


def _details(groups: Sequence[_Group]) -> str:
    """What each engine said beside the figures, and keys that a later version adds."""
    parts = []
    for _, words, rows in groups:
        for row in rows:
            rest = {key: one for key, one in row.data.items() if key not in SHOWN_ALREADY}
            parts.append(
                f"<details><summary>{escaped(row.label)}, {escaped(words)}</summary>\n"
                f"{facts(rest)}</details>\n"
            )
    return section("Each engine", parts or [missing("The report has no engine.")])


def _groups(results: Sequence[Mapping[str, Any]]) -> list[_Group]:
    """Results that may be compared, in the report's order."""
    kinds = [(text(row.get("engine")) or "no name", text(row.get("precision"))) for row in results]
    several = {
        name for name, _ in kinds if len({bits for other, bits in kinds if other == name}) > 1
    }
    indices: dict[str, int] = {}
    found: dict[tuple[str, str], list[_Row]] = {}
    for row, (name, precision) in zip(results, kinds, strict=True):
        label = f"{name} {precision or 'precision unknown'}" if name in several else name
        index = indices.setdefault(label, len(indices))
        threads = text(row.get("threads")) or "?"
        rows = found.setdefault((threads, text(row.get("workload")) or "step"), [])
        twins = sum(other.index == index for other in rows)
        rows.append(_Row(row, f"{label} ({twins + 1})" if twins else label, index, _rounds(row)))
    return [
        (f"g{at}", f"{workload}, {threads} thread{'' if threads == '1' else 's'}", rows)
        for at, ((threads, workload), rows) in enumerate(found.items())
    ]


def _rounds(row: Mapping[str, Any]) -> list[list[float]]:
    """Milliseconds; what is no time is left out."""
    return [
        [us / 1e3 for one in sequence(times) if (us := number(one)) is not None and us > 0]
        for times in sequence(row.get("rounds_us"))
    ]


def _figure(drawn: Any, name: str, description: str, caption: str) -> str:
    from shiftedge.benchmarks.vector import to_svg

    svg = to_svg(drawn, name, description)
    return (
        f'<figure><div class="wide">{svg}</div>\n<figcaption>{escaped(caption)}</figcaption>'
        "</figure>\n"
    )


def _timed(rows: Sequence[_Row]) -> list[Any]:
    from shiftedge.benchmarks.plots import Timed

    return [Timed(row.label, row.index, row.rounds_ms) for row in rows if row.timed]


def _each(groups: Sequence[_Group]) -> Iterator[tuple[str, str, list[Any], str]]:
    """Groups with times: key, heading, the times, and a line about those without."""
    for key, words, rows in groups:
        timed = _timed(rows)
        if timed:
            without = ", ".join(row.label for row in rows if not row.timed)
            yield key, words, timed, f" Without times: {without}." if without else ""


def _latency(groups: Sequence[_Group]) -> list[str]:
    from shiftedge.benchmarks.plots import distribution

    parts = []
    for key, words, timed, without in _each(groups):
        said = "; ".join(f"{one.label}: {_spread(one)}" for one in timed)
        parts += [
            f"<h3>{escaped(words)}</h3>\n",
            _figure(
                distribution(timed),
                f"{key}-latency",
                f"Distribution of times, {words}. {said}.",
                f"{said}. The engine's own step, all rounds.{without}",
            ),
        ]
    return parts or [missing("No engine was timed.")]


def _spread(one: Any) -> str:
    import numpy as np

    p50, p99 = np.percentile(one.times_ms, (50, 99))
    return f"median {p50:.3f} ms, 99th percentile {p99:.3f} ms"


def _history(report: Mapping[str, Any], groups: Sequence[_Group]) -> list[str]:
    from shiftedge.benchmarks.plots import history

    starts = sequence(mapping(report.get("protocol")).get("round_starts"))
    parts = []
    for key, words, timed, without in _each(groups):
        caption = "Each panel has an axis of its own: this is about drift and outliers."
        if not starts:
            caption += " The report does not tell when processes began."
        description = f"Times in order of measuring, {words}: {', '.join(t.label for t in timed)}."
        figure = _figure(
            history(timed, starts), f"{key}-history", description, f"{caption}{without}"
        )
        parts += [f"<h3>{escaped(words)}</h3>\n", figure]
    return parts or [missing("No engine was timed.")]


def _rooflines(report: Mapping[str, Any], groups: Sequence[_Group]) -> list[str]:
    from shiftedge.benchmarks.plots import NAMED_KERNELS, placed, roofline

    known, kernels = mapping(report.get("roofline")), mapping(report.get("kernels"))
    flops = number(mapping(report.get("model")).get("flops"))
    by_threads = mapping(known.get("by_threads")) or ({"1": known} if known else {})
    parts = []
    for at, (threads, limit) in enumerate(by_threads.items()):
        limits, said = mapping(limit), f"threads {text(threads)}"
        peak = number(limits.get("peak_gflops"))
        if not peak or peak <= 0:
            parts.append(missing(f"{said}: the peak is not known."))
            continue
        rows = mappings(kernels.get(threads))
        members = [
            row
            for _, _, found in groups
            for row in found
            if text(row.data.get("threads")) == text(threads)
            and row.data.get("workload") in ("step", None)
        ]
        rates = [
            (row.label, row.index, flops / p50 / 1e6)
            for row in members
            if (p50 := number(mapping(row.data.get("step_ms")).get("p50")))
            and flops
            and min(p50, flops) > 0
        ]
        told = [f"{label} {rate:.3g} GFLOP/s" for label, _, rate in rates]
        points = placed(rows)
        caption = "Kernels were not profiled (--profile), so there are whole steps alone."
        if points:
            named = [f"{n} {one.name}" for n, one in enumerate(points[:NAMED_KERNELS], 1)]
            caption = f"A kernel's mark is as large as its share of the time; {', '.join(named)}."
        if len(rows) > len(points):
            caption += f" Not shown: {len(rows) - len(points)} kernels without operations."
        narrow = any(row.data.get("precision") not in ("fp32", None) for row in members)
        peaks = mapping(limits.get("peaks_gops"))
        if len(peaks) > 1:
            caption += f" Operations have the peak of what multiplies them: {', '.join(peaks)}."
        elif narrow:
            caption += " The peak is that of 32-bit floats; fewer bits may exceed it."
        if not rates:
            caption += " No whole step: its time or its operations are not known."
        description = f"Roofline, {said}: peak {peak:.4g} GFLOP/s. {'; '.join(told)}."
        parts += [
            f"<h3>{escaped(said)}</h3>\n",
            _figure(roofline(limits, points, rates), f"roofline-{at}", description, caption),
        ]
    if known.get("reason"):
        parts.append(missing(text(known["reason"])))
    return parts or [missing("The machine's limits are not in the report.")]


def _kernels(report: Mapping[str, Any]) -> list[str]:
    from shiftedge.benchmarks.plots import kernel_bars

    parts = []
    for at, (threads, value) in enumerate(mapping(report.get("kernels")).items()):
        rows = [row for row in mappings(value) if (number(row.get("ms")) or 0.0) > 0]
        if not rows:
            parts.append(missing(f"threads {text(threads)}: no kernel has a time."))
            continue
        total = sum(number(row.get("ms")) or 0.0 for row in rows)
        slowest = max(rows, key=lambda row: number(row.get("ms")) or 0.0)
        description = (
            f"Time of {len(rows)} kernels, threads {text(threads)}: {total:.3f} ms together; "
            f"longest is {text(slowest.get('name'))}. The figures are in the table below."
        )
        caption = "In the order in which they run; the mark is the least time that the roofline"
        figure = _figure(kernel_bars(rows), f"kernels-{at}", description, f"{caption} allows.")
        parts += [f"<h3>threads {escaped(threads)}</h3>\n", figure]
        if reached := summary(rows):
            parts.append(bullets(reached))
        parts.append(_kernel_table(rows, threads))
    return parts or [missing("Not profiled: that takes --profile and the native engine.")]


def _kernel_table(rows: Sequence[Mapping[str, Any]], threads: str) -> str:
    numeric = (
        ("µs", "ms", ".1f", 1e3), ("share %", "share", ".1f", 1e2), ("MFLOP", "flops", ".2f", 1e-6),
        ("GFLOP/s", "gflops", ".1f", 1.0), ("KB", "bytes", ".0f", 1e-3),
        ("GB/s", "gb_s", ".1f", 1.0), ("of peak %", "of_peak", ".0f", 1e2),
        ("of roofline", "of_roofline", ".2f", 1.0),
    )  # fmt: skip
    headings = [("kernel", True), ("family", True), *((one[0], False) for one in numeric)]
    cells = [
        [
            escaped(row.get("name")),
            escaped(row.get("family")),
            *(cell(row.get(key), form, scale) for _, key, form, scale in numeric),
            escaped(row.get("bound")),
            escaped(" + ".join(map(text, mapping(row.get("operations"))))),
        ]
        for row in rows
    ]
    name = f"Kernels, threads {text(threads)}"
    figures = table(name, name, [*headings, ("bound", True), ("peak of", True)], cells)
    return f"<details><summary>The figures</summary>\n{figures}</details>\n"


def _cold(report: Mapping[str, Any], groups: Sequence[_Group]) -> list[str]:
    from shiftedge.benchmarks.plots import Bar, cold

    parts = []
    for key, words, rows in groups:
        bars = []
        for row in rows:
            size = _disk_bytes(row.data, report)
            figures = {
                "load, ms": number(row.data.get("load_ms")),
                "first prediction, ms": number(row.data.get("first_prediction_ms")),
                "memory, MB": number(row.data.get("rss_mb")),
                "on disk, MB": None if size is None else size / 1e6,
            }
            if any(figure is not None for figure in figures.values()):
                bars.append(Bar(row.label, row.index, figures))
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
        figure = _figure(cold(bars), f"{key}-cold", f"{words}. {said}.", caption)
        parts += [f"<h3>{escaped(words)}</h3>\n", figure]
    return parts or [missing("No engine was loaded.")]


def _soak(report: Mapping[str, Any]) -> str:
    from shiftedge.benchmarks.plots import soak

    value = report.get("soak")
    if not value:
        return ""
    parts = []
    for at, run in enumerate([value] if isinstance(value, Mapping) else mappings(value)):
        words = f"{text(run.get('engine')) or 'no name'}, threads {text(run.get('threads'))}"
        drawn = soak(run)
        if drawn is None:
            parts.append(missing(f"{words}: no moment has a figure."))
            continue
        absent = [
            name
            for key, name in (
                ("p50_ms", "the median"), ("cpu_mhz", "the clock"),
                ("temperature_c", "the temperature"), ("throttled", "throttling"),
            )
            if all(one is None for one in sequence(run.get(key)))
        ]  # fmt: skip
        caption = f"Not told by this machine: {', '.join(absent)}." if absent else "A long run."
        throttled = sum(bool(one) for one in sequence(run.get("throttled")))
        description = f"A long run over time, {words}; throttled at {throttled} of its moments."
        parts += [
            f"<h3>{escaped(words)}</h3>\n",
            _figure(drawn, f"soak-{at}", description, caption),
        ]
    return section("A long run", parts)
