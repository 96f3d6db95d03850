"""Where the time of a compiled step goes: each kernel against this machine's own roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftedge.benchmarks.work import by_instruction, seconds_at
from shiftedge.runtime.process.tables import Column, Table

POINTWISE = ("pointwise", "tail", "inverted residual")
"""Families of kernels that are a product over single pixels, all of it in packed products."""
COLUMNS = (
    Column("kernel", "name"), Column("us", "ms", ".1f", 1e3), Column("share", "share", ".1%"),
    Column("MFLOP", "flops", ".2f", 1e-6), Column("GFLOP/s", "gflops", ".1f"),
    Column("KB", "bytes", ".0f", 1e-3), Column("GB/s", "gb_s", ".1f"),
    Column("of peak", "of_peak", ".0%"), Column("of roofline", "of_roofline", ".2f"),
    Column("bound", "bound"), Column("peak of", lambda row: " + ".join(row["operations"] or ())),
)  # fmt: skip


def kernel_rows(
    kernels: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
    limits: Mapping[str, Any],
    names: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """One row for each kernel that was timed, in order, as plain JSON types.

    Args:
        kernels: the manifest's rows, which know operations and bytes.
        seconds: the measured time of each kernel by name.
        limits: of the machine with as many threads: ``peaks_gops``, by instruction, and
            ``l2_gb_s``, since a kernel's features and weights come from there at best.
        names: the instruction of each part of a kernel, see ``export.compiler.instructions``.

    A kernel's roofline is the longer of the time that its operations take, each part at the peak of
    its own instruction and one after another, and the time that its bytes take; ``of_roofline`` is
    the measured time over it, ``of_peak`` the operations' time over the measured one. Rows without
    ``operations`` have neither.
    """
    known = {row["name"]: row for row in kernels}
    total = sum(seconds.values())
    peaks, l2 = limits.get("peaks_gops") or {}, limits.get("l2_gb_s")
    rows = []
    for name, taken in seconds.items():
        row = known.get(name, {})
        flops, size, parts = row.get("flops"), row.get("bytes"), row.get("operations")
        work = None if parts is None else by_instruction(parts, names or {})
        peak_s = seconds_at(peaks, work)
        bounds = {"arithmetic": peak_s, "memory": size / l2 / 1e9 if size and l2 else None}
        told = {kind: bound for kind, bound in bounds.items() if bound}
        if peak_s is None:
            told = {}  # what takes no account of its operations would flatter it
        bound = max(told, key=lambda kind: told[kind]) if told else None
        rows.append(
            {
                "name": name,
                "family": row.get("family"),
                "ms": 1e3 * taken,
                "share": taken / total if total else None,
                "flops": flops,
                "operations": work,
                "packed_alone": parts is not None and set(parts) == {"packed"},
                "bytes": size,
                "gflops": flops / taken / 1e9 if flops and taken else None,
                "gb_s": size / taken / 1e9 if size and taken else None,
                "peak_ms": 1e3 * peak_s if peak_s else None,
                "of_peak": peak_s / taken if peak_s and taken else None,
                "roofline_ms": 1e3 * told[bound] if bound else None,
                "of_roofline": taken / told[bound] if bound else None,
                "bound": bound,
            }
        )
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence on the pointwise kernels alone, and one on all, where the peaks are known.

    Pointwise are those that make nothing but packed products, over single pixels; where a depthwise
    stage lies in the same kernel it is among the others.
    """
    timed = [row for row in rows if row["ms"]]
    alone = [
        row
        for row in timed
        if row["packed_alone"] and row["family"] in POINTWISE and row["peak_ms"] is not None
    ]
    lines = []
    if alone:
        share = sum(row["ms"] for row in alone) / sum(row["ms"] for row in timed)
        lines.append(
            f"Pointwise kernels: {_share(alone):.0%} of the {' and '.join(_names(alone))} peak "
            f"({len(alone)} of {len(rows)} kernels, {share:.0%} of the time)."
        )
    counted = [row for row in timed if row["operations"]]
    if counted and all(row["peak_ms"] for row in counted):
        names = _names(counted)
        own = ", each for its own operations" if len(names) > 1 else ""
        lines.append(f"All kernels: {_share(timed):.0%} of the peak of {' and '.join(names)}{own}.")
    return lines


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["operations"]))


def _share(rows: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(row["peak_ms"] or 0.0 for row in rows) / sum(row["ms"] for row in rows))


def kernel_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table.of(COLUMNS, rows, "lrrrrrrrrl")
