"""The constants with which an integer kernel ends: from int32 sums to uint8.

**Derivation.** A quantised input q stands for sx (q - zx), a weight w of output channel o for
sw[o] w, so a convolution is, over its taps,

    sum sx (q - zx) sw[o] w + bias[o]  =  sx sw[o] (acc[o] + B[o])

with ``acc[o] = sum q w`` and ``B[o] = bias[o] / (sx sw[o]) - zx sum w``. A padded element is
zx, which stands for 0, so that ``sum w`` is over all taps everywhere. The bias of a quantised
file is a whole number of sx sw[o] (a bias that is none is rounded to one), so B is whole, and what
sums begin at. The result's steps above its zero point are that times S = sx sw[o] / sy; a
quantised residual r stands for sr (r - zr):

    y = float32(acc[o] + B[o]) * S[o]
    y = fma(r - zr, R, y)               R = sr / sy
    q = round(y) + zy

The product and the fma round once each, to float32; whole numbers become float32 before, to the
nearest. S and R are computed in float64 and rounded once. ``round`` is to the nearest, halves to
even. It is held to 0..255, and ReLU and ReLU6 are narrower bounds of it: zy, and what 6 is in
steps. All that is done to whole numbers, and processors have instructions that hold what they
narrow.

**Where B is too large** for the sums (a channel whose weights are next to nothing has a bias of
very many of its steps), they begin at 0 and ``y = fma(acc[o], S[o], C[o])``, ``C = B S``. Sums that
are made in float32, of channels that are taken apart, have 23 bits for it, so that they are exact.

**Other activations** are of numbers, not of steps: y is computed with sy = 1, the activation is
applied in float32, and times ``1 / sy`` it is in steps. **A float32 result** has sy = 1, is not
rounded, and its bounds are numbers.

**The first convolution** reads the camera's bytes p, which stand for (p / 255 - mean) / std, std
the same for all colours, mean not. Padding is 0 after that normalisation, which is no byte; so the
padded byte is 0, adds nothing to the sum, and what it should have added is left out of C. With the
sums over the taps inside the image,

    y = fma(sum p w, S[o], C[o])    S[o] = sw[o] / (255 std sy)
                                    C[o] = (bias[o] - sw[o] / std sum(mean w)) / sy

and C depends on which taps lie inside: which rows of the kernel, and which columns. Places that
agree in both form a class; there are few, three by three at most for a 3 x 3 window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import Add, Array, Conv, Mean, Quantization
from shiftedge.runtime.errors import CompileError

_FEW, _MANY = 1 << 23, 1 << 30
"""What sums begin at is less: of those in float32, and of those in int32."""
Exact = NDArray[np.float64]


@dataclass(frozen=True)
class OutputStage:
    """What is done to y once everything is added, in this order."""

    activation: Activation
    """Of y as a number; ``NONE`` where the clamp is all of it."""
    scale: np.float32 | None
    """Then y is multiplied with it: from numbers to steps; None where y is in steps already."""
    rounded: bool
    """Then y is rounded to the nearest, halves to even: a uint8 value. Otherwise y is float32."""
    zero: int
    """Then it is added to what was rounded."""
    low: float
    high: float
    """Then the result is held to these: whole numbers in 0..255, where y was rounded;
    otherwise numbers, infinite where nothing bounds them."""
    far: bool = True
    """y in steps may be so far away that it leaves int32, and is held before it is rounded."""


@dataclass(frozen=True, eq=False)
class Classes:
    """Places along one axis of the output, by which taps lie inside the image there."""

    of: NDArray[np.int64]
    """(places,): the class of each place."""
    inside: NDArray[np.bool_]
    """(classes, taps): whether a tap lies inside. Classes are numbered as they first occur."""


@dataclass(frozen=True, eq=False)
class Requantization:
    """Of one convolution; names as in the module's docstring."""

    start: NDArray[np.int32]
    """B, (outputs,); zeros where there is an offset."""
    scale: Array
    """S, (outputs,)."""
    offset: Array | None
    """C, (outputs,), or (row classes, column classes, outputs); None where sums begin at B."""
    residual: np.float32 | None
    """R; None without a residual."""
    stage: OutputStage
    places: tuple[Classes, Classes] | None = None
    """Rows and columns of the first convolution, whose offset depends on the place."""

    def offset_at(self, rows: Any = ..., columns: Any = ...) -> Array | None:
        """C, (outputs,), or of these rows and columns of the output, (rows, columns, outputs)."""
        if self.offset is None or self.places is None:
            return self.offset
        first, second = (each.of[at] for each, at in zip(self.places, (rows, columns), strict=True))
        return np.ascontiguousarray(self.offset[first][:, second])


