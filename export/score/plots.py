"""The plots of a score, by matplotlib, from the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from shiftedge.export.pages.charts import (
    DASHES,
    INK,
    INTENSE,
    beside,
    figure_of,
    short,
    with_legend,
)

TICKS = (1, 3, 6, 12, 24, 48, 96, 192)
"""False events an hour on the axis."""
MARKERS = ("o", "D")
"""Of the models' own settings."""


def curve(models: Sequence[Mapping[str, Any]], at: float) -> Figure:
    """Events right against false events an hour, with the interval as a band, and each model's own
    settings as a mark."""
    figure, axes = figure_of(3.9)
    for place, model in enumerate(models):
        points = [point for point in model["curve"] if point["value"] is not None]
        x, y, low, high = (
            [point[key] for point in points] for key in ("false_per_hour", "value", "low", "high")
        )
        colour = INTENSE[place]
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0, step="post")
        axes.plot(
            x, y, color=colour, linestyle=DASHES[place], drawstyle="steps-post",
            label=short(model["name"]),
        )  # fmt: skip
        own = model["own"]
        rate, recall = own["false_per_hour"]["value"], own["recall"]["value"]
        if rate is not None and recall is not None:
            inside = min(max(rate, TICKS[0]), TICKS[-1])
            axes.plot(
                inside, recall, MARKERS[place], color=colour, markeredgecolor=INK, markersize=7,
                label=f"its own settings: {rate:.1f} false an hour",
            )  # fmt: skip
    axes.axvline(at, color=INK, linewidth=0.8, linestyle=DASHES[1])
    axes.set(
        xscale="log", xlim=(TICKS[0], TICKS[-1] * 1.25), ylim=(0, 1.02),
        xlabel="false events an hour, at most", ylabel="share of the gestures found",
    )  # fmt: skip
    axes.set_xticks(TICKS, [f"{tick}" for tick in TICKS])
    axes.minorticks_off()
    return with_legend(figure)


def shares(rows: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], names: Sequence[str]) -> Figure:
    """A row for each label or band: what share was found, with its interval, by each of ``names``.

    Args:
        rows: words, and a figure of the document for each of ``names``.
    """
    several = len(names)
    figure, axes = figure_of(0.8 + (0.22 + 0.12 * (several - 1)) * len(rows))
    for at, (_, found) in enumerate(rows):
        for place, one in enumerate(found):
            y = at + 0.26 * (place - (several - 1) / 2)
            if one["value"] is None:
                beside(axes, "none", (0.0, y), (3, 0), fontsize=7)
                continue
            look: dict[str, Any] = {"color": INTENSE[place], "linewidth": 1.4}
            axes.plot([one["low"], one["high"]], [y, y], alpha=0.5, **look)
            axes.plot(one["value"], y, MARKERS[place], color=INTENSE[place], markersize=5)
    for place, name in enumerate(names):
        axes.plot([], [], MARKERS[place], color=INTENSE[place], label=short(name))
    axes.set_yticks(range(len(rows)), [short(words) for words, _ in rows], fontsize=8)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="share found, 95% interval")
    axes.grid(visible=False, axis="y")
    return with_legend(figure)


def confusion(clips: Mapping[str, Any]) -> Figure:
    """What clips of each label were called: darker is more, with the counts."""
    table = np.array(clips["confusion"], np.float64)
    totals = np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    figure, axes = figure_of(1.9 + 0.24 * len(table))
    for (row, column), count in np.ndenumerate(table):
        if not count:
            continue
        same = clips["truth"][row] == clips["labels"][column]
        axes.barh(
            row, 0.9, 0.86, left=column - 0.45, color=INTENSE[0 if same else 1], linewidth=0,
            alpha=0.12 + 0.6 * float(count / totals[row, 0]),
        )  # fmt: skip
        axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7)
    axes.set_yticks(
        range(len(clips["truth"])), [short(name) for name in clips["truth"]], fontsize=7
    )
    axes.set_xticks(
        range(len(clips["labels"])), [short(name) for name in clips["labels"]], fontsize=7,
        rotation=60, ha="right", rotation_mode="anchor",
    )  # fmt: skip
    axes.set(
        xlim=(-0.6, len(clips["labels"]) - 0.4), ylim=(len(table) - 0.4, -0.6),
        xlabel="called", ylabel="is",
    )  # fmt: skip
    axes.grid(visible=False)
    return figure
