"""What a convolution's kernel reads, and by which arithmetic it computes: what families start
from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families.arithmetic import FP32, Arithmetic
from shiftedge.export.compiler.backends.cpu.families.tiles import SMLAL, SMULL
from shiftedge.export.compiler.graph.fusion import Linear
from shiftedge.export.compiler.graph.graph import Array, Conv, Quantization
from shiftedge.export.compiler.kernel_ir.kernel import NOT_ADDED, Added, Dot
from shiftedge.export.compiler.numerics.bf16 import in_pairs
from shiftedge.export.compiler.numerics.precision import PRECISIONS
from shiftedge.export.compiler.numerics.requantize import requantize, requantize_frame
from shiftedge.runtime.errors import CompileError

if TYPE_CHECKING:
    from shiftedge.export.compiler.backends.cpu.context import Context
    from shiftedge.export.compiler.backends.cpu.families.conv import ConvShape


@dataclass(frozen=True, eq=False)
class ConvConstants:
    """Of one convolution, before a family lays them out for its tiles; see ``Requantization``."""

    arithmetic: Arithmetic
    weight: NDArray[Any]
    """(outputs, inputs of a group, ...): int8, or float32."""
    bias: NDArray[Any]
    """What accumulators begin at, (outputs,): int32, or float32."""
    scale: Array | None = None
    """(outputs,)"""
    offset: Array | None = None
    """(outputs,), or of the first convolution (classes of rows, classes of columns, outputs)."""

    def packed(self, pad: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Bias, scale and offset, those that there are, each laid out by ``pad``."""
        bias = self.arithmetic.packed_bias(self.bias, self.weight)
        values = {"bias": bias, "scale": self.scale, "offset": self.offset}
        return {name: pad(each) for name, each in values.items() if each is not None}


def constants_of(
    context: Context,
    linear: Linear,
    out: str,
    *,
    residual: str | None = None,
    frame: ConvShape | None = None,
    unpacked: bool = False,
    unpacked_source: bool = False,
) -> ConvConstants:
    """Of a convolution in the precision of the step, whose kernel makes the value ``out`` and adds
    the map ``residual`` before the activation.

    ``frame`` is the shape of the first convolution over the camera's bytes, whose offsets are by
    classes of places, see :meth:`ConvShape.place_class`. ``unpacked``: the result is kept so, see
    ``Arithmetic``; ``unpacked_source``: the input is.

    Raises:
        CompileError: a constant leaves float32; the frame's colours have scales of their own; in
            bf16, a map is made of a vector.
    """
    conv = linear.conv
    if conv.quantized_weight is None:
        arithmetic = float_arithmetic(context, conv, out, unpacked=unpacked)
        return ConvConstants(arithmetic, conv.weight, conv.bias)
    quantization, dot = context.graph.quantization, _exact(context.dot(), conv)
    more = None if residual is None else quantization[residual]
    result = linear.quantization, linear.activation, more
    zero = 0 if unpacked_source else -dot.storage_offset
    if frame is None:
        source = quantization[conv.inputs[0]]
        made = requantize(conv, source, *result)
        offset, zero = made.offset, source.zero_point + zero
    else:
        mean, std = context.spec.mean, context.spec.std
        if len(set(std)) > 1:
            raise CompileError(
                f"The model's standard deviations differ between colours ({std}), and its first "
                "convolution counts in integers; quantise the model with `shiftedge quantize`."
            )
        made = requantize_frame(conv, frame.height, frame.width, mean, std[0], *result)
        offset = made.offset_at(*map(list, frame.places))
    added, packed = _added(made.residual, more, dot), not unpacked_source
    has_offset = offset is not None
    arithmetic = Arithmetic(dot, zero, made.stage, added, unpacked, has_offset, packed)
    return ConvConstants(arithmetic, conv.quantized_weight, made.start, made.scale, offset)


def float_arithmetic(
    context: Context, conv: Conv, out: str, *, unpacked: bool = False
) -> Arithmetic:
    """Of a convolution over numbers: float32, or what the precision rounds them to. ``unpacked``:
    its result is no value in memory, and kept as float32.

    Raises:
        CompileError: in bf16, it makes a map of a vector.
    """
    precision = PRECISIONS[context.target.precision]
    if not precision.rounds:
        return FP32
    made = context.dtype_of(out) != "float32"
    if context.dtype_of(conv.inputs[0]) == "float32":
        if made:
            raise CompileError(
                f"{conv.name!r} makes a map of a vector, which has no rule in {precision.name}: "
                "compile the model in fp32."
            )
        return FP32
    packed = in_pairs(conv, context.graph)
    return Arithmetic(context.dot(), unpacked=unpacked or not made, packed=packed)


def _exact(dot: Dot, conv: Conv) -> Dot:
    """What sums a convolution's products: twice -128 times -128 is more than 16 bits hold."""
    lowest = conv.quantized_weight is not None and int(conv.quantized_weight.min()) == -128
    return SMULL if dot == SMLAL and lowest else dot


def _added(factor: np.float32 | None, residual: Quantization | None, dot: Dot) -> Added:
    if factor is None or residual is None:
        return NOT_ADDED
    return Added(float(factor), dot.storage_offset - residual.zero_point)