def requantize(
    conv: Conv,
    source: Quantization,
    out: Quantization | None,
    activation: Activation = Activation.NONE,
    residual: Quantization | None = None,
) -> Requantization:
    """Constants of a convolution over quantised values: of its input ``source``, its result ``out``
    (None where that is float32), and a map that is added before the activation.

    Raises:
        CompileError: a constant leaves float32.
    """
    weight, steps = _quantized_weight(conv)
    product = source.scale * steps
    sums = weight.sum((1, 2, 3), dtype=np.int64)
    start = np.rint(conv.bias.astype(np.float64) / product) - source.zero_point * sums
    scale, more, stage = _constants(conv, product, out, activation, residual)
    reach = _largest_sums(weight) + np.abs(start)
    stage = _within(stage, reach * scale, more)
    limit = _FEW if conv.groups > 1 and exact_in_float32(conv) else _MANY
    if np.abs(start).max() < limit:
        return Requantization(start.astype(np.int32), scale, None, more, stage)
    offset = _float32(conv.name, start * product / _step(out, stage))
    return Requantization(np.zeros(len(start), np.int32), scale, offset, more, stage)


def exact_in_float32(conv: Conv) -> bool:
    """Whether sums of quantised values times weights are whole numbers that float32 holds, in any
    order, and beginning at anything of 23 bits."""
    if conv.quantized_weight is None:
        return True
    return int(_largest_sums(conv.quantized_weight).max()) < _FEW


def requantize_frame(
    conv: Conv,
    height: int,
    width: int,
    mean: Sequence[float],
    std: float,
    out: Quantization | None,
    activation: Activation = Activation.NONE,
    residual: Quantization | None = None,
) -> Requantization:
    """The same over the camera's bytes, of a frame of ``height`` x ``width`` pixels; ``mean`` and
    ``std`` are the spec's, the mean in the order of the input channels (RGB).

    Raises:
        CompileError: a constant leaves float32.
    """
    weight, steps = _quantized_weight(conv)
    top, left, bottom, right = conv.padding
    rows = classes_of(height, conv.kernel[0], conv.stride[0], top, bottom)
    columns = classes_of(width, conv.kernel[1], conv.stride[1], left, right)
    means = np.einsum("oikl,i->okl", weight.astype(np.float64), np.asarray(mean, np.float64))
    inside = np.einsum(
        "rk,okl,cl->rco", rows.inside.astype(np.float64), means, columns.inside.astype(np.float64)
    )
    numbers = conv.bias.astype(np.float64) - steps / std * inside
    scale, more, stage = _constants(conv, steps / (255.0 * std), out, activation, residual)
    offset = _float32(conv.name, numbers / _step(out, stage))
    reach = _largest_sums(weight) * scale
    stage = _within(stage, reach + np.abs(offset).max((0, 1)), more)
    start = np.zeros(len(scale), np.int32)
    return Requantization(start, scale, offset, more, stage, (rows, columns))


