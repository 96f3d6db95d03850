"""The graph computed by numpy: what each operator means, independent of every schedule.

It settles who is right when a kernel and ONNX Runtime disagree. Numbers are computed in float64;
what a kernel hands on is rounded as the precision stores it, or not at all. Values that are
quantised are what :mod:`requantize` says, bit for bit: a convolution of them is summed exactly in
whole numbers, and ends, with the sum and the activation of its kernel, in one requantisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import graph as ops
from shiftedge.export.compiler.graph.fusion import (
    ConvKernel,
    FusedKernel,
    InvertedResidualKernel,
    Linear,
    Tail,
    fuse,
)
from shiftedge.export.compiler.numerics.activations import activated
from shiftedge.export.compiler.numerics.fma import fma32
from shiftedge.export.compiler.numerics.precision import Precision
from shiftedge.export.compiler.numerics.requantize import (
    OutputStage,
    mean_scale,
    quantize_constant,
    quantize_frame_constants,
    requantize,
    requantize_frame,
    requantize_sum,
    stage_of,
)
from shiftedge.runtime.spec import ModelSpec

Value = NDArray[Any]
"""uint8 where the graph says so, numbers otherwise."""
Exact = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluated:
    logits: Value
    """(classes,)."""
    states: list[Value]
    """Of the next frame, (height, width, channels)."""
    values: dict[str, Value]
    """Every kernel's result, and what it is made of."""


