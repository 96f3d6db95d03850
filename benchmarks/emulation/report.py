"""The document of a count: instructions of a step, and its cycles, predicted; ours beside ONNX
Runtime's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.emulation.cycles import Cycles, Prediction, predict
from shiftedge.benchmarks.emulation.mca import Core, find_mca
from shiftedge.benchmarks.emulation.python import count_onnxruntime
from shiftedge.benchmarks.emulation.qemu import (
    Counts,
    Executions,
    count_instructions,
    emulated_cpu,
    instructions,
    machine_of,
)
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.process.tables import Column, Table

SCHEMA = 1
NOTE = (
    "Instructions, not time: they are counted under an emulator, exactly. Cycles are predicted "
    "from LLVM's model of a core, which knows no caches and no wrongly predicted branches. Nothing "
    "was timed; time it on the board with  shiftedge bench."
)


def _predicted(core: Core, sections: Sequence[Executions]) -> Prediction | str:
    """Or why there is none."""
    try:
        return predict(find_mca(), core, sections)
    except ShiftedgeError as error:
        return str(error)


@working("counting under emulation")
def document(
    onnx: Path | None, bundle: Path | None, target: str | None, frames: int, *, peer: bool
) -> dict[str, Any]:
    """Count and predict, and give everything as plain JSON types.

    Args:
        onnx: compiled here if there is no bundle; None leaves the peer out.
        target: a name from ``targets.TARGETS``; None is the bundle's.
        peer: count ONNX Runtime's aarch64 build too, where it can be had.

    Raises:
        ShiftedgeError: the compiled model cannot be emulated here.
    """
    from shiftedge.export.compiler.targets import find_variant

    with work_folder() as folder:
        if bundle is not None:
            opened = Bundle.open(bundle)
            chosen = find_variant(target or opened.manifest.target)
            machine = machine_of(chosen.architecture)
        elif onnx is not None and target is not None:
            chosen = find_variant(target)
            machine = machine_of(chosen.architecture)  # before the minutes that follow
            from shiftedge.export.compiler.compile import compile_model

            opened = compile_model(onnx, folder / "bundle", target=target, verify=False).bundle
        else:
            raise ShiftedgeError("There is nothing to emulate: name a model and a target.")
        counts = count_instructions(opened, chosen.target.name, frames)
    core = Core(chosen.architecture, chosen.device.name)
    found = _predicted(core, [counts.executions, *(each for _, each in counts.kernels)])
    prediction, reason = (None, found) if isinstance(found, str) else (found, None)
    rows = [_row("shiftedge", counts, prediction.sections[0] if prediction else None)]
    if peer:
        rows.append(_peer(onnx, core, frames, predicting=prediction is not None))
    return {
        "schema": SCHEMA,
        "model": opened.manifest.spec.name,
        "target": chosen.target.name,
        "cpu": emulated_cpu(machine.emulator, chosen.device.name),
        "emulator": machine.emulator,
        "threads": 1,
        "predicted_with": {
            "tool": "llvm-mca",
            "version": prediction.version if prediction else None,
            "model": prediction.model if prediction else None,
            "coverage": round(prediction.coverage, 4) if prediction else None,
            "reason": reason,
        },
        "results": rows,
        "kernels": _kernels(counts, prediction),
        "note": NOTE,
    }


def _row(
    engine: str, counts: Counts | None, found: Cycles | None = None, reason: str | None = None
) -> dict[str, Any]:
    figures = _figures({}, 1, None) | {"instructions": None}
    if counts is not None:
        figures = _figures(counts.executions, counts.frames, found)
    version = None if counts is None else counts.version
    return {"engine": engine, "version": version, **figures, "reason": reason}


def _figures(executed: Executions, frames: int, found: Cycles | None) -> dict[str, Any]:
    """Of a frame; None where nothing was predicted."""
    each = found.cycles / found.instructions if found and found.instructions else None
    return {
        "instructions": instructions(executed) // frames,
        "cycles": round(found.cycles / frames) if found else None,
        "cycles_per_instruction": None if each is None else round(each, 4),
    }


def _kernels(counts: Counts, prediction: Prediction | None) -> list[dict[str, Any]]:
    rows = []
    for number, (name, executions) in enumerate(counts.kernels):
        found = prediction.sections[1 + number] if prediction else None
        unit, share = found.busiest if found else (None, 0.0)
        busiest = {"unit": unit, "share": round(share, 3)} if unit else None
        rows.append({"name": name, **_figures(executions, 1, found), "busiest": busiest})
    return rows


def _peer(onnx: Path | None, core: Core, frames: int, *, predicting: bool) -> dict[str, Any]:
    if onnx is None or core.architecture != "aarch64":
        reason = f"It has no build for {core.architecture} on PyPI."
        if onnx is None:
            reason = "It runs .onnx files: name that as MODEL."
        return _row("onnxruntime", None, reason=reason)
    try:
        counts = count_onnxruntime(onnx, frames)
    except ShiftedgeError as error:
        return _row("onnxruntime", None, reason=str(error))
    found = _predicted(core, [counts.executions]) if predicting else None
    if isinstance(found, Prediction):
        return _row("onnxruntime", counts, found.sections[0])
    return _row("onnxruntime", counts, reason=found)


KERNELS = (
    Column("kernel", "name"), Column("instructions", "instructions", ","),
    Column("cycles predicted", "cycles", ","), Column("each", "cycles_per_instruction", ".3f"),
    Column("busiest unit", "busiest.unit"), Column("", "busiest.share", ".0%"),
)  # fmt: skip


def table(report: Mapping[str, Any]) -> str:
    ours = report["results"][0]

    def against_ours(key: str) -> Callable[[Mapping[str, Any]], float | None]:
        return lambda row: row[key] / ours[key] if row[key] and ours[key] else None

    columns = (
        Column("engine", "engine"), Column("version", "version"),
        Column("instructions a frame", "instructions", ","),
        Column("ratio", against_ours("instructions"), ".2f"),
        Column("cycles predicted", "cycles", ","), Column("ratio", against_ours("cycles"), ".2f"),
    )  # fmt: skip
    rows = [row for row in report["results"] if row["version"]]
    without = [row for row in report["results"] if not row["version"]]
    where = f"{report['model']} for {report['target']}: {report['cpu']} in {report['emulator']}"
    lines = [f"{where}, 1 thread", _predicted_with(report)]
    lines += Table.of(columns, rows, "llr").lines()
    lines += [*(f"{row['engine']}: {row['reason']}" for row in without), ""]
    lines += [*Table.of(KERNELS, report["kernels"], "lrrrlr").lines(), "", report["note"]]
    return "\n".join(lines)


def _predicted_with(report: Mapping[str, Any]) -> str:
    used = report["predicted_with"]
    if used["model"] is None:
        return f"no cycles: {used['reason']}"
    said = f"cycles predicted with {used['tool']} {used['version']}'s model of {used['model']}"
    if used["model"] != report["cpu"]:
        said += ", not this core: for ratios rather than for cycles"
    return f"{said}; it covers {used['coverage']:.1%} of the instructions"
