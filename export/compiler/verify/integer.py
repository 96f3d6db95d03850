"""The kernels of a quantised graph computed by numpy, bit for bit as generated code must.

It settles who is right when a kernel and ONNX Runtime disagree by a step. What integer kernels do
is :mod:`requantize`'s; kernels of float32 alone run as in :mod:`reference`, in float64 and rounded
at their end, so generated code differs from those in the last bits, and sigmoid and swish too.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.agreement import normalised
from shiftedge.export.compiler.graph.fusion import (
    ConvKernel,
    FusedKernel,
    InvertedResidual,
    Linear,
    Tail,
    fuse,
)
from shiftedge.export.compiler.graph.graph import (
    Activation,
    Add,
    Array,
    Conv,
    Dequantize,
    Graph,
    Join,
    Mean,
    Operator,
    Pool,
    Quantization,
    Quantize,
)
from shiftedge.export.compiler.numerics.fma import fma32
from shiftedge.export.compiler.numerics.requantize import (
    OutputStage,
    mean_constants,
    quantize_constant,
    quantize_frame_constants,
    requantize,
    requantize_frame,
    requantize_sum,
    stage_of,
)
from shiftedge.export.compiler.verify.reference import run_operator
from shiftedge.runtime.spec import ModelSpec

__all__ = [
    "Int8Reference",
    "Int8Step",
    "activated",
    "dequantized",
    "fresh_states",
    "integer_sums",
    "run_kernel",
]

Stored = NDArray[Any]
"""uint8 where the graph says so, float32 otherwise."""


@dataclass(frozen=True, eq=False)
class Int8Step:
    """What one frame made."""

    logits: Array
    """(classes,)."""
    states: list[Stored]
    """Of the next frame, (height, width, channels)."""
    values: dict[str, Stored]
    """Of every operator's result that is stored, or would be if its kernel were no kernel."""


class Int8Reference:
    """One stream of a model.

    Args:
        graph: of the model.
        spec: of the model, for the frame's normalisation.
    """

    def __init__(self, graph: Graph, spec: ModelSpec) -> None:
        self._graph, self._spec = graph, spec
        self._kernels, self._kept = fuse(graph)
        self.states: list[Stored] = []
        self.reset()

    def reset(self) -> None:
        """Begin a fresh stream."""
        self.states = fresh_states(self._graph)

    def step(self, image: NDArray[np.uint8]) -> Int8Step:
        """Take one frame: uint8 (height, width, 3), BGR, of the model's size."""
        values: dict[str, Stored] = {
            self._graph.frame: normalised(image[None], self._spec)[0].transpose(1, 2, 0)
        }
        values |= {f"state_{index}": state for index, state in enumerate(self.states)}
        for kernel in self._kernels:
            run_kernel(self._graph, self._spec, kernel, image, values)
        kept = {
            state.state: _as_map(values[state.inputs[0]])[..., state.begin : state.end].copy()
            for state in self._kept
        }
        self.states = [kept[index] for index in range(len(self.states))]
        return Int8Step(values[self._graph.logits].reshape(-1), list(self.states), values)


def run_kernel(
    graph: Graph,
    spec: ModelSpec,
    kernel: FusedKernel,
    image: NDArray[np.uint8],
    values: MutableMapping[str, Stored],
) -> None:
    """Compute what one kernel makes.

    Args:
        graph: of the model.
        spec: of the model.
        kernel: of the graph.
        image: uint8 (height, width, 3), BGR, of the model's size.
        values: that the kernel reads; what it makes is put there, the maps inside it too.
    """
    _Run(graph, spec, image[..., ::-1], values).kernel(kernel)


def fresh_states(graph: Graph) -> list[Stored]:
    """States before the first frame: zeros, and the codes of 0."""
    states: list[Stored] = []
    for index, shape in enumerate(graph.states):
        quantization = graph.quantization.get(f"state_{index}")
        states.append(
            np.zeros(shape, np.float32)
            if quantization is None
            else np.full(shape, quantization.zero_point, np.uint8)
        )
    return states


def dequantized(values: Stored, quantization: Quantization) -> Array:
    """The float32 numbers that codes stand for."""
    numbers: Array = (values.astype(np.float32) - np.float32(quantization.zero_point)) * np.float32(
        quantization.scale
    )
    return numbers


