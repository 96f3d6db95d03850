"""The comparison as a document (JSON, schema 1) and as tables: for a terminal, and as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from shiftedge.benchmarks.complexity.claims import claims
from shiftedge.benchmarks.complexity.count import Cost
from shiftedge.benchmarks.complexity.latency import Rounds, Time
from shiftedge.benchmarks.complexity.nets import WINDOW, find
from shiftedge.benchmarks.complexity.published import LATENCY, QUOTED, quoted
from shiftedge.benchmarks.machine import machine

__all__ = ["SCHEMA", "PairOfForms", "Settings", "document", "markdown", "print_report", "savings"]

SCHEMA = 1
"""Of the document. Raised when the meaning of a key changes; readers ignore keys they do not
know."""
CONVENTIONS = (
    "One prediction, batch 1, float32. Multiply-adds: convolutions and matrix products; 1 is 2 "
    "FLOPs, and what the paper calls FLOPs are multiply-adds. Traffic: what layers read and write "
    "one by one, weights included, batch norm and activations within the layer before, no fusion, "
    "no cache. A frame: a prediction's figure over its new frames.",
    "Times: torch in eager mode for every network, in turns; p50, and least to most. CPU ms: p50 "
    "of processor time, summed over threads, which others at work on the machine lengthen less.",
    "Published figures are quoted from the TSM paper (arXiv 1811.08383, table 2), of one clip; "
    "accuracies are quoted too, and not measured here.",
)
COST_HEADINGS = (
    "network", "frames", "M params", "published", "G mult-adds", "published", "a frame",
    "GFLOPs", "MB moved", "a frame", "p50 ms", "least to most", "CPU ms", "a frame",
)  # fmt: skip
SAVING_HEADINGS = (
    "network", "G mult-adds", "times fewer", "MB moved", "times less", "times quicker",
    "least to most", "CPU time, times less",
)  # fmt: skip
QUOTED_HEADINGS = (
    "network", "frames", "G mult-adds", "M params", "top-1 % SSv1", "P100 ms", "P100 videos/s",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What was asked for."""

    size: int
    """Pixels a side."""
    threads: int
    rounds: int
    """0: nothing was timed."""


@dataclass(frozen=True)
class PairOfForms:
    """A network that runs online, and the one that sees a window of frames."""

    name: str
    step: str
    window: str
    """Keys of contenders."""


PAIRS = (
    PairOfForms("ResNet-50", "tsm-resnet50-online", "tsm-resnet50-8"),
    PairOfForms("MobileNetV2", "tsm-mobilenetv2-online", "tsm-mobilenetv2-8"),
)


def document(
    costs: Mapping[str, Cost],
    times: Mapping[str, Rounds],
    settings: Settings,
    *,
    interrupted: bool = False,
) -> dict[str, Any]:
    """Everything counted and measured, as plain JSON types.

    Args:
        costs: of every contender, by key.
        times: of those that were timed.
        settings: of the run.
        interrupted: Ctrl-C ended the timing.
    """
    cpu_ms = {key: _p50_ms(times.get(key, []), "cpu") for key in costs}
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "settings": {**asdict(settings), "torch": str(torch.__version__)},
        "conventions": list(CONVENTIONS),
        "results": [_row(key, cost, times.get(key, [])) for key, cost in costs.items()],
        "online_against_window": savings(costs, times),
        "claims": claims(costs, cpu_ms, settings.size),
        "quoted": [asdict(row) for row in QUOTED],
        "quoted_latency_source": LATENCY,
        "interrupted": interrupted,
    }


def savings(costs: Mapping[str, Cost], times: Mapping[str, Rounds]) -> list[dict[str, Any]]:
    """What a step saves over running the window of the last frames again at every frame."""
    found = []
    for pair in PAIRS:
        step, window = costs[pair.step], costs[pair.window]
        found.append(
            {
                "network": pair.name,
                "step": pair.step,
                "window": pair.window,
                "frames": window.frames,
                "macs": [step.macs, window.macs, window.macs / step.macs],
                "traffic_bytes": [
                    step.traffic.total,
                    window.traffic.total,
                    window.traffic.total / step.traffic.total,
                ],
                "latency": _paired(times.get(pair.step, []), times.get(pair.window, []), "wall"),
                "cpu": _paired(times.get(pair.step, []), times.get(pair.window, []), "cpu"),
            }
        )
    return found


def _paired(step: Rounds, window: Rounds, clock: str) -> dict[str, float] | None:
    ratios = [
        _median(long, clock) / _median(short, clock)
        for short, long in zip(step, window, strict=False)
        if short and long
    ]
    if not ratios:
        return None
    return {"ratio": float(np.median(ratios)), "least": min(ratios), "most": max(ratios)}


def _median(times: Sequence[Time], clock: str) -> float:
    return float(np.median([getattr(time, clock) for time in times]))


def _p50_ms(rounds: Rounds, clock: str = "wall") -> float | None:
    times = [time for times in rounds for time in times]
    return _median(times, clock) / 1e6 if times else None


def _row(key: str, cost: Cost, rounds: Rounds) -> dict[str, Any]:
    contender, published = find(key), quoted(key)
    times = [time.wall / 1e6 for times in rounds for time in times]
    return {
        "key": key,
        "label": contender.label,
        "frames": cost.frames,
        "classes": contender.classes,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "flops": cost.flops,
        "macs_per_frame": cost.macs / cost.frames,
        "traffic_bytes": {**asdict(cost.traffic), "total": cost.traffic.total},
        "traffic_bytes_per_frame": cost.traffic.total / cost.frames,
        "state_bytes": cost.state_bytes,
        "latency_ms": {
            "p50": _p50_ms(rounds),
            "least": min(times),
            "most": max(times),
            "predictions": len(times),
            "cpu_p50": _p50_ms(rounds, "cpu"),
        }
        if times
        else None,
        "published": None if published is None else asdict(published),
    }


