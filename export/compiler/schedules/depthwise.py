"""Depthwise convolution by itself, where it is no part of an inverted residual.

Applies to one filter a channel, any kernel, stride and padding, with a bias, an activation and at
most one residual and one shift. See ``window`` for how it is cut, and what it does with codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import Activation
from shiftedge.export.compiler.schedules import window
from shiftedge.export.compiler.schedules.codes import Counting
from shiftedge.export.compiler.schedules.tiles import VectorUnit
from shiftedge.export.compiler.schedules.window import Window
from shiftedge.export.compiler.tir_kernel import Kernel

__all__ = ["pack", "schedule"]

Array = NDArray[np.float32]


def schedule(
    name: str,
    shape: Window,
    unit: VectorUnit,
    activation: Activation = Activation.NONE,
    residual: bool = False,
    counting: Counting | None = None,
) -> tuple[Kernel, ...]:
    """``name_padded`` where needed, then ``name``: padded (or x), weight, [scale], bias,
    [residual], out.

    ``scale`` with codes, whose bias is an offset in steps; the activation is part of ``counting``,
    whose ``zero`` is a code.
    """
    return window.schedule(
        name,
        shape,
        unit,
        weighted=True,
        residual=residual,
        activation=activation,
        counting=counting,
        fill=0.0 if counting is None else float(counting.zero),
        plus=shape.above,
        note=f"depthwise {shape.kernel[0]} x {shape.kernel[1]}",
    )


def pack(weight: NDArray[Any], bias: Array, scale: Array | None = None) -> dict[str, Array]:
    """Weight (channels, 1, kernel height, kernel width) as [tap][channel], and the bias.

    With codes the weight is int8, and ``scale`` (channels,) and the bias are in steps.
    """
    taps = weight.reshape(len(weight), -1).T.astype(np.float32)
    packed = {"weight": np.ascontiguousarray(taps).ravel(), "bias": np.ascontiguousarray(bias)}
    return packed if scale is None else {**packed, "scale": np.ascontiguousarray(scale)}
