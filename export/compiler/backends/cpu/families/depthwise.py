"""Depthwise convolution by itself, where it is no part of an inverted residual.

Applies to one filter a channel, any kernel, stride and padding, with a bias, an activation and at
most one residual and one shift. See ``window`` for how it is cut.

In int8 it takes values unpacked, as float32, into which ``padding`` turns them: a filter of k x k
sums up to 255 * 127 * k^2, exact in float32 up to 16 x 16 with any bias that such sums begin at,
and one multiply-add a tap is all there is to gain. Filters whose sums could leave that are
``conv``'s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants, constants_of
from shiftedge.export.compiler.backends.cpu.families import window
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32, Arithmetic
from shiftedge.export.compiler.backends.cpu.families.join import operands
from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.backends.cpu.families.window import Window, tile_pixels, window_of
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.numerics.requantize import exact_in_float32


def matches(kernel: FusedKernel, context: Context) -> bool:
    return (
        isinstance(kernel, ConvKernel) and kernel.conv.depthwise and exact_in_float32(kernel.conv)
    )


def lower(kernel: ConvKernel, context: Context) -> None:
    conv, unit = kernel.conv, context.target.unit
    shift, arguments = operands(kernel, context)
    shape = window_of(conv.inputs[0], conv.kernel, context)
    shape = replace(shape, stride=conv.stride, padding=conv.padding, shift=shift)
    constants = constants_of(
        context, kernel.linear, kernel.out, residual=kernel.residual, unpacked_source=True
    )
    arithmetic = constants.arithmetic
    name = context.name("depthwise", arithmetic, f"{tile_pixels(shape, unit)}x{unit.lanes}")
    arguments |= context.pack(name, pack(constants))
    residual = kernel.residual is not None
    kernels = schedule(name, shape, unit, kernel.linear.activation, residual, arithmetic)
    family = f"depthwise {conv.kernel[0]} x {conv.kernel[1]}"
    context.call(kernels, arguments, family, kernel.name)


def schedule(
    name: str,
    shape: Window,
    unit: VectorUnit,
    activation: Activation = Activation.NONE,
    residual: bool = False,
    arithmetic: Arithmetic = FP32,
) -> tuple[Kernel, ...]:
    """``name_padded`` where needed, then ``name``: padded (or x), weight, bias,
    [scale, [offset]], [residual], out.

    ``scale`` in int8, whose activation is part of its output stage.
    """
    return window.schedule(
        name,
        shape,
        unit,
        arithmetic=arithmetic,
        residual=residual,
        activation=activation,
        fill=float(arithmetic.zero),
        plus=shape.storage_offset,
        note=f"depthwise {shape.kernel[0]} x {shape.kernel[1]}",
    )


def pack(constants: ConvConstants) -> dict[str, NDArray[Any]]:
    """The constants as the kernel reads them, all float32: weights as [tap][channel]."""

    def as_float(values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(values, np.float32).ravel()

    taps = constants.weight.reshape(len(constants.weight), -1).T
    return {"weight": as_float(taps), **constants.packed(as_float)}