class Evaluator:
    """A stream of a graph, whose maps are stored in ``precision``, or kept in float64; ``weight``
    gives a convolution's numbers as its kernel multiplies them."""

    def __init__(
        self,
        graph: ops.Graph,
        spec: ModelSpec,
        precision: Precision | None = None,
        weight: Callable[[ops.Conv], Value] = lambda conv: conv.weight,
    ) -> None:
        self._graph, self._spec, self._precision, self._weight = graph, spec, precision, weight
        self._kernels, self._kept = fuse(graph)
        self.states: list[Value] = []
        """Of the next frame."""
        self.reset()

    def reset(self) -> None:
        """Begin a fresh stream: zeros, and what stands for them."""
        kind = np.float64 if self._precision is None else np.float32
        self.states = []
        for number, shape in enumerate(self._graph.states):
            quantization = self._graph.quantization.get(f"state_{number}")
            self.states.append(
                np.zeros(shape, kind)
                if quantization is None
                else np.full(shape, quantization.zero_point, np.uint8)
            )

    def step(self, image: NDArray[np.uint8], given: Mapping[str, Value] | None = None) -> Evaluated:
        """Take one frame: uint8 (height, width, 3), BGR; ``given`` are values from outside."""
        numbers = (image[..., ::-1] / 255.0 - np.array(self._spec.mean)) / np.array(self._spec.std)
        values = {self._graph.frame: self._stored(self._graph.frame, numbers)}
        values |= {f"state_{index}": state for index, state in enumerate(self.states)}
        values |= given or {}
        for kernel in self._kernels:
            self.kernel(kernel, image, values)
        kept = {
            each.state: _map(values[each.inputs[0]])[..., each.begin : each.end].copy()
            for each in self._kept
        }
        self.states = [kept.get(index, state) for index, state in enumerate(self.states)]
        logits = values.get(self._graph.logits, np.zeros(0))
        return Evaluated(logits.reshape(-1), list(self.states), values)

    def kernel(
        self, kernel: FusedKernel, image: NDArray[np.uint8], values: MutableMapping[str, Value]
    ) -> None:
        """Compute what one kernel makes of the values that it reads; the maps inside it too."""
        linears = {linear.conv.out: (linear, added) for linear, added in _linears(kernel)}
        inner: dict[str, Value] = {}  # a kernel of numbers hands on its last, and rounds no other
        done: set[str] = set()
        for operator in kernel.operators:
            if operator.out in done:
                continue
            if isinstance(operator, ops.Conv) and operator.quantized_weight is not None:
                chain = [each.out for each in _chain(kernel, operator)]
                values[chain[-1]] = self._requantized(*linears[operator.out], image, values)
                done.update(chain)
                continue
            made = self._made(operator, image, {**values, **inner})
            if operator is kernel.operators[-1] or made.dtype != np.float64:
                values[operator.out] = self._stored(operator.out, made)
            else:
                inner[operator.out] = made

    def _stored(self, name: str, value: Value) -> Value:
        if self._precision is None or value.dtype != np.float64:
            return value
        shape = self._graph.shapes.get(name, ())
        return value.astype(np.float32) if ops.is_vector(shape) else self._precision.round(value)

    def _made(
        self, operator: ops.Operator, image: NDArray[np.uint8], read: Mapping[str, Any]
    ) -> Value:
        inputs = [_map(read[name]) for name in operator.inputs]
        source = self._graph.quantization.get(operator.inputs[0])
        if isinstance(operator, ops.Quantize):
            stage = stage_of(operator.quantization)
            if operator.inputs[0] != self._graph.frame:
                x = inputs[0].astype(np.float32)
                return _finished(x * quantize_constant(operator.quantization), stage)
            spec = self._spec
            constants = quantize_frame_constants(spec.mean, spec.std, operator.quantization)
            return _finished(fma32(image[..., ::-1], *constants), stage)
        if isinstance(operator, ops.Dequantize):
            return dequantized(inputs[0], operator.quantization)
        if source is not None and isinstance(operator, ops.Mean):
            count = inputs[0].shape[0] * inputs[0].shape[1]
            total = inputs[0].sum((0, 1), dtype=np.int32, keepdims=True)
            total -= count * source.zero_point
            return np.asarray(total.astype(np.float32) * mean_scale(operator, source, count))
        if source is not None and isinstance(operator, ops.Add):
            other = self._graph.quantization[operator.inputs[1]]
            out = self._graph.quantization.get(operator.out)
            first, second, stage = requantize_sum(operator, source, other, out)
            y = _above_zero(inputs[0], source) * first
            return _finished(fma32(_above_zero(inputs[1], other), second, y), stage)
        if source is not None:  # moved as they are: the largest, a join
            return run_operator(operator, read).astype(np.uint8)
        return run_operator(operator, read, self._weight)

    def _requantized(
        self,
        linear: Linear,
        residual: str | None,
        image: NDArray[np.uint8],
        values: Mapping[str, Value],
    ) -> Value:
        """A convolution of quantised values, [a sum,] an activation."""
        conv, spec, fill = linear.conv, self._spec, 0
        added = None if residual is None else self._graph.quantization[residual]
        result = linear.quantization, linear.activation, added
        if conv.inputs[0] == self._graph.frame:
            x = image[..., ::-1]
            height, width, _ = x.shape
            made = requantize_frame(conv, height, width, spec.mean, spec.std[0], *result)
        else:
            source = self._graph.quantization[conv.inputs[0]]
            x, fill = _map(values[conv.inputs[0]]), source.zero_point
            made = requantize(conv, source, *result)
        y = (integer_sums(conv, x, fill) + made.start).astype(np.float32)
        offset = made.offset_at()
        y = y * made.scale if offset is None else fma32(y, made.scale, offset)
        if made.residual is not None and residual is not None and added is not None:
            y = fma32(_above_zero(_map(values[residual]), added), made.residual, y)
        return _finished(y, made.stage)


def run_operator(
    operator: ops.Operator,
    values: Mapping[str, Any],
    weight: Callable[[ops.Conv], Value] = lambda conv: conv.weight,
) -> Exact:
    """The numbers that ``operator`` makes of those that it reads, in float64."""
    inputs = [_map(np.asarray(values[name], np.float64)) for name in operator.inputs]
    x = inputs[0]
    if isinstance(operator, ops.Conv):
        sums = _products(operator, x, weight(operator).astype(np.float64), 0.0)
        return np.asarray(sums + operator.bias)
    if isinstance(operator, ops.Activate):
        return operator.kind.value.definition(x)
    if isinstance(operator, ops.Add):
        return x + inputs[1]
    if isinstance(operator, ops.Mul):
        return x * inputs[1]
    if isinstance(operator, ops.Pool):
        return _pool(operator, x)
    if isinstance(operator, ops.Mean):
        return np.asarray(x.mean(axis=(0, 1), keepdims=True))
    if isinstance(operator, ops.Dense):
        return np.asarray(operator.weight.astype(np.float64) @ x.reshape(-1) + operator.bias)
    if isinstance(operator, ops.Join):
        return np.concatenate((x, inputs[1][..., operator.begin :]), axis=-1)
    raise TypeError(f"no definition of {type(operator).__name__}")


