"""A run against an earlier one: has anything become slower beyond the noise of both?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftedge.benchmarks.figures import Ratio, unpaired_ratio
from shiftedge.benchmarks.report import SCHEMA
from shiftedge.runtime.errors import ShiftedgeError

__all__ = ["Change", "Comparison", "check_comparable", "compare", "read_baseline"]

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
        lines = [f"{'against the earlier run':<32} {'then ms':>9} {'now ms':>9}  ratio"]
        for change in self.changes:
            name = f"{change.engine}, threads {change.threads}, {change.workload}"
            ratio = change.ratio
            lines.append(
                f"{name:<32} {change.then_ms:>9.3f} {change.now_ms:>9.3f}  {ratio.value:.3f} "
                f"[{ratio.low:.3f}, {ratio.high:.3f}]  {change.verdict}"
            )
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


def read_baseline(path: Path) -> dict[str, Any]:
    """An earlier run's JSON.

    Raises:
        ShiftedgeError: no such file, or not what ``--json`` writes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ShiftedgeError(f"{path} cannot be read: {error}.") from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    keys = {"schema": int, "machine": dict, "model": dict, "results": list, "protocol": dict}
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), kind) for key, kind in keys.items()
    ):
        raise ShiftedgeError(
            f"{path} is no report of `shiftedge bench --json`; name a file that it wrote."
        )
    return found


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
        before = _measured(then)
        after = _measured(now)
        changes = tuple(
            _change(key, after[key], before[key], now, then) for key in after if key in before
        )
        new_peak, old_peak = (
            (report.get("roofline") or {}).get("peak_gflops") for report in (now, then)
        )
        peak = float(new_peak / old_peak) if new_peak and old_peak else None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ShiftedgeError(
            f"The earlier run's rows cannot be read ({type(error).__name__}: {error}); name a file "
            "that this version of `shiftedge bench --json` wrote."
        ) from error
    missing = tuple(f"{key[0]}, threads {key[1]}, {key[2]}" for key in before if key not in after)
    return Comparison(changes, missing, peak)


Key = tuple[str, int, str, str]


def _measured(report: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    return {
        (row["engine"], row["threads"], row["workload"], row["precision"]): row
        for row in report["results"]
        if row["status"] == "ok" and row["rounds_us"]
    }


def _change(
    key: Key,
    row: Mapping[str, Any],
    old: Mapping[str, Any],
    now: Mapping[str, Any],
    then: Mapping[str, Any],
) -> Change:
    ratio = unpaired_ratio(_grouped(row, now), _grouped(old, then))
    return Change(*key[:3], float(old["step_ms"]["p50"]), float(row["step_ms"]["p50"]), ratio)


def _grouped(row: Mapping[str, Any], report: Mapping[str, Any]) -> Sequence[Sequence[float]]:
    """Medians of the rounds, by process start."""
    groups: dict[int, list[float]] = {}
    starts = report["protocol"]["round_starts"]
    for index, times in enumerate(row["rounds_us"]):
        if times:
            groups.setdefault(starts[index], []).append(float(np.median(times)))
    return list(groups.values())
