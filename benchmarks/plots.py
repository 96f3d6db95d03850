"""The plots of a report, by matplotlib. The same data give the same drawing."""

from __future__ import annotations

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

__all__ = [
    "COLOURS", "INTENSE", "NAMED_KERNELS", "Bar", "Point", "Timed", "cold", "distribution",
    "history", "kernel_bars", "placed", "roofline", "soak", "style", "to_svg",
]  # fmt: skip

WIDTH = 8.0
"""Inches; the page scales it."""
INK, GRID = "#1b1b1b", "#c9c9c9"
INTENSE = ("#0072b2", "#d55e00", "#00805d", "#b85c93", "#a87900", "#3b97d3", "#6b6b6b")
"""After Okabe and Ito, darkened where white needs it; the page has lighter ones for the dark."""
COLOURS = {INK: "ink", GRID: "grid", **{colour: f"s{i}" for i, colour in enumerate(INTENSE)}}
"""Colour as drawn -> variable of the style sheet."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (9, 2)))
BOUNDS = {"arithmetic": (INTENSE[0], "", "o"), "memory": (INTENSE[1], "////", "s")}
"""Bound of a kernel -> colour, hatch and marker; the last two for those who see no difference."""
UNBOUND = (INTENSE[6], "....", "D")
LOG_FROM = 5.0
"""Largest over smallest from which a time axis is logarithmic."""
POINTS_MOST = 2000
"""Of one line."""
POINTS_MARKED = 300
"""Of a long run: a moment between two gaps is no line."""
FEW = 12
"""Points of a line that are shown as such; a line of one would not be seen."""
KERNELS_MOST = 60
NAMED_KERNELS = 6
"""In the roofline, by their rank."""
LABEL_MOST = 32

RC: dict[Any, Any] = {
    "svg.hashsalt": "shiftedge", "svg.fonttype": "none", "text.parse_math": False,
    "font.family": "sans-serif", "font.size": 9.0, "axes.titlesize": 9.0, "legend.fontsize": 8.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlelocation": "left",
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "grid.color": GRID,
    "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "hatch.linewidth": 0.6, "lines.linewidth": 1.4,
    "savefig.facecolor": "none", "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Timed:
    """An engine's times, as it is drawn in every plot."""

    label: str
    index: int
    """Of its colour and dashes."""
    rounds_ms: Sequence[Sequence[float]]
    """All rounds, the empty ones too."""

    @property
    def times_ms(self) -> Array:
        """Of all rounds."""
        return np.array([time for times in self.rounds_ms for time in times], np.float64)

    @property
    def spread(self) -> str:
        """In words."""
        p50, p99 = np.percentile(self.times_ms, (50, 99))
        return f"median {p50:.3f} ms, 99th percentile {p99:.3f} ms"

    @property
    def colour(self) -> str:
        """One of :data:`INTENSE`."""
        return INTENSE[self.index % len(INTENSE)]

    @property
    def dashes(self) -> Any:
        """Told apart from the one with the same colour, and from its neighbours."""
        return DASHES[(self.index + self.index // len(INTENSE)) % len(DASHES)]


@dataclass(frozen=True)
class Bar:
    """One engine's cold figures, by the name of their panel; None where there is no figure."""

    label: str
    index: int
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class Point:
    """A kernel in the roofline."""

    name: str
    intensity: float
    """Operations a byte."""
    gflops: float
    bound: str
    share: float
    """Of the step's time, from 0 to 1."""


@contextlib.contextmanager
def style() -> Iterator[None]:
    """What all plots are drawn and written under, whatever the user's own settings are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser has the glyph
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def distribution(timed: Sequence[Timed]) -> Figure:
    """Which share of the steps took how long at most, with the median and the 99th percentile."""
    figure, axes = _figure(3.1)
    handles = []
    for one in timed:
        times = np.sort(one.times_ms)
        shares = np.arange(1, len(times) + 1) / len(times)
        picks = np.unique(np.linspace(0, len(times) - 1, POINTS_MOST).astype(int))
        look: dict[str, Any] = {"color": one.colour, "linestyle": one.dashes}
        axes.plot(times[picks], 100 * shares[picks], drawstyle="steps-post", **look)
        for share, marker in ((50, "o"), (99, "D")):
            at = float(np.percentile(times, share))
            axes.plot([at], [share], marker, color=one.colour, markersize=5)
        handles.append(Line2D([], [], label=_label(one.label), **look))
    for marker, words in (("o", "median"), ("D", "99th percentile")):
        handles.append(Line2D([], [], color=INK, marker=marker, linestyle="", label=words))
    _time_axis(axes, "x", np.concatenate([one.times_ms for one in timed]))
    axes.set(xlabel="one unit, ms", ylabel="% of units that took no longer", ylim=(0, 103))
    _legend(figure, handles)
    return figure


def history(timed: Sequence[Timed], starts: Sequence[int]) -> Figure:
    """Every timed unit in order, a panel for each engine.

    Args:
        timed: at least one, each with a time.
        starts: for each round, the number of the process start that it belongs to.
    """
    figure = Figure(figsize=(WIDTH, 0.5 + 0.95 * len(timed)), layout="constrained")
    panels = figure.subplots(len(timed), 1, sharex=True, squeeze=False)[:, 0]
    for one, axes in zip(timed, panels, strict=True):
        at = 0
        for index, times in enumerate(one.rounds_ms):
            if index:
                new = index < len(starts) and starts[index] != starts[index - 1]
                axes.axvline(
                    at - 0.5,
                    color=INK if new else GRID,
                    linewidth=0.7,
                    linestyle=(0, (4, 3)) if new else "-",
                )
            where, values = _thinned(np.asarray(times, np.float64), len(one.rounds_ms))
            marker = "." if len(values) <= FEW else ""
            axes.plot(
                at + where, values, color=one.colour, marker=marker, markersize=2, linewidth=0.9
            )
            at += len(times)
        axes.grid(visible=False, axis="x")
        _time_axis(axes, "y", one.times_ms, ticks=3)
        axes.set_ylabel("ms")
        axes.set_title(_label(one.label), color=one.colour, fontweight="bold", pad=3)
        axes.margins(x=0.01)
    panels[-1].set_xlabel("timed unit, in order")
    lines = [
        Line2D([], [], color=GRID, linewidth=1.2, label="a round begins"),
        Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="a process begins"),
    ]
    _legend(figure, lines)
    return figure


def to_svg(figure: Figure, name: str, description: str) -> str:
    """An ``svg`` element for a page, under :func:`style`: colours become variables of the page's
    style sheet, so that a plot follows light and dark; text stays text, in the page's font.

    Args:
        figure: any.
        name: an identifier that no other plot of the page has.
        description: what somebody hears who does not see it.
    """
    written = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    # By the canvas itself: savefig would lay it all out twice.
    canvas.print_svg(written, metadata={"Date": None})
    svg = written.getvalue().decode()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", " ", svg[svg.index("<svg") :])
    used = set(re.findall(r'(?:href="|url\()#([^")]*)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg.replace("xlink:href", "href"))
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg)  # a hundredth of a point is seen by nobody
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for colour, variable in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]*"', svg)
    start = f'<svg {box[0] if box else ""} role="img" aria-label="{html.escape(description)}">'
    return re.sub(r"<svg[^>]*>", lambda _: start, svg, count=1)


def roofline(
    limits: Mapping[str, Any],
    points: Sequence[Point],
    rates: Sequence[tuple[str, int, float]],
) -> Figure:
    """What the machine allows at each arithmetic intensity, and what was reached.

    Args:
        limits: ``peak_gflops``, which must be there, ``peaks_gops`` by instruction, ``l2_gb_s`` and
            ``memory_gb_s``.
        points: kernels, of which the first few are numbered from 1 on.
        rates: label, index of the colour, and GFLOP/s of whole steps: lines, as the bytes of a
            whole step are not known.
    """
    peaks = {"float32": limits["peak_gflops"], **limits["peaks_gops"]}
    peak = max(peaks.values())
    roofs = [
        (f"{name}, {limits[key]:.3g} GB/s", limits[key], dashes)
        for name, key, dashes in (
            ("level 2 cache", "l2_gb_s", "-"),
            ("memory", "memory_gb_s", (0, (5, 2))),
        )
        if limits[key]
    ]
    intensities = [point.intensity for point in points] + [
        peak / reads for _, reads, _ in roofs
    ] or [1.0]
    reached = [point.gflops for point in points] + [rate for *_, rate in rates] + [peak]
    left, right = min(intensities) / 2.5, max(intensities) * 2.5
    figure, axes = _figure(4.0)
    axes.set(xscale="log", yscale="log")
    handles: list[Any] = []
    across = np.geomspace(left, right, 200)
    for words, reads, dashes in roofs:
        look: dict[str, Any] = {"color": INK, "linestyle": dashes}
        axes.plot(across, np.minimum(peak, reads * across), **look)
        handles.append(Line2D([], [], label=words, **look))
    for name, rate in peaks.items():
        axes.plot([left, right], [rate, rate], color=INK, linewidth=0.7)
        words = f"peak {rate:.4g} GFLOP/s" if name == "float32" else f"{name} {rate:.4g} GOP/s"
        axes.annotate(words, (right, rate), (-3, 4), textcoords="offset points", ha="right")
    for label, index, rate in rates:
        shown = Timed(label, index, ())
        look = {"color": shown.colour, "linestyle": shown.dashes, "linewidth": 1.0}
        axes.axhline(rate, **look)
        words = f"{_label(label)}, whole step: {rate:.3g} GFLOP/s"
        handles.append(Line2D([], [], label=words, **look))
    for kind in dict.fromkeys(point.bound for point in points):
        colour, _, marker = BOUNDS.get(kind, UNBOUND)
        chosen = [point for point in points if point.bound == kind]
        axes.scatter(
            [point.intensity for point in chosen], [point.gflops for point in chosen],
            [14 + 500 * point.share for point in chosen],
            color=colour, marker=marker, alpha=0.65, edgecolors=INK, linewidths=0.5,
        )  # fmt: skip
        words = f"kernel, limited by {kind or 'what is not known'}"
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", label=words))
    for rank, point in enumerate(points[:NAMED_KERNELS], 1):
        beside = 3 + (14 + 500 * point.share) ** 0.5 / 2
        axes.annotate(
            str(rank), (point.intensity, point.gflops), (0, beside), textcoords="offset points",
            ha="center", fontsize=8, fontweight="bold",
        )  # fmt: skip
    axes.set(
        xlim=(left, right), ylim=(min(reached) / 2.5, max(reached) * 1.8),
        xlabel="arithmetic intensity, operations a byte", ylabel="GFLOP/s",
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        _plain_log(axis)
    _legend(figure, handles)
    return figure


def placed(kernels: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Kernels with operations, bytes and a time, the longest first."""
    return [
        Point(
            row["name"],
            row["flops"] / row["bytes"],
            row["gflops"],
            row["bound"] or "",
            row["share"],
        )
        for row in sorted(kernels, key=lambda row: -row["ms"])
        if row["flops"] and row["bytes"] and row["ms"]
    ]


def kernel_bars(kernels: Sequence[Mapping[str, Any]]) -> Figure:
    """Time of each kernel in order, coloured by what limits it, with its roofline as a mark.

    Of more than :data:`KERNELS_MOST`, the longest stand for themselves and the rest together.
    """
    keys = ("name", "ms", "bound", "roofline_ms", "of_roofline")
    rows = [tuple(row[key] for key in keys) for row in kernels]
    if len(rows) > KERNELS_MOST:
        order = sorted(range(len(rows)), key=lambda at: -rows[at][1])
        rest = [rows[at][1] for at in order[KERNELS_MOST:]]
        rows = [rows[at] for at in sorted(order[:KERNELS_MOST])]
        rows.append((f"{len(rest)} shorter ones", sum(rest), None, None, None))
    figure, axes = _figure(0.7 + 0.19 * len(rows))
    total, longest = sum(ms for _, ms, *_ in rows), max(ms for _, ms, *_ in rows)
    for at, (_, ms, bound, limit, times) in enumerate(rows):
        colour, hatch, _ = BOUNDS.get(bound, UNBOUND)
        axes.barh(at, 1e3 * ms, 0.72, color=colour, alpha=0.8, hatch=hatch, edgecolor=INK, lw=0.3)
        if limit is not None:
            axes.plot([1e3 * limit] * 2, [at - 0.42, at + 0.42], color=INK, linewidth=2)
        words = [f"{ms / total:.1%}"] if total else []
        words += [f"{times:.1f}× roofline"] if times is not None else []
        axes.annotate(
            ", ".join(words), (1e3 * max(ms, limit or 0.0), at), (4, 0),
            textcoords="offset points", va="center", fontsize=7,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [_label(name) for name, *_ in rows], fontsize=7.5)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, 1.22e3 * longest or 1), xlabel="µs")
    axes.grid(visible=False, axis="y")
    handles: list[Any] = []
    for kind in dict.fromkeys(bound for _, _, bound, *_ in rows):
        colour, hatch, _ = BOUNDS.get(kind, UNBOUND)
        words_ = f"limited by {kind or 'what is not known'}"
        handles.append(Patch(facecolor=colour, alpha=0.8, hatch=hatch, edgecolor=INK, label=words_))
    if any(limit is not None for *_, limit, _ in rows):
        handles.append(Line2D([], [], color=INK, linewidth=2, label="its roofline"))
    _legend(figure, handles)
    return figure


