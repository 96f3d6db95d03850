"""Sums, products and activations of maps that no kernel before could take in.

A thread makes 4 neighbouring elements, or one. The second of a product may be one number a channel:
a squeeze-and-excite gate.
"""

from __future__ import annotations

from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.families.threads import Body, flat, vector_of
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Activate, Add, Mul
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Index


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    return isinstance(kernel, Single) and isinstance(kernel.operators[0], (Activate, Add, Mul))


def lower(kernel: Single, context: GpuContext) -> None:
    (operator,) = kernel.operators
    height, width, channels = context.map_of(operator.out)
    buffers, arguments = [], {}
    for name, value in zip("xy", operator.inputs, strict=False):
        pixels = context.map_of(value)
        buffers.append(
            ir.Buffer(name, pixels[0] * pixels[1] * pixels[2], dtype=context.dtype_of(value))
        )
        arguments[name] = context.value(value)
    size = height * width * channels
    buffers.append(ir.Buffer("out", size, "output", context.dtype_of(operator.out)))
    arguments["out"] = context.value(operator.out)
    kind = operator.kind if isinstance(operator, Activate) else Activation.NONE
    what = type(operator).__name__.lower()
    made = schedule(context.name(what), buffers, channels, isinstance(operator, Mul), kind)
    context.call((made,), arguments, "elementwise", operator.name)


def schedule(
    name: str, buffers: list[ir.Buffer], channels: int, product: bool, kind: Activation
) -> ir.Kernel:
    """The kernel: parameters x, [y], out; a sum of two, a ``product``, or x alone."""
    x, *others, out = buffers
    vector = vector_of(channels)
    grid = ir.grid(1, vector, vector)

    def work(number: Index) -> Body:
        at = number * vector + ir.COLUMN
        start = [x.at(at)]
        segments: tuple[ir.Segment, ...] = ()
        for y in others:
            other = y.at(at if y.size == x.size else number * vector % channels + ir.COLUMN)
            if product:
                start, segments = [], (ir.Segment((), x.at(at), other, by_column=True),)
            else:
                start.append(other)
        return (ir.Tile(grid, vector, tuple(start), segments, out.at(at), kind),)

    return flat(name, buffers, out.size // vector, work, f"elementwise, {kind.name.lower()}")
