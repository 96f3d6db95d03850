"""A second backend needs no more than to be registered: a toy, which runs on this processor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from shiftedge.export.compiler import targets
from shiftedge.export.compiler.backends.base import Backend, Target, TargetVariant
from shiftedge.export.compiler.backends.cpu.backend import CpuBackend
from shiftedge.export.compiler.backends.cpu.devices import Cpu, CpuVariant
from shiftedge.export.compiler.compile import compile_model
from shiftedge.export.compiler.dump import dump_model
from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.loading import load
from shiftedge.runtime.spec import ModelSpec

PROGRAM = "// a program of the toy's own, as text"
_CPU = CpuBackend()


@dataclass(frozen=True)
class Toy:
    """Half of a processor, under a name of its own."""

    cpu: Cpu
    name: str = "toy-1"

    @property
    def features(self) -> tuple[str, ...]:
        return self.cpu.features

    def facts(self) -> Mapping[str, Any]:
        return {"cells": 1}


def on_cpu(variant: TargetVariant) -> CpuVariant:
    return CpuVariant(variant.target, variant.device.cpu, variant.precision)


class ToyBackend(Backend[Toy, TargetVariant]):
    """Float32 alone, with text embedded in the library beside its code."""

    executor = "cpu"

    def variants(self, target: Target, device: Toy, precision: str) -> Sequence[TargetVariant]:
        return [TargetVariant(target, device)] if precision == "fp32" else []

    def refusal(self, target: Target, precision: str) -> str:
        return f"{target.name} is a toy."

    def check(self, target: Target, device: Toy) -> None:
        if device.cpu.cpu == "none":
            raise CompileError("There is no such toy.")

    def here(self, device: Toy) -> Toy:
        return device

    def runs_here(self, variant: TargetVariant) -> bool:
        return _CPU.runs_here(on_cpu(variant))

    def stand_in(self, variant: TargetVariant, host: TargetVariant) -> TargetVariant:
        raise NotImplementedError

    def lower(self, graph: Graph, spec: ModelSpec, variant: TargetVariant) -> Step:
        return _CPU.lower(graph, spec, on_cpu(variant))

    def emit(
        self, kernels: Sequence[Kernel], variant: TargetVariant, folder: Path
    ) -> Sequence[str]:
        text = f'.section .rodata\n.globl shiftedge_toy\nshiftedge_toy: .asciz "{PROGRAM}"\n'
        (folder / "toy.s").write_text(text)
        return (*_CPU.emit(kernels, on_cpu(variant), folder), "toy.s")

    def plan(self, step: Step, places: MemoryLayout, variant: TargetVariant) -> Iterable[str]:
        yield "extern const char shiftedge_toy[];"
        yield "__attribute__((used, retain)) static const char *const program = shiftedge_toy;"
        yield from _CPU.plan(step, places, on_cpu(variant))

    def text(self, kernels: Sequence[Kernel], variant: TargetVariant) -> Mapping[str, str]:
        return {"toy.txt": PROGRAM}

    def explain(self, step: Step, variant: TargetVariant) -> list[dict[str, Any]]:
        return _CPU.explain(step, on_cpu(variant))

    def table(self, *arguments: Any) -> str:
        return "toys take their time"

    def measure(self, library: Path, variant: TargetVariant) -> tuple[list[float], float]:
        raise NotImplementedError


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    """This machine's processor and the toy, on one board."""
    monkeypatch.setattr(targets, "BACKENDS", {**targets.BACKENDS, Toy: ToyBackend()})
    host = targets.find_target("host")
    (cpu,) = host.devices
    return replace(host, name="playground", devices=(cpu, Toy(cpu)))


def test_a_bundle_of_two_backends(tiny_onnx: Path, tmp_path: Path, target: Target) -> None:
    compiled = compile_model(tiny_onnx, tmp_path / "b", target=target, use_cache=False)
    manifest = compiled.bundle.manifest
    assert [each.name for each in manifest.variants] == [target.devices[0].name, "toy-1"]
    assert manifest.numerics["verified"] is True
    assert manifest.kernels
    own, toy = (tmp_path / "b" / each.library for each in manifest.variants)
    assert PROGRAM.encode() in toy.read_bytes()
    assert PROGRAM.encode() not in own.read_bytes()
    assert load(tmp_path / "b")


def test_what_it_lacks_the_other_has(target: Target) -> None:
    assert targets.precisions_of(target)[-1] == "fp32"
    names = [each.name for each in targets.variants_of(target, "fp32")]
    assert names == [target.devices[0].name, "toy-1"]
    alone = replace(target, devices=target.devices[1:])
    assert targets.precisions_of(alone) == ("fp32",)
    with pytest.raises(CompileError, match="playground is a toy"):
        targets.variants_of(alone, "int8")
    with pytest.raises(CompileError, match="no such toy"):
        targets.check(replace(target, devices=(Toy(replace(target.devices[0], cpu="none")),)))


def test_its_stages_are_dumped(tiny_onnx: Path, tmp_path: Path, target: Target) -> None:
    dump_model([tiny_onnx], tmp_path, replace(target, devices=target.devices[1:]))
    assert (tmp_path / "toy-1" / "toy.txt").read_text() == PROGRAM
    assert (tmp_path / "toy-1" / "kernels.txt").read_text()
