"""How kernels over narrow elements count, and with which constants, as the schedules take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families.arithmetic import Added, Arithmetic
from shiftedge.export.compiler.backends.cpu.families.dense_conv import DenseConv
from shiftedge.export.compiler.backends.cpu.families.tiles import SMLAL, SMULL
from shiftedge.export.compiler.graph.fusion import Linear
from shiftedge.export.compiler.graph.graph import Array, Conv, Graph, Quantization
from shiftedge.export.compiler.kernel_ir.kernel import Dot
from shiftedge.export.compiler.numerics.requantize import requantize, requantize_frame

__all__ = ["ConvConstants", "count", "frame_constants", "in_pairs", "weights_of"]


@dataclass(frozen=True, eq=False)
class ConvConstants:
    """How a kernel counts, and its constants; see ``Requantization``."""

    arithmetic: Arithmetic | None
    """None where it does not; the others are then but a bias."""
    start: NDArray[Any]
    """What sums begin at, (outputs,), int32; or the bias, float32."""
    scale: Array | None = None
    """(outputs,)"""
    offset: Array | None = None
    """(outputs,), or of the first convolution (classes of rows, classes of columns, outputs)."""


def weights_of(conv: Conv) -> NDArray[np.int8] | Array:
    """What its kernel reads: codes where there are any."""
    return conv.weight if conv.quantized_weight is None else conv.quantized_weight


def in_pairs(conv: Conv, graph: Graph) -> bool:
    """Whether a convolution over maps of bfloat16 multiplies pairs of neighbouring channels, and so
    rounds its weights to bfloat16. Otherwise it multiplies float32 numbers one by one.

    It does where it sums over the channels and a row of its window is even in number. The frame's
    three channels are few, and are numbers of float32 where its bytes are read.
    """
    (source,) = conv.inputs
    if conv.groups > 1 or source == graph.frame:
        return False
    return conv.kernel[1] * int(conv.weight.shape[1]) % 2 == 0


def count(
    linear: Linear,
    source: Quantization,
    dot: Dot,
    *,
    residual: Quantization | None = None,
    unpacked: bool = False,
    unpacked_source: bool = False,
) -> ConvConstants:
    """Of a convolution over codes.

    Args:
        linear: with the activation after the residual.
        source: of its input.
        dot: how codes are stored.
        residual: of the map that is added.
        whole: keep the result's codes whole, see ``Dot``.
        whole_source: the input's codes are kept so.

    Raises:
        CompileError: a constant leaves float32.
    """
    made = requantize(linear.conv, source, linear.quantization, linear.activation, residual)
    dot = _exact(dot, linear.conv)
    zero = source.zero_point - (0 if unpacked_source else dot.storage_offset)
    arithmetic = Arithmetic(
        dot,
        zero,
        made.stage,
        _added(made.residual, residual, dot),
        unpacked,
        made.offset is not None,
    )
    return ConvConstants(arithmetic, made.start, made.scale, made.offset)


def frame_constants(
    linear: Linear,
    shape: DenseConv,
    mean: Sequence[float],
    std: float,
    dot: Dot,
    *,
    residual: Quantization | None = None,
    unpacked: bool = False,
) -> ConvConstants:
    """Of the first convolution, over the camera's bytes: the offset is (classes of rows, classes of
    columns, outputs), classes as in :meth:`DenseConv.place_class`.

    Args:
        linear: see :func:`count`.
        shape: of the convolution.
        mean: of the spec, R, G, B.
        std: of the spec, the same for all colours.
        dot: how codes are stored.
        residual: of the map that is added.
        whole: see :func:`count`.

    Raises:
        CompileError: a constant leaves float32.
    """
    made = requantize_frame(
        linear.conv,
        shape.height,
        shape.width,
        mean,
        std,
        linear.quantization,
        linear.activation,
        residual,
    )
    dot = _exact(dot, linear.conv)
    rows, columns = shape.places
    offset = made.offset[made.rows.of[list(rows)]][:, made.columns.of[list(columns)]]
    added = _added(made.residual, residual, dot)
    arithmetic = Arithmetic(dot, -dot.storage_offset, made.stage, added, unpacked, True)
    start = np.zeros(len(made.scale), np.int32)
    return ConvConstants(arithmetic, start, made.scale, np.ascontiguousarray(offset))


def _exact(dot: Dot, conv: Conv) -> Dot:
    """What sums a convolution's products: twice -128 times -128 is more than 16 bits hold."""
    lowest = conv.quantized_weight is not None and int(conv.quantized_weight.min()) == -128
    return SMULL if dot == SMLAL and lowest else dot


def _added(factor: np.float32 | None, residual: Quantization | None, dot: Dot) -> Added | None:
    if factor is None or residual is None:
        return None
    return Added(float(factor), dot.storage_offset - residual.zero_point)