class _Run:
    """One frame. ``values`` fills as kernels run."""

    def __init__(
        self,
        graph: Graph,
        spec: ModelSpec,
        pixels: NDArray[np.uint8],
        values: MutableMapping[str, Stored],
    ) -> None:
        self._graph, self._spec, self._pixels, self._values = graph, spec, pixels, values

    def kernel(self, kernel: FusedKernel) -> None:
        """Compute what a kernel makes, and the values inside it."""
        if isinstance(kernel, InvertedResidual):
            self._joined(kernel.join)
            for part in (kernel.stem, kernel.expand, kernel.depthwise):
                if part is not None:
                    self._linear(kernel, part)
            self._linear(kernel, kernel.project, kernel.residual)
        elif isinstance(kernel, Tail):
            self._joined(kernel.join)
            self._linear(kernel, kernel.pointwise)
            for operator in kernel.operators[-2:]:
                self._operator(operator)
        elif isinstance(kernel, ConvKernel):
            self._joined(kernel.join)
            linear = Linear(kernel.conv, kernel.activation, kernel.quantization)
            self._linear(kernel, linear, kernel.residual)
        else:
            self._operator(kernel.operators[0])

    def _joined(self, join: Join | None) -> None:
        if join is not None:
            self._operator(join)

    def _operator(self, operator: Operator) -> None:
        self._values[operator.out] = self._single(operator)

    def _single(self, operator: Operator) -> Stored:
        inputs = [_as_map(self._values[name]) for name in operator.inputs]
        source = self._graph.quantization.get(operator.inputs[0])
        if isinstance(operator, Join):
            return np.concatenate((inputs[0], inputs[1][..., operator.begin :]), axis=-1)
        if isinstance(operator, Quantize):
            return self._quantized(operator, inputs[0])
        if isinstance(operator, Dequantize):
            return dequantized(inputs[0], operator.quantization)
        if source is not None and isinstance(operator, Mean):
            count = inputs[0].shape[0] * inputs[0].shape[1]
            constants = mean_constants(operator, source, count)
            total = inputs[0].sum((0, 1), dtype=np.int32, keepdims=True) - constants.zeros
            mean: Stored = total.astype(np.float32) * constants.scale
            return mean
        if source is not None and isinstance(operator, Add):
            other = self._graph.quantization[operator.inputs[1]]
            out = self._graph.quantization.get(operator.out)
            sums = requantize_sum(operator, source, other, out)
            y = _above_zero(inputs[0], source) * sums.first
            return _finished_y(fma32(_above_zero(inputs[1], other), sums.second, y), sums.stage)
        kind = np.uint8 if source is not None and isinstance(operator, Pool) else np.float32
        exact = {
            name: self._values[name].astype(np.float64) for name in operator.inputs
        }  # fmt: skip
        return run_operator(operator, exact).astype(kind)

    def _quantized(self, quantise: Quantize, x: Stored) -> Stored:
        if quantise.inputs[0] == self._graph.frame:
            spec = self._spec
            of_bytes = quantize_frame_constants(spec.mean, spec.std, quantise.quantization)
            return _finished_y(fma32(self._pixels, *of_bytes), stage_of(quantise.quantization))
        y = x * quantize_constant(quantise.quantization)
        return _finished_y(y, stage_of(quantise.quantization))

    def _linear(self, kernel: FusedKernel, linear: Linear, residual: str | None = None) -> None:
        """A convolution, [a sum,] an activation: under the name of the last of them."""
        conv = linear.conv
        if conv.quantized_weight is None:
            self._of_floats(kernel, conv)
            return
        added = None if residual is None else self._graph.quantization[residual]
        last = _chain(kernel, conv)[-1]
        if conv.inputs[0] == self._graph.frame:
            spec = self._spec
            height, width, _ = self._pixels.shape
            frame = requantize_frame(
                conv,
                height,
                width,
                spec.mean,
                spec.std[0],
                linear.quantization,
                linear.activation,
                added,
            )
            acc = integer_sums(conv, self._pixels, 0)
            offset = frame.offset[frame.rows.of][:, frame.columns.of]
            y = fma32(acc.astype(np.float32), frame.scale, offset)
            more, stage = frame.residual, frame.stage
        else:
            source = self._graph.quantization[conv.inputs[0]]
            constants = requantize(conv, source, linear.quantization, linear.activation, added)
            acc = integer_sums(conv, _as_map(self._values[conv.inputs[0]]), source.zero_point)
            y = (acc + constants.start).astype(np.float32)
            if constants.offset is None:
                y = y * constants.scale
            else:
                y = fma32(y, constants.scale, constants.offset)
            more, stage = constants.residual, constants.stage
        if more is not None and residual is not None and added is not None:
            y = fma32(_above_zero(_as_map(self._values[residual]), added), more, y)
        self._values[last.out] = _finished_y(y, stage)

    def _of_floats(self, kernel: FusedKernel, conv: Conv) -> None:
        chain = _chain(kernel, conv)
        exact: dict[str, NDArray[np.float64]] = {
            name: value.astype(np.float64)
            for name, value in self._values.items()
            if any(name in operator.inputs for operator in chain)
        }
        for operator in chain:
            exact[operator.out] = run_operator(operator, exact)
        self._values[chain[-1].out] = exact[chain[-1].out].astype(np.float32)


