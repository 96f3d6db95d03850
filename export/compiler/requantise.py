"""The float32 constants with which an integer kernel ends: from int32 sums to uint8 codes.

**Derivation.** An input code q stands for sx (q - zx), a weight's code w of output channel o for
sw[o] w, so a convolution is, over its taps,

    sum sx (q - zx) sw[o] w + bias[o]  =  sx sw[o] (acc[o] - zx sum w) + bias[o]

with ``acc[o] = sum q w``, exact in int32. A padded element has the code zx, which stands for 0, so
that ``sum w`` is over all taps everywhere. A residual's code r stands for sr (r - zr). The result y
in steps of the output, which has the scale sy and zero point zy, is all that divided by sy, plus
zy:

    y = fma(acc[o], S[o], C[o])     S[o] = sx sw[o] / sy
    y = fma(r, R, y)                C[o] = (bias[o] - zx sum(w) sx sw[o] - zr sr) / sy + zy
                                    R    = sr / sy

Both fma round once, to float32; acc and r are converted to float32 before, to the nearest. S, C
and R are computed in float64 and rounded once. ReLU and ReLU6 are clamps of y at what 0 and 6 are
in steps, zy and 6 / sy + zy; the code is y to the nearest whole number, halves to even, held to
0..255. Holding y itself to 0..255 first gives the same code, so ``low`` and ``high`` are both.

**Other activations** are of numbers, not of steps: y is computed with sy = 1 and zy = 0, the
activation is applied in float32, and ``fma(y, 1 / sy, zy)`` gives the steps. **A float32 result**
has sy = 1 and zy = 0 and is not rounded.

**The first convolution** reads the camera's bytes p, which stand for (p / 255 - mean) / std, std
the same for all colours, mean not. Padding is 0 after that normalisation, which is no byte; so the
padded byte is 0, adds nothing to the sum, and what it should have added is left out of C. With the
sums over the taps inside the image,

    y = fma(sum p w, S[o], C[o])    S[o] = sw[o] / (255 std sy)
                                    C[o] = (bias[o] - sw[o] / std sum(mean w)) / sy + zy

and C depends on which taps lie inside: which rows of the kernel, and which columns. Places that
agree in both form a class; there are few, three by three at most for a 3 x 3 window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import Activation, Add, Array, Conv, Mean, Quantised
from shiftedge.runtime.errors import CompileError

__all__ = [
    "CODES",
    "Classes",
    "Ending",
    "FrameRequantisation",
    "MeanConstants",
    "Requantisation",
    "SumConstants",
    "classes_of",
    "mean_constants",
    "quantise_constants",
    "quantise_frame_constants",
    "requantise",
    "requantise_frame",
    "requantise_sum",
]

_CODES = (0.0, 255.0)
_CLAMPED = (Activation.NONE, Activation.RELU, Activation.RELU6)
"""Activations that are clamps, in steps as in numbers."""
Exact = NDArray[np.float64]


@dataclass(frozen=True)
class Ending:
    """What is done to y once everything is added, in this order."""

    activation: Activation
    """Of y as a number; ``NONE`` where the clamp is all of it."""
    steps: tuple[np.float32, np.float32] | None
    """Then y = fma(y, first, second): from numbers to steps; None where y is in steps already."""
    low: np.float32
    high: np.float32
    """Then y is held to these; infinite where nothing bounds it."""
    rounded: bool
    """Then y is rounded to the nearest, halves to even: a uint8 code. Otherwise y is float32."""


@dataclass(frozen=True, eq=False)
class Requantisation:
    """Of one convolution; names as in the module's docstring."""

    scale: Array
    """S, (outputs,)."""
    offset: Array
    """C, (outputs,)."""
    residual: np.float32 | None
    """R; None without a residual."""
    ending: Ending


@dataclass(frozen=True, eq=False)
class Classes:
    """Places along one axis of the output, by which taps lie inside the image there."""

    of: NDArray[np.int64]
    """(places,): the class of each place."""
    inside: NDArray[np.bool_]
    """(classes, taps): whether a tap lies inside. Classes are numbered as they first occur."""


