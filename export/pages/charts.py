"""Charts by matplotlib, as SVG for a page that may be light or dark. The same data give the same
drawing."""

from __future__ import annotations

import contextlib
import html
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

from shiftedge.runtime.process.extras import require

# Where there is no home to write to, it takes a temporary folder, and would say so.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
require("matplotlib")

import matplotlib  # noqa: E402 - after the sentence on what is missing
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

WIDTH = 8.0
"""Inches; the page scales it."""
INK, GRID = "#1b1b1b", "#c9c9c9"
INTENSE = ("#0072b2", "#d55e00", "#00805d", "#b85c93", "#a87900", "#3b97d3", "#6b6b6b")
"""After Okabe and Ito, darkened where white needs it; the page has lighter ones for the dark."""
COLOURS = {INK: "ink", GRID: "grid", **{colour: f"s{i}" for i, colour in enumerate(INTENSE)}}
"""Colour as drawn -> variable of the style sheet."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (9, 2)))
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


@contextlib.contextmanager
def style() -> Iterator[None]:
    """What all plots are drawn and written under, whatever the user's own settings are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser has the glyph
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def to_svg(figure: Figure, name: str, description: str) -> str:
    """An ``svg`` element for a page, under :func:`style`: colours become variables of the page's
    style sheet, so that a plot follows light and dark; text stays text, in the page's font.
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


def figure_of(height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches of height, with one pair of axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def panels_of(count: int, height: float) -> tuple[Figure, Any]:
    """The same with several, one above the other."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]


def beside(axes: Axes, words: str, at: Any, away: tuple[float, float], **how: Any) -> None:
    """Words so many points away from a place."""
    how = {"va": "center", **how} if not away[1] else how
    axes.annotate(words, at, away, textcoords="offset points", **how)


def with_legend(figure: Figure) -> Figure:
    """The figure with its legend below the axes, which it takes no room from."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    if labels:
        columns = max(1, min(3, int(72 * WIDTH // (5.4 * max(map(len, labels)) + 42))))
        figure.set_figheight(figure.get_figheight() + 0.19 * -(-len(labels) // columns))
        figure.legend(loc="outside lower center", ncols=columns)
    return figure


def short(name: str) -> str:
    """Short, on one line, and not hidden as matplotlib hides names that begin with a dash below."""
    flat = " ".join(name.split()) or "no name"
    short = flat if len(flat) <= LABEL_MOST else f"{flat[: LABEL_MOST - 1]}…"
    return f" {short}" if short.startswith("_") else short