def integer_sums(conv: Conv, x: NDArray[np.uint8], fill: int) -> NDArray[np.int32]:
    """Exact sums of products of codes, (rows, columns, outputs); padded elements are ``fill``.

    Tap by tap as products of matrices, in the narrower type in which all sums are exact: whole
    numbers below 2^24 are in float32, below 2^53 in float64.
    """
    if conv.quantized_weight is None:
        raise ValueError(f"{conv.name} does not count in integers")
    top, left, bottom, right = conv.padding
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    (down, across), (high, wide) = conv.stride, conv.kernel
    rows = (padded.shape[0] - high) // down + 1
    columns = (padded.shape[1] - wide) // across + 1
    outputs, share = conv.quantized_weight.shape[:2]
    kind = np.float32 if conv.quantized_weight[0].size * 255 * 128 < 2**24 else np.float64
    groups = conv.groups
    acc = np.zeros((rows, columns, groups, outputs // groups), kind)
    weight = conv.quantized_weight.astype(kind).reshape(
        groups, outputs // groups, share, high, wide
    )
    for row in range(high):
        for column in range(wide):
            taps = padded[
                row : row + down * rows : down, column : column + across * columns : across
            ]
            x_taps = taps.astype(kind).reshape(rows, columns, groups, share)
            w = weight[..., row, column]
            if share == 1 and outputs == groups:
                acc[..., 0] += x_taps[..., 0] * w[:, 0, 0]
            else:
                for group in range(groups):
                    acc[:, :, group] += x_taps[:, :, group] @ w[group].T
    return acc.reshape(rows, columns, outputs).astype(np.int32)


def _chain(kernel: FusedKernel, conv: Conv) -> tuple[Operator, ...]:
    """A convolution and what follows in its kernel up to the next, a mean, or the end."""
    start = kernel.operators.index(conv)
    rest = kernel.operators[start + 1 :]
    stop = next(
        (index for index, each in enumerate(rest) if isinstance(each, (Conv, Mean))), len(rest)
    )
    return (conv, *rest[:stop])


def _finished_y(y: Array, stage: OutputStage) -> Stored:
    if stage.activation is not Activation.NONE:
        y = activated(stage.activation, y)
    if stage.scale is not None:
        y = y * stage.scale
    if not stage.rounded:
        held: Array = y.clip(np.float32(stage.low), np.float32(stage.high))
        return held
    whole = np.rint(y) + np.float32(stage.zero)  # halves to even; what is far away stays so
    quantized: NDArray[np.uint8] = whole.clip(stage.low, stage.high).astype(np.uint8)
    return quantized


def _above_zero(values: Stored, quantization: Quantization) -> Array:
    """Steps above the zero point, as float32."""
    steps: Array = values.astype(np.float32) - np.float32(quantization.zero_point)
    return steps


def activated(kind: Activation, y: Array) -> Array:
    """``kind`` of float32 numbers as kernels do it; sigmoid and swish but for the last bits."""
    if kind in (Activation.HARD_SIGMOID, Activation.HARD_SWISH):
        gate = fma32(y, np.float32(1 / 6), np.float32(0.5)).clip(0.0, 1.0).astype(np.float32)
        product: Array = y * gate
        return gate if kind is Activation.HARD_SIGMOID else product
    result: Array = kind.value.definition(y.astype(np.float64)).astype(np.float32)
    return result


def _as_map(value: Stored) -> Stored:
    """A vector as the 1 x 1 map that it is to the graph."""
    return value.reshape(1, 1, -1) if value.ndim == 1 else value