@dataclass(frozen=True, eq=False)
class FrameRequantisation:
    """Of the first convolution, whose offset depends on the place."""

    scale: Array
    """S, (outputs,)."""
    offset: Array
    """C, (row classes, column classes, outputs)."""
    rows: Classes
    columns: Classes
    residual: np.float32 | None
    ending: Ending


@dataclass(frozen=True)
class SumConstants:
    """Of a sum of two maps of codes a and b: y = fma(b, second, fma(a, first, offset))."""

    first: np.float32
    second: np.float32
    offset: np.float32
    ending: Ending


@dataclass(frozen=True)
class MeanConstants:
    """Of a mean over a map of codes: float32(sum - zeros) * scale."""

    zeros: int
    """What the sum of the codes is where all numbers are 0: exact in int32."""
    scale: np.float32


def requantise(
    conv: Conv,
    source: Quantised,
    out: Quantised | None,
    activation: Activation = Activation.NONE,
    residual: Quantised | None = None,
) -> Requantisation:
    """Constants of a convolution over codes.

    Args:
        conv: that has codes.
        source: of its input.
        out: of its result; None where that is float32.
        activation: after the residual.
        residual: of the map that is added; None without one.

    Raises:
        CompileError: a constant leaves float32.
    """
    codes, steps = _codes(conv)
    product = source.scale * steps
    sums = codes.sum((1, 2, 3), dtype=np.int64)
    numbers = conv.bias.astype(np.float64) - source.zero_point * sums * product
    return _constants(conv, product, numbers, out, activation, residual)


def requantise_frame(
    conv: Conv,
    height: int,
    width: int,
    mean: Sequence[float],
    std: float,
    out: Quantised | None,
    activation: Activation = Activation.NONE,
    residual: Quantised | None = None,
) -> FrameRequantisation:
    """Constants of a convolution over the camera's bytes.

    Args:
        conv: that has codes and reads the frame.
        height: of the frame, in pixels.
        width: of the frame.
        mean: of the spec, in the order of the convolution's input channels (RGB).
        std: of the spec, the same for all colours.
        out: of its result; None where that is float32.
        activation: after the residual.
        residual: of the map that is added; None without one.

    Raises:
        CompileError: a constant leaves float32.
    """
    codes, steps = _codes(conv)
    top, left, bottom, right = conv.padding
    rows = classes_of(height, conv.kernel[0], conv.stride[0], top, bottom)
    columns = classes_of(width, conv.kernel[1], conv.stride[1], left, right)
    means = np.einsum("oikl,i->okl", codes.astype(np.float64), np.asarray(mean, np.float64))
    inside = np.einsum(
        "rk,okl,cl->rco", rows.inside.astype(np.float64), means, columns.inside.astype(np.float64)
    )
    numbers = conv.bias.astype(np.float64) - steps / std * inside
    made = _constants(conv, steps / (255.0 * std), numbers, out, activation, residual)
    return FrameRequantisation(
        made.scale, made.offset, rows, columns, made.residual, made.ending
    )  # fmt: skip


def classes_of(size: int, kernel: int, stride: int, before: int, after: int) -> Classes:
    """Classes of the places of a window along one axis.

    Args:
        size: of the image along it.
        kernel: taps.
        stride: from place to place.
        before: padding.
        after: padding.
    """
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


def requantise_sum(
    add: Add, first: Quantised, second: Quantised, out: Quantised | None
) -> SumConstants:
    """Constants of a sum of two maps of codes that runs by itself.

    Args:
        add: the sum.
        first: of its first input.
        second: of its second input.
        out: of its result; None where that is float32.

    Raises:
        CompileError: a constant leaves float32.
    """
    scale, zero = (1.0, 0) if out is None else (out.scale, out.zero_point)
    numbers = -first.zero_point * first.scale - second.zero_point * second.scale
    one, two, offset = (
        _float32(add.name, np.float64(value))
        for value in (first.scale / scale, second.scale / scale, numbers / scale + zero)
    )
    return SumConstants(
        np.float32(one), np.float32(two), np.float32(offset), _ending(out, Activation.NONE)
    )


