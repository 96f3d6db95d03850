"""A step in bfloat16 computed by numpy, in the order in which compiled code adds.

Compiled code rounds to bfloat16 what it writes to memory, what a projection reads, and the weights
of convolutions that multiply pairs (:func:`arithmetic.in_pairs`); everything between is float32. A
sum begins with the bias and what is added to the result, then takes the window's rows, its columns
and the channels in turn, of a pair the odd one first; each product is added with one rounding. That
order depends on no tile, so the reference and the plain lowering agree bit for bit.

Where it matters: two computations that differ by one rounding of float32 differ by one of bfloat16
soon, and after some layers and frames by about as much as bfloat16 loses at all. A reference that
summed in another order could only say that results are alike to 2%.

Means over windows, sigmoids and what reads a mean before the end are not reproduced to the bit; see
:attr:`HalfReference.exact`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.context import FRAME_MAP
from shiftedge.export.compiler.backends.cpu.conv_constants import in_pairs
from shiftedge.export.compiler.backends.cpu.families.padding import normalisation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel, InvertedResidual, fuse
from shiftedge.export.compiler.graph.graph import (
    Activate,
    Add,
    Array,
    Conv,
    Dense,
    Graph,
    Mean,
    Operator,
    Pool,
    is_vector,
)
from shiftedge.export.compiler.kernel_ir.calls import Memory, Step
from shiftedge.export.compiler.kernel_ir.kernel import BF16
from shiftedge.export.compiler.numerics.bf16 import rounded
from shiftedge.export.compiler.numerics.fma import fma32
from shiftedge.export.compiler.verify.integer import activated
from shiftedge.export.compiler.verify.reference import run_operator
from shiftedge.runtime.spec import ModelSpec

__all__ = ["Bf16Reference", "rounded_values"]

_PIXELS = 1024
"""That are summed at a time, so that sums stay in a cache."""


class Bf16Reference:
    """A stream of a float32 graph whose maps and states are kept in bfloat16."""

    def __init__(self, graph: Graph, step: Step, spec: ModelSpec) -> None:
        """``step`` is what was made of the graph for a target with bf16; it says what is kept."""
        self._graph, self._spec = graph, spec
        self._rounded = rounded_values(graph, step)
        self._kernels, self._kept = fuse(graph)
        self.states: list[Array] = [np.zeros(shape, np.float32) for shape in graph.states]
        """Of the next frame; a fresh stream's at first."""

    @property
    def exact(self) -> bool:
        """Whether all that is rounded to bfloat16 can be told to the bit."""
        return all(map(self._exact, self._graph.operators))

    def _exact(self, operator: Operator) -> bool:
        if isinstance(operator, Activate):
            return operator.kind.value.exact
        if isinstance(operator, Conv):
            return not is_vector(self._graph.shapes[operator.inputs[0]])
        if isinstance(operator, Mean):
            readers = [each for each in self._graph.operators if operator.out in each.inputs]
            return all(isinstance(each, Dense) for each in readers)
        return operator.largest if isinstance(operator, Pool) else True

    def step(self, image: NDArray[np.uint8]) -> Array:
        """One frame.

        Args:
            image: uint8 (height, width, 3), BGR.

        Returns:
            Logits, float32 (classes,).
        """
        return self.frame(image)[self._graph.logits].reshape(-1)

    def frame(
        self, image: NDArray[np.uint8], given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """One frame: every value of the graph by name; ``given`` are those from outside it."""
        graph, spec = self._graph, self._spec
        tables = normalisation(spec.mean, spec.std, 1)
        frame = fma32(image[..., ::-1], tables["scale"], tables["offset"])
        values = {**(given or {}), graph.frame: self._narrowed(graph.frame, frame)}
        values |= {f"state_{number}": state for number, state in enumerate(self.states)}
        for kernel in self._kernels:
            for operator in kernel.operators:
                made = self._made(operator, kernel, values)
                values[operator.out] = self._narrowed(operator.out, made)
        states = list(self.states)
        for each in self._kept:
            kept = values[each.inputs[0]][..., each.begin : each.end]
            states[each.state] = kept.reshape(graph.states[each.state])
        self.states = states
        return values

    def _narrowed(self, name: str, value: Array) -> Array:
        return rounded(value) if name in self._rounded else value

    def _made(self, operator: Operator, kernel: FusedKernel, values: Mapping[str, Array]) -> Array:
        if isinstance(operator, Conv):
            return self._conv(operator, kernel, values)
        if isinstance(operator, Activate):
            return activated(operator.kind, values[operator.inputs[0]])
        last = _last_conv(kernel)
        if isinstance(operator, Add) and last is not None:
            return values[last.out]  # which its sums began with
        exact = {name: values[name].astype(np.float64) for name in operator.inputs}
        made: Array = run_operator(operator, exact).astype(np.float32)
        return made

    def _conv(self, conv: Conv, kernel: FusedKernel, values: Mapping[str, Array]) -> Array:
        (source,) = conv.inputs
        x, weight = values[source].reshape(-1, *values[source].shape[-2:]), conv.weight
        if values[source].ndim == 1:
            x = values[source].reshape(1, 1, -1)
        pairs = in_pairs(conv, self._graph) and (
            not is_vector(self._graph.shapes[source]) or source in self._rounded
        )
        if pairs:
            weight = rounded(weight)
        if source == self._graph.frame and source not in self._rounded:
            x, weight = x[..., ::-1], weight[:, ::-1]  # as a camera's bytes lie
        rows, columns, outputs = self._graph.shapes[conv.out]
        start = np.broadcast_to(conv.bias, (rows, columns, outputs)).astype(np.float32)
        residual = getattr(kernel, "residual", None)
        if residual is not None and conv is _last_conv(kernel):
            start = start + values[residual].reshape(start.shape)
        if conv.groups > 1:
            return _apart(conv, weight, x, start)
        if not pairs:
            order = None
        else:
            order = _in_pairs(conv.kernel[1] * weight.shape[1], self._state_of(conv, kernel))
        return _together(conv, weight, x, start, order)

    def _state_of(self, conv: Conv, kernel: FusedKernel) -> int:
        """Channels that a product reads from the state itself, before those of the map."""
        join = getattr(kernel, "join", None)
        if join is None or conv.inputs != (join.out,) or not conv.pointwise:
            return 0
        channels = self._graph.shapes[join.inputs[0]][-1]
        return channels if join.begin == channels else 0


def rounded_values(graph: Graph, step: Step) -> frozenset[str]:
    """Names of the graph's values that are rounded to bfloat16 in a step: what lies in memory so,
    and what an inverted residual keeps for its projection."""
    stored = {
        call.arguments[buffer.name].name: buffer.dtype
        for call in step.calls
        for buffer in call.kernel.buffers
        if call.arguments[buffer.name].memory is Memory.WORKSPACE
    }
    names = {name for name, dtype in stored.items() if dtype == BF16}
    for kernel in fuse(graph)[0]:
        if isinstance(kernel, InvertedResidual):
            head = kernel.stem or kernel.expand or kernel.depthwise
            (read,) = kernel.project.conv.inputs
            if not is_vector(graph.shapes[head.conv.inputs[0]]) and read not in stored:
                names.add(read)
    if FRAME_MAP in names:
        names.add(graph.frame)
    return frozenset(names)


def _last_conv(kernel: FusedKernel) -> Conv | None:
    """Whose sums begin with a residual, if there is one."""
    if isinstance(kernel, InvertedResidual):
        return kernel.project.conv
    return kernel.conv if isinstance(kernel, ConvKernel) else None


def _in_pairs(count: int, state: int) -> list[int]:
    """The order in which ``count`` inputs are added: of each pair the odd one first. Where a
    state's channels are odd in number, its last word ends before the map's first begins."""
    order = [place ^ 1 for place in range(count)]
    if state % 2:
        order[state - 1], order[state] = state - 1, state
    return order


def _together(conv: Conv, weight: Array, x: Array, start: Array, pairs: list[int] | None) -> Array:
    """Sums over all channels, row by row of the window; ``pairs`` is the order of a row, whose
    products are then exact."""
    total = start.reshape(-1, start.shape[-1])
    outputs = len(weight)
    for row, lines in enumerate(_lines(conv, x, start.shape)):
        rights = [lines[:, right] for right in range(conv.kernel[1])]
        run = np.concatenate(rights, axis=-1)
        by_input = weight[:, :, row].transpose(2, 1, 0).reshape(-1, outputs)
        for first in range(0, len(total), _PIXELS):
            part = slice(first, first + _PIXELS)
            sums, read = total[part].copy(), np.ascontiguousarray(run[part].T)
            for place in range(len(by_input)) if pairs is None else pairs:
                factor = read[place][:, None]
                if pairs is not None:
                    sums += factor * by_input[place]
                else:
                    sums = fma32(factor, by_input[place], sums)
            total[part] = sums
    return total.reshape(start.shape)


def _apart(conv: Conv, weight: Array, x: Array, start: Array) -> Array:
    """Sums over the channels of each group."""
    groups, share = conv.groups, weight.shape[1]
    total = start.reshape(-1, groups, start.shape[-1] // groups)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    for row, lines in enumerate(_lines(conv, x, start.shape)):
        for right in range(conv.kernel[1]):
            taps = lines[:, right].reshape(-1, groups, share)
            for channel in range(share):
                factor = grouped[:, :, channel, row, right]
                total = fma32(taps[:, :, channel, None], factor, total)
    return total.reshape(start.shape)


def _lines(conv: Conv, x: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """For each row of the window (output pixels, window's columns, channels)."""
    top, left, bottom, right = conv.padding
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    rows, columns, _ = shape
    for down in range(conv.kernel[0]):
        taps: list[Any] = []
        for across in range(conv.kernel[1]):
            taken = padded[
                down : down + conv.stride[0] * (rows - 1) + 1 : conv.stride[0],
                across : across + conv.stride[1] * (columns - 1) + 1 : conv.stride[1],
            ]
            taps.append(taken.reshape(rows * columns, -1))
        yield np.stack(taps, axis=1)
