"""NVIDIA's GPUs as a backend: schedules over blocks of threads, PTX made by TVM's LLVM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftedge.export.compiler.backends.base import Backend, Target
from shiftedge.export.compiler.backends.cuda import explain, plan
from shiftedge.export.compiler.backends.cuda.devices import Gpu, GpuVariant
from shiftedge.export.compiler.backends.cuda.registry import lower
from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec


class CudaBackend(Backend[Gpu, GpuVariant]):
    """See :class:`Backend`. TVM is imported where code is made, not before.

    No GPU of this machine is asked for anything: what runs a variant's code here is the emulated
    one (``verify.gpu``), so that a proof is the same on every machine. How a real one does is for
    the bundle's self-test there to say.
    """

    executor = "cuda"
    emulated = True

    def variants(self, target: Target, device: Gpu, precision: str) -> tuple[GpuVariant, ...]:
        return (GpuVariant(target, device, precision),) if precision in ("fp32", "fp16") else ()

    def refusal(self, target: Target, precision: str) -> str:
        return (
            f"For the GPU of {target.name} there is no {precision} code yet: compile the float32 "
            "model for it."
        )

    def check(self, target: Target, device: Gpu) -> None:
        require("tvm")

    def here(self, device: Gpu) -> Gpu:
        return device

    def runs_here(self, variant: GpuVariant) -> bool:
        return False

    def stand_in(self, variant: GpuVariant, host: GpuVariant) -> GpuVariant:
        raise NotImplementedError("the emulated GPU stands in, for every one")

    def lower(self, graph: Graph, spec: ModelSpec, variant: GpuVariant) -> Step:
        return lower(graph, spec, variant)

    def emit(self, kernels: Sequence[Kernel], variant: GpuVariant, folder: Path) -> tuple[str, ...]:
        """Nothing to link: the plan takes the text in."""
        (folder / plan.TEXT_FILE).write_text(_code(kernels, variant))
        return ()

    def plan(self, step: Step, places: MemoryLayout, variant: GpuVariant) -> Iterable[str]:
        return plan.lines(step, places, variant.device)

    def text(self, kernels: Sequence[Kernel], variant: GpuVariant) -> Mapping[str, str]:
        return {plan.TEXT_FILE: _code(kernels, variant)}

    def explain(self, step: Step, variant: GpuVariant) -> list[dict[str, Any]]:
        return explain.rows(step, variant.device)

    def table(
        self,
        rows: Sequence[dict[str, Any]],
        variant: GpuVariant,
        seconds: Sequence[float] | None,
        peak_flops: float | None,
    ) -> str:
        return explain.table(rows)

    def measure(self, library: Path, variant: GpuVariant) -> tuple[list[float], float]:
        raise NotImplementedError("no variant runs here")


def _code(kernels: Sequence[Kernel], variant: GpuVariant) -> str:
    require("tvm")
    from shiftedge.export.compiler.backends.cuda.ptx import generate

    return generate(kernels, variant.device)
