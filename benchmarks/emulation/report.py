"""The document of a count: instructions of a step, and its cycles, predicted; ours beside ONNX
Runtime's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.emulation.blocks import Executions
from shiftedge.benchmarks.emulation.cycles import Cycles, Prediction, predict
from shiftedge.benchmarks.emulation.mca import Core, Mca, find_mca
from shiftedge.benchmarks.emulation.python import count_onnxruntime
from shiftedge.benchmarks.emulation.qemu import (
    Counts,
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
"""Of the document."""
NOTE = (
    "Instructions, not time: they are counted under an emulator, exactly. Cycles are predicted "
    "from LLVM's model of a core, which knows no caches and no wrongly predicted branches. Nothing "
    "was timed; time it on the board with  shiftedge bench."
)


class _Predictor:
    """Predicts as long as it can; says why where it cannot."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.mca: Mca | None = None
        self.reason: str | None = None
        try:
            self.mca = find_mca()
        except ShiftedgeError as error:
            self.reason = str(error)

    def __call__(self, sections: Sequence[Executions]) -> Prediction | None:
        if self.mca is None:
            return None
        try:
            return predict(self.mca, self.core, sections)
        except ShiftedgeError as error:
            self.reason = str(error)
            return None


@working("counting under emulation")
def document(
    onnx: Path | None, bundle: Path | None, target: str | None, frames: int, *, peer: bool
) -> dict[str, Any]:
    """Count and predict, and give everything as plain JSON types.

    Args:
        onnx: the model, compiled here if there is no bundle; None leaves the peer out.
        bundle: the compiled model.
        target: a name from ``targets.TARGETS``; None is the bundle's.
        frames: steps to count.
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
        predictor = _Predictor(Core(chosen.architecture, chosen.device.name))
        counts = count_instructions(opened, chosen.target.name, frames)
    prediction = predictor([counts.executions, *(each for _, each in counts.kernels)])
    whole = prediction.sections[0] if prediction else None
    rows = [_row("shiftedge", counts, whole)]
    if peer:
        rows.append(_peer(onnx, chosen.architecture, frames, predictor if prediction else None))
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
            "reason": None if prediction else predictor.reason,
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


def _peer(
    onnx: Path | None, architecture: str, frames: int, predictor: _Predictor | None
) -> dict[str, Any]:
    if onnx is None or architecture != "aarch64":
        reason = f"It has no build for {architecture} on PyPI."
        if onnx is None:
            reason = "It runs .onnx files: name that as MODEL."
        return _row("onnxruntime", None, reason=reason)
    try:
        counts = count_onnxruntime(onnx, frames)
    except ShiftedgeError as error:
        return _row("onnxruntime", None, reason=str(error))
    found = predictor([counts.executions]) if predictor else None
    whole = found.sections[0] if found else None
    return _row("onnxruntime", counts, whole, predictor.reason if predictor else None)


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
