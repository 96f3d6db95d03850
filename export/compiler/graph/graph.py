"""The compiler's view of one streaming step: operators over feature maps, states explicit.

Batch is 1 throughout and left out. A feature map is (height, width, channels), channels innermost
(NHWC); a vector is (channels,). Weights keep ONNX's order until a schedule packs them. The graph is
in single assignment: each value has one producer, and operators stand in an order in which they
can run.

A value is float32, or, where ``Graph.quantization`` names it, quantised: stored as uint8. What an
operator means is the same for both: it computes with the numbers that those stand for, and a result
that is quantised is rounded to the nearest. What int8 kernels do exactly, bit for bit, is
said in :mod:`shiftedge.export.compiler.numerics.requantize`. In a graph that the frontend made

- a convolution has a ``quantized_weight`` if and only if its kernel is int8: its input is
  quantised, or is the frame, whose bytes it reads as the camera gives them;
- a quantised value is made by such a convolution, with the activation and the sum that run in its
  kernel, by a sum of two quantised values, by :class:`Quantize`, or by an operator that moves
  values as they are (:class:`Join`, largest :class:`Pool`); or it is a state;
- a quantised value is read by those, by :class:`Mean`, :class:`KeepState` and
  :class:`Dequantize`. Every other operator is of float32 alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.activations import Activation

Shape = tuple[int, ...]
"""(height, width, channels) or (channels,)."""
Array = NDArray[np.float32]
Int8Array = NDArray[np.int8]


def is_vector(shape: Shape) -> bool:
    """Whether a value is numbers by channel, as a mean leaves them: 1 x 1 is, as (channels,) is."""
    return shape[:-1] in ((), (1, 1))


@dataclass(frozen=True)
class Quantization:
    """How uint8 values stand for numbers: q for ``scale * (q - zero_point)``."""

    scale: float
    """A float32 number above 0."""
    zero_point: int
    """What stands for 0, from 0 to 255."""


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: reads ``inputs``, makes the value ``out``."""

    name: str
    """Of the ONNX node it came from, for messages and reports."""
    inputs: tuple[str, ...]
    out: str


@dataclass(frozen=True, eq=False)
class Conv(Operator):
    """2-D convolution, grouped where ``groups`` > 1."""

    weight: Array
    """(out channels, in channels / groups, kernel height, kernel width). Where there is a
    ``quantized_weight``, what that stands for."""
    bias: Array
    """(out channels,); in the numbers that quantised values stand for."""
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    """Rows above, columns left, rows below, columns right; zeros."""
    groups: int
    quantized_weight: Int8Array | None = None
    """The weights as int8, of the weight's shape, zero point 0: an int8 kernel reads them."""
    weight_scale: Array | None = None
    """(out channels,): what 1 of ``quantized_weight`` stands for. Present if that is."""

    @property
    def kernel(self) -> tuple[int, int]:
        """(height, width)."""
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    @property
    def pointwise(self) -> bool:
        """1x1, dense, unit stride, no padding: a matrix product per pixel."""
        return (
            self.kernel == (1, 1)
            and self.groups == 1
            and self.stride == (1, 1)
            and not any(self.padding)
        )

    @property
    def depthwise(self) -> bool:
        """One filter a channel."""
        return bool(self.groups == self.weight.shape[0] > 1 and self.weight.shape[1] == 1)


@dataclass(frozen=True, eq=False)
class Activate(Operator):
    """``kind`` of each element."""

    kind: Activation


@dataclass(frozen=True, eq=False)
class Add(Operator):
    """Sum of two values of one shape."""


@dataclass(frozen=True, eq=False)
class Mul(Operator):
    """Product of two values; the second may be a vector or 1 x 1 map over the first's channels."""


@dataclass(frozen=True, eq=False)
class Pool(Operator):
    """Largest or mean value of a window. Padding never wins, and counts in no mean."""

    largest: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Mean(Operator):
    """Mean over height and width: a vector, or a 1 x 1 map; both are ``channels`` numbers."""


@dataclass(frozen=True, eq=False)
class Dense(Operator):
    weight: Array
    """(outputs, inputs)."""
    bias: Array
    """(outputs,)."""


@dataclass(frozen=True, eq=False)
class Join(Operator):
    """The temporal shift: all channels of a state, then those of a map from ``begin`` on.

    ``begin`` is the state's channel count for a TSM shift, and 0 where the map is joined whole, as
    for a first convolution that sees the frame before too.
    """

    state: int
    """Index of the state."""
    begin: int


@dataclass(frozen=True, eq=False)
class KeepState(Operator):
    """Channels ``begin`` up to ``end`` of a map become the state of the next frame."""

    state: int
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Quantize(Operator):
    """float32 to uint8: to the nearest, halves to even, held to 0..255.

    ``quantization`` is also what ``Graph.quantization`` says of ``out``. Of the frame it reads the
    bytes.
    """

    quantization: Quantization


@dataclass(frozen=True, eq=False)
class Dequantize(Operator):
    """uint8 to the float32 numbers that it stands for."""

    quantization: Quantization


class Uses:
    """Who makes each value of a list of operators, and who reads it."""

    def __init__(self, operators: Sequence[Operator], logits: str) -> None:
        self.made = {each.out: each for each in operators}
        self.place = {each.out: place for place, each in enumerate(operators)}
        """In the list."""
        self.readers: dict[str, list[Operator]] = {}
        for operator in operators:
            for name in operator.inputs:
                self.readers.setdefault(name, []).append(operator)
        self.count = Counter({name: len(readers) for name, readers in self.readers.items()})
        """How often each is read; the logits once more."""
        self.count[logits] += 1

    def only_reader(self, value: str) -> Operator | None:
        """Who reads ``value``, if it is alone and ``value`` is not the logits."""
        readers = self.readers.get(value, [])
        return readers[0] if self.count[value] == len(readers) == 1 else None


@dataclass(frozen=True)
class Graph:
    """One step. ``frame`` and the states come from outside; ``logits`` and next states go out."""

    operators: tuple[Operator, ...]
    shapes: dict[str, Shape]
    """Of every value, inputs included."""
    states: tuple[Shape, ...]
    frame: str = "frame"
    logits: str = "logits"
    quantization: dict[str, Quantization] = field(default_factory=dict)
    """Of every value that is stored as uint8, states included; others are float32."""

    def flops(self, *, packed: bool = False) -> int:
        """Operations of one step in convolutions and matrix products, 2 a multiply-add; ``packed``:
        those alone that int8 kernels make several a lane, of all convolutions but depthwise ones.
        """
        total = 0
        for operator in self.operators:
            if isinstance(operator, Conv):
                rows, columns, _ = self.shapes[operator.out]
                int8 = operator.quantized_weight is not None and not operator.depthwise
                total += 2 * rows * columns * operator.weight.size * (int8 or not packed)
            elif isinstance(operator, Dense) and not packed:
                total += 2 * operator.weight.size
        return total
