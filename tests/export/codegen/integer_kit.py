"""Steps that count in integers, run from numpy and held against the integer reference.

A step is made by the rules for a vector unit, compiled, and its calls run one after the other
between guard pages, each cut into pieces of which the last runs first, as threads would. Units
whose instructions this machine lacks go by the plain lowering, which makes the same sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")

from test_schedules_kit import X86_64_V3, Guarded, host_unit

from shiftedge.export.agreement import normalised
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    AVX2,
    NEON_DOT,
    NEON_PAIRS,
    VPDPBUSD,
    VectorUnit,
)
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.backends.cpu.llvm import run as tir_run
from shiftedge.export.compiler.backends.cpu.rules import lower
from shiftedge.export.compiler.graph.fusion import fuse
from shiftedge.export.compiler.graph.graph import (
    Activate,
    Activation,
    Add,
    Conv,
    Graph,
    Join,
    Operator,
    Quantization,
    Shape,
)
from shiftedge.export.compiler.kernel_ir.calls import Argument, Call, Memory, Step
from shiftedge.export.compiler.kernel_ir.kernel import Buffer
from shiftedge.export.compiler.targets import find_variant
from shiftedge.export.compiler.verify.integer import fresh_states, run_kernel
from shiftedge.runtime.spec import ModelSpec

UNITS: Mapping[str, VectorUnit] = {
    "pmaddwd": AVX2,
    "vpdpbusd": VectorUnit("avx2", lanes=8, registers=16, dot=VPDPBUSD),
    "sdot": NEON_DOT,
    "smlal": NEON_PAIRS,
}
"""Every way to store codes; of AVX-512's vectors only half, which compile in a quarter of the time
where the instruction is made of others."""
PRODUCTS = tuple(UNITS)
"""Those in which products of matrices are tested."""
STORED = tuple(kind for kind in UNITS if kind != "smlal")
"""Those that store codes differently, for kernels without products of matrices."""
SPEC = ModelSpec("t", ("a", "b", "c", "d"), 6, 5, 5, (), 2)
"""Of graphs that read no frame."""
_TARGET = find_variant("x86-64-v3")


@dataclass(frozen=True)
class Made:
    """What a step left: codes as codes, whatever they are stored as."""

    values: dict[str, np.ndarray]
    """Of the graph, by name; those that lie in memory."""
    states: dict[int, np.ndarray]
    logits: np.ndarray


class Compiled:
    """A step of a graph for a unit."""

    def __init__(self, graph: Graph, unit: VectorUnit, spec: ModelSpec = SPEC) -> None:
        assert unit.dot is not None
        self.graph, self.spec, self.dot = graph, spec, unit.dot
        self.step: Step = lower(graph, spec, _TARGET.using(unit=unit))
        own = unit is AVX2 and host_unit().lanes >= AVX2.lanes
        target = X86_64_V3 if own else find_variant("host").llvm()
        dots = ("pmaddwd",) if own else ()
        code = tir.compile_kernels(self.step.kernels, target, unit.lanes, dots)
        self._library = tir_run.Library(code)

    @property
    def families(self) -> list[str]:
        return [call.family for call in self.step.calls]

    def run(
        self,
        given: Mapping[str, np.ndarray],
        states: Sequence[np.ndarray] = (),
        image: np.ndarray | None = None,
        cuts: Sequence[int] = (),
    ) -> Made:
        """One frame; ``given`` are values from outside, ``states`` and they as the graph has them.

        ``image`` is uint8 (height, width, 3), BGR.
        """
        memory: dict[Argument, Guarded] = {}
        for name, value in given.items():
            memory[Argument(Memory.WORKSPACE, name)] = self._guarded(self._stored(name, value))
        for number, state in enumerate(states):
            stored = self._stored(f"state_{number}", state, state=True)
            memory[Argument(Memory.STATE, str(number))] = self._guarded(stored)
        if image is not None:
            memory[Argument(Memory.FRAME)] = self._guarded(image)
        for name, constant in self.step.constants.items():
            memory[Argument(Memory.WEIGHTS, name)] = self._guarded(constant)
        for call in self.step.calls:
            self._call(call, memory, cuts)
        for argument, block in memory.items():
            assert block.intact(), f"wrote before {argument}"
        return self._read(memory)

    def _call(self, call: Call, memory: dict[Argument, Guarded], cuts: Sequence[int]) -> None:
        kernel = call.kernel
        views = {}
        for buffer in kernel.buffers:
            argument = call.arguments[buffer.name]
            if argument not in memory:
                assert buffer.role == "output", f"{call.name} reads {argument} before it is made"
                memory[argument] = self._guarded(_garbage(buffer))
            views[buffer.name] = memory[argument].array[: buffer.size]
        edges = sorted({0, kernel.units, *(cut % (kernel.units + 1) for cut in cuts)})
        for begin, end in reversed(list(itertools.pairwise(edges))):
            scratch = Guarded(np.full(kernel.scratch_size, np.nan, np.float32))
            self._library.call(kernel, views, begin, end, scratch.array)
            assert scratch.intact(), f"{call.name} wrote before its scratch"

    @staticmethod
    def _guarded(array: np.ndarray) -> Guarded:
        """As much as the memory plan gives, so that a word may begin among the last codes."""
        buffer = Buffer("", array.size, dtype=str(array.dtype))
        frame = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
        more = 0 if frame else buffer.bytes // array.itemsize - array.size
        return Guarded(np.pad(array.reshape(-1), (0, more)))

    def _stored(self, name: str, value: np.ndarray, *, state: bool = False) -> np.ndarray:
        codes = self.graph.quantization.get(name)
        if codes is None:
            return np.ascontiguousarray(value, np.float32).reshape(-1)
        less = codes.zero_point if state else self.dot.storage_offset
        return (value.astype(np.int64) - less).astype(self.dot.dtype).reshape(-1)

    def _codes(self, stored: np.ndarray, more: int) -> np.ndarray:
        """uint8 codes, which all that are stored must be."""
        codes = stored.astype(np.int64) + more
        if self.dot.dtype != "int16":
            codes %= 256
        assert codes.min() >= 0
        assert codes.max() <= 255
        return codes.astype(np.uint8)

    def _read(self, memory: Mapping[Argument, Guarded]) -> Made:
        values, states = {}, {}
        logits = np.zeros(0, np.float32)
        for argument, block in memory.items():
            if argument.memory is Memory.LOGITS:
                logits = block.array.copy()
            elif argument.memory is Memory.NEXT_STATE:
                number = int(argument.name)
                shape = self.graph.states[number]
                found = block.array[: int(np.prod(shape))].reshape(shape)
                codes = self.graph.quantization.get(f"state_{number}")
                states[number] = found if codes is None else self._codes(found, codes.zero_point)
            elif argument.memory is Memory.WORKSPACE and argument.name in self.graph.shapes:
                shape = self.graph.shapes[argument.name]
                found = block.array[: int(np.prod(shape))].reshape(shape)
                coded = argument.name in self.graph.quantization
                values[argument.name] = (
                    self._codes(found, self.dot.storage_offset) if coded else found
                )
        return Made(values, states, logits)


def expected(
    graph: Graph,
    given: Mapping[str, np.ndarray],
    states: Sequence[np.ndarray] = (),
    image: np.ndarray | None = None,
    spec: ModelSpec = SPEC,
) -> Made:
    """What the integer reference makes of the same."""
    kernels, kept = fuse(graph)
    values: dict[str, Any] = dict(given)
    values |= {f"state_{number}": state for number, state in enumerate(states)}
    if image is None:
        image = np.zeros((spec.height, spec.width, 3), np.uint8)
    values[graph.frame] = normalised(image[None], spec)[0].transpose(1, 2, 0)
    for kernel in kernels:
        run_kernel(graph, spec, kernel, image, values)
    kept_states = {
        each.state: values[each.inputs[0]][..., each.begin : each.end] for each in kept
    }  # fmt: skip
    logits = np.asarray(values.get(graph.logits, np.zeros(0, np.float32)))
    return Made(values, kept_states, logits.reshape(-1))


_EXTREMES = 0.9
"""Of the weights: two of four products, wherever they are, have one."""


def _garbage(buffer: Buffer) -> np.ndarray:
    dtype = np.dtype(buffer.dtype)
    value = np.nan if dtype.kind == "f" else np.iinfo(dtype).max - 3
    return np.full(buffer.size, value, dtype)


class Layers:
    """A graph in the making, of random codes and weights; values from outside are ``given``."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.operators: list[Operator] = []
        self.shapes: dict[str, Shape] = {}
        self.quantization: dict[str, Quantization] = {}
        self.given: dict[str, np.ndarray] = {}
        self.states: list[np.ndarray] = []

    def codes(self, shape: Shape, zero: int, scale: float = 0.05, name: str = "") -> str:
        """A map of codes from outside."""
        name = name or f"given_{len(self.given)}"
        self._name(name, shape, Quantization(float(np.float32(scale)), zero))
        self.given[name] = self._random_codes(shape)
        return name

    def numbers(self, shape: Shape, scale: float = 5.0) -> str:
        """A map of float32 from outside."""
        name = f"given_{len(self.given)}"
        self._name(name, shape, None)
        self.given[name] = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        return name

    def state(self, shape: Shape, like: str = "") -> str:
        """The next state in number; its codes are those of ``like``."""
        name = f"state_{len(self.states)}"
        codes = self.quantization.get(like)
        self._name(name, shape, codes)
        self.states.append(
            self.rng.standard_normal(shape).astype(np.float32)
            if codes is None
            else self._random_codes(shape)
        )
        return name

    def add(
        self, operator: Operator, shape: Shape, codes: Quantization | None = None, out: str = ""
    ) -> str:
        """An operator whose ``out`` is still open; its result's name."""
        out = out or f"made_{len(self.operators)}"
        self._name(out, shape, codes)
        self.operators.append(replace(operator, name=f"n_{out}", out=out))
        return out

    def conv(
        self,
        x: str,
        outputs: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
        codes: Quantization | None = None,
        most: int = 127,
        least: int | None = None,
        frame: bool = False,
    ) -> str:
        """A convolution that counts; ``codes`` only where nothing of its kernel follows.

        Most weights are ``least`` where there is one.
        """
        shape = (outputs, self.shapes[x][2] // groups, *kernel)
        weight = self.rng.integers(-most, most + 1, shape).astype(np.int8)
        if least is not None:
            weight[...] = np.where(self.rng.random(shape) < _EXTREMES, least, weight)
        depth = weight[0].size
        scale = 0.02 if frame else self.quantization[x].scale
        steps = (self.rng.uniform(0.5, 1.5, outputs) / (127 * scale * depth**0.5)).astype(
            np.float32
        )
        bias = self.rng.standard_normal(outputs).astype(np.float32)
        numbers = weight.astype(np.float32) * steps[:, None, None, None]
        made = Conv("", (x,), "", numbers, bias, stride, padding, groups, weight, steps)
        return self.add_conv(made, codes)

    def add_conv(self, made: Conv, codes: Quantization | None = None) -> str:
        """Its map is as large as input, kernel, stride and padding make it."""
        height, width, _ = self.shapes[made.inputs[0]]
        outputs, _, high, wide = made.weight.shape
        top, left, bottom, right = made.padding
        rows = (height + top + bottom - high) // made.stride[0] + 1
        columns = (width + left + right - wide) // made.stride[1] + 1
        return self.add(made, (rows, columns, outputs), codes)

    def shift(self, x: str, channels: int) -> str:
        """The first channels of a map replaced by those of the frame before."""
        height, width, count = self.shapes[x]
        state = self.state((height, width, channels), like=x)
        join = Join("", (state, x), "", len(self.states) - 1, channels)
        return self.add(join, (height, width, count), self.quantization.get(x))

    def ended(
        self,
        x: str,
        kind: Activation = Activation.NONE,
        codes: Quantization | None = None,
        residual: str = "",
    ) -> str:
        """What follows a convolution in its kernel: a sum, an activation, codes."""
        shape = self.shapes[x]
        if residual:
            inputs = (x, residual) if self.rng.integers(2) else (residual, x)
            x = self.add(Add("", inputs, ""), shape)
        if kind is not Activation.NONE:
            x = self.add(Activate("", (x,), "", kind), shape)
        if codes is not None:
            self.quantization[x] = codes
        return x

    def graph(self, logits: str = "logits") -> Graph:
        return Graph(
            tuple(self.operators),
            self.shapes,
            tuple(state.shape for state in self.states),
            logits=logits,
            quantized=self.quantization,
        )

    def _name(self, name: str, shape: Shape, codes: Quantization | None) -> None:
        self.shapes[name] = shape
        if codes is not None:
            self.quantization[name] = codes

    def _random_codes(self, shape: Shape) -> np.ndarray:
        found = self.rng.integers(0, 256, shape).astype(np.uint8)
        found.reshape(-1)[:2] = 0, 255
        return found


def check(
    layers: Layers,
    unit: str,
    *,
    spec: ModelSpec = SPEC,
    image: np.ndarray | None = None,
    close: Collection[str] = (),
) -> Compiled:
    """The graph's step against the reference, bit for bit, whole and in two splits.

    Values in ``close`` are of float32 kernels, and agree but for the last bits.
    """
    graph = layers.graph()
    compiled = Compiled(graph, UNITS[unit], spec)
    want = expected(graph, layers.given, layers.states, image, spec)
    for cuts in ((), (1,), (1, 4, 7)):
        got = compiled.run(layers.given, layers.states, image, cuts)
        made = set(got.values) - set(layers.given)
        assert made or got.states
        for name in made & set(close):
            theirs = want.values[name].reshape(-1)
            np.testing.assert_allclose(got.values[name].reshape(-1), theirs, rtol=0, atol=1e-5)
        for name in made - set(close):
            theirs = want.values[name].reshape(got.values[name].shape)
            np.testing.assert_array_equal(got.values[name], theirs, err_msg=name)
        assert got.states.keys() == want.states.keys()
        for number, state in got.states.items():
            np.testing.assert_array_equal(state, want.states[number], err_msg=f"state {number}")
    return compiled


def stream(graph: Graph, unit: str, images: np.ndarray, spec: ModelSpec) -> list[tuple[Made, Made]]:
    """What a step and the reference make of a stream, each with its own states."""
    compiled = Compiled(graph, UNITS[unit], spec)
    ours, theirs = fresh_states(graph), fresh_states(graph)
    result = []
    for number, image in enumerate(images):
        got = compiled.run({}, ours, image, (number, 3 * number))
        want = expected(graph, {}, theirs, image, spec)
        result.append((got, want))
        ours = [got.states[index] for index in range(len(ours))]
        theirs = [want.states[index] for index in range(len(theirs))]
    return result


def layer_by_layer(
    graph: Graph, unit: str, images: np.ndarray, spec: ModelSpec
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """What each kernel makes of what the reference has before it, in the last of some frames.

    Returns:
        Name, ours and the reference's of every kernel's result.
    """
    states = fresh_states(graph)
    for image in images:
        before, want = states, expected(graph, {}, states, image, spec)
        states = [want.states[number] for number in range(len(states))]
    result = []
    for kernel in fuse(graph)[0]:
        alone = replace(graph, operators=kernel.operators)
        given = {name: want.values[name] for name in kernel.reads if name in want.values}
        given = {
            name: value
            for name, value in given.items()
            if name != graph.frame and not name.startswith("state_")
        }
        made = Compiled(alone, UNITS[unit], spec).run(given, before, images[-1], (1, 5))
        ours = made.logits if kernel.out == graph.logits else made.values[kernel.out]
        result.append((kernel.out, ours.reshape(-1), want.values[kernel.out].reshape(-1)))
    return result
