"""Where the time of a compiled step goes: each kernel against this machine's own roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["kernel_rows", "kernel_table"]


def kernel_rows(
    kernels: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
    limits: Mapping[str, float | None],
) -> list[dict[str, Any]]:
    """One row for each kernel that was timed, in order, as plain JSON types.

    Args:
        kernels: the manifest's rows, which know operations and bytes.
        seconds: the measured time of each kernel by name.
        limits: of the machine with as many threads: ``peak_gflops``, and ``l2_gb_s``, since a
            kernel's features and weights come from there at best.

    A kernel's roofline is the longer of the time that its operations take at the peak and the time
    that its bytes take; ``of_roofline`` is the measured time over it.
    """
    known = {row["name"]: row for row in kernels}
    total = sum(seconds.values())
    rows = []
    for name, taken in seconds.items():
        row = known.get(name, {})
        flops, size = row.get("flops"), row.get("bytes")
        bounds = {
            "arithmetic": _seconds(flops, limits.get("peak_gflops")),
            "memory": _seconds(size, limits.get("l2_gb_s")),
        }
        told = {kind: bound for kind, bound in bounds.items() if bound}
        bound = max(told, key=lambda kind: told[kind]) if told else None
        rows.append(
            {
                "name": name,
                "family": row.get("family"),
                "ms": 1e3 * taken,
                "share": taken / total if total else None,
                "flops": flops,
                "bytes": size,
                "gflops": flops / taken / 1e9 if flops and taken else None,
                "gb_s": size / taken / 1e9 if size and taken else None,
                "roofline_ms": 1e3 * told[bound] if bound else None,
                "of_roofline": taken / told[bound] if bound else None,
                "bound": bound,
            }
        )
    return rows


def _seconds(amount: float | None, giga_a_second: float | None) -> float | None:
    return amount / giga_a_second / 1e9 if amount is not None and giga_a_second else None


def kernel_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of text."""
    lines = [
        f"{'kernel':<32} {'us':>8} {'share':>6} {'MFLOP':>8} {'GFLOP/s':>8} {'KB':>8} {'GB/s':>6} "
        f"{'of roofline':>11}  bound"
    ]
    for row in rows:
        cells = (
            f"{row['name']:<32} {1e3 * row['ms']:>8.1f}",
            _cell(row["share"], 6, ".1%"),
            _cell(row["flops"] and row["flops"] / 1e6, 8, ".2f"),
            _cell(row["gflops"], 8, ".1f"),
            _cell(row["bytes"] and row["bytes"] / 1e3, 8, ".0f"),
            _cell(row["gb_s"], 6, ".1f"),
            _cell(row["of_roofline"], 11, ".2f"),
        )
        lines.append(f"{' '.join(cells)}  {row['bound'] or ''}")
    return lines


def _cell(value: float | None, width: int, form: str) -> str:
    return ("" if value is None else format(value, form)).rjust(width)
