"""Constants of kernels that count in integers, as the schedules take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.fusion import Linear
from shiftedge.export.compiler.graph import Array, Conv, Quantised
from shiftedge.export.compiler.requantise import requantise, requantise_frame
from shiftedge.export.compiler.schedules.codes import Counting
from shiftedge.export.compiler.schedules.dense_conv import DenseConv
from shiftedge.export.compiler.schedules.tiles import SMLAL, SMULL
from shiftedge.export.compiler.tir_kernel import Dot

__all__ = ["Counted", "count", "count_frame", "weights_of"]

Counted = tuple[Counting, Array, Array]
"""How a kernel counts, and its scale and offset; see ``Requantisation``."""


def weights_of(conv: Conv) -> NDArray[np.int8] | Array:
    """What its kernel reads: codes where there are any."""
    return conv.weight if conv.codes is None else conv.codes


def count(
    linear: Linear,
    source: Quantised,
    dot: Dot,
    *,
    residual: Quantised | None = None,
    whole: bool = False,
    whole_source: bool = False,
) -> Counted:
    """Of a convolution over codes.

    Args:
        linear: with the activation after the residual.
        source: of its input.
        dot: how codes are stored.
        residual: of the map that is added.
        whole: keep the result's codes as whole numbers of float32.
        whole_source: the input's codes are kept so.

    Raises:
        CompileError: a constant leaves float32.
    """
    made = requantise(linear.conv, source, linear.quantised, linear.activation, residual)
    dot = _exact(dot, linear.conv)
    zero = source.zero_point - (0 if whole_source else dot.above)
    factor = 0.0 if made.residual is None else float(made.residual)
    return Counting(dot, zero, made.ending, factor, whole), made.scale, made.offset


def count_frame(
    linear: Linear,
    shape: DenseConv,
    mean: Sequence[float],
    std: float,
    dot: Dot,
    *,
    residual: Quantised | None = None,
    whole: bool = False,
) -> Counted:
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
    made = requantise_frame(
        linear.conv,
        shape.height,
        shape.width,
        mean,
        std,
        linear.quantised,
        linear.activation,
        residual,
    )
    dot = _exact(dot, linear.conv)
    rows, columns = shape.places
    offset = made.offset[made.rows.of[list(rows)]][:, made.columns.of[list(columns)]]
    factor = 0.0 if made.residual is None else float(made.residual)
    counting = Counting(dot, -dot.above, made.ending, factor, whole)
    return counting, made.scale, np.ascontiguousarray(offset)


def _exact(dot: Dot, conv: Conv) -> Dot:
    """What sums a convolution's products: twice -128 times -128 is more than 16 bits hold."""
    lowest = conv.codes is not None and int(conv.codes.min()) == -128
    return SMULL if dot == SMLAL and lowest else dot
