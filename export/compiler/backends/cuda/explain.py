"""Why a GPU kernel is as it is, for people: family, tiles, how it is cut, what it moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftedge.export.compiler.backends.cuda.devices import Gpu
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.runtime.process.tables import Column, Table


def rows(step: Step, gpu: Gpu) -> list[dict[str, Any]]:
    """One row a launch, in order, as plain JSON types; ``bytes`` are those of its arguments."""
    return [
        {
            "name": call.name,
            "family": call.family,
            "node": call.source,
            "tiles": call.kernel.note,
            "units": call.kernel.units,
            "threads": call.kernel.threads,
            "shared_bytes": sum(each.bytes for each in call.kernel.block if each.role == "shared"),
            "flops": call.kernel.flops,
            "bytes": sum(each.bytes for each in call.kernel.buffers),
        }
        for call in step.calls
    ]


_COLUMNS = (
    Column("kernel", "name"),
    Column("MFLOP", "flops", ".2f", 1e-6),
    Column("KB", "bytes", ".0f", 1e-3),
    Column("blocks", "units"),
    Column("threads", "threads"),
    Column("shared KB", "shared_bytes", ".1f", 1e-3),
    Column("tiles", "tiles"),
)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text."""
    return "\n".join(Table.of(_COLUMNS, found, "lrrrrrl").lines())
