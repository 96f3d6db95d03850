"""The document of a count: instructions of a step, and its cycles, predicted; ours beside ONNX
Runtime's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    machine_of,
)
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.process.tables import Table

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
    prediction = predictor([counts.executions, *counts.kernel_executions])
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


def _kernels(counts: Counts, prediction: Prediction | None) -> list[dict[str, Any]]:
    rows = []
    for number, (name, instructions) in enumerate(counts.kernels):
        found = prediction.sections[1 + number] if prediction else None
        unit, share = found.busiest if found else (None, 0.0)
        rows.append(
            {
                "name": name,
                "instructions": instructions,
                "cycles": round(found.cycles) if found else None,
                "cycles_per_instruction": _per_instruction(found),
                "busiest": {"unit": unit, "share": round(share, 3)} if unit else None,
            }
        )
    return rows


def _per_instruction(found: Cycles | None) -> float | None:
    return round(found.cycles / found.instructions, 4) if found and found.instructions else None


def _row(
    engine: str, counts: Counts | None, predicted: Cycles | None = None, reason: str | None = None
) -> dict[str, Any]:
    cycles = round(predicted.cycles / counts.frames) if predicted and counts else None
    return {
        "engine": engine,
        "version": counts.version if counts else None,
        "instructions": counts.frame if counts else None,
        "cycles": cycles,
        "cycles_per_instruction": _per_instruction(predicted),
        "reason": reason,
    }


def _peer(
    onnx: Path | None, architecture: str, frames: int, predictor: _Predictor | None
) -> dict[str, Any]:
    if onnx is None:
        return _row("onnxruntime", None, reason="It runs .onnx files: name that as MODEL.")
    if architecture != "aarch64":
        return _row("onnxruntime", None, reason=f"It has no build for {architecture} on PyPI.")
    try:
        counts = count_onnxruntime(onnx, frames)
    except ShiftedgeError as error:
        return _row("onnxruntime", None, reason=str(error))
    found = predictor([counts.executions]) if predictor else None
    whole = found.sections[0] if found else None
    return _row("onnxruntime", counts, whole, predictor.reason if predictor else None)


def table(report: Mapping[str, Any]) -> str:
    """The report as lines of text."""
    ours, rows, refused = report["results"][0], [], []
    for row in report["results"]:
        if row["instructions"] is None:
            refused.append(f"{row['engine']}: {row['reason']}")
            continue
        cells = [row["engine"], row["version"]]
        for key in ("instructions", "cycles"):
            known = row[key] is not None and ours[key]
            cells += [_number(row[key]), f"{row[key] / ours[key]:.2f}" if known else "-"]
        rows.append(cells)
    headings = (
        "engine", "version", "instructions a frame", "ratio", "cycles predicted", "ratio",
    )  # fmt: skip
    kernels = []
    for row in report["kernels"]:
        each, unit = "", ""
        if row["busiest"]:
            each = f"{row['cycles_per_instruction']:.3f}"
            unit = f"{row['busiest']['unit']} {row['busiest']['share']:.0%}"
        kernels.append(
            (row["name"], _number(row["instructions"]), _number(row["cycles"]), each, unit)
        )
    of_kernels = ("kernel", "instructions", "cycles predicted", "each", "busiest unit")
    where = f"{report['model']} for {report['target']}: {report['cpu']} in {report['emulator']}"
    lines = [f"{where}, 1 thread", _predicted_with(report)]
    lines += [*Table(headings, rows, "llr").lines(), *refused, ""]
    lines += [*Table(of_kernels, kernels, "lrrrl").lines(), "", report["note"]]
    return "\n".join(lines)


def _predicted_with(report: Mapping[str, Any]) -> str:
    used = report["predicted_with"]
    if used["model"] is None:
        return f"no cycles: {used['reason']}"
    said = f"cycles predicted with {used['tool']} {used['version']}'s model of {used['model']}"
    if used["model"] != report["cpu"]:
        said += ", not this core: for ratios rather than for cycles"
    return f"{said}; it covers {used['coverage']:.1%} of the instructions"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