def cold(bars: Sequence[Bar]) -> Figure:
    """Figures beside the step's time, a panel each. ``bars`` name the same panels, at least one."""
    names = list(bars[0].figures)
    figure = Figure(figsize=(WIDTH, 0.75 + 0.26 * len(bars)), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, axes in zip(names, panels, strict=True):
        values = [bar.figures.get(name) for bar in bars]
        most = max((value for value in values if value is not None), default=0.0)
        for at, (bar, value) in enumerate(zip(bars, values, strict=True)):
            if value is not None:
                axes.barh(at, value, 0.65, color=Timed("", bar.index, ()).colour)
            words = (
                "no figure" if value is None else f"{value:.3g}" if value < 1e3 else f"{value:.0f}"
            )
            axes.annotate(
                words, (value or 0.0, at), (3, 0), textcoords="offset points", va="center",
                fontsize=7.5,
            )  # fmt: skip
        axes.set_title(name)
        axes.set(xlim=(0, 1.45 * most or 1), ylim=(len(bars) - 0.5, -0.5))
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(bars)), [_label(bar.label) for bar in bars])
    return figure


def soak(run: Mapping[str, Any]) -> Figure:
    """A long run: the median, the clock and the temperature over time, throttling shaded."""
    seconds = run["seconds"]
    named = (("p50_ms", "median, ms"), ("cpu_mhz", "clock, MHz"), ("temperature_c", "°C"))
    lines = [(words, np.array(run[key], np.float64)) for key, words in named]  # None is NaN
    series = [(words, values) for words, values in lines if np.isfinite(values).any()]
    figure = Figure(figsize=(WIDTH, 0.6 + 1.2 * len(series)), layout="constrained")
    panels = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
    spans = _throttled(seconds, run["throttled"])
    for index, ((words, values), axes) in enumerate(zip(series, panels, strict=True)):
        for begin, end in spans:
            axes.axvspan(begin, end, color=INTENSE[1], alpha=0.25, linewidth=0)
        axes.plot(
            seconds, values, color=INTENSE[(0, 2, 3)[index]], markersize=3,
            marker="." if len(values) <= POINTS_MARKED else "",
        )  # fmt: skip
        axes.set_ylabel(words)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    panels[-1].set_xlabel("seconds")
    if spans:
        _legend(figure, [Patch(color=INTENSE[1], alpha=0.25, label="throttled")])
    return figure


