"""A run against an earlier one: has anything become slower beyond the noise of both?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftedge.benchmarks.ratios import Ratio, unpaired_ratio
from shiftedge.benchmarks.report import SCHEMA
from shiftedge.benchmarks.tables import Table
from shiftedge.runtime.errors import ShiftedgeError

__all__ = ["Change", "Comparison", "check_comparable", "compare"]

SAME = ("cpu", "architecture", "cores")
"""Of a machine: what must be alike for times to be compared."""


@dataclass(frozen=True)
class Change:
    """One engine, then and now."""

    engine: str
    threads: int
    workload: str
    then_ms: float
    """Median of the earlier run."""
    now_ms: float
    ratio: Ratio
    """Now over then, by the rounds' medians; the interval holds 1 in 95 of 100 pairs of runs
    between which nothing has changed."""

    @property
    def verdict(self) -> str:
        """ "slower", "quicker", or "same" where noise would explain it."""
        if self.ratio.low > 1.0:
            return "slower"
        return "quicker" if self.ratio.high < 1.0 else "same"


@dataclass(frozen=True)
class Comparison:
    """All that both runs have measured."""

    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    """Engines of the earlier run that this one has not measured."""
    peak: float | None
    """The machine's peak now over then: far from 1, the machine itself was quicker or slower."""

    @property
    def slower(self) -> bool:
        """Whether something has become slower."""
        return any(change.verdict == "slower" for change in self.changes)

    def lines(self) -> list[str]:
        """For people."""
        rows = [
            (
                f"{change.engine}, threads {change.threads}, {change.workload}",
                f"{change.then_ms:.3f}",
                f"{change.now_ms:.3f}",
                f"{change.ratio.value:.3f} [{change.ratio.low:.3f}, {change.ratio.high:.3f}]",
                change.verdict,
            )
            for change in self.changes
        ]
        headings = ("against the earlier run", "then ms", "now ms", "ratio", "")
        lines = Table(headings, rows, "lrrll").lines()
        lines += [f"{name}: measured then, not now" for name in self.missing]
        if self.peak is not None and abs(self.peak - 1.0) > 0.02:
            lines.append(
                f"The machine's own peak is {self.peak:.2f} of what it was: it explains as much."
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "slower": self.slower,
            "peak_ratio": self.peak,
            "missing": list(self.missing),
            "changes": [
                {
                    "engine": change.engine,
                    "threads": change.threads,
                    "workload": change.workload,
                    "then_ms": change.then_ms,
                    "now_ms": change.now_ms,
                    "ratio": change.ratio.value,
                    "low": change.ratio.low,
                    "high": change.ratio.high,
                    "verdict": change.verdict,
                }
                for change in self.changes
            ],
        }


def check_comparable(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Refuse what says nothing.

    Args:
        now: this run's document, or as much of it as is known: ``machine`` and ``model``.
        then: the earlier run's.

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


def compare(now: Mapping[str, Any], then: Mapping[str, Any]) -> Comparison:
    """Everything that both have measured.

    Args:
        now, then: documents, see :func:`report.document`.

    Raises:
        ShiftedgeError: rows of the earlier one are not what this version writes.
    """
    try:
        before, after = _measured(then), _measured(now)
        changes = tuple(
            Change(
                *key[:3],
                float(before[key]["step_ms"]["p50"]),
                float(row["step_ms"]["p50"]),
                unpaired_ratio(_grouped(row, now), _grouped(before[key], then)),
            )
            for key, row in after.items()
            if key in before
        )
        new, old = ((report.get("roofline") or {}).get("peak_gflops") for report in (now, then))
        peak = float(new / old) if new and old else None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ShiftedgeError(
            f"The earlier run's rows cannot be read ({type(error).__name__}: {error}); name a file "
            "that this version of `shiftedge bench --json` wrote."
        ) from error
    missing = tuple(f"{key[0]}, threads {key[1]}, {key[2]}" for key in before if key not in after)
    return Comparison(changes, missing, peak)


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
