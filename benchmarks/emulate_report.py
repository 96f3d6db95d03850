"""``shiftedge bench --emulate``: instructions of a step, ours beside ONNX Runtime's."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftedge import __version__
from shiftedge.benchmarks.emulate import count_instructions, emulated_cpu, machine_of
from shiftedge.benchmarks.emulate_python import count_onnxruntime
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import ShiftedgeError

__all__ = ["SCHEMA", "document", "table"]

SCHEMA = 1
"""Of the document."""
NOTE = (
    "Instructions, not time: an emulator counts what the step executes, exactly, and knows no "
    "pipeline, cache or clock. Time it on the board with  shiftedge bench."
)


def document(
    onnx: Path | None, bundle: Path | None, target: str | None, frames: int, *, peer: bool
) -> dict[str, Any]:
    """Count, and give everything as plain JSON types.

    Args:
        onnx: the model, compiled here if there is no bundle; None leaves the peer out.
        bundle: the compiled model.
        target: a name from ``targets.TARGETS``; None is the bundle's.
        frames: steps to count.
        peer: count ONNX Runtime's aarch64 build too, where it can be had.

    Raises:
        ShiftedgeError: the compiled model cannot be emulated here.
    """
    from shiftedge.export.compiler.targets import find_target

    if bundle is not None:
        opened = Bundle.open(bundle)
        chosen = find_target(target or opened.manifest.target)
        machine = machine_of(chosen.architecture)
        counts = count_instructions(opened, chosen.name, frames)
    elif onnx is not None and target is not None:
        from shiftedge.export.compiler.compile import compile_model

        chosen = find_target(target)
        machine = machine_of(chosen.architecture)  # before the minutes that follow
        with tempfile.TemporaryDirectory(prefix="shiftedge-emulate-") as folder:
            compiled = compile_model(onnx, Path(folder) / "bundle", target=target, verify=False)
            opened = compiled.bundle
            counts = count_instructions(opened, target, frames)
    else:
        raise ShiftedgeError("There is nothing to emulate: name a model and a target.")
    rows: list[dict[str, Any]] = [_row("shiftedge", __version__, counts.frame, None)]
    if peer:
        rows.append(_peer(onnx, chosen.architecture, frames))
    return {
        "schema": SCHEMA,
        "model": opened.manifest.spec.name,
        "target": chosen.name,
        "cpu": emulated_cpu(machine.emulator, chosen.cpu),
        "emulator": machine.emulator,
        "threads": 1,
        "results": rows,
        "kernels": [{"name": name, "instructions": count} for name, count in counts.kernels],
        "note": NOTE,
    }


def _row(engine: str, version: str | None, count: int | None, reason: str | None) -> dict[str, Any]:
    return {"engine": engine, "version": version, "instructions": count, "reason": reason}


def _peer(onnx: Path | None, architecture: str, frames: int) -> dict[str, Any]:
    if onnx is None:
        return _row("onnxruntime", None, None, "It runs .onnx files: name that as MODEL.")
    if architecture != "aarch64":
        return _row("onnxruntime", None, None, f"It has no build for {architecture} on PyPI.")
    try:
        count, version = count_onnxruntime(onnx, frames)
    except ShiftedgeError as error:
        return _row("onnxruntime", None, None, str(error))
    return _row("onnxruntime", version, count, None)


def table(report: Mapping[str, Any]) -> str:
    """The report as lines of text."""
    lines = [
        f"{report['model']} for {report['target']}: {report['cpu']} in {report['emulator']}, "
        "1 thread",
        f"{'engine':<12} {'version':<10} {'instructions a frame':>20}  ratio to ours",
    ]
    ours = report["results"][0]["instructions"]
    for row in report["results"]:
        if row["instructions"] is None:
            lines.append(f"{row['engine']:<12} {row['reason']}")
            continue
        ratio = f"{row['instructions'] / ours:.2f}"
        lines.append(
            f"{row['engine']:<12} {row['version']:<10} {row['instructions']:>20,}  {ratio}"
        )
    return "\n".join((*lines, report["note"]))
