"""Why a kernel is as it is, for people: family, tiles, what it should take and what bounds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shiftedge.export.compiler.calls import Step
from shiftedge.export.compiler.cost import kernel_cost
from shiftedge.export.compiler.targets import Target

__all__ = ["rows", "table"]


def rows(step: Step, target: Target) -> list[dict[str, Any]]:
    """One row a kernel, in order, as plain JSON types; cycles are of one core."""
    result = []
    for call in step.calls:
        kernel = call.kernel
        cost = kernel_cost(kernel, target)
        peak = 2 * target.unit.lanes * target.core.fmas  # operations a cycle
        result.append(
            {
                "name": call.name,
                "family": call.family,
                "node": call.source,
                "tiles": kernel.note,
                "units": kernel.units,
                "flops": kernel.flops,
                "bytes": cost.bytes,
                "predicted_cycles": round(cost.cycles),
                "predicted_share_of_peak": round(kernel.flops / peak / max(cost.cycles, 1.0), 3),
                "bound": cost.bound,
            }
        )
    return result


def table(
    found: Sequence[dict[str, Any]],
    target: Target,
    seconds: Sequence[float] | None = None,
    peak_flops: float | None = None,
) -> str:
    """The rows as text; with ``seconds`` measured on this machine, predictions are in time too.

    Args:
        found: from :func:`rows`.
        target: that they are for.
        seconds: of each kernel.
        peak_flops: operations a second of one core, measured.
    """
    flops_a_cycle = 2 * target.unit.lanes * target.core.fmas
    lines = [
        f"{'kernel':<30} {'MFLOP':>7} {'KB':>7} {'cycles':>9} {'of peak':>7}"
        + (f" {'predicted':>10} {'measured':>10} {'of peak':>7}" if seconds else "")
        + "  tiles"
    ]
    for number, row in enumerate(found):
        line = (
            f"{row['name']:<30} {row['flops'] / 1e6:>7.2f} {row['bytes'] / 1e3:>7.0f} "
            f"{row['predicted_cycles']:>9} {row['predicted_share_of_peak']:>7.0%}"
        )
        if seconds and peak_flops:
            predicted = row["predicted_cycles"] * flops_a_cycle / peak_flops
            share = row["flops"] / peak_flops / max(seconds[number], 1e-9)
            line += f" {predicted * 1e6:>7.1f} us {seconds[number] * 1e6:>7.1f} us {share:>7.0%}"
        lines.append(f"{line}  {row['tiles']}; {row['bound']}")
    cycles = sum(row["predicted_cycles"] for row in found)
    flops = sum(row["flops"] for row in found)
    total = f"{'all':<30} {flops / 1e6:>7.2f} {'':>7} {cycles:>9} "
    total += f"{flops / flops_a_cycle / max(cycles, 1):>7.0%}"
    if seconds and peak_flops:
        total += (
            f" {cycles * flops_a_cycle / peak_flops * 1e6:>7.1f} us {sum(seconds) * 1e6:>7.1f} us "
            f"{flops / peak_flops / sum(seconds):>7.0%}"
        )
    return "\n".join((*lines, total))