@dataclass(frozen=True)
class _Table:
    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    text_columns: int = 1
    """The first so many are text, the others numbers."""


def _tables(report: Mapping[str, Any]) -> list[_Table]:
    settings, machine_ = report["settings"], report["machine"]
    size, threads = settings["size"], settings["threads"]
    where = f"{machine_['cpu']}, {machine_['cores']} cores, torch {settings['torch']}"
    timed = f", {threads} {'thread' if threads == 1 else 'threads'}" if settings["rounds"] else ""
    return [
        _Table(
            f"Cost of one prediction at {size}x{size}; {where}{timed}",
            COST_HEADINGS,
            [_cost_cells(row) for row in report["results"]],
        ),
        _Table(
            f"An online step against running the last {WINDOW} frames again at every frame",
            SAVING_HEADINGS,
            [_saving_cells(row) for row in report["online_against_window"]],
        ),
        _Table(
            "Quoted, not measured here",
            QUOTED_HEADINGS,
            [_quoted_cells(row) for row in report["quoted"]],
        ),
        _Table(
            "What the paper says of cost",
            ("statement", "verdict", "by our count"),
            [(row["statement"], row["verdict"], row["ours"]) for row in report["claims"]],
            text_columns=3,
        ),
    ]


def _cost_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    published, latency = row["published"], row["latency_ms"]
    frames = row["frames"]
    return (
        row["label"],
        str(frames),
        f"{row['parameters'] / 1e6:.2f}",
        "" if published is None else f"{published['parameters']:.1f}",
        f"{row['macs'] / 1e9:.2f}",
        "" if published is None else f"{published['giga_macs']:.0f}",
        f"{row['macs_per_frame'] / 1e9:.2f}",
        f"{row['flops'] / 1e9:.1f}",
        f"{row['traffic_bytes']['total'] / 1e6:.0f}",
        f"{row['traffic_bytes_per_frame'] / 1e6:.0f}",
        *(
            ("", "", "", "")
            if latency is None
            else (
                f"{latency['p50']:.1f}",
                f"{latency['least']:.1f} to {latency['most']:.1f}",
                f"{latency['cpu_p50']:.1f}",
                f"{latency['cpu_p50'] / frames:.1f}",
            )
        ),
    )


def _saving_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    latency = row["latency"]
    step, window, fewer = row["macs"]
    moved, moved_window, less = row["traffic_bytes"]
    return (
        row["network"],
        f"{step / 1e9:.2f} for {window / 1e9:.2f}",
        f"{fewer:.2f}",
        f"{moved / 1e6:.0f} for {moved_window / 1e6:.0f}",
        f"{less:.2f}",
        *(
            ("", "", "")
            if latency is None
            else (
                f"{latency['ratio']:.2f}",
                f"{latency['least']:.2f} to {latency['most']:.2f}",
                f"{row['cpu']['ratio']:.2f}",
            )
        ),
    )


def _quoted_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    clips = f" x {row['clips']}" if row["clips"] > 1 else ""
    return (
        row["name"],
        row["frames"],
        f"{row['giga_macs']:.0f}{clips}",
        f"{row['parameters']:.1f}",
        f"{row['top1']:.1f}",
        "" if row["latency_ms"] is None else f"{row['latency_ms']:.1f}",
        "" if row["videos_per_s"] is None else f"{row['videos_per_s']:.1f}",
    )


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes = list(report["conventions"])
    load = report["machine"]["load_average"]
    if report["settings"]["rounds"] and load is not None and load > 0.5 + _busy(report):
        notes.append(f"Load average {load:g}: others were at work here.")
    return notes


def _busy(report: Mapping[str, Any]) -> float:
    """What the measuring itself adds to the load average, which is read at its end."""
    return float(report["settings"]["threads"])


def print_report(report: Mapping[str, Any]) -> None:
    """The tables on stdout: by rich on a terminal where it is installed, else plain."""
    stdout = sys.stdout
    if stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            console = Console(markup=False, highlight=False)
            for table in _tables(report):
                shown = Table(title=table.title, title_justify="left")
                for index, heading in enumerate(table.headings):
                    text = index < table.text_columns
                    shown.add_column(heading, justify="left" if text else "right")
                for row in table.rows:
                    shown.add_row(*row)
                console.print(shown)
            for note in _notes(report):
                console.print(note)
            return
    parts = [_plain(table) for table in _tables(report)]
    stdout.write("\n\n".join((*parts, "\n".join(_notes(report)))) + "\n")


def _plain(table: _Table) -> str:
    lines = [table.title]
    widths = [max(map(len, column)) for column in zip(table.headings, *table.rows, strict=True)]
    for cells in (table.headings, *table.rows):
        padded = [
            cell.ljust(width) if index < table.text_columns else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def markdown(report: Mapping[str, Any]) -> str:
    """The same tables in Markdown."""
    parts = []
    for table in _tables(report):
        lines = [
            table.title + ":",
            "",
            _cells(table.headings),
            _cells(["---"] * len(table.headings)),
        ]
        parts.append("\n".join((*lines, *(_cells(row) for row in table.rows))))
    return "\n\n".join((*parts, *_notes(report))) + "\n"


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