def quantise_constants(out: Quantised) -> tuple[np.float32, np.float32]:
    """Scale and offset with which numbers become steps: y = fma(x, scale, offset), then rounded.

    Raises:
        CompileError: the scale leaves float32.
    """
    scale = _float32("Quantise", np.float64(1.0 / out.scale))
    return np.float32(scale), np.float32(out.zero_point)


def quantise_frame_constants(
    mean: Sequence[float], std: Sequence[float], out: Quantised
) -> tuple[Array, Array]:
    """The same for the camera's bytes p, by colour: y = fma(p, scale[c], offset[c]), then rounded.

    Args:
        mean: of the spec, (R, G, B).
        std: likewise; may differ between colours.
        out: of the codes that are made.

    Raises:
        CompileError: a constant leaves float32.
    """
    means, deviations = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    return (
        _float32("the frame", 1.0 / (255.0 * deviations * out.scale)),
        _float32("the frame", out.zero_point - means / (deviations * out.scale)),
    )


def mean_constants(mean: Mean, source: Quantised, count: int) -> MeanConstants:
    """Constants of a mean over ``count`` places.

    Raises:
        CompileError: a constant leaves float32, or the sum int32.
    """
    if count > (2**31 - 1) // 255:
        raise CompileError(
            f"The mean {mean.name!r} is over {count} codes; expected at most "
            f"{(2**31 - 1) // 255}: use a smaller frame."
        )
    scale = np.float32(_float32(mean.name, np.float64(source.scale / count)))
    return MeanConstants(count * source.zero_point, scale)


def _codes(conv: Conv) -> tuple[NDArray[np.int8], Exact]:
    if conv.codes is None or conv.steps is None:
        raise ValueError(f"{conv.name} does not count in integers")
    return conv.codes, conv.steps.astype(np.float64)


def _constants(
    conv: Conv,
    product: Exact,
    numbers: Exact,
    out: Quantised | None,
    activation: Activation,
    residual: Quantised | None,
) -> Requantisation:
    """S, C and R, where an acc of 1 stands for ``product``, and of 0 for ``numbers``."""
    ending = _ending(out, activation)
    in_steps = out if ending.steps is None else None
    scale, zero = (1.0, 0) if in_steps is None else (in_steps.scale, in_steps.zero_point)
    more = None
    if residual is not None:
        numbers = numbers - residual.zero_point * residual.scale
        more = np.float32(_float32(conv.name, np.float64(residual.scale / scale)))
    return Requantisation(
        _float32(conv.name, product / scale),
        _float32(conv.name, numbers / scale + zero),
        more,
        ending,
    )


def _ending(out: Quantised | None, activation: Activation) -> Ending:
    infinite = np.float32(np.inf)
    ending = Ending(Activation.NONE, None, -infinite, infinite, out is not None)
    scale, zero = (1.0, 0) if out is None else (out.scale, out.zero_point)
    low, high = (-np.inf, np.inf) if out is None else _CODES
    if activation not in _CLAMPED:
        ending = replace(ending, activation=activation)
        if out is not None:
            ending = replace(ending, steps=quantise_constants(out))
    elif activation is not Activation.NONE:
        low = max(low, float(zero))
        if activation is Activation.RELU6:
            high = min(high, 6.0 / scale + zero)
    return replace(ending, low=np.float32(low), high=np.float32(high))


CODES = _ending(Quantised(1.0, 0), Activation.NONE)
"""How numbers that are in steps already become codes."""


def _float32(name: str, values: Exact | np.float64) -> Array:
    with np.errstate(over="ignore"):
        rounded = np.asarray(values).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise CompileError(
            f"{name!r} has scales so far apart that a factor between them leaves float32; "
            "quantise the model again."
        )
    return rounded
