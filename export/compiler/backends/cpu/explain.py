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
from shiftedge.runtime.process.tables import Table


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
                **call.described(),
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

    def cells(rows: Sequence[Mapping[str, Any]], seconds: Sequence[float] | None) -> list[str]:
        """Of a kernel or of all: work, cycles, share, and in time where that is measured."""
        flops, cycles, least = (
            sum(row[key] for row in rows) for key in ("flops", "predicted_cycles", "peak_cycles")
        )
        figures = [f"{flops / 1e6:.2f}", f"{cycles:.0f}", f"{least / max(cycles, 1):.0%}"]
        if seconds and clock:
            took = max(sum(seconds), 1e-9)
            figures += [f"{cycles / clock * 1e6:.1f} us", f"{took * 1e6:.1f} us"]
            figures.append(f"{least / clock / took:.0%}")
        return figures

    lines = []
    for number, row in enumerate(found):
        work, *rest = cells([row], seconds and seconds[number : number + 1])
        words = " + ".join(row["peak"]) or "-", f"{row['tiles']}; {row['bound']}"
        lines.append([row["name"], work, f"{row['bytes'] / 1e3:.0f}", *rest, *words])
    work, *rest = cells(found, seconds)
    lines.append(["all", work, "", *rest, "", ""])
    timed = ("predicted", "measured", "of peak") if seconds and clock else ()
    headings = ("kernel", "MFLOP", "KB", "cycles", "of peak", *timed, "peak of", "tiles")
    numbers = "r" * (len(headings) - 3)
    return "\n".join(Table(headings, lines, f"l{numbers}l").lines())
