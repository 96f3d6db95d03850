"""Where the time of a compiled step goes: each kernel against this machine's own roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftedge.benchmarks.lenient import mapping, number
from shiftedge.benchmarks.work import by_instruction

__all__ = ["kernel_rows", "kernel_table", "summary"]

POINTWISE = ("pointwise", "tail", "inverted residual")
"""Families of kernels that are a product over single pixels, where words are all they multiply."""


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
    ``operations``, of a bundle of an earlier version, have neither.
    """
    known = {row["name"]: row for row in kernels}
    total = sum(seconds.values())
    peaks = limits.get("peaks_gops") or {}
    rows = []
    for name, taken in seconds.items():
        row = known.get(name, {})
        flops, size, parts = row.get("flops"), row.get("bytes"), row.get("operations")
        work = None if parts is None else by_instruction(parts, names or {})
        bounds = {
            "arithmetic": _arithmetic(work, peaks),
            "memory": _seconds(size, limits.get("l2_gb_s")),
        }
        told = {kind: bound for kind, bound in bounds.items() if bound}
        if bounds["arithmetic"] is None:
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
                "words_alone": parts is not None and set(parts) == {"packed"},
                "bytes": size,
                "gflops": flops / taken / 1e9 if flops and taken else None,
                "gb_s": size / taken / 1e9 if size and taken else None,
                "peak_ms": 1e3 * bounds["arithmetic"] if bounds["arithmetic"] else None,
                "of_peak": bounds["arithmetic"] / taken if bounds["arithmetic"] and taken else None,
                "roofline_ms": 1e3 * told[bound] if bound else None,
                "of_roofline": taken / told[bound] if bound else None,
                "bound": bound,
            }
        )
    return rows


def _arithmetic(work: Mapping[str, int] | None, peaks: Mapping[str, float]) -> float | None:
    """Seconds at the peaks; 0 where nothing is multiplied, None where that is not known."""
    if work is None or not all(peaks.get(name) for name in work):
        return None
    return sum(count / peaks[name] / 1e9 for name, count in work.items())


def _seconds(amount: float | None, giga_a_second: float | None) -> float | None:
    return amount / giga_a_second / 1e9 if amount is not None and giga_a_second else None


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence on the pointwise kernels alone, and one on all, where the peaks are known.

    Pointwise are those that multiply nothing but words, over single pixels; where a depthwise stage
    lies in the same kernel it is among the others.

    Args:
        rows: from :func:`kernel_rows`, or what was read from a report's JSON.
    """
    timed = [row for row in rows if number(row.get("ms"))]
    lines = []
    alone = [row for row in timed if _is_pointwise(row)]
    if alone:
        names = dict.fromkeys(name for row in alone for name in mapping(row.get("operations")))
        lines.append(
            f"Pointwise kernels: {_share(alone):.0%} of the {' and '.join(names)} peak "
            f"({len(alone)} of {len(rows)} kernels, {_sum(alone, 'ms') / _sum(timed, 'ms'):.0%} of "
            "the time)."
        )
    counted = [row for row in timed if mapping(row.get("operations"))]
    if counted and all(number(row.get("peak_ms")) for row in counted):
        names = dict.fromkeys(name for row in counted for name in mapping(row.get("operations")))
        own = ", each for its own operations" if len(names) > 1 else ""
        lines.append(f"All kernels: {_share(timed):.0%} of the peak of {' and '.join(names)}{own}.")
    return lines


def _is_pointwise(row: Mapping[str, Any]) -> bool:
    words = row.get("words_alone") is True and row.get("family") in POINTWISE
    return words and number(row.get("peak_ms")) is not None


def _sum(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(number(row.get(key)) or 0.0 for row in rows)


def _share(rows: Sequence[Mapping[str, Any]]) -> float:
    return _sum(rows, "peak_ms") / _sum(rows, "ms")


def kernel_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of text."""
    lines = [
        f"{'kernel':<32} {'us':>8} {'share':>6} {'MFLOP':>8} {'GFLOP/s':>8} {'KB':>8} {'GB/s':>6} "
        f"{'of peak':>7} {'of roofline':>11}  {'bound':<10}  peak of"
    ]
    for row in rows:
        cells = (
            f"{row['name']:<32} {1e3 * row['ms']:>8.1f}",
            _cell(row["share"], 6, ".1%"),
            _cell(row["flops"] and row["flops"] / 1e6, 8, ".2f"),
            _cell(row["gflops"], 8, ".1f"),
            _cell(row["bytes"] and row["bytes"] / 1e3, 8, ".0f"),
            _cell(row["gb_s"], 6, ".1f"),
            _cell(row["of_peak"], 7, ".0%"),
            _cell(row["of_roofline"], 11, ".2f"),
        )
        named = " + ".join(row["operations"] or ())
        lines.append(f"{' '.join(cells)}  {row['bound'] or '':<10}  {named}".rstrip())
    return lines


def _cell(value: float | None, width: int, form: str) -> str:
    return ("" if value is None else format(value, form)).rjust(width)
