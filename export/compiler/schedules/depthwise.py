"""Depthwise convolution by itself, where it is no part of an inverted residual.

Applies to one filter a channel, any kernel, stride and padding, with a bias, an activation and at
most one residual and one shift. See ``window`` for how it is cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import Activation
from shiftedge.export.compiler.schedules import window
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
) -> tuple[Kernel, ...]:
    """``name_padded`` where needed, then ``name``: padded (or x), weight, bias, [residual], out."""
    note = f"depthwise {shape.kernel[0]} x {shape.kernel[1]}"
    return window.schedule(
        name, shape, unit, weighted=True, residual=residual, activation=activation, note=note
    )


def pack(weight: Array, bias: Array) -> dict[str, Array]:
    """Weight (channels, 1, kernel height, kernel width) as [tap][channel], and the bias."""
    taps = weight.reshape(len(weight), -1).T
    return {"weight": np.ascontiguousarray(taps).ravel(), "bias": np.ascontiguousarray(bias)}
