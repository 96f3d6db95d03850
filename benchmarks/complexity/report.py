"""The comparison as a document (JSON, schema 1) and as tables: for a terminal, and as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from shiftedge.benchmarks.complexity.count import NetworkCost
from shiftedge.benchmarks.complexity.latency import Rounds
from shiftedge.benchmarks.complexity.nets import NETWORKS, WINDOW
from shiftedge.benchmarks.machine import machine
from shiftedge.runtime.process.tables import Column, Table, print_tables

SCHEMA = 1
CONVENTIONS = (
    "One prediction, batch 1, float32. Multiply-adds: convolutions and matrix products; 1 is 2 "
    "FLOPs, and what the paper calls FLOPs are multiply-adds. Traffic: what layers read and write "
    "one by one, weights included, batch norm and activations within the layer before, no fusion, "
    "no cache. A frame: a prediction's figure over its new frames.",
    "Times: torch in eager mode for every network, in turns; p50, and least to most. CPU ms: p50 "
    "of processor time, summed over threads, which others at work on the machine lengthen less.",
    "Published figures are quoted from the TSM paper (arXiv 1811.08383, table 2), of one clip.",
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
    """Everything counted and measured, as plain JSON types. ``settings`` are ``size`` in pixels a
    side, ``threads``, and ``rounds``, 0 where nothing was timed.
    """
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "settings": {**settings, "torch": str(torch.__version__)},
        "conventions": list(CONVENTIONS),
        "results": [_row(key, cost, times.get(key, [])) for key, cost in costs.items()],
        "online_against_window": savings(costs, times),
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


def _row(key: str, cost: NetworkCost, rounds: Rounds) -> dict[str, Any]:
    network = NETWORKS[key]
    times = [time.wall / 1e6 for times in rounds for time in times]
    latency = None
    if times:
        cpu_ms = _p50([time for times in rounds for time in times], "cpu") / 1e6
        latency = {
            "p50": float(np.median(times)),
            "least": min(times),
            "most": max(times),
            "predictions": len(times),
            "cpu_p50": cpu_ms,
            "cpu_p50_per_frame": cpu_ms / cost.frames,
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
        "latency_ms": latency,
        "published": None if network.published is None else network.published._asdict(),
    }


COSTS = (
    Column("network", "label"), Column("frames", "frames"),
    Column("M params", "parameters", ".2f", 1e-6),
    Column("published", "published.parameters", ".1f"),
    Column("G mult-adds", "macs", ".2f", 1e-9), Column("published", "published.giga_macs", ".0f"),
    Column("a frame", "macs_per_frame", ".2f", 1e-9), Column("GFLOPs", "flops", ".1f", 1e-9),
    Column("MB moved", "traffic_bytes.total", ".0f", 1e-6),
    Column("a frame", "traffic_bytes_per_frame", ".0f", 1e-6),
    Column("p50 ms", "latency_ms.p50", ".1f"),
    Column("least to most", lambda row: _span(row["latency_ms"], ".1f")),
    Column("CPU ms", "latency_ms.cpu_p50", ".1f"),
    Column("a frame", "latency_ms.cpu_p50_per_frame", ".1f"),
)  # fmt: skip
SAVED = (
    Column("network", "network"),
    Column("G mult-adds", lambda row: _both(row["macs"], ".2f", 1e-9)),
    Column("times fewer", lambda row: row["macs"][2], ".2f"),
    Column("MB moved", lambda row: _both(row["traffic_bytes"], ".0f", 1e-6)),
    Column("times less", lambda row: row["traffic_bytes"][2], ".2f"),
    Column("times quicker", "latency.ratio", ".2f"),
    Column("least to most", lambda row: _span(row["latency"], ".2f")),
    Column("CPU time, times less", "cpu.ratio", ".2f"),
)


def _both(numbers: Sequence[float], form: str, scale: float) -> str:
    return f"{numbers[0] * scale:{form}} for {numbers[1] * scale:{form}}"


def _span(times: Mapping[str, float] | None, form: str) -> str | None:
    return None if times is None else f"{times['least']:{form}} to {times['most']:{form}}"


def _tables(report: Mapping[str, Any]) -> list[Table]:
    settings, here = report["settings"], report["machine"]
    size, threads = settings["size"], settings["threads"]
    where = f"{here['cpu']}, {here['cores']} cores, torch {settings['torch']}"
    timed = f", {threads} {'thread' if threads == 1 else 'threads'}" if settings["rounds"] else ""
    return [
        Table.of(COSTS, report["results"], "lr",
                 f"Cost of one prediction at {size}x{size}; {where}{timed}"),
        Table.of(SAVED, report["online_against_window"], "lr",
                 f"An online step against running the last {WINDOW} frames again at every frame"),
    ]  # fmt: skip


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes, settings = list(report["conventions"]), report["settings"]
    load = report["machine"]["load_average"]
    # What the measuring itself adds to the load average, which is read at its end.
    if settings["rounds"] and load is not None and load > 0.5 + settings["threads"]:
        notes.append(f"Load average {load:g}: others were at work here.")
    return notes


def tell(report: Mapping[str, Any], *, markdown: bool) -> None:
    tables, notes = _tables(report), _notes(report)
    if not markdown:
        print_tables(tables, notes)
        return
    parts = ["\n".join((f"{each.title}:", "", *each.markdown())) for each in tables]
    sys.stdout.write("\n\n".join((*parts, *notes)) + "\n")