def _throttled(seconds: Sequence[float], flags: Sequence[Any]) -> list[tuple[float, float]]:
    """From each moment that was throttled to the next moment, those that touch as one."""
    spans: list[tuple[float, float]] = []
    for (begin, end), hot in zip(pairwise(seconds), flags, strict=False):
        if hot:
            if spans and spans[-1][1] == begin:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((begin, end))
    return spans


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Below the axes, which it takes no room from."""
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        columns = max(1, min(3, int(72 * WIDTH // (5.4 * longest + 42))))
        rows = -(-len(handles) // columns)
        figure.set_figheight(figure.get_figheight() + 0.19 * rows)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _label(name: str) -> str:
    """Short, on one line, and not hidden as matplotlib hides names that begin with a dash below."""
    flat = " ".join(name.split()) or "no name"
    short = flat if len(flat) <= LABEL_MOST else f"{flat[: LABEL_MOST - 1]}…"
    return f" {short}" if short.startswith("_") else short


def _thinned(times: Array, rounds: int) -> tuple[Array, Array]:
    """Positions and values: least and most of each handful where there are too many."""
    where = np.arange(len(times), dtype=np.float64)
    handful = -(-2 * len(times) * max(1, rounds) // POINTS_MOST)
    if handful <= 2:
        return where, times
    whole = len(times) // handful * handful
    blocks = times[:whole].reshape(-1, handful)
    begins = np.arange(0, whole, handful)
    ends = np.stack((begins + blocks.argmin(1), begins + blocks.argmax(1)), 1)
    picks = np.concatenate((np.sort(ends, 1).ravel(), np.arange(whole, len(times))))
    return where[picks], times[picks]


def _time_axis(axes: Axes, which: str, times: Array, ticks: int = 6) -> None:
    """From the least to the most; logarithmic where that is far."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = float(times.min()), float(times.max())
    if low > 0 and high > LOG_FROM * low:
        axes.set(**{f"{which}scale": "log"})
        _plain_log(axis)
    else:
        axis.set_major_locator(MaxNLocator(ticks))


def _plain_log(axis: Any) -> None:
    """Ticks at 1, 2 and 5, written as one would."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
