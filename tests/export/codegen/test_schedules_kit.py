"""What the tests of the schedules share: kernels run in pieces, by the interpreter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("tvm")

from kit.libraries import X86_64_V3, Guarded, every_unit, host_unit

from shiftedge.export.compiler.backends.cpu.families.tiles import AVX2, VectorUnit
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.backends.cpu.llvm import run as tir_run
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.kernel_ir import interpret
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.targets import find_variant

__all__ = ["X86_64_V3", "activate", "check", "compiled", "every_unit", "generated", "host_unit"]


class Interpreted:
    """Kernels as the interpreter runs them, which code is held against in ``test_conformance``."""

    @staticmethod
    def prepare(kernel, arrays, scratch):
        def call(begin, end):
            calls = None if (begin, end) == (0, kernel.units) else [(begin, end)]
            interpret.run(kernel, arrays, calls=calls)

        return call


def compiled(kernel: Kernel, unit: VectorUnit) -> Interpreted:
    return Interpreted()


def generated(kernel: Kernel, unit: VectorUnit) -> tir_run.Library:
    """As machine code."""
    target = X86_64_V3 if unit is AVX2 else find_variant("host").llvm()
    return tir_run.Library(tir.compile_kernels([kernel], target, unit.lanes))


def run(kernel, arrays, library, cuts=()):
    """Outputs by name, all units in one call or cut into several, last piece first."""
    buffers = {}
    for buffer in kernel.buffers:
        if buffer.role == "output":
            array = np.full(buffer.size, np.nan, buffer.dtype)
        else:
            array = np.ascontiguousarray(arrays[buffer.name]).reshape(-1)
        buffers[buffer.name] = Guarded(array)
    views = {name: each.array for name, each in buffers.items()}
    edges = sorted({0, kernel.units, *(cut % (kernel.units + 1) for cut in cuts)})
    for begin, end in reversed(list(itertools.pairwise(edges))):
        scratch = Guarded(np.full(kernel.scratch_size, np.nan, np.float32))
        library.prepare(kernel, views, scratch.array)(begin, end)
        assert scratch.intact(), "wrote before scratch"
    for name, each in buffers.items():
        assert each.intact(), f"wrote before {name}"
    for buffer in kernel.buffers:
        if buffer.role not in ("output", "scratch"):
            np.testing.assert_array_equal(
                views[buffer.name], np.asarray(arrays[buffer.name]).reshape(-1)
            )
    return {b.name: views[b.name].copy() for b in kernel.buffers if b.role == "output"}


def check(kernel, arrays, unit, expected, cuts=(), tolerance=2e-5, made=compiled):
    """The kernel against float64 results, and bit for bit in any split into calls."""
    library = made(kernel, unit)
    whole = run(kernel, arrays, library)
    for name, want in expected.items():
        want = np.asarray(want, np.float64).reshape(-1)
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(whole[name], want, rtol=0, atol=tolerance * scale)
    for name, pieces in run(kernel, arrays, library, cuts).items():
        np.testing.assert_array_equal(whole[name], pieces, err_msg="depends on the split")


def activate(kind: Activation, x: np.ndarray) -> np.ndarray:
    """float64 reference of the activations; test_activations holds it against ONNX Runtime."""
    return kind.value.definition(np.asarray(x, np.float64))


def shifted(shift: int, channels: int) -> int:
    """``shift`` of at most all ``channels``; -1 for all but one."""
    return channels - 1 if shift < 0 else min(shift, channels)


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)
