"""The document of a count on the emulated GPU: what each kernel of a step does, and the time that
the cost model gives it on a board's GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.process.tables import Column, Table

SCHEMA = 1
NOTE = (
    "Counted, of warps, on an emulated GPU that runs the very code, one frame; microseconds are "
    "predicted from a model of the GPU and its board. Nothing was timed; time it on the board with "
    "shiftedge selftest BUNDLE --device cuda."
)
_SECTOR = 32
"""Bytes of global memory that are moved together."""


@working("counting under emulation")
def document(onnx: Path, target: str) -> dict[str, Any]:
    """Count each kernel of a frame, in each precision that the target's GPU has of the file, as
    plain JSON types.

    Raises:
        CompileError: the target has no GPU, or the model no code for it.
        VerificationError: the code does what it must not.
    """
    from shiftedge.export.compiler.backends.cuda.devices import Gpu
    from shiftedge.export.compiler.sources import read_sources
    from shiftedge.export.compiler.targets import backend_of, find_target

    board = find_target(target)
    gpu = next((each for each in board.devices if isinstance(each, Gpu)), None)
    if gpu is None:
        raise CompileError(
            f"{target} has no GPU: leave --device out, or name a target with one, such as "
            "jetson-nano (`shiftedge compile --list-targets` shows which there are)."
        )
    (source,) = read_sources([onnx])
    variants = [
        variant
        for precision in ("fp32", "fp16")
        for variant in backend_of(gpu).variants(board, gpu, precision)
    ]
    return {
        "schema": SCHEMA,
        "model": onnx.name,
        "target": target,
        "gpu": {"arch": gpu.arch, **gpu.facts()},
        "note": NOTE,
        "variants": [
            {
                "name": variant.name,
                "precision": variant.precision,
                "kernels": _kernels(source, variant),
            }
            for variant in variants
        ],
    }


def _kernels(source: Any, variant: Any) -> list[dict[str, Any]]:
    """A row a launch: what was predicted, and what was counted."""
    from shiftedge.export.agreement import moving_images
    from shiftedge.export.compiler.frontend.read import read_onnx
    from shiftedge.export.compiler.kernel_ir.interpret import Interpreter
    from shiftedge.export.compiler.targets import backend_of
    from shiftedge.export.compiler.verify.gpu import machine
    from shiftedge.export.compiler.verify.gpu.step import emulated

    backend, launches = backend_of(variant.device), list[machine.Launch]()
    step = backend.lower(read_onnx(source.data, source.spec), source.spec, variant)
    execute = emulated(step.kernels, variant, launches.append)
    Interpreter(step, execute=execute).step(moving_images(source.spec, 1)[0])
    rows = zip(backend.explain(step, variant), launches, strict=True)
    return [{**row, "counted": _counted(launch)} for row, launch in rows]


def _counted(launch: Any) -> dict[str, Any]:
    shared, memory = launch.shared_loads.wavefronts, launch.loads.sectors + launch.stores.sectors
    return {
        "instructions": launch.issued,
        "by_class": {name: count for name, count in launch.instructions.items() if count},
        "wavefronts": shared + launch.shared_stores.wavefronts,
        "bytes": _SECTOR * memory,
        "bytes_asked": launch.loads.bytes + launch.stores.bytes,
        "branches": launch.branches,
        "divergent": launch.divergent,
    }


_COLUMNS = (
    Column("kernel", "name"),
    Column("instructions", "counted.instructions", ","),
    Column("multiply-adds", lambda row: row["counted"]["by_class"].get("multiply-add", 0), ","),
    Column("wavefronts", "counted.wavefronts", ","),
    Column("KB", "counted.bytes", ".0f", 1e-3),
    Column("predicted us", "predicted_microseconds", ".1f"),
    Column("bound by", "bound"),
)


def table(report: Mapping[str, Any]) -> str:
    """For people: a table for each variant, with its sum."""
    lines = []
    for variant in report["variants"]:
        rows = variant["kernels"]
        whole: dict[str, Any] = {"name": "all", "bound": ""}
        whole["predicted_microseconds"] = sum(row["predicted_microseconds"] for row in rows)
        whole["counted"] = {
            key: sum(row["counted"][key] for row in rows)
            for key in ("instructions", "wavefronts", "bytes")
        }
        adds = sum(row["counted"]["by_class"].get("multiply-add", 0) for row in rows)
        whole["counted"]["by_class"] = {"multiply-add": adds}
        gpu = report["gpu"]
        title = f"{variant['name']}, {gpu['board']}: {len(rows)} launches a step, predicted"
        lines += [*Table.of(_COLUMNS, [*rows, whole], "lrrrrrl", title).lines(), ""]
    return "\n".join([*lines, report["note"]])
