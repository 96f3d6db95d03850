"""A dense layer over a vector of numbers: a pointwise convolution of one pixel, in float32.

A flattened map may be narrower in memory; its numbers are multiplied one by one all the same.
"""

from __future__ import annotations

from typing import cast

from shiftedge.export.compiler.backends.cpu.choose import choose
from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.conv_constants import ConvConstants
from shiftedge.export.compiler.backends.cpu.families import pointwise
from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32, Arithmetic
from shiftedge.export.compiler.graph.fusion import FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Dense
from shiftedge.export.compiler.kernel_ir.calls import Argument


def matches(kernel: FusedKernel, context: Context) -> bool:
    return isinstance(kernel, Single) and isinstance(kernel.operators[0], Dense)


def lower(kernel: Single, context: Context) -> None:
    dense = cast(Dense, kernel.operators[0])
    narrow = context.dtype_of(dense.inputs[0]) != "float32"
    arithmetic = Arithmetic(context.dot(), unpacked=True, packed=False) if narrow else FP32
    layer(dense, context, context.value(dense.inputs[0]), arithmetic)


def layer(dense: Dense, context: Context, source: Argument, arithmetic: Arithmetic = FP32) -> None:
    """The same, of a vector that is ``source``."""
    unit = context.target.unit
    outputs, inputs = (int(size) for size in dense.weight.shape)
    shape = pointwise.Pointwise(1, inputs, outputs, arithmetic=arithmetic)
    tiles = choose(shape, context.target, pointwise.candidates, pointwise.schedule)
    name = context.name("dense", arithmetic, tiles)
    packed = pointwise.pack(ConvConstants(arithmetic, dense.weight, dense.bias), shape, tiles, unit)
    arguments = {"x": source, **context.pack(name, packed), "out": context.value(dense.out)}
    context.call(pointwise.schedule(name, shape, tiles, unit), arguments, "dense", dense.name)
