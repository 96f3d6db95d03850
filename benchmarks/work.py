"""What a step multiplies, in each precision, and by which instructions on this machine.

Where a compiled bundle is at hand, its manifest says for each kernel how many of its operations are
packed products, several narrow numbers to a lane, and how many are of float32. Without one, or with
a bundle of another version, the graph of the .onnx file says it: quantised convolutions make packed
products, but for depthwise ones, which mostly take their values as whole numbers of float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import BundleError, ShiftedgeError
from shiftedge.runtime.process.cpu import cpu_features
from shiftedge.runtime.spec import ModelSpec

Work = Mapping[str, int]
"""Operations by the instruction that makes them, 2 a multiply-add: "float32", or a name of
``peak_packed.c``."""


@dataclass
class StepWork:
    works: dict[str, Work] = field(default_factory=dict)
    """By precision; whole steps."""
    instructions: dict[str, dict[str, str]] = field(default_factory=dict)
    """By precision, then by part of a kernel, see ``export.compiler.instructions``."""
    kernels: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """The manifest's rows, by precision."""
    reason: str | None = None
    """Why the model's own work is not known."""

    def flops(self, precision: str) -> int | None:
        """Operations of one step, 2 a multiply-add."""
        work = self.works.get(precision)
        return sum(work.values()) if work else None

    @property
    def measured(self) -> tuple[str, ...]:
        """Instructions whose peaks are worth measuring, beside float32."""
        named = {name for parts in self.instructions.values() for name in parts.values()}
        return tuple(sorted(named - {"float32"}))


def step_work(onnx: Path | None, spec: ModelSpec | None, bundle: Path | None) -> StepWork:
    """What is known of a model; what is not has a reason in it, and raises nothing."""
    found = StepWork()
    if bundle is not None and bundle.is_dir():
        try:
            _of_bundle(bundle, found)
        except ShiftedgeError as error:
            found.reason = f"The bundle's kernels are not known: {error}"
    if onnx is not None and spec is not None and spec.precision not in found.works:
        try:
            _of_graph(onnx, spec, found)
        except Exception as error:  # noqa: BLE001 - a count for the record costs no measurement
            found.reason = f"The operations were not counted: {error}"
    if not found.works and found.reason is None:
        found.reason = "operations are counted from the .onnx file"
    return found


def seconds_at(peaks_gops: Mapping[str, float], work: Work | None) -> float | None:
    """At the peaks, one part after another; 0 where nothing is multiplied, None where that, or a
    peak, is not known."""
    if work is None or not all(peaks_gops.get(name) for name in work):
        return None
    return sum(count / peaks_gops[name] / 1e9 for name, count in work.items())


def by_instruction(parts: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """A kernel's operations by instruction, packed products first."""
    work: dict[str, int] = {}
    for part in sorted(parts, key=lambda part: part != "packed"):
        name = names.get(part, part)
        work[name] = work.get(name, 0) + parts[part]
    return work


def _of_bundle(bundle: Path, found: StepWork) -> None:
    from shiftedge.export.compiler.backends.cpu.instructions import instructions

    opened = Bundle.open(bundle)
    for precision, build in opened.manifest.builds.items():
        try:
            variant = opened.variant(precision=precision)
        except BundleError:
            continue  # this machine runs another of its precisions
        names = instructions(precision, variant.features)
        found.kernels[precision], found.instructions[precision] = build.kernels, names
        work: dict[str, int] = {}
        for row in build.kernels:
            for name, count in by_instruction(row.get("operations") or {}, names).items():
                work[name] = work.get(name, 0) + count
        if work:
            found.works[precision] = work


def _of_graph(onnx: Path, spec: ModelSpec, found: StepWork) -> None:
    from shiftedge.export.compiler.backends.cpu.instructions import FLOAT32, PACKED, instructions
    from shiftedge.export.compiler.frontend.read import read_onnx

    graph = read_onnx(onnx.read_bytes(), spec)
    names = instructions(spec.precision, cpu_features())
    packed = graph.flops(packed=True)
    parts = {PACKED: packed, FLOAT32: graph.flops() - packed}
    found.instructions.setdefault(spec.precision, names)
    if packed and PACKED not in names:
        found.reason = f"This CPU has no instruction for {spec.precision} that we use."
    else:
        known = {part: count for part, count in parts.items() if count}
        found.works[spec.precision] = by_instruction(known, names)
