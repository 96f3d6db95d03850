"""A run against an earlier one: has anything become slower beyond the noise of both?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shiftedge.benchmarks.ratios import Ratio, unpaired_ratio
from shiftedge.benchmarks.report import SCHEMA
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.tables import Column, Table

SAME = ("cpu", "architecture", "cores")
"""Of a machine: what must be alike for times to be compared."""


def check_comparable(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Refuse an earlier run's document that says nothing of this run's ``machine`` and ``model``.

    Raises:
        ShiftedgeError: another schema, machine or model.
    """
    found = []
    if then["schema"] != SCHEMA:
        found.append(f"its schema is {then['schema']}, not {SCHEMA}")
    found += [
        f"its machine's {key} is {then['machine'].get(key)}, not {now['machine'].get(key)}"
        for key in SAME
        if then["machine"].get(key) != now["machine"].get(key)
    ]
    if then["model"].get("sha256") != now["model"].get("sha256"):
        found.append("it is of another model")
    if found:
        raise ShiftedgeError(
            f"The earlier run says little about this one: {', '.join(found)}; --force compares "
            "them all the same."
        )


def compare(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that both have measured: ``comparison`` of docs/formats.md. The interval holds 1
    in 95 of 100 pairs of runs between which nothing has changed, and a ``verdict`` is "same" where
    noise would explain it; a ``peak_ratio`` far from 1 means that the machine itself was quicker or
    slower.

    Raises:
        ShiftedgeError: rows of the earlier one are not what this version writes.
    """
    try:
        before, after = _measured(then), _measured(now)
        changes = [
            _change(key, row, before[key], unpaired_ratio(_grouped(row, now), _grouped(old, then)))
            for key, row in after.items()
            if (old := before.get(key))
        ]
        new, old_peak = _peak(now), _peak(then)
        peak = float(new / old_peak) if new and old_peak else None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ShiftedgeError(
            f"The earlier run's rows cannot be read ({type(error).__name__}: {error}); name a file "
            "that this version of `shiftedge bench --json` wrote."
        ) from error
    return {
        "slower": any(change["verdict"] == "slower" for change in changes),
        "peak_ratio": peak,
        "missing": [f"{key[0]}, threads {key[1]}, {key[2]}" for key in before if key not in after],
        "changes": changes,
    }


def _peak(report: Mapping[str, Any]) -> Any:
    """Of float32, one thread; None where it was not measured."""
    roofline = report.get("roofline")
    return roofline and roofline["by_threads"]["1"]["peaks_gops"].get("float32")


def _change(
    key: Sequence[Any], now: Mapping[str, Any], then: Mapping[str, Any], ratio: Ratio
) -> dict[str, Any]:
    verdict = "slower" if ratio.low > 1.0 else "quicker" if ratio.high < 1.0 else "same"
    return {
        **dict(zip(("engine", "threads", "workload"), key, strict=False)),
        "then_ms": float(then["step_ms"]["p50"]),
        "now_ms": float(now["step_ms"]["p50"]),
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "verdict": verdict,
    }


COLUMNS = (
    Column("against the earlier run",
           lambda row: "{engine}, threads {threads}, {workload}".format(**row)),
    Column("then ms", "then_ms", ".3f"), Column("now ms", "now_ms", ".3f"),
    Column("ratio", lambda row: "{ratio:.3f} [{low:.3f}, {high:.3f}]".format(**row)),
    Column("", "verdict"),
)  # fmt: skip


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    lines = Table.of(COLUMNS, found["changes"], "lrrll").lines()
    lines += [f"{name}: measured then, not now" for name in found["missing"]]
    peak = found["peak_ratio"]
    if peak is not None and abs(peak - 1.0) > 0.02:
        lines.append(f"The machine's own peak is {peak:.2f} of what it was: it explains as much.")
    return lines


def _measured(report: Mapping[str, Any]) -> dict[tuple[str, int, str, str], Mapping[str, Any]]:
    return {
        (row["engine"], row["threads"], row["workload"], row["precision"]): row
        for row in report["results"]
        if row["status"] == "ok" and row["rounds_us"]
    }


def _grouped(row: Mapping[str, Any], report: Mapping[str, Any]) -> Sequence[Sequence[float]]:
    """Medians of the rounds, by process start."""
    groups: dict[int, list[float]] = {}
    for start, times in zip(report["protocol"]["round_starts"], row["rounds_us"], strict=False):
        if times:
            groups.setdefault(start, []).append(float(np.median(times)))
    return list(groups.values())
