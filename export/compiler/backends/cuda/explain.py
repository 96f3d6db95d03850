"""Why a GPU kernel is as it is, for people: family, tiles, how it is cut, what it should take and
what bounds it. All of it is predicted, see ``cost``; no device was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftedge.export.compiler.backends.cuda.cost import predict
from shiftedge.export.compiler.backends.cuda.devices import Gpu
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.runtime.process.tables import Column, Table


def rows(step: Step, gpu: Gpu) -> list[dict[str, Any]]:
    """One row a launch, in order, as plain JSON types; ``bytes`` are those of its arguments, and
    ``microseconds`` by what takes them, of which the largest binds."""
    result = []
    for call in step.calls:
        kernel, prediction = call.kernel, predict(call.kernel, gpu)
        counts = prediction.counts
        result.append(
            {
                **call.described(),
                "threads": kernel.threads,
                "blocks_at_once": prediction.at_once,
                "turns": prediction.turns,
                "shared_bytes": counts.shared,
                "bytes": counts.bytes,
                "instructions": {name: round(number) for name, number in
                                 sorted(counts.instructions.items()) if number},
                "bank_conflicts": round(counts.conflicts, 3),
                "sectors_used": round(counts.used, 3),
                "microseconds": {name: round(number, 2) for name, number in
                                 prediction.parts.items()} | {"launch": prediction.launch},
                "predicted_microseconds": round(prediction.microseconds, 2),
                "bound": prediction.bound,
            }
        )  # fmt: skip
    return result


_COLUMNS = (
    Column("kernel", "name"),
    Column("MFLOP", "flops", ".2f", 1e-6),
    Column("KB", "bytes", ".0f", 1e-3),
    Column("blocks", "units"),
    Column("threads", "threads"),
    Column("conflicts", "bank_conflicts", ".2f"),
    Column("sectors used", "sectors_used", ".0%"),
    Column("predicted us", "predicted_microseconds", ".1f"),
    Column("bound by", "bound"),
    Column("tiles", "tiles"),
)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text, and their sum."""
    made = Table.of(_COLUMNS, found, "lrrrrrrrl")
    flops, took = (sum(row[name] for row in found) for name in ("flops", "predicted_microseconds"))
    total = ["all", f"{flops / 1e6:.2f}", *[""] * 5, f"{took:.1f}", "", ""]
    return "\n".join(Table(made.headings, [*made.rows, total], made.align).lines())