def classes_of(size: int, kernel: int, stride: int, before: int, after: int) -> Classes:
    """Classes of the places of a window of ``kernel`` taps along one axis of an image of ``size``,
    padded ``before`` and ``after``."""
    places = (size + before + after - kernel) // stride + 1
    first = np.arange(places)[:, None] * stride - before
    taps = first + np.arange(kernel)
    found, earliest, of = np.unique(
        (taps >= 0) & (taps < size), axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(earliest)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Classes(rank[of.reshape(-1)].astype(np.int64), found[order])


def requantize_sum(
    add: Add, first: Quantization, second: Quantization, out: Quantization | None
) -> tuple[np.float32, np.float32, OutputStage]:
    """Of a sum of two quantised maps a and b by itself, y = fma(b - zb, second, (a - za) * first):
    first, second and the ending. ``out`` is None where the result is float32.

    Raises:
        CompileError: a constant leaves float32.
    """
    scale = 1.0 if out is None else out.scale
    one, two = (
        np.float32(_float32(add.name, np.float64(each.scale / scale))) for each in (first, second)
    )
    return one, two, stage_of(out)


def quantize_constant(out: Quantization) -> np.float32:
    """What numbers are multiplied with to become steps, before ``stage_of(out)``.

    Raises:
        CompileError: the scale leaves float32.
    """
    scale: np.float32 = np.float32(_float32("Quantise", np.float64(1.0 / out.scale)))
    return scale


def quantize_frame_constants(
    mean: Sequence[float], std: Sequence[float], out: Quantization
) -> tuple[Array, Array]:
    """The same for the camera's bytes p, by colour: y = fma(p, scale[c], offset[c]). ``mean`` and
    ``std`` are the spec's (R, G, B), which may differ between colours.

    Raises:
        CompileError: a constant leaves float32.
    """
    means, deviations = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    return (
        _float32("the frame", 1.0 / (255.0 * deviations * out.scale)),
        _float32("the frame", -means / (deviations * out.scale)),
    )


def mean_scale(mean: Mean, source: Quantization, count: int) -> np.float32:
    """Of a mean over ``count`` places: it is float32(sum - count * zero point) * scale.

    Raises:
        CompileError: a constant leaves float32, or the sum int32.
    """
    if count > (2**31 - 1) // 255:
        raise CompileError(
            f"The mean {mean.name!r} is over {count} values; expected at most "
            f"{(2**31 - 1) // 255}: use a smaller frame."
        )
    scale: np.float32 = np.float32(_float32(mean.name, np.float64(source.scale / count)))
    return scale


def _quantized_weight(conv: Conv) -> tuple[NDArray[np.int8], Exact]:
    if conv.quantized_weight is None or conv.weight_scale is None:
        raise ValueError(f"{conv.name} does not count in integers")
    return conv.quantized_weight, conv.weight_scale.astype(np.float64)


def _constants(
    conv: Conv,
    product: Exact,
    out: Quantization | None,
    activation: Activation,
    residual: Quantization | None,
) -> tuple[Array, np.float32 | None, OutputStage]:
    """S, R and the ending, where an acc of 1 stands for ``product``."""
    stage = stage_of(out, activation)
    scale, more = _step(out, stage), None
    if residual is not None:
        more = np.float32(_float32(conv.name, np.float64(residual.scale / scale)))
    return _float32(conv.name, product / scale), more, stage


def _step(out: Quantization | None, stage: OutputStage) -> float:
    """What a y of 1 stands for before ``stage``: a step of the result, or the number 1."""
    return 1.0 if out is None or stage.scale is not None else out.scale


def _largest_sums(weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """How large sums of values times these weights can be, (outputs,)."""
    sums: NDArray[np.int64] = 255 * np.abs(weight.astype(np.int64)).sum((1, 2, 3))
    return sums


def _within(stage: OutputStage, reach: Exact, residual: np.float32 | None) -> OutputStage:
    """The ending where y, without a residual, is at most ``reach`` away from 0."""
    farthest = float(reach.max()) + (0.0 if residual is None else 255.0 * float(residual))
    steps = 1.0 if stage.scale is None else float(stage.scale)
    return replace(stage, far=farthest * max(steps, 1.0) >= _MANY)


def stage_of(out: Quantization | None, activation: Activation = Activation.NONE) -> OutputStage:
    """How results end that are ``out``, or float32 numbers if that is None.

    Raises:
        CompileError: a scale leaves float32.
    """
    bounds = activation.value.bounds
    kind = activation if bounds is None else Activation.NONE
    if out is None:
        return OutputStage(kind, None, False, 0, *(bounds or (-np.inf, np.inf)))
    zero = out.zero_point
    if bounds is None:
        return OutputStage(kind, quantize_constant(out), True, zero, 0.0, 255.0)
    low, high = (float(np.rint(each / out.scale)) + zero for each in bounds)
    return OutputStage(kind, None, True, zero, max(low, 0.0), min(high, 255.0))


def _float32(name: str, values: Exact | np.float64) -> Array:
    with np.errstate(over="ignore"):
        rounded = np.asarray(values).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise CompileError(
            f"{name!r} has scales so far apart that a factor between them leaves float32; "
            "quantise the model again."
        )
    return rounded
