"""Processors as a backend: schedules chosen by a cost model, lowered by LLVM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shiftedge.export.compiler.backends.base import Backend, Target
from shiftedge.export.compiler.backends.cpu import devices, explain, plan
from shiftedge.export.compiler.backends.cpu.devices import Cpu, CpuVariant, nearest
from shiftedge.export.compiler.backends.cpu.registry import lower
from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

_KERNELS = "kernels.o"


class CpuBackend(Backend[Cpu, CpuVariant]):
    """See :class:`Backend`. TVM is imported where code is made, not before."""

    executor = "cpu"

    def variants(self, target: Target, device: Cpu, precision: str) -> tuple[CpuVariant, ...]:
        found = devices.in_precision(device, precision)
        return tuple(CpuVariant(target, each, precision) for each in found)

    def refusal(self, target: Target, precision: str) -> str:
        first = next(device for device in target.devices if isinstance(device, Cpu))
        called = f"{target.name} ({first.name})"
        if precision == "bf16":
            machine = "This machine" if target.name == "host" else called
            return (
                f"{machine} has no instruction that multiplies bf16 (AVX512_BF16 is what is used: "
                "Intel Xeon since 2023, AMD since Zen 4), and without one float32 is quicker: "
                "compile in fp32, or name a target that has it, such as x86-64-v4."
            )
        if precision == "fp16":
            return (
                f"fp16 code is for GPUs, and {called} has none: compile in fp32, or name a target "
                "with a GPU, such as jetson-nano (--list-targets shows which there are)."
            )
        return (
            f"The model is quantised, and for {called} there is no {precision} code that is "
            "quicker than float32: compile the float32 model for it."
        )

    def check(self, target: Target, device: Cpu) -> None:
        require("tvm")
        from shiftedge.export.compiler.backends.cpu.llvm.lower import processors

        cpu, known = device.cpu, processors(target.triple)
        if cpu not in known:
            raise CompileError(
                f"The target {target.name} has the cpu {cpu!r}, which is none that LLVM knows for "
                f"{target.architecture}; {nearest(cpu, known)}."
            )

    def here(self, device: Cpu) -> Cpu:
        return devices.with_own_caches(device)

    def runs_here(self, variant: CpuVariant) -> bool:
        return devices.runs_here(variant.architecture, variant.features)

    def stand_in(self, variant: CpuVariant, host: CpuVariant) -> CpuVariant:
        """This machine's instructions with the variant's vectors, caches and cores.

        Rules see only the latter, so they make the same kernels, weights and memory plan: what is
        left unverified is the code generator's back end for the variant.
        """
        board = replace(host.target, name=variant.target.name, cores=variant.target.cores)
        here = replace(host, target=board, precision=variant.precision)
        return here.using(unit=variant.unit, core=variant.core)

    def lower(self, graph: Graph, spec: ModelSpec, variant: CpuVariant) -> Step:
        return lower(graph, spec, variant)

    def emit(self, kernels: Sequence[Kernel], variant: CpuVariant, folder: Path) -> tuple[str, ...]:
        _code(kernels, variant).write(folder / _KERNELS)
        return (_KERNELS,)

    def plan(self, step: Step, places: MemoryLayout, variant: CpuVariant) -> Iterable[str]:
        return plan.lines(step, places, variant.features)

    def text(self, kernels: Sequence[Kernel], variant: CpuVariant) -> Mapping[str, str]:
        code = _code(kernels, variant)
        return {"kernels.ll": code.text("ll"), "kernels.s": code.text("asm")}

    def explain(self, step: Step, variant: CpuVariant) -> list[dict[str, Any]]:
        return explain.rows(step, variant)

    def table(
        self,
        rows: Sequence[dict[str, Any]],
        variant: CpuVariant,
        seconds: Sequence[float] | None,
        peak_flops: float | None,
    ) -> str:
        return explain.table(rows, variant, seconds, peak_flops)

    def measure(self, library: Path, variant: CpuVariant) -> tuple[list[float], float]:
        from shiftedge.export.compiler.backends.cpu.measure import kernel_seconds, peak_flops

        return kernel_seconds(library), peak_flops(variant)


def _code(kernels: Sequence[Kernel], variant: CpuVariant) -> Any:
    require("tvm")
    from shiftedge.export.compiler.backends.cpu.llvm.lower import compile_kernels

    return compile_kernels(kernels, variant.llvm(), variant.unit.lanes, variant.dots)
