"""Steps in bfloat16, run from numpy and held against their reference.

As in ``integer_kit``, whose guard pages and cuts these are. No machine needs AVX512_BF16 for it:
the plain lowering makes the same sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")

from integer_kit import SPEC, Compiled, Layers, Made
from test_schedules_kit import Guarded

from shiftedge.export.compiler.backends.cpu.families.tiles import VDPBF16PS, VectorUnit
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.backends.cpu.llvm import run as tir_run
from shiftedge.export.compiler.backends.cpu.rules import lower
from shiftedge.export.compiler.graph.graph import Conv, Graph, Shape
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.kernel import BF16
from shiftedge.export.compiler.numerics.bf16 import bits_of, numbers_of, rounded
from shiftedge.export.compiler.targets import find_variant
from shiftedge.export.compiler.verify.bf16_reference import Bf16Reference
from shiftedge.runtime.spec import ModelSpec

UNIT = VectorUnit("avx2", lanes=8, registers=16, dot=VDPBF16PS)
"""Half of AVX-512's vectors, which compile in a quarter of the time."""
TARGET = replace(find_variant("x86-64-v3").using(unit=UNIT), precision="bf16")
STEP = 2.0**-7
"""Of a bfloat16 number, to the next one: at most this part of itself."""


class Halves(Layers):
    """A graph in the making whose maps will be bfloat16."""

    def map(self, shape: Shape, name: str = "") -> str:
        """From outside, of bfloat16 numbers."""
        name = name or f"given_{len(self.given)}"
        self._name(name, shape, None)
        self.given[name] = rounded(self.rng.standard_normal(shape))
        return name

    def state(self, shape: Shape, like: str = "") -> str:
        name = super().state(shape, like)
        self.states[-1] = rounded(self.states[-1])
        return name

    def convolved(
        self,
        x: str,
        outputs: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
    ) -> str:
        """A convolution of float32 weights, so that its result is about as large as its input."""
        shape = (outputs, self.shapes[x][2] // groups, *kernel)
        weight = self.rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5
        bias = self.rng.standard_normal(outputs).astype(np.float32)
        made = Conv("", (x,), "", weight.astype(np.float32), bias, stride, padding, groups)
        return self.add_conv(made)


class Halved(Compiled):
    """A step of a float32 graph in bfloat16."""

    def __init__(self, graph: Graph, spec: ModelSpec = SPEC) -> None:
        self.graph, self.spec, self.dot = graph, spec, VDPBF16PS
        self.step = lower(graph, spec, TARGET)
        code = tir.compile_kernels(self.step.kernels, find_variant("host").llvm(), UNIT.lanes)
        self._library = tir_run.Library(code)

    def _stored(self, name: str, value: np.ndarray, *, state: bool = False) -> np.ndarray:
        if state:
            kept = self.step.stored[int(name[6:])]
        else:
            kept = next(
                buffer.dtype
                for call in self.step.calls
                for buffer in call.kernel.buffers
                if call.arguments[buffer.name] == Argument(Memory.WORKSPACE, name)
            )
        stored = bits_of(value) if kept == BF16 else np.ascontiguousarray(value, np.float32)
        return stored.reshape(-1)

    def _read(self, memory: Mapping[Argument, Guarded]) -> Made:
        made = super()._read(memory)
        for found in (made.values, made.states):
            for name, value in found.items():
                if value.dtype == np.uint16:
                    found[name] = numbers_of(value)
        return made


def check(layers: Layers, *, spec: ModelSpec = SPEC, image: np.ndarray | None = None) -> Halved:
    """The graph's step against the reference, whole and in two splits: bit for bit where that can
    be, but for float32 vectors behind a mean."""
    graph = layers.graph()
    compiled = Halved(graph, spec)
    reference = Bf16Reference(graph, compiled.step, spec)
    reference.states = list(layers.states)
    frame = np.zeros((spec.height, spec.width, 3), np.uint8) if image is None else image
    want = reference.frame(frame, layers.given)
    first: Made | None = None
    for cuts in ((), (1,), (1, 4, 7)):
        got = compiled.run(layers.given, layers.states, image, cuts)
        made = set(got.values) - set(layers.given)
        assert made or got.states
        for name in made:
            close(got.values[name], want[name], name, exact=reference.exact)
        for number, state in got.states.items():
            close(state, reference.states[number], f"state {number}", exact=reference.exact)
        first = first or got
        for name in made:
            np.testing.assert_array_equal(got.values[name], first.values[name], err_msg=name)
    return compiled


def close(got: np.ndarray, want: np.ndarray, name: str, *, exact: bool) -> None:
    """Equal where they are bfloat16 and exact, otherwise within a step of it."""
    theirs = want.reshape(got.shape)
    if exact and np.array_equal(got, rounded(got)):
        np.testing.assert_array_equal(got, theirs, err_msg=name)
    slack = 1e-5 * max(1.0, float(np.abs(theirs).max()))
    over = np.abs(got - theirs) - ((0.0 if exact else STEP) * np.abs(theirs) + slack)
    assert over.max() <= 0, f"{name}: {over.max()}"
