"""Graphs of random layers in any precision, and their steps run by the interpreter; imports neither
torch nor TVM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from shiftedge.export.compiler.backends.cpu.families.tiles import (
    AVX2,
    AVX512,
    NEON,
    NEON_DOT,
    NEON_PAIRS,
    VDPBF16PS,
    VPDPBUSD,
    VectorUnit,
)
from shiftedge.export.compiler.backends.cpu.registry import lower
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import (
    Activate,
    Add,
    Conv,
    Graph,
    Join,
    Operator,
    Quantization,
    Shape,
)
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.interpret import Interpreter
from shiftedge.export.compiler.numerics.precision import BF16, FP32, INT8, Precision
from shiftedge.export.compiler.targets import find_variant
from shiftedge.runtime.spec import ModelSpec

SPEC = ModelSpec("t", ("a", "b", "c", "d"), 6, 5, 5, (), 2)
"""Of graphs that read no frame."""
_EXTREMES = 0.9
"""Of the weights: two of four products, wherever they are, have one."""


@dataclass(frozen=True)
class Unit:
    """A vector unit and what it computes in."""

    unit: VectorUnit
    precision: Precision = INT8

    def step(self, graph: Graph, spec: ModelSpec = SPEC) -> Step:
        variant = find_variant("x86-64-v3").using(unit=self.unit)
        return lower(graph, spec, replace(variant, precision=self.precision.name))

    @property
    def above(self) -> int:
        return self.unit.dot.storage_offset if self.precision.quantized and self.unit.dot else 0


UNITS = {
    "avx2": Unit(AVX2, FP32),
    "avx512": Unit(AVX512, FP32),
    "neon": Unit(NEON, FP32),
    # Half of AVX-512's vectors, which compile in a quarter of the time.
    "vdpbf16ps": Unit(VectorUnit("avx2", lanes=8, registers=16, dot=VDPBF16PS), BF16),
    "pmaddwd": Unit(AVX2),
    "vpdpbusd": Unit(VectorUnit("avx2", lanes=8, registers=16, dot=VPDPBUSD)),
    "sdot": Unit(NEON_DOT),
    "smlal": Unit(NEON_PAIRS),
}
"""Every way to store values and to multiply them."""


class Layers:
    """A graph in the making, of random values and weights; values from outside are ``given``."""

    def __init__(self, seed: int = 0, precision: Precision = INT8) -> None:
        self.rng = np.random.default_rng(seed)
        self.precision = precision
        self.operators: list[Operator] = []
        self.shapes: dict[str, Shape] = {}
        self.quantization: dict[str, Quantization] = {}
        self.given: dict[str, np.ndarray] = {}
        self.states: list[np.ndarray] = []
        self.image: np.ndarray | None = None
        """uint8 (height, width, 3), BGR."""

    def frame(self, height: int, width: int) -> str:
        self.shapes["frame"] = (height, width, 3)
        self.image = self.rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        return "frame"

    def map(self, shape: Shape, zero: int = 128, scale: float = 0.05, name: str = "") -> str:
        """From outside, as the precision stores it."""
        name = name or f"given_{len(self.given)}"
        quantization = Quantization(float(np.float32(scale)), zero)
        self._name(name, shape, quantization if self.precision.quantized else None)
        self.given[name] = self._random(shape, self.quantization.get(name))
        return name

    def numbers(self, shape: Shape, scale: float = 5.0) -> str:
        """A map of float32 from outside."""
        name = f"given_{len(self.given)}"
        self._name(name, shape, None)
        self.given[name] = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        return name

    def state(self, shape: Shape, like: str = "") -> str:
        """The next state in number, quantised as ``like`` is."""
        name = f"state_{len(self.states)}"
        self._name(name, shape, self.quantization.get(like))
        self.states.append(self._random(shape, self.quantization.get(like)))
        return name

    def add(
        self, operator: Operator, shape: Shape, out: Quantization | None = None, name: str = ""
    ) -> str:
        """An operator whose ``out`` is still open; its result's name."""
        name = name or f"made_{len(self.operators)}"
        self._name(name, shape, out if self.precision.quantized else None)
        self.operators.append(replace(operator, name=f"n_{name}", out=name))
        return name

    def conv(
        self,
        x: str,
        outputs: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
        most: int = 127,
        least: int | None = None,
    ) -> str:
        """A convolution whose result is about as large as its input. Most quantised weights are
        ``least`` where there is one."""
        shape = (outputs, self.shapes[x][2] // groups, *kernel)
        bias = self.rng.standard_normal(outputs).astype(np.float32)
        depth = int(np.prod(shape[1:]))
        weight = (self.rng.standard_normal(shape) / depth**0.5).astype(np.float32)
        made = Conv("", (x,), "", weight, bias, stride, padding, groups)
        if self.precision.quantized and (x in self.quantization or x == "frame"):
            weights = self.rng.integers(-most, most + 1, shape).astype(np.int8)
            if least is not None:
                weights[...] = np.where(self.rng.random(shape) < _EXTREMES, least, weights)
            scale = 0.02 if x == "frame" else self.quantization[x].scale
            steps = self.rng.uniform(0.5, 1.5, outputs) / (127 * scale * depth**0.5)
            steps = steps.astype(np.float32)
            weight = weights.astype(np.float32) * steps[:, None, None, None]
            made = replace(made, weight=weight, quantized_weight=weights, weight_scale=steps)
        height, width, _ = self.shapes[x]
        top, left, bottom, right = padding
        rows = (height + top + bottom - kernel[0]) // stride[0] + 1
        columns = (width + left + right - kernel[1]) // stride[1] + 1
        return self.add(made, (rows, columns, outputs))

    def shift(self, x: str, channels: int) -> str:
        """The first channels of a map replaced by those of the frame before, if any are."""
        height, width, count = self.shapes[x]
        if not channels:
            return x
        state = self.state((height, width, channels), like=x)
        join = Join("", (state, x), "", len(self.states) - 1, channels)
        return self.add(join, (height, width, count), self.quantization.get(x))

    def ended(
        self,
        x: str,
        kind: Activation = Activation.NONE,
        out: Quantization | None = None,
        residual: str = "",
    ) -> str:
        """What follows a convolution in its kernel: a sum, an activation, a quantisation."""
        shape = self.shapes[x]
        if residual:
            inputs = (x, residual) if self.rng.integers(2) else (residual, x)
            x = self.add(Add("", inputs, ""), shape)
        if kind is not Activation.NONE:
            x = self.add(Activate("", (x,), "", kind), shape)
        if out is not None and self.precision.quantized:
            self.quantization[x] = out
        return x

    def graph(self, logits: str = "logits") -> Graph:
        return Graph(
            tuple(self.operators),
            self.shapes,
            tuple(state.shape for state in self.states),
            logits=logits,
            quantization=self.quantization,
        )

    def _name(self, name: str, shape: Shape, quantization: Quantization | None) -> None:
        self.shapes[name] = shape
        if quantization is not None:
            self.quantization[name] = quantization

    def _random(self, shape: Shape, quantization: Quantization | None) -> np.ndarray:
        if quantization is None:
            return self.precision.round(self.rng.standard_normal(shape))
        found = self.rng.integers(0, 256, shape).astype(np.uint8)
        found.reshape(-1)[:2] = 0, 255
        return found


@dataclass(frozen=True)
class Made:
    """What a step left: of what is quantised the uint8 values, whatever they are stored as."""

    values: dict[str, np.ndarray]
    """Of the graph, by name; those that lie in memory."""
    states: dict[int, np.ndarray]
    logits: np.ndarray


def stored(graph: Graph, unit: Unit, name: str, value: np.ndarray) -> np.ndarray:
    """A value or a state as a step keeps it, flat, narrow floats as numbers."""
    quantization = graph.quantization.get(name)
    if quantization is None:
        return np.ascontiguousarray(value, np.float32).reshape(-1)
    less = quantization.zero_point if name.startswith("state_") else unit.above
    return (value.astype(np.int64) - less).astype(unit.unit.dot.dtype).reshape(-1)


def read(graph: Graph, unit: Unit, name: str, kept: np.ndarray) -> np.ndarray:
    """The same back: uint8 values, which all that are stored must be, or numbers."""
    state = name.startswith("state_")
    shape = graph.states[int(name[6:])] if state else graph.shapes[name]
    kept = kept[: int(np.prod(shape))].reshape(shape)
    quantization = graph.quantization.get(name)
    if quantization is None:
        return kept
    values = kept.astype(np.int64) + (quantization.zero_point if state else unit.above)
    if unit.unit.dot.dtype != "int16":
        values %= 256
    assert values.min() >= 0
    assert values.max() <= 255
    return values.astype(np.uint8)


def interpreted(
    graph: Graph,
    unit: Unit,
    step: Step,
    given: dict[str, np.ndarray],
    states: list[np.ndarray],
    image: np.ndarray | None = None,
    *,
    exact: bool = False,
    execute: Callable[..., object] | None = None,
) -> Made:
    """One frame of a step."""
    machine = Interpreter(step, exact=exact, execute=execute)
    for number, state in enumerate(states):
        kept = stored(graph, unit, f"state_{number}", state)
        machine.states[number][: len(kept)] = kept
    before = list(machine.states)
    frame = machine.step(
        image, {name: stored(graph, unit, name, value) for name, value in given.items()}
    )
    names = [name for name in frame.values if name in graph.shapes]
    return Made(
        {name: read(graph, unit, name, frame.values[name]) for name in names},
        {
            number: read(graph, unit, f"state_{number}", state)
            for number, state in enumerate(machine.states)
            if state is not before[number]
        },
        frame.logits,
    )
