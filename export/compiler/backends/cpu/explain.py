"""Why a kernel is as it is, for people: family, tiles, what it should take and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftedge.export.compiler.backends.cpu.cost import kernel_cost
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.instructions import (
    FLOAT32,
    instructions,
    operations,
    operations_a_cycle,
)
from shiftedge.export.compiler.kernel_ir.calls import Step


def rows(step: Step, target: CpuVariant) -> list[dict[str, Any]]:
    """One row a kernel, in order, as plain JSON types; cycles are of one core.

    ``operations`` are by what is multiplied, see ``instructions``; ``peak`` names what multiplies
    it on this target, and ``peak_cycles`` is what they take at the peak of each, one after another.
    """
    result = []
    names = instructions(target.precision, target.features)
    rates = operations_a_cycle(target.unit, target.core.fmas)
    for call in step.calls:
        kernel = call.kernel
        cost = kernel_cost(kernel, target)
        parts = operations(kernel)
        # Of one core that makes nothing but multiply-adds.
        least = sum(count / rates[part] for part, count in parts.items())
        result.append(
            {
                "name": call.name,
                "family": call.family,
                "node": call.source,
                "tiles": kernel.note,
                "units": kernel.units,
                "flops": kernel.flops,
                "operations": parts,
                "bytes": cost.bytes,
                "predicted_cycles": round(cost.cycles),
                "predicted_share_of_peak": round(least / max(cost.cycles, 1.0), 3),
                "peak": [names[part] for part in parts],
                "peak_cycles": round(least, 1),
                "bound": cost.bound,
            }
        )
    return result


def table(
    found: Sequence[dict[str, Any]],
    target: CpuVariant,
    seconds: Sequence[float] | None = None,
    peak_flops: float | None = None,
) -> str:
    """The rows as text; with ``seconds`` of each kernel, measured on this machine, predictions are
    in time too, by the clock that ``peak_flops`` (float32 operations a second of a core) tells.

    Shares are of the peak of what the column "peak of" names: the instructions that the kernel
    multiplies with, each for its own operations.
    """
    clock = None
    if peak_flops:
        clock = peak_flops / operations_a_cycle(target.unit, target.core.fmas)[FLOAT32]
    widest = max([len("peak of"), *(len(_named(row)) for row in found)])
    name = max([len("kernel"), *(len(row["name"]) for row in found)])
    lines = [
        f"{'kernel':<{name}} {'MFLOP':>7} {'KB':>7} {'cycles':>9} {'of peak':>7}"
        + (f" {'predicted':>10} {'measured':>10} {'of peak':>7}" if seconds and clock else "")
        + f"  {'peak of':<{widest}}  tiles"
    ]
    for number, row in enumerate(found):
        took = None if seconds is None else seconds[number]
        line = f"{row['name']:<{name}} {row['flops'] / 1e6:>7.2f} {row['bytes'] / 1e3:>7.0f} "
        line += _figures(row["predicted_cycles"], row["peak_cycles"], took, clock)
        lines.append(f"{line}  {_named(row):<{widest}}  {row['tiles']}; {row['bound']}")
    cycles, least = (sum(row[key] for row in found) for key in ("predicted_cycles", "peak_cycles"))
    total = f"{'all':<{name}} {sum(row['flops'] for row in found) / 1e6:>7.2f} {'':>7} "
    total += _figures(cycles, least, None if seconds is None else sum(seconds), clock)
    return "\n".join((*lines, total))


def _figures(cycles: float, least: float, seconds: float | None, clock: float | None) -> str:
    """Of a kernel or of all: cycles, share, and in time where that is measured."""
    line = f"{round(cycles):>9} {least / max(cycles, 1):>7.0%}"
    if seconds is not None and clock:
        share = least / clock / max(seconds, 1e-9)
        line += f" {cycles / clock * 1e6:>7.1f} us {seconds * 1e6:>7.1f} us {share:>7.0%}"
    return line


def _named(row: Mapping[str, Any]) -> str:
    """What the row's shares are of."""
    return " + ".join(row["peak"]) or "-"