def integer_sums(conv: ops.Conv, x: NDArray[np.uint8], fill: int) -> NDArray[np.int32]:
    """Exact sums of quantised values times weights, (rows, columns, outputs); padded elements are
    ``fill``."""
    if conv.quantized_weight is None:
        raise ValueError(f"{conv.name} has no quantised weights")
    # In the narrower type in which all sums are exact.
    kind = np.float32 if conv.quantized_weight[0].size * 255 * 128 < 2**24 else np.float64
    sums = _products(conv, x.astype(kind), conv.quantized_weight.astype(kind), fill)
    return sums.astype(np.int32)


def dequantized(values: Value, quantization: ops.Quantization) -> ops.Array:
    """The float32 numbers that quantised values stand for."""
    numbers: ops.Array = _above_zero(values, quantization) * np.float32(quantization.scale)
    return numbers


def _linears(kernel: FusedKernel) -> Iterator[tuple[Linear, str | None]]:
    """A kernel's convolutions with their activations, and what is added to each."""
    if isinstance(kernel, InvertedResidualKernel):
        for part in (kernel.stem, kernel.expand, kernel.depthwise):
            if part is not None:
                yield part, None
        yield kernel.project, kernel.residual
    elif isinstance(kernel, Tail):
        yield kernel.pointwise, None
    elif isinstance(kernel, ConvKernel):
        yield kernel.linear, kernel.residual


def _chain(kernel: FusedKernel, conv: ops.Conv) -> tuple[ops.Operator, ...]:
    """A convolution and what follows in its kernel up to the next, a mean, or the end."""
    start = kernel.operators.index(conv)
    rest = kernel.operators[start + 1 :]
    stop = next(
        (n for n, each in enumerate(rest) if isinstance(each, (ops.Conv, ops.Mean))), len(rest)
    )
    return (conv, *rest[:stop])


def _finished(y: ops.Array, stage: OutputStage) -> Value:
    y = activated(stage.activation, y)
    if stage.scale is not None:
        y = y * stage.scale
    if not stage.rounded:
        return np.asarray(y.clip(np.float32(stage.low), np.float32(stage.high)))
    whole = np.rint(y) + np.float32(stage.zero)  # halves to even; what is far away stays so
    return np.asarray(whole.clip(stage.low, stage.high), np.uint8)


def _above_zero(values: Value, quantization: ops.Quantization) -> ops.Array:
    """Steps above the zero point, as float32."""
    steps: ops.Array = values.astype(np.float32) - np.float32(quantization.zero_point)
    return steps


def _map(value: Value) -> Value:
    """A vector as the 1 x 1 map that it is to the graph."""
    return value.reshape(1, 1, -1) if value.ndim == 1 else value


def _products(conv: ops.Conv, x: Value, weight: Value, fill: float) -> Value:
    """Sums of a convolution in the type of both, tap by tap as products of matrices."""
    (high, wide), (down, across) = conv.kernel, conv.stride
    taps = _windows(x, conv.kernel, (1, 1), conv.padding, fill)
    rows, columns = -(-taps.shape[0] // down), -(-taps.shape[1] // across)
    outputs, share = weight.shape[:2]
    groups, each = conv.groups, outputs // conv.groups
    weight = weight.reshape(groups, each, share, high, wide)
    total = np.zeros((rows, columns, groups, each), x.dtype)
    for row in range(high):
        for column in range(wide):
            tap = taps[::down, ::across, :, row, column].reshape(rows, columns, groups, share)
            by = weight[..., row, column]
            if share == each == 1:
                total[..., 0] += tap[..., 0] * by[:, 0, 0]
            else:
                for group in range(groups):
                    total[:, :, group] += tap[:, :, group] @ by[group].T
    return total.reshape(rows, columns, outputs)


def _windows(
    x: Value,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    fill: float,
) -> Value:
    """Every window of a map: (rows, columns, channels, kernel height, kernel width)."""
    top, left, bottom, right = padding
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(0, 1))
    return windows[:: stride[0], :: stride[1]]


def _pool(pool: ops.Pool, x: Exact) -> Exact:
    def windows(of: Exact, fill: float) -> Exact:
        return _windows(of, pool.kernel, pool.stride, pool.padding, fill)

    if pool.largest:
        return np.asarray(windows(x, -np.inf).max((3, 4)))
    counts = windows(np.ones_like(x), 0.0).sum((3, 4))
    return np.asarray(windows(x, 0.0).sum((3, 4)) / counts)
