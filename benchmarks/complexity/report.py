"""The comparison as a document (JSON, schema 1) and as tables: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from shiftedge.benchmarks.complexity.claims import LATENCY, QUOTED, claims, quoted
from shiftedge.benchmarks.complexity.count import NetworkCost
from shiftedge.benchmarks.complexity.latency import Rounds
from shiftedge.benchmarks.complexity.nets import NETWORKS, WINDOW
from shiftedge.benchmarks.machine import machine
from shiftedge.runtime.process.tables import Table, print_tables

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
PAIRS = (
    ("ResNet-50", "tsm-resnet50-online", "tsm-resnet50-8"),
    ("MobileNetV2", "tsm-mobilenetv2-online", "tsm-mobilenetv2-8"),
)
"""Networks that run online, and beside a window of frames."""


def document(
    costs: Mapping[str, NetworkCost],
    times: Mapping[str, Rounds],
    settings: Mapping[str, int],
    *,
    interrupted: bool = False,
) -> dict[str, Any]:
    """Everything counted and measured, as plain JSON types.

    Args:
        costs: of every network, by key.
        times: of those that were timed.
        settings: ``size`` in pixels a side, ``threads``, and ``rounds``, 0 where nothing was timed.
        interrupted: Ctrl-C ended the timing.
    """
    cpu_ms = {key: _p50_ms(times.get(key, []), "cpu") for key in costs}
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "settings": {**settings, "torch": str(torch.__version__)},
        "conventions": list(CONVENTIONS),
        "results": [_row(key, cost, times.get(key, [])) for key, cost in costs.items()],
        "online_against_window": savings(costs, times),
        "claims": claims(costs, cpu_ms, settings["size"]),
        "quoted": [asdict(row) for row in QUOTED],
        "quoted_latency_source": LATENCY,
        "interrupted": interrupted,
    }


def savings(costs: Mapping[str, NetworkCost], times: Mapping[str, Rounds]) -> list[dict[str, Any]]:
    """What a step saves over running the window of the last frames again at every frame."""
    found = []
    for name, step_key, window_key in PAIRS:
        step, window = costs[step_key], costs[window_key]
        moved = (step.traffic.total, window.traffic.total)
        rounds = (times.get(step_key, []), times.get(window_key, []))
        found.append(
            {
                "network": name,
                "step": step_key,
                "window": window_key,
                "frames": window.frames,
                "macs": [step.macs, window.macs, window.macs / step.macs],
                "traffic_bytes": [*moved, moved[1] / moved[0]],
                "latency": _paired(*rounds, "wall"),
                "cpu": _paired(*rounds, "cpu"),
            }
        )
    return found


def _paired(step: Rounds, window: Rounds, clock: str) -> dict[str, float] | None:
    ratios = [
        _p50(long, clock) / _p50(short, clock)
        for short, long in zip(step, window, strict=False)
        if short and long
    ]
    if not ratios:
        return None
    return {"ratio": float(np.median(ratios)), "least": min(ratios), "most": max(ratios)}


def _p50(times: Any, clock: str) -> float:
    return float(np.median([getattr(time, clock) for time in times]))


def _p50_ms(rounds: Rounds, clock: str) -> float | None:
    times = [time for times in rounds for time in times]
    return _p50(times, clock) / 1e6 if times else None


def _row(key: str, cost: NetworkCost, rounds: Rounds) -> dict[str, Any]:
    network, published = NETWORKS[key], quoted(key)
    times = [time.wall / 1e6 for times in rounds for time in times]
    latency = {
        "p50": _p50_ms(rounds, "wall"),
        "least": min(times, default=None),
        "most": max(times, default=None),
        "predictions": len(times),
        "cpu_p50": _p50_ms(rounds, "cpu"),
    }
    return {
        "key": key,
        "label": network.label,
        "frames": cost.frames,
        "classes": network.classes,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "flops": cost.flops,
        "macs_per_frame": cost.macs / cost.frames,
        "traffic_bytes": {**asdict(cost.traffic), "total": cost.traffic.total},
        "traffic_bytes_per_frame": cost.traffic.total / cost.frames,
        "state_bytes": cost.state_bytes,
        "latency_ms": latency if times else None,
        "published": None if published is None else asdict(published),
    }


def _tables(report: Mapping[str, Any]) -> list[Table]:
    settings, here = report["settings"], report["machine"]
    size, threads = settings["size"], settings["threads"]
    where = f"{here['cpu']}, {here['cores']} cores, torch {settings['torch']}"
    timed = f", {threads} {'thread' if threads == 1 else 'threads'}" if settings["rounds"] else ""
    costs = (
        "network", "frames", "M params", "published", "G mult-adds", "published", "a frame",
        "GFLOPs", "MB moved", "a frame", "p50 ms", "least to most", "CPU ms", "a frame",
    )  # fmt: skip
    saved = (
        "network", "G mult-adds", "times fewer", "MB moved", "times less", "times quicker",
        "least to most", "CPU time, times less",
    )  # fmt: skip
    others = (
        "network", "frames", "G mult-adds", "M params", "top-1 % SSv1", "P100 ms", "P100 videos/s",
    )  # fmt: skip
    said = [(row["statement"], row["verdict"], row["ours"]) for row in report["claims"]]
    return [
        Table(costs, [_cost_cells(row) for row in report["results"]], "lr",
              f"Cost of one prediction at {size}x{size}; {where}{timed}"),
        Table(saved, [_saving_cells(row) for row in report["online_against_window"]], "lr",
              f"An online step against running the last {WINDOW} frames again at every frame"),
        Table(others, [_quoted_cells(row) for row in report["quoted"]], "lr",
              "Quoted, not measured here"),
        Table(("statement", "verdict", "by our count"), said, "l", "What the paper says of cost"),
    ]  # fmt: skip


def _cost_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    published, latency, frames = row["published"], row["latency_ms"], row["frames"]
    times = ("", "", "", "")
    if latency is not None:
        times = (
            f"{latency['p50']:.1f}",
            f"{latency['least']:.1f} to {latency['most']:.1f}",
            f"{latency['cpu_p50']:.1f}",
            f"{latency['cpu_p50'] / frames:.1f}",
        )
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
        *times,
    )


def _saving_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    latency, times = row["latency"], ("", "", "")
    if latency is not None:
        span = f"{latency['least']:.2f} to {latency['most']:.2f}"
        times = (f"{latency['ratio']:.2f}", span, f"{row['cpu']['ratio']:.2f}")
    step, window, fewer = row["macs"]
    moved, moved_window, less = row["traffic_bytes"]
    return (
        row["network"],
        f"{step / 1e9:.2f} for {window / 1e9:.2f}",
        f"{fewer:.2f}",
        f"{moved / 1e6:.0f} for {moved_window / 1e6:.0f}",
        f"{less:.2f}",
        *times,
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
    notes, settings = list(report["conventions"]), report["settings"]
    load = report["machine"]["load_average"]
    # What the measuring itself adds to the load average, which is read at its end.
    if settings["rounds"] and load is not None and load > 0.5 + settings["threads"]:
        notes.append(f"Load average {load:g}: others were at work here.")
    return notes


def print_report(report: Mapping[str, Any]) -> None:
    """The tables on stdout."""
    print_tables(_tables(report), _notes(report))


def markdown(report: Mapping[str, Any]) -> str:
    """The same tables in Markdown."""
    parts = ["\n".join((f"{each.title}:", "", *each.markdown())) for each in _tables(report)]
    return "\n\n".join((*parts, *_notes(report))) + "\n"
