"""Depthwise convolution by itself, where it is no part of an inverted residual.

Applies to one filter a channel, any kernel, stride and padding, with a bias, an activation and at
most one residual and one shift. See ``window`` for how it is cut, and what it does with codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families import window
from shiftedge.export.compiler.backends.cpu.families.arithmetic import Arithmetic
from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.backends.cpu.families.window import Window
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.kernel import Kernel

__all__ = ["pack", "schedule"]

Array = NDArray[np.float32]


def schedule(
    name: str,
    shape: Window,
    unit: VectorUnit,
    activation: Activation = Activation.NONE,
    residual: bool = False,
    arithmetic: Arithmetic | None = None,
) -> tuple[Kernel, ...]:
    """``name_padded`` where needed, then ``name``: padded (or x), weight, bias,
    [scale, [offset]], [residual], out.

    ``scale`` with codes, whose bias is in whole numbers; the activation is part of ``arithmetic``,
    whose ``zero`` is a code.
    """
    return window.schedule(
        name,
        shape,
        unit,
        weighted=True,
        residual=residual,
        activation=activation,
        arithmetic=arithmetic,
        fill=0.0 if arithmetic is None else float(arithmetic.zero),
        plus=shape.storage_offset,
        note=f"depthwise {shape.kernel[0]} x {shape.kernel[1]}",
    )


def pack(
    weight: NDArray[Any],
    bias: NDArray[Any],
    scale: Array | None = None,
    offset: Array | None = None,
) -> dict[str, Array]:
    """Weight (channels, 1, kernel height, kernel width) as [tap][channel], and the bias.

    With codes the weight is int8, the bias in whole numbers, and there are ``scale`` and, where
    the bias does not hold it, ``offset``, (channels,).
    """
    taps = weight.reshape(len(weight), -1).T
    values = {"weight": taps, "bias": bias, "scale": scale, "offset": offset}
    return {
        name: np.ascontiguousarray(each, np.float32).ravel()
        for name, each in values.items()
        if each is not None
    }
