"""The plots of a report, by matplotlib. The same data give the same drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from shiftedge.export.pages.charts import (
    DASHES,
    GRID,
    INK,
    INTENSE,
    beside,
    figure_of,
    panels_of,
    short,
    with_legend,
)  # fmt: skip

BOUNDS = {"arithmetic": (INTENSE[0], "", "o"), "memory": (INTENSE[1], "////", "s")}
"""Bound of a kernel -> colour, hatch and marker; the last two for those who see no difference."""
UNBOUND = (INTENSE[6], "....", "D")
LOG_FROM = 5.0
"""Largest over smallest from which a time axis is logarithmic."""
POINTS_MOST = 2000
"""Of one engine in one plot."""
FEW, FEW_MOMENTS = 12, 300
"""Points of a line that are shown as such, of times and of a long run: one alone would not be seen,
and a moment between two gaps is no line."""
NAMED_KERNELS = 6
"""In the roofline, by their rank."""

Array = NDArray[np.float64]
Row = Mapping[str, Any]
"""Of a report."""


@dataclass(frozen=True)
class Shown:
    data: Row
    label: str
    index: int
    """Of its colour and dashes: the same engine has the same everywhere."""

    @property
    def doing(self) -> str:
        threads = self.data["threads"]
        return f"{self.data['workload']}, {threads} thread{'' if threads == 1 else 's'}"

    @property
    def rounds_ms(self) -> list[Array]:
        """All rounds, the empty ones too."""
        return [np.asarray(times, np.float64) / 1e3 for times in self.data["rounds_us"]]

    @property
    def times_ms(self) -> Array:
        return np.concatenate(self.rounds_ms or [np.empty(0)])

    @property
    def spread(self) -> str:
        p50, p99 = np.percentile(self.times_ms, (50, 99))
        return f"median {p50:.3f} ms, 99th percentile {p99:.3f} ms"

    @property
    def look(self) -> dict[str, Any]:
        """Of a line, told apart from the one with the same colour, and from its neighbours."""
        dashes = DASHES[(self.index + self.index // len(INTENSE)) % len(DASHES)]
        return {"color": INTENSE[self.index % len(INTENSE)], "linestyle": dashes}


def distribution(timed: Sequence[Shown]) -> Figure:
    """Which share of the steps took how long at most, with the median and the 99th percentile."""
    figure, axes = figure_of(3.1)
    for one in timed:
        times = np.sort(one.times_ms)
        shares = np.arange(1, len(times) + 1) / len(times)
        picks = np.unique(np.linspace(0, len(times) - 1, POINTS_MOST).astype(int))
        drawn = {"drawstyle": "steps-post", "label": short(one.label), **one.look}
        axes.plot(times[picks], 100 * shares[picks], **drawn)
        for share, marker in ((50, "o"), (99, "D")):
            at = np.percentile(times, share)
            axes.plot(at, share, marker, color=one.look["color"], markersize=5)
    axes.plot([], [], "o", color=INK, label="median")
    axes.plot([], [], "D", color=INK, label="99th percentile")
    _time_axis(axes, "x", np.concatenate([one.times_ms for one in timed]))
    axes.set(xlabel="one unit, ms", ylabel="% of units that took no longer", ylim=(0, 103))
    return with_legend(figure)


def history(timed: Sequence[Shown], starts: Sequence[int]) -> Figure:
    """Every timed unit in order, a panel for each engine.

    Args:
        timed: at least one, each with a time.
        starts: for each round, the number of the process start that it belongs to.
    """
    figure, panels = panels_of(len(timed), 0.5 + 0.95 * len(timed))
    for one, axes in zip(timed, panels, strict=True):
        at, colour = 0, one.look["color"]
        for index, times in enumerate(one.rounds_ms):
            if index and starts[index] != starts[index - 1]:
                axes.axvline(at - 0.5, color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
            elif index:
                axes.axvline(at - 0.5, color=GRID, linewidth=0.7)
            where, values = _thinned(times, len(one.rounds_ms))
            look = {"color": colour, "marker": "." if len(values) <= FEW else ""}
            axes.plot(at + where, values, markersize=2, linewidth=0.9, **look)
            at += len(times)
        axes.grid(visible=False, axis="x")
        _time_axis(axes, "y", one.times_ms, ticks=3)
        axes.set_ylabel("ms")
        axes.set_title(short(one.label), color=colour, fontweight="bold", pad=3)
        axes.margins(x=0.01)
    panels[-1].set_xlabel("timed unit, in order")
    panels[-1].plot([], [], color=GRID, linewidth=1.2, label="a round begins")
    panels[-1].plot([], [], color=INK, lw=1, linestyle=(0, (4, 3)), label="a process begins")
    return with_legend(figure)


def roofline(limits: Row, points: Sequence[Row], rates: Sequence[tuple[Shown, float]]) -> Figure:
    """What the machine allows at each arithmetic intensity, and what was reached.

    Args:
        limits: ``peaks_gops`` by instruction, float32 among them, ``l2_gb_s`` and ``memory_gb_s``.
        points: kernels, of which the first few are numbered from 1 on.
        rates: GFLOP/s of whole steps: lines, as the bytes of a whole step are not known.
    """
    peaks = limits["peaks_gops"]
    peak = max(peaks.values())
    reads = {
        name: (limits[key], dashes)
        for name, key, dashes in (
            ("level 2 cache", "l2_gb_s", "-"),
            ("memory", "memory_gb_s", (0, (5, 2))),
        )
        if limits[key]
    }
    intensities = [point["intensity"] for point in points]
    intensities = intensities + [peak / rate for rate, _ in reads.values()] or [1.0]
    reached = [point["gflops"] for point in points] + [rate for _, rate in rates] + [peak]
    left, right = min(intensities) / 2.5, max(intensities) * 2.5
    figure, axes = figure_of(4.0)
    axes.set(
        xscale="log", yscale="log", xlim=(left, right),
        ylim=(min(reached) / 2.5, max(reached) * 1.8),
        xlabel="arithmetic intensity, operations a byte", ylabel="GFLOP/s",
    )  # fmt: skip
    across = np.geomspace(left, right, 200)
    for name, (rate, dashes) in reads.items():
        words = f"{name}, {rate:.3g} GB/s"
        axes.plot(across, np.minimum(peak, rate * across), color=INK, linestyle=dashes, label=words)
    for name, rate in peaks.items():
        axes.plot([left, right], [rate, rate], color=INK, linewidth=0.7)
        words = f"peak {rate:.4g} GFLOP/s" if name == "float32" else f"{name} {rate:.4g} GOP/s"
        beside(axes, words, (right, rate), (-3, 4), ha="right")
    for one, rate in rates:
        words = f"{short(one.label)}, whole step: {rate:.3g} GFLOP/s"
        axes.axhline(rate, linewidth=1.0, label=words, **one.look)
    for kind in dict.fromkeys(point["bound"] for point in points):
        colour, _, marker = BOUNDS.get(kind, UNBOUND)
        keys = ("intensity", "gflops", "share")
        x, y, shares = ([one[key] for one in points if one["bound"] == kind] for key in keys)
        axes.scatter(
            x, y, 14 + 500 * np.array(shares), color=colour, marker=marker, alpha=0.65,
            edgecolors=INK, linewidths=0.5,
        )  # fmt: skip
        words = f"kernel, limited by {kind or 'what is not known'}"
        axes.plot([], [], marker, color=colour, label=words)
    for rank, point in enumerate(points[:NAMED_KERNELS], 1):
        above = 3 + (14 + 500 * point["share"]) ** 0.5 / 2
        at = (point["intensity"], point["gflops"])
        beside(axes, str(rank), at, (0, above), ha="center", fontsize=8, fontweight="bold")
    for axis in (axes.xaxis, axes.yaxis):
        _plain_log(axis)
    return with_legend(figure)


def placed(kernels: Sequence[Row]) -> list[Row]:
    """Kernels with operations, bytes and a time, the longest first, and ``intensity``: operations a
    byte."""
    return [
        {**row, "intensity": row["flops"] / row["bytes"], "bound": row["bound"] or ""}
        for row in sorted(kernels, key=lambda row: -row["ms"])
        if row["flops"] and row["bytes"] and row["ms"]
    ]


def kernel_bars(rows: Sequence[Row]) -> Figure:
    """Time of each kernel in order, coloured by what limits it, with its roofline as a mark."""
    figure, axes = figure_of(0.7 + 0.19 * len(rows))
    total, most = sum(row["ms"] for row in rows), max(row["ms"] for row in rows)
    told = set()
    for at, row in enumerate(rows):
        us, bound, limit = 1e3 * row["ms"], row["bound"], row["roofline_ms"]
        colour, hatch, _ = BOUNDS.get(bound, UNBOUND)
        words = None if bound in told else f"limited by {bound or 'what is not known'}"
        told.add(bound)
        axes.barh(
            at, us, 0.72, color=colour, alpha=0.8, hatch=hatch, edgecolor=INK, lw=0.3, label=words
        )
        said = [f"{row['ms'] / total:.1%}"] if total else []
        if limit is not None:
            axes.plot([1e3 * limit] * 2, [at - 0.42, at + 0.42], color=INK, linewidth=2)
            said.append(f"{row['of_roofline']:.1f}× roofline")
        beside(axes, ", ".join(said), (max(us, 1e3 * (limit or 0)), at), (4, 0), fontsize=7)
    axes.set_yticks(range(len(rows)), [short(row["name"]) for row in rows], fontsize=7.5)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, 1.22e3 * most or 1), xlabel="µs")
    axes.grid(visible=False, axis="y")
    if any(row["roofline_ms"] is not None for row in rows):
        axes.plot([], [], color=INK, linewidth=2, label="its roofline")
    return with_legend(figure)


def soak(run: Row) -> Figure:
    """A long run: the median, the clock and the temperature over time, throttling shaded."""
    seconds, hot = run["seconds"], [bool(flag) for flag in run["throttled"]]
    named = (("p50_ms", "median, ms"), ("cpu_mhz", "clock, MHz"), ("temperature_c", "°C"))
    lines = [(words, np.array(run[key], np.float64)) for key, words in named]  # None is NaN
    series = [(words, values) for words, values in lines if np.isfinite(values).any()]
    figure, panels = panels_of(len(series), 0.6 + 1.2 * len(series))
    for index, ((words, values), axes) in enumerate(zip(series, panels, strict=True)):
        look = {"color": INTENSE[(0, 2, 3)[index]], "markersize": 3}
        axes.plot(seconds, values, marker="." if len(values) <= FEW_MOMENTS else "", **look)
        if any(hot):
            axes.fill_between(
                seconds, 0, 1, where=hot, step="post", transform=axes.get_xaxis_transform(),
                color=INTENSE[1], alpha=0.25, linewidth=0, label="throttled" if not index else None,
            )  # fmt: skip
        axes.set_ylabel(words)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    panels[-1].set_xlabel("seconds")
    return with_legend(figure)


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
    if 0 < times.min() * LOG_FROM < times.max():
        axes.set(**{f"{which}scale": "log"})
        _plain_log(axis)
    else:
        axis.set_major_locator(MaxNLocator(ticks))


def _plain_log(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
