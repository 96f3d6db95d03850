"""Sums, products and activations of maps, where no kernel before could take them in.

``y`` of a sum or product is a map of x's shape, or for ``by_channel`` one number a channel (a
squeeze-and-excite gate). Work units are runs of ``RUN`` vectors, or pixels for ``by_channel``.

:class:`Rescale` goes between numbers and quantised values, and sums the latter.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from shiftedge.export.compiler.backends.cpu.context import Context
from shiftedge.export.compiler.backends.cpu.families.keep import source_of
from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Activate, Add, Dequantize, Mul, Operator, Quantize
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Index, index
from shiftedge.export.compiler.numerics.requantize import (
    OutputStage,
    quantize_constant,
    requantize_sum,
    stage_of,
)

RUN = 64
"""Vectors of a work unit, large enough to outweigh handing it to a thread."""


class Operation(enum.Enum):
    """What is done before the activation."""

    NOTHING = "nothing"
    ADD = "add"
    MULTIPLY = "multiply"


@dataclass(frozen=True)
class Rescale:
    """What is done to x, or to x and y, where quantised values are read or made.

    Of x: (x + plus) * scale, then ``stage``; of a sum fma(y + its plus, factor, that) between.
    Without a stage, numbers.
    """

    stage: OutputStage | None
    scale: float
    added: ir.Added = ir.NOT_ADDED
    """How y is added."""
    plus: int = 0
    """Added to x as it is stored."""
    storage_offset: int = 0
    """Of the result, see ``Dot``."""
    source: str = "float32"
    """Type of x, and of y."""
    made: str = "float32"
    """Type of the result."""


@dataclass(frozen=True)
class Elementwise:
    pixels: int
    channels: int
    operation: Operation = Operation.NOTHING
    by_channel: bool = False
    activation: Activation = Activation.NONE
    rescale: Rescale | None = None
    """Where quantised values are read or made: of a sum, or of x alone."""
    dtype: str = "float32"
    """Type of x, of a map y and of the result, where there is no ``rescale``."""


def matches(kernel: FusedKernel, context: Context) -> bool:
    kinds = (Activate, Add, Dequantize, Mul, Quantize)
    return isinstance(kernel, Single) and isinstance(kernel.operators[0], kinds)


def lower(kernel: Single, context: Context) -> None:
    (operator,) = kernel.operators
    shape = _shape(operator, context)
    parts = ("x", "y")[: len(operator.inputs)]
    arguments = {
        part: source_of(context, value) for part, value in zip(parts, operator.inputs, strict=True)
    }
    arguments["out"] = context.value(operator.out)
    name = context.name(_NAMES[type(operator)], context.dtype_of(operator.inputs[0]))
    made = schedule(name, shape, context.target.unit)
    context.call((made,), arguments, "elementwise", operator.name)


_NAMES: dict[type[Operator], str] = {
    Activate: "activate",
    Add: "add",
    Dequantize: "dequantize",
    Mul: "multiply",
    Quantize: "quantize",
}


def _shape(operator: Operator, context: Context) -> Elementwise:
    height, width, channels = context.map_of(operator.out)
    shape = Elementwise(height * width, channels, dtype=context.dtype_of(operator.out))
    match operator:
        case Activate():
            return replace(shape, activation=operator.kind)
        case Mul(inputs=(x, y)):
            by_channel = context.map_of(y) != context.map_of(x)
            return replace(shape, operation=Operation.MULTIPLY, by_channel=by_channel)
        case Add(inputs=(x, _)):
            quantized = x in context.graph.quantization
            rescale = _sum(operator, context) if quantized else None
            return replace(shape, operation=Operation.ADD, rescale=rescale)
        case Quantize(quantization=made):
            dot, scale = context.dot(), float(quantize_constant(made))
            storage_offset, dtype = dot.storage_offset, dot.dtype
            rescale = Rescale(stage_of(made), scale, storage_offset=storage_offset, made=dtype)
            return replace(shape, rescale=rescale)
        case Dequantize(quantization=read):
            dot = context.dot()
            plus = dot.storage_offset - read.zero_point
            return replace(shape, rescale=Rescale(None, read.scale, plus=plus, source=dot.dtype))
    raise TypeError(f"{operator.name}: {type(operator).__name__} is not elementwise")


def _sum(add: Add, context: Context) -> Rescale:
    """Of two quantised maps."""
    quantization, dot = context.graph.quantization, context.dot()
    x, y = (quantization[name] for name in add.inputs)
    first, second, stage = requantize_sum(add, x, y, quantization.get(add.out))
    return Rescale(
        stage,
        float(first),
        ir.Added(float(second), dot.storage_offset - y.zero_point),
        plus=dot.storage_offset - x.zero_point,
        storage_offset=dot.storage_offset,
        source=dot.dtype,
        made=context.dtype_of(add.out),
    )


def schedule(name: str, shape: Elementwise, unit: VectorUnit) -> ir.Kernel:
    """The kernel: parameters x, [y], out."""
    size, lanes = shape.pixels * shape.channels, unit.lanes
    paired = shape.operation is not Operation.NOTHING
    rescale = shape.rescale or Rescale(None, 1.0, source=shape.dtype, made=shape.dtype)
    kind = "float32" if shape.by_channel else rescale.source
    x, out = (
        ir.Buffer("x", size, dtype=rescale.source),
        ir.Buffer("out", size, "output", rescale.made),
    )
    y = ir.Buffer("y", shape.channels if shape.by_channel else size, dtype=kind)

    def tile(start: Index, first: Index, length: int) -> ir.Statement:
        """``length`` elements, ``first`` after ``start``; at most one vector."""
        here = start + first + ir.COLUMN
        other = y.at((first if shape.by_channel else start + first) + ir.COLUMN)
        start_of: tuple[ir.Access, ...] = ()
        segments: tuple[ir.Segment, ...] = ()
        epilogue = None
        if shape.rescale:
            segments = (ir.Segment((), x.at(here), None, by_column=True, plus=rescale.plus),)
            if rescale.stage:
                epilogue = ir.Epilogue(
                    rescale.scale, None, rescale.stage, other if paired else None, rescale.added,
                    rescale.storage_offset,
                )  # fmt: skip
        elif shape.operation is Operation.MULTIPLY:
            segments = (ir.Segment((), x.at(here), other, by_column=True),)
        else:
            start_of = (x.at(here), other) if paired else (x.at(here),)
        return ir.Tile(
            vectors=ir.grid(1, length, length),
            columns=length,
            start=start_of,
            segments=segments,
            target=out.at(here),
            activation=shape.activation,
            scale=rescale.scale,
            epilogue=epilogue,
        )

    def run(start: Index, count: int) -> tuple[ir.Statement, ...]:
        """``count`` elements from ``start`` on."""
        return ir.in_vectors(count, lanes, lambda first, length: tile(start, first, length))

    if shape.by_channel:
        units, body = shape.pixels, run(ir.UNIT * shape.channels, shape.channels)
    else:
        step = RUN * lanes
        full, rest = divmod(size, step)
        units = full + (rest > 0)
        body = run(ir.UNIT * step, step) if full else ()
        if rest:
            last = run(index(full * step), rest)
            body = (ir.If(ir.UNIT.below(full), body, last),) if full else last
    return ir.Kernel(
        name=name,
        buffers=(x, *((y,) if paired else ()), out),
        units=units,
        body=body,
        note=f"elementwise {shape.operation.value}, {shape.activation.name.lower()}",
    )
